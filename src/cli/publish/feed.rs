//! Reads ahead, on a thread of its own, while what was read before is being published.

use std::io::{self, Read};

use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::cli::source::{Line, Lines, Source};

/// Payload bytes that make a chunk; with short lines it is the number of them.
const CHUNK_BYTES: usize = 256 * 1024;
const CHUNK_LINES: usize = 2_000;

/// Chunks read ahead. A chunk may hold one line of `max_event_bytes`, so these bound memory.
const CHUNKS_AHEAD: usize = 8;

/// Some lines, in their order.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    pub(super) lines: Vec<Line>,
    /// Bytes of the source up to the end of these lines.
    pub(super) position: u64,
}

/// Starts reading; what comes ends with the source, or with its error.
pub(super) fn start(source: Source, most: u64) -> io::Result<Receiver<io::Result<Chunk>>> {
    let (chunks, received) = channel(CHUNKS_AHEAD);
    // Not joined: it may wait for a terminal for ever, and ends with the process.
    std::thread::Builder::new()
        .name("publish-reader".to_owned())
        .spawn(move || read(source.lines(most), &chunks))?;
    Ok(received)
}

fn read(mut lines: Lines<impl Read>, chunks: &Sender<io::Result<Chunk>>) {
    loop {
        let mut chunk = Chunk::default();
        let ended = fill(&mut lines, &mut chunk);
        chunk.position = lines.position();
        let last = !matches!(ended, Ok(false));
        // Nobody listens any more when publishing has ended before the source.
        if chunks.blocking_send(Ok(chunk)).is_err() {
            return;
        }
        if let Err(error) = ended {
            let _ = chunks.blocking_send(Err(error));
        }
        if last {
            return;
        }
    }
}

/// Fills the chunk, with less where the source would have to be waited for: whoever publishes by
/// hand, or follows a file, has each line published as it comes. Whether the source is at its end.
fn fill(lines: &mut Lines<impl Read>, chunk: &mut Chunk) -> io::Result<bool> {
    let mut bytes = 0;
    while bytes < CHUNK_BYTES && chunk.lines.len() < CHUNK_LINES {
        let Some(line) = lines.next()? else { return Ok(true) };
        if let Line::Event { payload, .. } = &line {
            bytes += payload.len();
        }
        chunk.lines.push(line);
        if lines.may_wait() {
            break;
        }
    }
    Ok(false)
}
