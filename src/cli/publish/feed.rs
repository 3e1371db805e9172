//! Reads ahead, on a thread of its own, and gathers the next batch while one is being published.
//!
//! Memory is bounded: at most the batch here, the one being published and a few chunks exist, and
//! each is over its bound by no more than one line.

use std::io;

use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::screen::{Screen, Screened};
use crate::cli::source::Source;
use crate::framing::{Format, Line};

/// The size of one hand-over by the thread.
const CHUNK: Bound = Bound { bytes: 256 << 10, lines: 2_000 };

/// The size of one publish call. A commit waits for the disk whatever its size, and memory is bounded.
const BATCH: Bound = Bound { bytes: 8 << 20, lines: 20_000 };

/// Chunks between the thread and the batch.
const CHUNKS_AHEAD: usize = 2;

/// How much is enough; one line may go beyond.
struct Bound {
    bytes: usize,
    lines: usize,
}

/// Some lines, in their order.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) lines: Vec<Line>,
    /// Bytes of the source up to the end of these lines.
    pub(super) position: u64,
    /// Lines that are no JSON objects.
    pub(super) no_objects: u64,
    bytes: usize,
}

impl Batch {
    fn has_room(&self, bound: &Bound) -> bool {
        self.bytes < bound.bytes && self.lines.len() < bound.lines
    }

    fn push(&mut self, Screened { line, is_object, position }: Screened) {
        if let Line::Event { payload, .. } = &line {
            self.bytes += payload.len();
            self.no_objects += u64::from(!is_object);
        }
        self.lines.push(line);
        self.position = position;
    }

    fn append(&mut self, more: Self) {
        self.lines.extend(more.lines);
        self.position = more.position;
        self.no_objects += more.no_objects;
        self.bytes += more.bytes;
    }
}

/// The lines of a source, in batches.
pub(super) struct Feed {
    chunks: Receiver<io::Result<Batch>>,
    next: Batch,
    /// How the source ended, once it has.
    ended: Option<io::Result<()>>,
}

impl Feed {
    /// Starts reading; lines of more than `most` bytes are passed over.
    pub(super) fn start(
        source: Source,
        most: u64,
        format: Format,
        strict: bool,
    ) -> io::Result<Self> {
        let (sender, chunks) = channel(CHUNKS_AHEAD);
        // Not joined: it may wait for a terminal without end, and ends with the process.
        std::thread::Builder::new().name("publish-reader".to_owned()).spawn(move || {
            let terminal = source.is_terminal;
            read(Screen::new(source.events(format, most), format, terminal, strict), &sender);
        })?;
        Ok(Self { chunks, next: Batch::default(), ended: None })
    }

    /// The next batch, as soon as there is one; `None` at the end. May be cancelled.
    pub(super) async fn next(&mut self) -> io::Result<Option<Batch>> {
        while self.next.lines.is_empty() && self.ended.is_none() {
            self.read_on().await;
        }
        if !self.next.lines.is_empty() {
            return Ok(Some(std::mem::take(&mut self.next)));
        }
        self.ended.take().unwrap_or(Ok(())).map(|()| None)
    }

    /// Collects the next batch; never returns once it is full or the source is at its end. May be cancelled.
    pub(super) async fn read_on(&mut self) {
        if self.ended.is_some() || !self.next.has_room(&BATCH) {
            return std::future::pending().await;
        }
        match self.chunks.recv().await {
            Some(Ok(chunk)) => self.next.append(chunk),
            Some(Err(error)) => self.ended = Some(Err(error)),
            None => self.ended = Some(Ok(())),
        }
    }
}

/// Reads to the end, or until the receiver is gone.
fn read(mut lines: Screen, chunks: &Sender<io::Result<Batch>>) {
    loop {
        let mut chunk = Batch::default();
        let end = fill(&mut lines, &mut chunk);
        if !chunk.lines.is_empty() && chunks.blocking_send(Ok(chunk)).is_err() {
            return;
        }
        match end {
            Ok(false) => {}
            Ok(true) => return,
            Err(error) => return drop(chunks.blocking_send(Err(error))),
        }
    }
}

/// Fills the chunk, or returns early when the source has no more bytes ready, so that lines typed by hand or
/// from a followed file are published as they come. Returns whether the source is at its end.
fn fill(lines: &mut Screen, chunk: &mut Batch) -> io::Result<bool> {
    while chunk.has_room(&CHUNK) {
        let Some(line) = lines.next()? else { return Ok(true) };
        chunk.push(line);
        if lines.may_wait() {
            break;
        }
    }
    Ok(false)
}
