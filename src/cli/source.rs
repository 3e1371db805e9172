//! The events that a user hands over: a file or standard input.

use std::fs::File;
use std::io::{self, BufReader, IsTerminal as _, Read};
use std::path::Path;

use anyhow::Context as _;

use super::output::tell;
use crate::framing::{Events, Format, Sniffed};

/// Bytes read at a time, and those that small payloads share.
const READ_BYTES: usize = 256 * 1024;

/// The events of a source.
pub(super) type SourceEvents = Events<BufReader<Sniffed<Box<dyn Read + Send>>>>;

/// Where events come from.
pub(super) struct Source {
    /// Its name in messages.
    pub(super) name: String,
    /// Its size, where that is known beforehand.
    pub(super) bytes: Option<u64>,
    /// Whether it is typed.
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
        // A pipe or a device does not know its size, nor a compressed file that of its text.
        let is_compressed = [".gz", ".zst"].iter().any(|end| name.ends_with(end));
        let bytes = (kind.is_file() && !is_compressed).then_some(kind.len());
        Ok(Self { name, bytes, is_terminal: false, read: Box::new(file) })
    }

    /// Its events; those of more than `most` bytes are passed over.
    pub(super) fn events(self, format: Format, most: u64) -> SourceEvents {
        let read = BufReader::with_capacity(READ_BYTES, Sniffed::new(self.read));
        Events::new(format, read, most, READ_BYTES)
    }
}
