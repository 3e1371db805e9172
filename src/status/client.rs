//! Asks a running daemon for its status and shows it: `kappa status`.

mod freshness;
pub(crate) mod render;

use std::fs;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kappa_actors::vitals::Snapshot;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use ureq::tls::{PemItem, RootCerts, TlsConfig};

use crate::settings::Token;
use crate::visible;

/// A daemon that does not answer within this time is taken for hung.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The pause between two looks of a watch.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// The file in the data folder that holds the daemon's address.
pub const ADDRESS_FILE: &str = "status.addr";

/// How status is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Tables, for people at a terminal.
    Table {
        /// Whether colours are wanted.
        colour: bool,
    },
    /// One fact a line, for pipes.
    Plain,
    /// The answer itself, on one line, for scripts.
    Json,
}

/// The options of the command.
#[derive(Clone, Debug)]
pub struct ShowOptions {
    /// The daemon's URL, as from [`default_url`]; `http://` may be left out.
    pub url: String,
    /// A file with the certificates to trust over HTTPS; `None` for those that the system trusts.
    pub ca: Option<PathBuf>,
    /// The daemon's token; `None` for none.
    pub token: Option<Token>,
    /// Whether to ask again each second until Ctrl-C.
    pub watch: bool,
    /// How to write it.
    pub format: Format,
}

/// Why there is no status to show.
#[derive(Debug, thiserror::Error)]
pub enum ShowError {
    /// There is no listener, or it does not answer.
    #[error(
        "no daemon answers at {url}: {reason}\n\
         hint: start one with `kappa run`, or name another with --url or --data-dir"
    )]
    NoAnswer {
        /// Where it was asked.
        url: String,
        /// The failure.
        reason: String,
    },
    /// The certificates to trust cannot be read.
    #[error(
        "--ca {}: {reason}\nhint: it must be a readable PEM file with certificates",
        file.display()
    )]
    Certificates {
        /// The file.
        file: PathBuf,
        /// Why it cannot be used.
        reason: String,
    },
    /// The daemon asks for a token, and this is another or none.
    #[error(
        "the daemon at {url} wants its token\n\
         hint: use the daemon's configuration, or set KAPPA__STATUS__TOKEN"
    )]
    TokenWanted {
        /// Where it was asked.
        url: String,
    },
    /// What answers there is no kappa, or one of another version.
    #[error("what answers at {url} is no kappa daemon of this version: {reason}")]
    Foreign {
        /// Where it was asked.
        url: String,
        /// The fault of the answer.
        reason: String,
    },
    /// The output cannot be written.
    #[error(transparent)]
    Output(#[from] io::Error),
}

/// Where the daemon of `data_dir` is reached: where it noted that it listens, or else where the
/// configuration has it listen.
#[must_use]
pub fn default_url(data_dir: &Path, listen: SocketAddr, is_https: bool) -> String {
    let noted = fs::read_to_string(data_dir.join(ADDRESS_FILE))
        .ok()
        .and_then(|text| text.trim().parse::<SocketAddr>().ok());
    let mut address = noted.unwrap_or(listen);
    if address.ip().is_unspecified() {
        // It listens everywhere, so here too.
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    format!("{}://{address}", if is_https { "https" } else { "http" })
}

/// Writes the daemon's status to `out`, once, or each second until Ctrl-C.
///
/// Blocks; a watch runs a small runtime of its own, so call it from outside of any. A reader of
/// `out` that goes away ends it without an error.
///
/// # Errors
/// [`ShowError`]. Once a watch has begun, it shows what went wrong and asks on.
pub fn show(options: &ShowOptions, out: &mut dyn Write) -> Result<(), ShowError> {
    let status = Status::new(options)?;
    let first = status.fetch()?;
    let shown = if options.watch {
        watch(&status, first, options.format, out)
    } else {
        render::write(&first, options.format, out).and_then(|()| out.flush())
    };
    match shown {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        shown => Ok(shown?),
    }
}

fn watch(status: &Status, first: Snapshot, format: Format, out: &mut dyn Write) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut seen = Ok(first);
    loop {
        draw(&seen, format, out)?;
        let stopped = runtime.block_on(async {
            tokio::time::timeout(WATCH_INTERVAL, tokio::signal::ctrl_c()).await.is_ok()
        });
        if stopped {
            return Ok(());
        }
        seen = status.fetch();
    }
}

/// One look of a watch: on a terminal in the place of the last, elsewhere behind it.
fn draw(seen: &Result<Snapshot, ShowError>, format: Format, out: &mut dyn Write) -> io::Result<()> {
    let mut text = Vec::new();
    match seen {
        Ok(snapshot) => render::write(snapshot, format, &mut text)?,
        Err(error) if format == Format::Json => {
            writeln!(text, "{}", serde_json::json!({ "error": error.to_string() }))?;
        }
        Err(error) => writeln!(text, "{}", visible::lines(&error.to_string()))?,
    }
    match format {
        // Home, then line over line, each erased to its end, then all below: nothing flickers.
        Format::Table { .. } => {
            let lines = String::from_utf8_lossy(&text).replace('\n', "\x1b[K\n");
            write!(out, "\x1b[H{lines}\x1b[J")?;
        }
        Format::Plain => {
            out.write_all(&text)?;
            writeln!(out)?;
        }
        Format::Json => out.write_all(&text)?,
    }
    out.flush()
}

/// The daemon's `/status`.
struct Status {
    agent: ureq::Agent,
    url: String,
    /// The value of `Authorization`.
    authorization: Option<String>,
}

impl Status {
    fn new(options: &ShowOptions) -> Result<Self, ShowError> {
        let url = options.url.trim_end_matches('/');
        let scheme = if url.contains("://") { "" } else { "http://" };
        // Never through a proxy: the daemon is on this machine, or at the user's address.
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(TIMEOUT))
            .http_status_as_error(false)
            // The token is meant for this address alone.
            .max_redirects(0)
            .proxy(None)
            .tls_config(tls_config(options.ca.as_deref())?);
        let authorization = options.token.as_ref().map(|token| format!("Bearer {}", token.0));
        let agent = config.build().new_agent();
        Ok(Self { agent, url: format!("{scheme}{url}"), authorization })
    }

    fn fetch(&self) -> Result<Snapshot, ShowError> {
        let url = || self.url.clone();
        let no_answer =
            |error: ureq::Error| ShowError::NoAnswer { url: url(), reason: error.to_string() };
        let foreign = |reason: String| ShowError::Foreign { url: url(), reason };
        let mut request = self.agent.get(format!("{}/status", self.url));
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization);
        }
        let mut answer = request.call().map_err(no_answer)?;
        let body = answer.body_mut().read_to_string().map_err(no_answer)?;
        if answer.status() == 401 {
            return Err(ShowError::TokenWanted { url: url() });
        }
        if !answer.status().is_success() {
            return Err(foreign(format!("it answers {}", answer.status())));
        }
        serde_json::from_str(&body).map_err(|error| foreign(error.to_string()))
    }
}

fn tls_config(ca: Option<&Path>) -> Result<TlsConfig, ShowError> {
    let roots = match ca {
        None => RootCerts::PlatformVerifier,
        Some(file) => {
            let wrong = |reason: String| ShowError::Certificates { file: file.to_owned(), reason };
            let pem = fs::read(file).map_err(|error| wrong(error.to_string()))?;
            let items = ureq::tls::parse_pem(&pem).filter_map(|item| match item {
                Ok(PemItem::Certificate(certificate)) => Some(Ok(certificate)),
                Ok(_) => None,
                Err(error) => Some(Err(wrong(error.to_string()))),
            });
            let certificates = items.collect::<Result<Vec<_>, _>>()?;
            if certificates.is_empty() {
                return Err(wrong("it holds no certificate".to_owned()));
            }
            certificates.into()
        }
    };
    // The provider of the endpoint itself: a build has two otherwise.
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = TlsConfig::builder().root_certs(roots);
    Ok(config.unversioned_rustls_crypto_provider(provider).build())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_noted_address_wins_over_the_configured_one() {
        let folder = tempfile::tempdir().unwrap();
        let listen = "0.0.0.0:8080".parse().unwrap();
        assert_eq!(default_url(folder.path(), listen, false), "http://127.0.0.1:8080");
        fs::write(folder.path().join(ADDRESS_FILE), "[::]:4711\n").unwrap();
        assert_eq!(default_url(folder.path(), listen, true), "https://[::1]:4711");
    }

    #[test]
    fn an_address_without_a_listener_is_named_with_a_hint() {
        // No process can listen on port 0.
        let url = "127.0.0.1:0".to_owned();
        let options =
            ShowOptions { url, ca: None, token: None, watch: false, format: Format::Plain };
        let error = show(&options, &mut Vec::new()).unwrap_err().to_string();
        assert!(error.starts_with("no daemon answers at http://127.0.0.1:0: "), "{error}");
        assert!(error.contains("\nhint: "), "{error}");
    }
}
