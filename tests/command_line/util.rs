//! Runs the command on a data folder of its own; a failing test shows the command and its output.

use std::fmt;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use kappa::backend::embedded::log::{EmbeddedLog, LogOptions};
use kappa_actors::message::Message;
use kappa_actors::port::{EventLog as _, Pulled, Room};
use tempfile::TempDir;

/// The command, independent of the settings in the environment of the tests.
pub(crate) fn kappa(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kappa"));
    command.args(args);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("KAPPA__") {
            command.env_remove(name);
        }
    }
    command
}

/// A folder that commands run in; their data folder is `data` below it.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    pub(crate) fn data(&self) -> std::path::PathBuf {
        self.0.path().join("data")
    }

    /// Runs `line`, whose words are divided by spaces.
    pub(crate) fn run(&self, line: &str) -> Ran {
        self.feed(line, b"")
    }

    /// Runs `line`, with the option `--class`, whose value has spaces.
    pub(crate) fn run_of_class(&self, line: &str, class: &str) -> Ran {
        let mut words: Vec<_> = line.split(' ').collect();
        words.extend(["--class", class]);
        let output = kappa(&words).current_dir(self.0.path()).output().unwrap();
        Ran::new(&format!("{line} --class '{class}'"), output)
    }

    /// Runs `line` with `input` on its standard input.
    pub(crate) fn feed(&self, line: &str, input: &[u8]) -> Ran {
        let mut child = self.spawn(line);
        // A command that reads nothing closes its input early.
        let _ = child.stdin.take().unwrap().write_all(input);
        Ran::new(line, child.wait_with_output().unwrap())
    }

    /// Starts `line` with all its streams in our hands.
    pub(crate) fn spawn(&self, line: &str) -> Child {
        let mut command = kappa(&line.split(' ').collect::<Vec<_>>());
        let streams = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        streams.current_dir(self.0.path()).spawn().unwrap()
    }

    /// Lets the daemon process the events in the log.
    pub(crate) fn drain(&self, settings: &str) {
        self.run(&format!("run --until-idle --set status.listen=127.0.0.1:0{settings}")).done();
    }

    /// Starts a daemon, and waits until it runs.
    pub(crate) fn daemon(&self, settings: &str) -> Daemon {
        let run = format!("run --set status.listen=127.0.0.1:0{settings}");
        let mut daemon = Daemon(self.spawn(&run));
        let mut log = BufReader::new(daemon.0.stderr.take().unwrap()).lines();
        assert!(log.any(|line| line.unwrap().contains("status=http://")), "it did not start");
        // Whoever writes a log wants it read.
        std::thread::spawn(move || log.for_each(drop));
        daemon
    }

    /// Writes a file.
    pub(crate) fn file(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.0.path().join(name), bytes).unwrap();
    }

    /// The keys and versions in the table `orders`.
    pub(crate) fn rows_of_orders(&self) -> Vec<(String, Vec<u8>)> {
        let rows = rusqlite::Connection::open(self.data().join("warehouse.db")).unwrap();
        let sql = "SELECT event_id, _version FROM orders ORDER BY event_id";
        let mut select = rows.prepare(sql).unwrap();
        let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
        select.query_map((), row).unwrap().map(Result::unwrap).collect()
    }

    /// Whether the command has left nothing behind.
    pub(crate) fn is_empty(&self) -> bool {
        std::fs::read_dir(self.0.path()).unwrap().next().is_none()
    }

    /// Everything in the log, once at least `count` messages are there.
    pub(crate) fn published(&self, count: usize) -> Vec<Message> {
        let (log, mut all) = (spy(&self.data()), Vec::new());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        while all.len() < count {
            let room = Room { messages: 1_000_000, bytes: u64::MAX };
            let pulled = runtime.block_on(log.pull(room, Duration::from_secs(10))).unwrap();
            let Pulled::Messages(messages) = pulled else { panic!("{} of {count}", all.len()) };
            all.extend(messages);
        }
        all
    }
}

/// Reads the log beside the daemon, through a subscription of its own.
fn spy(data: &Path) -> EmbeddedLog {
    std::fs::create_dir_all(data).unwrap();
    let options = LogOptions {
        max_in_flight: 1_000,
        subscription: "spy".to_owned(),
        subscription_life: None,
        max_age: Duration::from_secs(3600),
        max_unused: None,
        max_bytes: 1 << 30,
        max_event_bytes: 1 << 20,
    };
    EmbeddedLog::open(data, options).unwrap()
}

/// A running daemon; it ends with this.
pub(crate) struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The output and exit code of a command.
pub(crate) struct Ran {
    line: String,
    code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    pub(crate) fn new(line: &str, output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let (stdout, stderr) = (text(output.stdout), text(output.stderr));
        Self { line: line.to_owned(), code: output.status.code(), stdout, stderr }
    }

    /// It is done: exit code 0.
    #[track_caller]
    pub(crate) fn done(self) -> Self {
        self.ended_with(0)
    }

    #[track_caller]
    pub(crate) fn ended_with(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self}");
        self
    }

    /// Its standard output is exactly this.
    #[track_caller]
    pub(crate) fn says(self, stdout: &str) -> Self {
        assert_eq!(self.stdout, stdout, "{self}");
        self
    }

    /// Its standard error holds this.
    #[track_caller]
    pub(crate) fn tells(self, part: &str) -> Self {
        assert!(self.stderr.contains(part), "no {part:?} on standard error of {self}");
        self
    }

    /// Its lines of JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Vec<serde_json::Value> {
        let read = |line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {self}"));
        self.stdout.lines().map(read).collect()
    }
}

impl fmt::Display for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, code, stdout, stderr } = self;
        write!(f, "kappa {line}\nexit code: {code:?}\nstdout:\n{stdout}\nstderr:\n{stderr}")
    }
}
