//! A folder with a configuration and a data folder in it, gone with the test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use rusqlite::Connection;
use tempfile::TempDir;

use super::Daemon;

/// The folder of one test. A test that panics prints the daemon's output and the files.
pub(crate) struct Scene {
    root: TempDir,
}

impl Scene {
    /// A scene with this configuration on top of the defaults.
    pub(crate) fn new(configuration: &str) -> Self {
        let scene = Self { root: tempfile::tempdir().unwrap() };
        scene.configure(configuration);
        scene
    }

    /// Replaces the configuration, for daemons started from now on.
    pub(crate) fn configure(&self, configuration: &str) {
        fs::write(self.root.path().join("kappa.toml"), configuration).unwrap();
    }

    pub(crate) fn root(&self) -> &Path {
        self.root.path()
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.root.path().join("data")
    }

    /// `kappa` with these arguments, on this scene, independent of the settings in the environment of the tests.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kappa"));
        command
            .args(["--config", "kappa.toml", "--data-dir", "data"])
            .args(["--set", "status.listen=127.0.0.1:0"])
            .args(arguments)
            .current_dir(self.root.path())
            .stdin(Stdio::null());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("KAPPA__") {
                command.env_remove(name);
            }
        }
        command
    }

    /// A daemon at work.
    pub(crate) fn start(&self) -> Daemon {
        Daemon::start(self, self.command(&["run"]))
    }

    /// Runs a daemon until nothing is left to do.
    pub(crate) fn run_until_idle(&self) {
        Daemon::spawn(self, self.command(&["run", "--until-idle"])).ends_with(0);
    }

    /// Runs a command that should end soon; returns its exit code and stderr.
    pub(crate) fn run(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let Output { status, stderr, .. } = self.command(arguments).output().unwrap();
        (status.code(), String::from_utf8_lossy(&stderr).into_owned())
    }

    /// Returns the output of all daemons of this scene.
    pub(crate) fn log(&self) -> String {
        let bytes = fs::read(self.log_path()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The warehouse, to be looked into, or tampered with.
    pub(crate) fn warehouse(&self) -> Connection {
        Connection::open(self.data_dir().join("warehouse.db")).unwrap()
    }

    /// How many archived files end so.
    pub(crate) fn archived_as(&self, ending: &str) -> usize {
        let files = files_below(&self.data_dir().join("archive"));
        files.iter().filter(|path| path.extension().is_some_and(|found| found == ending)).count()
    }

    pub(crate) fn log_path(&self) -> PathBuf {
        self.root.path().join("daemon.log")
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        eprintln!("---- the daemon's last output:");
        lines.iter().skip(lines.len().saturating_sub(60)).for_each(|line| eprintln!("{line}"));
        eprintln!("---- files:");
        let mut files = files_below(self.root.path());
        files.truncate(60);
        for path in files {
            let size = fs::metadata(&path).map_or(0, |found| found.len());
            eprintln!("{size:>12} {}", path.display());
        }
    }
}

/// All files below `folder`, in order.
pub(super) fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if is_folder { &mut folders } else { &mut files }.push(entry.path());
        }
    }
    files.sort();
    files
}
