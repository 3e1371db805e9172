//! One object, line by line.

use std::io::{self, BufRead, BufReader, Read};

use bytes::{Buf, Bytes, BytesMut};
use futures::StreamExt;
use tokio::runtime::Handle;

use crate::archive::Compression;
use crate::port::{ByteStream, StoreError};

/// How many bytes of lines share one allocation. A line that stays in flight keeps all of it in
/// memory, so it is small; a line that is longer has one of its own.
const CHUNK_BYTES: usize = 256 * 1024;

/// Why an object was not read to its end.
#[derive(Debug, thiserror::Error)]
pub enum ReadFault {
    /// The store broke off; the lines read are good, and the rest may be readable later.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The bytes are damaged behind the last line that was read.
    #[error("damaged: {0}")]
    Damaged(String),
}

/// Reads an archive object from `stream`, and passes `take` the lines of one chunk at a time, without
/// their line feeds, on a thread that may block. Ends early when `take` returns `false`.
///
/// # Errors
/// [`ReadFault`]: the stream broke off or is damaged; the lines before it were passed.
pub async fn read_lines(
    stream: ByteStream,
    compression: Compression,
    take: impl FnMut(Vec<Bytes>) -> bool + Send + 'static,
) -> Result<(), ReadFault> {
    read_lines_within(u64::MAX, stream, compression, take).await
}

/// As [`read_lines`], of a file that may hold anything: a line of more than `most` bytes, and the
/// bytes read at once, is a fault, and is not held.
///
/// # Errors
/// As [`read_lines`].
pub(super) async fn read_lines_within(
    most: u64,
    stream: ByteStream,
    compression: Compression,
    take: impl FnMut(Vec<Bytes>) -> bool + Send + 'static,
) -> Result<(), ReadFault> {
    let runtime = Handle::current();
    let read = move || read_blocking(&runtime, stream, (compression, most), take);
    match tokio::task::spawn_blocking(read).await {
        Ok(read) => read,
        Err(panic) => Err(ReadFault::Damaged(panic.to_string())),
    }
}

fn read_blocking(
    runtime: &Handle,
    stream: ByteStream,
    (compression, most): (Compression, u64),
    mut take: impl FnMut(Vec<Bytes>) -> bool,
) -> Result<(), ReadFault> {
    let mut broken = None;
    let blocking = Blocking { runtime, stream, chunk: Bytes::new(), broken: &mut broken };
    let read = compression
        .reader(BufReader::with_capacity(64 * 1024, blocking))
        .and_then(|reader| split(reader, most, &mut take));
    match (broken, read) {
        (Some(error), _) => Err(ReadFault::Store(error)),
        (None, Err(error)) => Err(ReadFault::Damaged(error.to_string())),
        (None, Ok(())) => Ok(()),
    }
}

/// Fills a chunk, hands out its whole lines, and carries the broken one into the next chunk.
fn split(
    reader: impl Read,
    most: u64,
    take: &mut impl FnMut(Vec<Bytes>) -> bool,
) -> io::Result<()> {
    let mut reader = BufReader::with_capacity(CHUNK_BYTES, reader);
    let mut carried = BytesMut::new();
    loop {
        // At damage, the whole lines before it are handed out already; a broken one is not.
        let read = reader.fill_buf()?;
        if read.is_empty() {
            let last = carried.freeze();
            if !last.is_empty() {
                take(vec![last]);
            }
            return Ok(());
        }
        let length = read.len();
        match read.iter().rposition(|&byte| byte == b'\n') {
            None if (carried.len() + length) as u64 > most.saturating_add(CHUNK_BYTES as u64) => {
                let reason = format!("the line is larger than max_event_bytes, {most}");
                return Err(io::Error::other(reason));
            }
            None => carried.extend_from_slice(read),
            Some(end) => {
                carried.extend_from_slice(&read[..=end]);
                let chunk = std::mem::take(&mut carried).freeze();
                carried.extend_from_slice(&read[end + 1..]);
                if !take(lines_of(chunk)) {
                    return Ok(());
                }
            }
        }
        reader.consume(length);
    }
}

/// The lines of a chunk that ends with a line feed. An empty line is a line: it is counted.
fn lines_of(mut chunk: Bytes) -> Vec<Bytes> {
    let mut lines = Vec::new();
    while let Some(end) = chunk.iter().position(|&byte| byte == b'\n') {
        lines.push(chunk.split_to(end));
        chunk.advance(1);
    }
    lines
}

/// A stream as a blocking reader; what broke it is kept.
struct Blocking<'a> {
    runtime: &'a Handle,
    stream: ByteStream,
    chunk: Bytes,
    broken: &'a mut Option<StoreError>,
}

impl Read for Blocking<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            match self.runtime.block_on(self.stream.next()) {
                None => return Ok(0),
                Some(Ok(chunk)) => self.chunk = chunk,
                Some(Err(error)) => {
                    let told = io::Error::other(error.to_string());
                    *self.broken = Some(error);
                    return Err(told);
                }
            }
        }
        let length = buffer.len().min(self.chunk.len());
        self.chunk.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}
