//! The process of a command: its runtime, and the signals that stop it.

use std::io;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Failure;

/// How long the process waits for tasks that do not end by themselves.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// Runs actors to the end of `work`. Whatever still runs then is stuck, and holds nothing that is
/// acknowledged: it is hardly waited for.
pub(super) fn run_to_end(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = runtime()?;
    let ended = runtime.block_on(work);
    runtime.shutdown_timeout(LAST_WAIT);
    ended
}

/// The threads that actors run on.
pub(super) fn runtime() -> io::Result<Runtime> {
    Builder::new_multi_thread().enable_all().thread_name("actors").build()
}

/// SIGTERM, Ctrl-C and SIGHUP.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// `None` where it was ignored at the start, as under `nohup`.
    hang_up: Option<Signal>,
    /// A file met a limit on its size. Listened to only so that it does not end the process: the
    /// write fails as on a full disk, and is waited for like one.
    _too_large: Signal,
}

impl Signals {
    /// From now on they do not end the process by themselves.
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: (!ignores_hang_up()).then(|| signal(SignalKind::hangup())).transpose()?,
            _too_large: signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?,
        })
    }

    /// Waits for the next of them; its name.
    pub(super) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            Some(_) = received(&mut self.hang_up) => "SIGHUP",
        }
    }
}

async fn received(signal: &mut Option<Signal>) -> Option<()> {
    signal.as_mut()?.recv().await
}

/// Whether the process was started with SIGHUP ignored. Linux alone shows it without unsafe code.
fn ignores_hang_up() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    ignored.is_some_and(|mask| mask & 1 == 1)
}

/// From now on folders that this process makes have mode 0700, and files 0600: events may hold
/// personal data, and a reader of a database can lock its writers out.
pub(super) fn keep_files_private() {
    use rustix::fs::Mode;
    use rustix::process::umask;
    let others = Mode::RWXG | Mode::RWXO;
    let before = umask(others);
    umask(before | others);
}
