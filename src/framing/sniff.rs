//! Looks at the first bytes of a text: they give away compression, and encodings that no line survives.

use std::io::{self, Chain, Cursor, Read};

use kappa_actors::archive::Compression;

use super::Mistake;

const UTF8_MARK: &[u8] = b"\xef\xbb\xbf";
const GZIP: &[u8] = b"\x1f\x8b";
const ZSTD: &[u8] = b"\x28\xb5\x2f\xfd";

/// The bytes that are looked at.
const START_BYTES: usize = 4;

/// The form of a text, by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    Plain,
    /// A byte-order mark of UTF-8 comes first.
    Marked,
    Wide,
    Compressed(Compression),
}

impl Start {
    fn of(text: &[u8]) -> Self {
        match text {
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, _, ..] | [_, 0, ..] => Self::Wide,
            _ if text.starts_with(UTF8_MARK) => Self::Marked,
            _ if text.starts_with(GZIP) => Self::Compressed(Compression::Gzip),
            _ if text.starts_with(ZSTD) => Self::Compressed(Compression::Zstd),
            _ => Self::Plain,
        }
    }
}

/// How many bytes of a mark the text begins with.
///
/// # Errors
/// The mistake that its first bytes give away.
pub(crate) fn check_start(text: &[u8]) -> Result<usize, Mistake> {
    match Start::of(text) {
        Start::Plain => Ok(0),
        Start::Marked => Ok(UTF8_MARK.len()),
        Start::Wide => Err(Mistake::WideText),
        Start::Compressed(Compression::Gzip) => Err(Mistake::Compressed("gzip")),
        Start::Compressed(_) => Err(Mistake::Compressed("zstd")),
    }
}

/// A text without its mark, and decompressed if it is compressed.
pub(crate) enum Sniffed<R> {
    Unread(Option<R>),
    Read(Box<dyn Read + Send>),
}

impl<R: Read + Send + 'static> Sniffed<R> {
    /// Nothing is read before the first call.
    pub(crate) fn new(from: R) -> Self {
        Self::Unread(Some(from))
    }
}

impl<R: Read + Send + 'static> Read for Sniffed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Self::Unread(from) = self {
            let Some(mut from) = from.take() else { return Ok(0) };
            let start = start(&mut from)?;
            *self = Self::Read(open(start, from)?);
        }
        match self {
            Self::Read(read) => read.read(buffer),
            Self::Unread(_) => Ok(0),
        }
    }
}

fn start(from: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut start = Vec::with_capacity(START_BYTES);
    from.take(START_BYTES as u64).read_to_end(&mut start)?;
    Ok(start)
}

fn open<R: Read + Send + 'static>(start: Vec<u8>, from: R) -> io::Result<Box<dyn Read + Send>> {
    let whole = |skipped: usize, start: Vec<u8>| -> Chain<Cursor<Vec<u8>>, R> {
        let mut start = Cursor::new(start);
        start.set_position(skipped as u64);
        start.chain(from)
    };
    match Start::of(&start) {
        Start::Compressed(compression) => {
            let text = compression.reader(whole(0, start))?;
            // Within it there may be a mark, too, and another encoding.
            Ok(Box::new(Inner { text, started: false }))
        }
        Start::Wide => Err(Mistake::WideText.into()),
        Start::Plain => Ok(Box::new(whole(0, start))),
        Start::Marked => Ok(Box::new(whole(UTF8_MARK.len(), start))),
    }
}

/// A decompressed text without its mark.
struct Inner {
    text: Box<dyn Read + Send>,
    started: bool,
}

impl Read for Inner {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.started {
            self.started = true;
            let start = start(&mut self.text)?;
            let skipped = check_start(&start)?;
            let text = std::mem::replace(&mut self.text, Box::new(io::empty()));
            let mut start = Cursor::new(start);
            start.set_position(skipped as u64);
            self.text = Box::new(start.chain(text));
        }
        self.text.read(buffer)
    }
}
