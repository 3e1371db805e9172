//! Replays of archives in memory, whole, interrupted, damaged and changed meanwhile.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::*;
use crate::archive::{
    Compression, Incarnation, Limits, LineFormat, Part, Window, close, store_part,
};
use crate::message::{Lease, Message, NewMessage};
use crate::port::{
    ArchiveStore, ByteStream, EventLog, ObjectInfo, ObjectRef, Pulled, Put, Room, StoreError,
};
use crate::testing::event_log::{self, Abilities};
use crate::testing::memory::archive_store::MemoryArchive;
use crate::time::Timestamp;

mod lines;

const AMPLE: Room = Room { messages: 100_000, bytes: 1 << 30 };
const PATIENCE: Duration = Duration::from_secs(20);

fn window(number: i64) -> Window {
    Window::of(Timestamp::from_micros(1_771_338_600_000_000 + number * 300_000_000))
}

fn range(windows: i64) -> ReplayRange {
    ReplayRange { from: window(0).start(), to: window(windows).start() }
}

fn message(payload: &str, publish_time: Timestamp) -> Message {
    Message {
        id: format!("id-{payload}").into(),
        payload: Bytes::copy_from_slice(payload.as_bytes()),
        publish_time,
        attributes: None,
        ordering_key: "".into(),
        attempt: None,
        archived: false,
        suspect: None,
        lease: Lease(0),
    }
}

/// Stores one part with these payloads, a millisecond apart from the window's start on.
async fn store(
    archive: &MemoryArchive,
    window: Window,
    form: (LineFormat, Compression),
    payloads: &[String],
) -> Incarnation {
    let incarnation = Incarnation::random();
    let mut part = Part::new(form.0, form.1);
    for (number, payload) in payloads.iter().enumerate() {
        let time = window.start().after(Duration::from_millis(number as u64));
        part.append(&message(payload, time));
    }
    store_part(archive, window, &incarnation, 0, &part.encode().unwrap()).await.unwrap();
    incarnation
}

fn payloads(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{{\"n\":\"{prefix}{number:05}\"}}")).collect()
}

fn open(archive: &MemoryArchive, range: ReplayRange) -> ArchiveLog {
    ArchiveLog::open(Arc::new(archive.clone()), range, None, HashSet::new())
}

/// Pulls to the end.
async fn all(log: &ArchiveLog, room: Room) -> Vec<Message> {
    let mut messages = Vec::new();
    loop {
        match log.pull(room, PATIENCE).await.unwrap() {
            Pulled::Messages(more) => messages.extend(more),
            Pulled::Quiet => panic!("nothing for {PATIENCE:?}"),
            Pulled::End => return messages,
        }
    }
}

fn said(messages: &[Message]) -> Vec<String> {
    let mut said: Vec<_> =
        messages.iter().map(|one| String::from_utf8(one.payload.to_vec()).unwrap()).collect();
    said.sort();
    said
}

fn leases(messages: &[Message]) -> Vec<Lease> {
    messages.iter().map(|message| message.lease).collect()
}

#[tokio::test]
async fn it_is_an_event_log() {
    let abilities =
        Abilities { publish: false, empty: false, order: false, seek: false, backlog: false };
    let fresh = |messages: Vec<NewMessage>| async move {
        let archive = MemoryArchive::new();
        let lines: Vec<_> = messages
            .iter()
            .map(|message| String::from_utf8(message.payload.to_vec()).unwrap())
            .collect();
        store(&archive, window(0), (LineFormat::Payload, Compression::None), &lines).await;
        open(&archive, range(1))
    };
    event_log::conforms(fresh, abilities).await;
}

#[tokio::test]
async fn every_line_of_finals_and_parts_comes_once_in_every_form() {
    for format in [LineFormat::Annotated, LineFormat::Envelope, LineFormat::Payload] {
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            let archive = MemoryArchive::new();
            let mut expected = Vec::new();
            for number in 0..3 {
                // More than a chunk holds.
                let lines = payloads(&format!("{number}-{}", "x".repeat(100)), 5_000);
                let written = store(&archive, window(number), (format, compression), &lines).await;
                if number < 2 {
                    let limits = Limits { final_bytes: 1 << 20, parts: 10 };
                    close(&archive, window(number), &written, limits).await.unwrap();
                }
                expected.extend(lines);
            }
            let log = open(&archive, range(3));
            let messages = all(&log, AMPLE).await;
            assert_eq!(said(&messages), expected, "{format:?} {compression:?}");
            let ids: BTreeSet<_> = messages.iter().map(|message| &message.id).collect();
            assert_eq!(ids.len(), messages.len(), "{format:?} {compression:?}");
            assert_eq!(log.take_done(), Vec::<String>::new(), "nothing is acknowledged");
            log.acknowledge(&leases(&messages)).await.unwrap();
            assert_eq!(log.take_done().len(), 3);
            let progress = log.progress();
            assert_eq!((progress.objects_done, progress.lines), (3, 15_000));
            assert_eq!(progress.bytes_read, progress.bytes);
        }
    }
}

#[tokio::test]
async fn a_payload_line_is_selected_by_its_window_and_any_other_by_its_publish_time() {
    let lines = payloads("", 100);
    let begin = window(0).start();
    let some = ReplayRange {
        from: begin.after(Duration::from_millis(10)),
        to: begin.after(Duration::from_millis(20)),
    };
    for (format, expected) in [
        (LineFormat::Annotated, 10..20),
        (LineFormat::Envelope, 10..20),
        (LineFormat::Payload, 0..100),
    ] {
        let archive = MemoryArchive::new();
        store(&archive, window(0), (format, Compression::None), &lines).await;
        let log = open(&archive, some);
        assert_eq!(said(&all(&log, AMPLE).await), lines[expected], "{format:?}");
    }
    assert_eq!(some.in_windows(), range(1));
    assert_eq!(range(1).in_windows(), range(1));
}

#[tokio::test]
async fn an_object_is_done_only_when_its_last_line_is_acknowledged() {
    let archive = MemoryArchive::new();
    for number in 0..2 {
        let lines = payloads(&number.to_string(), 3_000);
        store(&archive, window(number), (LineFormat::Payload, Compression::None), &lines).await;
    }
    let log = open(&archive, range(2));
    // Small pulls: most lines are still on their way when the objects are read to their end.
    let mut held = None;
    let few = Room { messages: 7, ..AMPLE };
    while let Pulled::Messages(mut messages) = log.pull(few, PATIENCE).await.unwrap() {
        held = held.or_else(|| messages.pop());
        log.acknowledge(&leases(&messages)).await.unwrap();
    }
    let done = log.take_done();
    assert_eq!(done.len(), 1, "the object of the line that is held is done: {done:?}");
    let held = held.unwrap();
    // After a kill, the next replay leaves out the finished objects and reads the rest again.
    let resumed =
        ArchiveLog::open(Arc::new(archive.clone()), range(2), None, done.into_iter().collect());
    let again = all(&resumed, AMPLE).await;
    assert_eq!(again.len(), 3_000);
    assert!(again.iter().any(|message| message.id == held.id));
}

#[tokio::test]
async fn a_damaged_object_is_named_with_its_line_and_the_others_are_replayed() {
    let archive = MemoryArchive::new();
    let form = (LineFormat::Payload, Compression::Gzip);
    store(&archive, window(0), form, &payloads("whole", 500)).await;
    let mut part = Part::new(form.0, form.1);
    payloads("cut", 50_000)
        .iter()
        .for_each(|payload| part.append(&message(payload, window(1).start())));
    let mut encoded = part.encode().unwrap();
    encoded.body.truncate(encoded.body.len() / 2);
    let encoded = crate::archive::EncodedPart { ..encoded };
    store_part(&archive, window(1), &Incarnation::random(), 0, &encoded).await.unwrap();
    let log = open(&archive, range(2));
    let messages = all(&log, AMPLE).await;
    log.acknowledge(&leases(&messages)).await.unwrap();
    let cut =
        messages.iter().filter(|message| message.payload.starts_with(b"{\"n\":\"cut")).count();
    assert_eq!(messages.len() - cut, 500);
    assert!(cut > 0, "the lines before the damage are good");
    let progress = log.progress();
    assert_eq!(progress.faults.len(), 1);
    assert!(progress.faults[0].object.contains(&window(1).to_string()));
    assert_eq!(progress.faults[0].line, cut as u64 + 1);
    assert_eq!(log.take_done().len(), 1, "the damaged object is never done");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_down_is_reported_and_waited_for() {
    let archive = MemoryArchive::new();
    store(&archive, window(0), (LineFormat::Payload, Compression::None), &payloads("", 10)).await;
    archive.set_unavailable(true);
    let log = open(&archive, range(1));
    let error = log.pull(AMPLE, Duration::from_secs(1)).await.unwrap_err();
    assert!(error.to_string().contains("unavailable"), "{error}");
    archive.set_unavailable(false);
    assert_eq!(all(&log, AMPLE).await.len(), 10);
}

/// Composes a part in the moment in which it is to be read.
struct Composed {
    archive: MemoryArchive,
    written: Incarnation,
}

#[async_trait]
impl ArchiveStore for Composed {
    async fn read(&self, name: &str) -> Result<ByteStream, StoreError> {
        let limits = Limits { final_bytes: 1 << 20, parts: 10 };
        close(&self.archive, window(0), &self.written, limits).await.unwrap();
        self.archive.read(name).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        self.archive.list(prefix).await
    }

    async fn info(&self, name: &str) -> Result<ObjectInfo, StoreError> {
        self.archive.info(name).await
    }

    async fn put_if_absent(&self, name: &str, body: Bytes) -> Result<Put, StoreError> {
        self.archive.put_if_absent(name, body).await
    }

    async fn compose(&self, name: &str, sources: &[ObjectRef]) -> Result<Put, StoreError> {
        self.archive.compose(name, sources).await
    }

    async fn delete(&self, object: &ObjectRef) -> Result<(), StoreError> {
        self.archive.delete(object).await
    }
}

#[tokio::test]
async fn a_part_that_is_composed_meanwhile_is_read_from_its_final() {
    let archive = MemoryArchive::new();
    let form = (LineFormat::Payload, Compression::None);
    let written = store(&archive, window(0), form, &payloads("a", 10)).await;
    // A later one: a missing part must not end the reading.
    for number in 1..4 {
        store(&archive, window(number), form, &payloads(&number.to_string(), 10)).await;
    }
    let archive = Arc::new(Composed { archive, written });
    let log = ArchiveLog::open(archive, range(4), None, HashSet::new());
    let expected = ["1", "2", "3", "a"].map(|prefix| payloads(prefix, 10)).concat();
    assert_eq!(said(&all(&log, AMPLE).await), expected);
}

#[tokio::test]
async fn a_range_with_nothing_in_it_ends_at_once() {
    let archive = MemoryArchive::new();
    let nothing = ReplayRange { from: window(5).start(), to: window(5).start() };
    for range in [range(3), nothing] {
        let log = open(&archive, range);
        assert_eq!(all(&log, AMPLE).await.len(), 0);
    }
}
