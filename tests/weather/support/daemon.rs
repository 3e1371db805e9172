//! A daemon as a process, with its status over HTTP and its signals.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};

use kappa::status::client::ADDRESS_FILE;
use kappa_actors::vitals::Snapshot;
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};

use super::{Scene, await_that};

/// The memory that no daemon may exceed, in KiB.
const MAX_RESIDENT_KIB: u64 = 250 * 1024;

/// A daemon. Dropping it kills it.
pub(crate) struct Daemon {
    child: Child,
    command: String,
    address_file: PathBuf,
    address: String,
    agent: ureq::Agent,
    peak_kib: u64,
    exit: Option<ExitStatus>,
}

impl Daemon {
    /// Starts `command`, and waits until it answers.
    pub(crate) fn start(scene: &Scene, command: Command) -> Self {
        let mut daemon = Self::spawn(scene, command);
        daemon.await_address();
        daemon
    }

    /// Starts `command`.
    pub(crate) fn spawn(scene: &Scene, mut command: Command) -> Self {
        let address_file = scene.data_dir().join(ADDRESS_FILE);
        // A daemon that was killed left it.
        let _ = fs::remove_file(&address_file);
        let log = File::options().create(true).append(true).open(scene.log_path()).unwrap();
        let shown = format!("{command:?}");
        let child = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let config = ureq::Agent::config_builder().http_status_as_error(false).proxy(None);
        Self {
            child,
            command: shown,
            address_file,
            address: String::new(),
            agent: config.build().new_agent(),
            peak_kib: 0,
            exit: None,
        }
    }

    fn await_address(&mut self) {
        self.address = await_that("the daemon's address", || {
            assert!(self.exit_status().is_none(), "it ended before it ran: {}", self.command);
            let text = fs::read_to_string(&self.address_file).ok()?;
            text.ends_with('\n').then(|| text.trim().to_owned())
        });
        await_that("the daemon to run", || {
            assert!(self.exit_status().is_none(), "it ended before it ran: {}", self.command);
            self.try_get("/status")
                .filter(|(code, body)| *code == 200 && !body.contains("\"starting\""))
        });
    }

    /// Returns the answer of a path; `None` while there is none.
    pub(crate) fn try_get(&self, path: &str) -> Option<(u16, String)> {
        let mut answer = self.agent.get(format!("http://{}{path}", self.address)).call().ok()?;
        Some((answer.status().as_u16(), answer.body_mut().read_to_string().ok()?))
    }

    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        await_that(path, || {
            assert!(!self.has_ended(), "it ended: {}", self.command);
            self.try_get(path)
        })
    }

    /// Whether it is dead, though its end was not asked for.
    fn has_ended(&self) -> bool {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        status.is_ok_and(|text| text.contains("\nState:\tZ"))
    }

    pub(crate) fn status(&self) -> Snapshot {
        serde_json::from_str(&self.get("/status").1).unwrap()
    }

    /// Waits until `seen` returns a value for the status.
    pub(crate) fn await_status<T>(&self, what: &str, seen: impl Fn(&Snapshot) -> Option<T>) -> T {
        await_that(what, || seen(&self.status()))
    }

    /// Waits until everything published is acknowledged.
    pub(crate) fn await_acknowledged(&self, events: usize) {
        self.await_status("everything to be acknowledged", |status| {
            (status.counters.backlog == Some(0) && status.counters.acked >= events as u64)
                .then_some(())
        });
    }

    /// Orders a panic.
    pub(crate) fn kill_actor(&self, path: &str) {
        await_that(&format!("{path} to be killed"), || self.try_kill_actor(path));
    }

    fn try_kill_actor(&self, path: &str) -> Option<()> {
        let url = format!("http://{}/faults/kill?actor={path}", self.address);
        let answer = self.agent.post(url).send_empty().ok()?;
        assert_eq!(answer.status(), 202, "killing {path}");
        Some(())
    }

    /// Kills one actor again and again, until the daemon ends with this exit code.
    pub(crate) fn kill_actor_until_the_end(&mut self, path: &str, code: i32) {
        await_that("the daemon to give up", || {
            self.try_kill_actor(path);
            self.exit_status()
        });
        self.ends_with(code);
    }

    /// How often each actor was restarted.
    pub(crate) fn restarts(&self) -> BTreeMap<String, u64> {
        self.status().actors.into_iter().map(|actor| (actor.path, actor.restarts)).collect()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Bounds the size of any file it writes; `None` takes the bound away.
    pub(crate) fn limit_file_size(&self, bytes: Option<u64>) {
        let limit = Rlimit { current: bytes, maximum: None };
        prlimit(Some(self.pid()), Resource::Fsize, limit).unwrap();
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Kills it as a power cut would: nothing of it runs any more.
    pub(crate) fn kill_9(mut self) {
        self.note_memory();
        self.child.kill().unwrap();
        self.exit = Some(self.child.wait().unwrap());
    }

    /// SIGTERM, and a clean end.
    pub(crate) fn stop(mut self) {
        self.signal(Signal::TERM);
        self.ends_with(0);
    }

    /// Waits for its end, with this exit code.
    pub(crate) fn ends_with(&mut self, code: i32) {
        let exit = await_that("the daemon's end", || {
            self.note_memory();
            self.exit_status()
        });
        assert_eq!(exit.code(), Some(code), "{exit}: {}", self.command);
    }

    fn exit_status(&mut self) -> Option<ExitStatus> {
        if self.exit.is_none() {
            self.exit = self.child.try_wait().unwrap();
        }
        self.exit
    }

    /// Looks how much memory it has needed so far.
    fn note_memory(&mut self) {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let peak = status.ok().and_then(|text| {
            let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
            line.trim().trim_end_matches(" kB").parse().ok()
        });
        self.peak_kib = self.peak_kib.max(peak.unwrap_or_default());
        assert!(
            self.peak_kib < MAX_RESIDENT_KIB,
            "{} KiB of memory: {}",
            self.peak_kib,
            self.command
        );
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.exit.is_none() {
            if std::thread::panicking() {
                eprintln!("---- it was still running: {}", self.command);
                let status = self.try_get("/status");
                status.iter().for_each(|(code, body)| eprintln!("---- status {code}: {body}"));
            }
            // It may have ended by itself.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
