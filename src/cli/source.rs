//! The events that a user hands over: a file or standard input, one event a line.

mod lines;

use std::fs::File;
use std::io::{self, IsTerminal as _, Read};
use std::path::Path;

use anyhow::Context as _;

use super::output::tell;

pub(super) use lines::{Line, Lines};

/// Where lines come from.
pub(super) struct Source {
    /// Its name in messages.
    pub(super) name: String,
    /// Its size, where that is known beforehand.
    pub(super) bytes: Option<u64>,
    /// Whether somebody types it.
    pub(super) is_terminal: bool,
    read: Box<dyn Read + Send>,
}

impl Source {
    /// Opens the file; `-` is standard input.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        if path == Path::new("-") {
            let is_terminal = io::stdin().is_terminal();
            if is_terminal {
                tell("note", "reading events from the terminal, one a line; Ctrl-D ends");
            }
            let name = "standard input".to_owned();
            return Ok(Self { name, bytes: None, is_terminal, read: Box::new(io::stdin()) });
        }
        let name = path.display().to_string();
        let file = File::open(path).with_context(|| name.clone())?;
        let kind = file.metadata().with_context(|| name.clone())?;
        if kind.is_dir() {
            anyhow::bail!("{name}: is a folder");
        }
        // A pipe or a device does not know its size.
        let bytes = kind.is_file().then_some(kind.len());
        Ok(Self { name, bytes, is_terminal: false, read: Box::new(file) })
    }

    /// Its lines; those of more than `most` bytes are passed over.
    pub(super) fn lines(self, most: u64) -> Lines<Box<dyn Read + Send>> {
        Lines::new(self.read, most)
    }
}
