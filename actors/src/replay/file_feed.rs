//! Reads files of plain events, one event a line, as the archive's objects are read.
//!
//! A line becomes an imported message: its id is made of the line's number and the payload, its
//! publish time is the event's own time. So its position has rank 0, and a file imported from two
//! places has the same messages.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use compact_str::CompactString;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::mpsc;

use super::archive_log::{ReplayRange, Shared};
use super::feed::Chunk;
use super::object::{ReadFault, read_lines_within};
use crate::archive::Compression;
use crate::envelope::EnvelopePlan;
use crate::message::{Lease, Message};
use crate::port::{ByteStream, StoreError};
use crate::position::imported_id;
use crate::supervision::Backoff;
use crate::time::Timestamp;

/// Files that are read side by side.
const READERS: usize = 2;
/// The first and the longest pause after a source that failed.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// The number of bytes at the start of a file that show its compression.
const MAGIC_BYTES: usize = 4;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A file to import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportFile {
    /// Its name, for its source and for people.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
}

/// Where files are read from.
#[async_trait]
pub trait FileSource: Send + Sync + 'static {
    /// Reads a file as a stream.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]: read it again later. Any other error: it cannot be read.
    async fn read(&self, name: &str) -> Result<ByteStream, StoreError>;
}

/// Reads the files of an import and sends their lines in chunks.
pub(super) struct FileFeed {
    pub(super) source: Arc<dyn FileSource>,
    pub(super) range: ReplayRange,
    pub(super) envelope: Arc<EnvelopePlan>,
    pub(super) shared: Arc<Shared>,
    pub(super) chunks: mpsc::Sender<Chunk>,
}

impl FileFeed {
    /// Reads every file but those in `done`.
    pub(super) async fn run(self, files: Vec<ImportFile>, done: HashSet<String>) {
        let files = files.into_iter().filter(|file| !done.contains(&file.name));
        let read = stream::iter(files.map(|file| self.read(file)));
        read.buffer_unordered(READERS).for_each(|()| async {}).await;
    }

    async fn read(&self, file: ImportFile) {
        let number = self.shared.loans().found(file.name.clone(), file.size);
        let lines = Arc::new(AtomicU64::new(0));
        let mut backoff = Backoff::new(BACKOFF.0, BACKOFF.1);
        loop {
            let fault = match self.read_once(&file, number, &lines).await {
                Ok(()) => {
                    self.shared.set_trouble(None);
                    return self.shared.loans().read_whole(number);
                }
                Err(ReadFault::Store(StoreError::Unavailable(reason))) => {
                    self.shared.set_trouble(Some(reason));
                    tokio::time::sleep(backoff.failed()).await;
                    continue;
                }
                Err(fault) => fault,
            };
            let line = lines.load(Ordering::Relaxed) + 1;
            let reason = match fault {
                ReadFault::Damaged(reason) => reason,
                ReadFault::Store(error) => error.to_string(),
            };
            return self.shared.loans().damaged(number, line, reason);
        }
    }

    /// Reads the file, and hands out its lines behind those that were read before.
    async fn read_once(
        &self,
        file: &ImportFile,
        number: usize,
        lines: &Arc<AtomicU64>,
    ) -> Result<(), ReadFault> {
        let (compression, stream) = sniffed(self.source.read(&file.name).await?).await?;
        let (counted, position) = (Arc::clone(&self.shared), Arc::new(AtomicU64::new(0)));
        let read_to = Arc::clone(&position);
        let stream = stream.inspect_ok(move |chunk| {
            let length = chunk.len() as u64;
            let before = read_to.fetch_add(length, Ordering::Relaxed);
            counted.loans().read_to(number, before + length);
        });
        let mut importer = Importer {
            envelope: Arc::clone(&self.envelope),
            range: self.range,
            lines: 0,
            skip: lines.load(Ordering::Relaxed),
        };
        let (chunks, shared) = (self.chunks.clone(), Arc::clone(&self.shared));
        let so_far = Arc::clone(lines);
        let most = self.envelope.max_event_bytes();
        let read = read_lines_within(most, Box::pin(stream), compression, move |raw| {
            let messages: Vec<_> =
                raw.into_iter().filter_map(|line| importer.message(line)).collect();
            so_far.fetch_max(importer.lines, Ordering::Relaxed);
            shared.loans().opened(number, messages.len());
            messages.is_empty() || chunks.blocking_send((number, messages)).is_ok()
        });
        match read.await {
            // Its checksum is at the end, so wrong bytes may have been taken for lines.
            Err(ReadFault::Damaged(reason)) if compression != Compression::None => {
                Err(ReadFault::Damaged(format!(
                    "{reason}, within the first {} bytes of the file; the lines before this one may be \
                     wrong as well",
                    position.load(Ordering::Relaxed)
                )))
            }
            read => read,
        }
    }
}

/// How the bytes are compressed, by their beginning: a name may say nothing, or something else.
async fn sniffed(mut stream: ByteStream) -> Result<(Compression, ByteStream), StoreError> {
    let mut head = BytesMut::new();
    while head.len() < MAGIC_BYTES {
        let Some(chunk) = stream.next().await else { break };
        head.extend_from_slice(&chunk?);
    }
    let compression = match &head[..] {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
        _ => Compression::None,
    };
    let first = stream::iter([Ok(head.freeze())]);
    Ok((compression, Box::pin(first.chain(stream))))
}

/// Makes messages of the lines of one file.
struct Importer {
    envelope: Arc<EnvelopePlan>,
    range: ReplayRange,
    /// Lines met so far.
    lines: u64,
    /// Lines that were handed out before.
    skip: u64,
}

impl Importer {
    fn message(&mut self, mut line: Bytes) -> Option<Message> {
        self.lines += 1;
        if self.lines == 1 && line.starts_with(BYTE_ORDER_MARK) {
            line = line.slice(BYTE_ORDER_MARK.len()..);
        }
        if line.last() == Some(&b'\r') {
            line.truncate(line.len() - 1);
        }
        if self.lines <= self.skip || line.iter().all(u8::is_ascii_whitespace) {
            return None;
        }
        // An event without a readable time becomes a dead letter of the first moment.
        let publish_time = self.envelope.read(&line).map_or(Timestamp::default(), |it| it.time);
        self.range.holds(publish_time).then(|| Message {
            id: imported_id(self.lines, &line),
            payload: line,
            publish_time,
            attributes: None,
            ordering_key: CompactString::default(),
            attempt: None,
            archived: false,
            suspect: None,
            lease: Lease(0),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::envelope::EnvelopeConfig;
    use crate::port::{EventLog as _, Pulled, Room};
    use crate::position::Position;
    use crate::replay::ArchiveLog;

    struct Files(BTreeMap<String, Vec<u8>>);

    #[async_trait]
    impl FileSource for Files {
        async fn read(&self, name: &str) -> Result<ByteStream, StoreError> {
            let bytes = self.0.get(name).ok_or_else(|| StoreError::NotFound(name.to_owned()))?;
            let pieces: Vec<_> = bytes.chunks(3).map(|it| Ok(Bytes::copy_from_slice(it))).collect();
            Ok(Box::pin(stream::iter(pieces)))
        }
    }

    fn event(id: &str, day: u8) -> String {
        format!(r#"{{"id":"{id}","type":"t","time":"2026-01-{day:02}T00:00:00Z"}}"#)
    }

    fn envelope() -> Arc<EnvelopePlan> {
        let [id, r#type, time] = ["/id", "/type", "/time"].map(str::to_owned);
        Arc::new(EnvelopePlan::compile(&EnvelopeConfig { id, r#type, time }, 1_000).unwrap())
    }

    async fn imported(files: &[(&str, Vec<u8>)], range: ReplayRange) -> (Vec<Message>, ArchiveLog) {
        let named = |(name, bytes): &(&str, Vec<u8>)| ((*name).to_owned(), bytes.clone());
        let all: BTreeMap<_, _> = files.iter().map(named).collect();
        let list: Vec<_> = all
            .iter()
            .map(|(name, it)| ImportFile { name: name.clone(), size: it.len() as u64 })
            .collect();
        let log = ArchiveLog::import(Arc::new(Files(all)), list, range, envelope(), HashSet::new());
        let mut messages = Vec::new();
        loop {
            let room = Room { messages: 100, bytes: 1 << 20 };
            match log.pull(room, Duration::from_secs(20)).await.unwrap() {
                Pulled::Messages(more) => messages.extend(more),
                Pulled::Quiet => {}
                Pulled::End => return (messages, log),
            }
        }
    }

    fn ever() -> ReplayRange {
        let [from, to] = [i64::MIN, i64::MAX].map(Timestamp::from_micros);
        ReplayRange { from, to }
    }

    #[tokio::test]
    async fn a_line_has_the_same_position_in_every_form_and_under_every_name() {
        let text = format!("{}\n\n{}\n", event("a", 1), event("b", 2));
        let forms = [
            text.clone().into_bytes(),
            Compression::Gzip.encode(text.clone().into_bytes()).unwrap(),
            Compression::Zstd.encode(text.clone().into_bytes()).unwrap(),
            format!("\u{feff}{}", text.replace('\n', "\r\n")).into_bytes(),
            text.trim_end().to_owned().into_bytes(),
        ];
        for (number, form) in forms.into_iter().enumerate() {
            let (messages, _) = imported(&[(&format!("dir-{number}/x"), form)], ever()).await;
            let payloads: Vec<_> = messages.iter().map(|it| &it.payload[..]).collect();
            assert_eq!(payloads, [event("a", 1).as_bytes(), event("b", 2).as_bytes()], "{number}");
            let positions = messages.iter().map(|it| Position::of(&it.id, it.publish_time, 0));
            assert_eq!(
                messages[1].id,
                imported_id(3, event("b", 2).as_bytes()),
                "blank lines count"
            );
            let logs = Position::of("1", Timestamp::from_micros(i64::MIN), 0);
            assert!(positions.is_sorted() && positions_below(&messages, logs), "{number}");
        }
    }

    fn positions_below(messages: &[Message], top: Position) -> bool {
        messages.iter().all(|it| Position::of(&it.id, it.publish_time, 0) < top)
    }

    #[tokio::test]
    async fn a_range_selects_by_the_events_time_and_a_bad_line_is_of_the_first_moment() {
        let text = format!("{}\nno event\n{}\n", event("a", 1), event("b", 2));
        let (all, _) = imported(&[("x", text.clone().into_bytes())], ever()).await;
        assert_eq!(all[1].publish_time, Timestamp::default());
        let from = Timestamp::parse_rfc3339("2026-01-02T00:00:00Z").unwrap();
        let (some, _) = imported(&[("x", text.into_bytes())], ReplayRange { from, ..ever() }).await;
        assert_eq!(some.len(), 1);
    }

    #[tokio::test]
    async fn a_line_that_is_far_too_long_is_a_fault_of_its_file_and_line() {
        let long = vec![b'x'; 2 << 20];
        let text = [event("a", 1).as_bytes(), b"\n\n", &long].concat();
        for form in [text.clone(), Compression::Zstd.encode(text).unwrap()] {
            let (messages, log) = imported(&[("long", form)], ever()).await;
            assert_eq!(messages.len(), 1);
            let fault = &log.progress().faults[0];
            assert_eq!((&*fault.object, fault.line), ("long", 3), "{fault:?}");
            assert!(fault.reason.contains("larger than max_event_bytes, 1000"), "{fault:?}");
        }
    }

    #[tokio::test]
    async fn a_file_that_is_cut_off_is_a_fault_and_the_others_are_read() {
        let whole = Compression::Gzip.encode(event("a", 1).into_bytes()).unwrap();
        let cut = whole[..whole.len() - 9].to_vec();
        let files = [("cut", cut), ("good", event("b", 2).into_bytes())];
        let (messages, log) = imported(&files, ever()).await;
        assert_eq!(messages.len(), 1);
        let fault = &log.progress().faults[0];
        assert_eq!((&*fault.object, fault.line), ("cut", 1));
        let place = format!("within the first {} bytes", whole.len() - 9);
        assert!(fault.reason.contains(&place), "{fault:?}");
    }
}
