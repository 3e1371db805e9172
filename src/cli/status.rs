//! `kappa status`

use std::io::Write;
use std::path::PathBuf;

use super::{Failure, output};
use crate::settings::Settings;
use crate::status::client::{self, ShowOptions};

/// Show the tree and the counters of a running daemon
///
/// Without --url the address is the one that the daemon noted in its data folder. A daemon that asks
/// for a token gets status.token of the configuration.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kappa status --watch
  kappa status --url http://127.0.0.1:8080 --json
  kappa status --url https://kappa.internal:8443 --ca ca.pem")]
pub struct Args {
    /// Where the daemon's status is served
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// Certificates to trust over HTTPS instead of the system's: a PEM file
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Show it again each second, until Ctrl-C
    #[arg(long)]
    pub watch: bool,
    /// The daemon's own JSON, on one line
    #[arg(long)]
    pub json: bool,
}

/// Asks the daemon, and writes its answer to `out`.
pub(super) fn main(args: &Args, settings: &Settings, out: &mut impl Write) -> Result<(), Failure> {
    let is_https = !settings.status.tls.certificate.as_os_str().is_empty();
    let found = || client::default_url(&settings.data_dir, settings.status.listen, is_https);
    let url = args.url.clone().unwrap_or_else(found);
    let token = Some(settings.status.token.clone()).filter(|token| !token.0.is_empty());
    let format = output::format(args.json);
    let options = ShowOptions { url, ca: args.ca.clone(), token, watch: args.watch, format };
    Ok(client::show(&options, out).map_err(anyhow::Error::from)?)
}
