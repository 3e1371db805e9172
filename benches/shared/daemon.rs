//! The daemon as a process, and its cost.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

/// A running `kappa run`.
pub struct Daemon {
    child: Child,
    started: Instant,
    lines: BufReader<ChildStderr>,
    said: String,
}

/// The cost of a finished run.
pub struct Cost {
    /// Processor seconds, until the end of the process.
    pub cpu_seconds: f64,
    /// The most memory it held, in MB.
    pub peak_mb: f64,
}

impl Daemon {
    /// Starts the daemon on `data`.
    pub fn start<A: AsRef<std::ffi::OsStr>>(data: &Path, args: &[A]) -> Self {
        Self::start_command("run", data, args)
    }

    /// Starts another command with actors.
    pub fn start_command<A: AsRef<std::ffi::OsStr>>(
        command: &str,
        data: &Path,
        args: &[A],
    ) -> Self {
        let started = Instant::now();
        let mut child = Command::new(env!("CARGO_BIN_EXE_kappa"))
            .args([command, "--set", "status.listen=127.0.0.1:0", "--data-dir"])
            .arg(data)
            .args(args)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap());
        Self { child, started, lines, said: String::new() }
    }

    /// Reads the log up to the line that holds `words`; the time since the start.
    pub fn wait_for(&mut self, words: &str) -> Duration {
        let mut line = String::new();
        while self.lines.read_line(&mut line).unwrap() > 0 {
            if line.contains(words) {
                return self.started.elapsed();
            }
            self.said.push_str(&line);
            line.clear();
        }
        panic!("the daemon ended without saying {words:?}:\n{}", self.said);
    }

    /// Waits for a run `--until-idle` to end.
    pub fn finish(mut self) -> Cost {
        // A zombie's figures can still be read: the last look before it ends is enough.
        let mut cost = Cost { cpu_seconds: 0.0, peak_mb: 0.0 };
        loop {
            if let Some((cpu_seconds, peak_mb)) = figures(self.child.id()) {
                cost = Cost { cpu_seconds, peak_mb };
            }
            match self.child.try_wait().unwrap() {
                Some(status) if status.success() => return cost,
                Some(status) => panic!("the daemon ended with {status}:\n{}", self.said),
                None => std::thread::sleep(Duration::from_millis(2)),
            }
        }
    }
}

impl Drop for Daemon {
    /// Ends the daemon, if it still runs.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Processor seconds of a process so far, and the most memory it held, in MB.
pub fn figures(process: u32) -> Option<(f64, f64)> {
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{process}/{file}")).ok();
    let status = read("status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let peak_kb: f64 = peak.trim().trim_end_matches(" kB").parse().ok()?;
    let stat = read("stat")?;
    // Behind the name in brackets: the 14th and 15th field of all, in ticks of 10 ms.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: f64 = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
    Some((ticks / 100.0, peak_kb / 1024.0))
}
