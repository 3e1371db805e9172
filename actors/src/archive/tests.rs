//! Sealing, killed and interleaved in every way, against a model.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::{FutureExt, TryStreamExt};

use super::*;
use crate::message::{Lease, Message};
use crate::port::{ArchiveStore, StoreError};
use crate::testing::archive_store::lines;
use crate::testing::memory::archive_store::MemoryArchive;
use crate::time::Timestamp;

mod indexes;
mod interleavings;

fn window() -> Window {
    "20260217T143000Z".parse().unwrap()
}

fn message(payload: &str) -> Message {
    Message {
        id: payload.into(),
        payload: Bytes::copy_from_slice(payload.as_bytes()),
        publish_time: window().start(),
        attributes: None,
        ordering_key: "".into(),
        attempt: None,
        archived: false,
        suspect: None,
        lease: Lease(0),
    }
}

fn part(payload: &str) -> EncodedPart {
    let mut part = Part::new(LineFormat::Payload, Compression::None);
    part.append(&message(payload));
    part.encode().unwrap()
}

/// A line for each part; distinct, and of differing lengths.
fn line(number: u32) -> String {
    format!("{{\"n\":{number}}}")
}

async fn store_lines(store: &dyn ArchiveStore, incarnation: &Incarnation, count: u32) {
    for number in 0..count {
        store_part(store, window(), incarnation, number, &part(&line(number))).await.unwrap();
    }
}

/// How often each line is seen by a reader.
async fn seen(store: &dyn ArchiveStore) -> BTreeMap<String, usize> {
    let mut seen = BTreeMap::new();
    for line in lines(store).await.into_iter().flat_map(|(_, lines)| lines) {
        *seen.entry(line).or_default() += 1;
    }
    seen
}

fn once_each(count: u32) -> BTreeMap<String, usize> {
    (0..count).map(|number| (line(number), 1)).collect()
}

/// The lines of all finals, as their indexes hold them; nothing may be lost or without an index.
async fn indexed(store: &dyn ArchiveStore) -> u64 {
    let objects = objects_between(store, FIRST, LAST).await.unwrap();
    let indexes = indexes_between(store, FIRST, LAST, &objects).await.unwrap();
    assert_eq!(indexes.lost, [], "no final is lost");
    assert_eq!(indexes.unindexed, [""; 0], "every final has an index");
    assert_eq!(indexes.unreadable, [], "no index is damaged");
    assert_parts_wait_for_the_index(store).await;
    let mut indexed = 0;
    for (object, lines) in lines(store).await {
        if let Some(entry) = indexes.find(&object.name) {
            let tally = tally(store, &object, lines.len()).await;
            assert_eq!(entry.difference(&tally), None, "{}", object.name);
            indexed += entry.lines.expect("all parts' names hold their lines");
        }
    }
    indexed
}

/// The parts of a manifest without an index are all there, so that the index can still be written.
async fn assert_parts_wait_for_the_index(store: &dyn ArchiveStore) {
    let names: BTreeMap<_, _> =
        store.list("").await.unwrap().into_iter().map(|info| (info.name.clone(), info)).collect();
    for info in names.values().filter(|info| info.name.starts_with("manifests/")) {
        let Sealed { manifest, .. } = super::seal::read(store, info).await.unwrap().unwrap();
        if !names.contains_key(&IndexName(manifest.name()).to_string()) {
            let mut parts = manifest.finals.iter().flat_map(|planned| &planned.parts);
            assert!(parts.all(|part| names.contains_key(&part.name)), "{}", info.name);
        }
    }
}

async fn tally(store: &dyn ArchiveStore, object: &ArchiveObject, lines: usize) -> Tally {
    let mut tally = Tally { lines: lines as u64, ..Tally::default() };
    let chunks: Vec<_> = store.read(&object.name).await.unwrap().try_collect().await.unwrap();
    chunks.iter().for_each(|chunk| tally.add(chunk));
    tally
}

const FIRST: Timestamp = Timestamp::from_micros(0);
const LAST: Timestamp = Timestamp::from_micros(253_402_300_799_999_999);

/// As a restarted daemon does.
async fn recover(store: &dyn ArchiveStore, limits: Limits) {
    for left in unfinished(store).await.unwrap() {
        close(store, left.window, &left.incarnation, limits).await.unwrap();
    }
}

fn only_finals(archive: &MemoryArchive) -> bool {
    let is_kept =
        |name: &String| name.parse::<FinalName>().is_ok() || name.parse::<IndexName>().is_ok();
    archive.names().iter().all(is_kept)
}

/// Two finals, of which the first needs intermediates, and a second turn.
const SMALL: Limits = Limits { final_bytes: 400, parts: 60 };

#[tokio::test]
async fn a_sealer_killed_at_any_step_leaves_every_line_once_to_readers_and_to_the_next() {
    let mut calls = 0;
    loop {
        let archive = MemoryArchive::new();
        let incarnation = Incarnation::random();
        store_lines(&archive, &incarnation, 70).await;
        let mortal = archive.client();
        mortal.die_after(calls);
        let closed = close(&mortal, window(), &incarnation, SMALL).await;
        assert_eq!(seen(&archive).await, once_each(70), "killed after {calls} calls");
        indexed(&archive).await;
        recover(&archive.client(), SMALL).await;
        assert_eq!(seen(&archive).await, once_each(70), "recovered after {calls} calls");
        assert_eq!(indexed(&archive).await, 70, "recovered after {calls} calls");
        assert!(only_finals(&archive), "after {calls} calls: {:?}", archive.names());
        if closed.is_ok() {
            break;
        }
        calls += 1;
    }
    assert!(calls > 150, "{calls} calls are fewer than there are objects to handle");
}

#[tokio::test]
async fn a_recovery_killed_at_any_step_is_recovered_from() {
    for first in (0..200).step_by(7) {
        for second in (0..200).step_by(11) {
            let archive = MemoryArchive::new();
            let incarnation = Incarnation::random();
            store_lines(&archive, &incarnation, 70).await;
            for calls in [first, second] {
                let mortal = archive.client();
                mortal.die_after(calls);
                let _ = close(&mortal, window(), &incarnation, SMALL).await;
            }
            recover(&archive, SMALL).await;
            assert_eq!(seen(&archive).await, once_each(70), "{first}, then {second}");
            assert_eq!(indexed(&archive).await, 70, "{first}, then {second}");
            assert!(only_finals(&archive));
        }
    }
}

#[tokio::test]
async fn a_store_that_loses_every_answer_is_sealed_by_trying_again() {
    let archive = MemoryArchive::new();
    let incarnation = Incarnation::random();
    store_lines(&archive, &incarnation, 70).await;
    let mut tries = 0;
    loop {
        archive.lose_answers(1);
        tries += 1;
        assert!(tries < 500, "no progress");
        if close(&archive, window(), &incarnation, SMALL).await.is_ok() {
            break;
        }
    }
    archive.lose_answers(0);
    assert!(only_finals(&archive));
    assert_eq!(seen(&archive).await, once_each(70));
}

#[tokio::test]
async fn more_parts_than_two_levels_join_become_one_final_in_order() {
    let archive = MemoryArchive::new();
    let incarnation = Incarnation::random();
    store_lines(&archive, &incarnation, 1_100).await;
    let finals = close(&archive, window(), &incarnation, Limits::DEFAULT).await.unwrap();
    assert_eq!(finals.len(), 1);
    assert!(only_finals(&archive));
    let expected: String = (0..1_100).map(|number| line(number) + "\n").collect();
    assert_eq!(archive.body(&finals[0].name).unwrap(), expected);
}

#[tokio::test]
async fn a_part_that_comes_later_goes_into_the_next_turn() {
    let archive = MemoryArchive::new();
    let incarnation = Incarnation::random();
    store_lines(&archive, &incarnation, 2).await;
    close(&archive, window(), &incarnation, Limits::DEFAULT).await.unwrap();
    store_part(&archive, window(), &incarnation, 2, &part(&line(2))).await.unwrap();
    let finals = close(&archive, window(), &incarnation, Limits::DEFAULT).await.unwrap();
    let name: FinalName = finals[0].name.parse().unwrap();
    assert_eq!(name.manifest.turn, 1);
    assert_eq!(seen(&archive).await, once_each(3));
}

/// A sealer that computed its turn long ago and lists its parts only now writes a manifest of a
/// turn that is over, beside the one that another made of the same parts.
async fn late_sealer(late_parts: u32) {
    let archive = MemoryArchive::new();
    let incarnation = Incarnation::random();
    store_lines(&archive, &incarnation, 2).await;
    close(&archive, window(), &incarnation, Limits::DEFAULT).await.unwrap();
    for number in 2..2 + late_parts {
        store_part(&archive, window(), &incarnation, number, &part(&line(number))).await.unwrap();
    }
    let good = seal(&archive, window(), &incarnation, Limits::DEFAULT).await.unwrap().unwrap();
    assert_eq!(good.manifest.turn, 1);
    let parts = good.manifest.finals[0].parts.clone();
    let name = ManifestName { turn: 0, ..good.manifest.name() };
    let form = (LineFormat::Payload, Compression::None);
    let manifest = Manifest::plan(name, form, parts.clone(), 1);
    let body = serde_json::to_vec(&manifest).unwrap();
    archive.put_if_absent(&manifest.name().to_string(), body.into()).await.unwrap();
    assert_eq!(seen(&archive).await, once_each(2 + late_parts), "a reader sees through it");

    let stale = seal(&archive, window(), &incarnation, Limits::DEFAULT).await.unwrap().unwrap();
    assert_eq!(stale.manifest, manifest, "an existing manifest is finished first");
    assert_eq!(finish(&archive, &stale).await.unwrap(), Finished::Abandoned);
    for part in parts {
        assert_eq!(archive.info(&part.name).await.unwrap().generation, part.generation);
    }
    assert_eq!(finish(&archive, &good).await.unwrap(), Finished::Composed);
    assert_eq!(indexed(&archive).await, u64::from(2 + late_parts));
    assert_eq!(seen(&archive).await, once_each(2 + late_parts));
    assert!(only_finals(&archive));
}

#[tokio::test]
async fn a_stale_manifest_is_abandoned_and_the_parts_it_names_are_left_alone() {
    // With a final of the same name and other bytes, and with finals of other names.
    late_sealer(1).await;
    late_sealer(2).await;
}

#[tokio::test]
async fn a_manifest_with_a_removed_part_leaves_its_other_parts_to_the_next_turn() {
    let archive = MemoryArchive::new();
    let incarnation = Incarnation::random();
    store_lines(&archive, &incarnation, 3).await;
    let sealed = seal(&archive, window(), &incarnation, Limits::DEFAULT).await.unwrap().unwrap();
    archive.delete(&sealed.manifest.finals[0].parts[1].object()).await.unwrap();
    assert_eq!(finish(&archive, &sealed).await.unwrap(), Finished::Abandoned);
    recover(&archive, Limits::DEFAULT).await;
    assert_eq!(seen(&archive).await.into_keys().collect::<Vec<_>>(), [line(0), line(2)]);
    assert!(only_finals(&archive));
}

#[tokio::test]
async fn a_damaged_manifest_is_named_and_nothing_is_touched() {
    let archive = MemoryArchive::new();
    let incarnation = Incarnation::random();
    store_lines(&archive, &incarnation, 1).await;
    let name = ManifestName { window: window(), incarnation: incarnation.clone(), turn: 0 };
    archive.put_if_absent(&name.to_string(), Bytes::from_static(b"{")).await.unwrap();
    let before = archive.names();
    let closed = close(&archive, window(), &incarnation, Limits::DEFAULT).await;
    assert!(closed.unwrap_err().to_string().contains(&name.to_string()));
    assert_eq!(archive.names(), before);
}

#[tokio::test]
async fn intermediates_of_an_overtaken_finisher_are_removed() {
    let archive = MemoryArchive::new();
    let incarnation = Incarnation::random();
    let left = format!("composing/{}/{incarnation}-0/0-0-0", window());
    archive.put_if_absent(&left, Bytes::from_static(b"{}\n")).await.unwrap();
    assert_eq!(unfinished(&archive).await.unwrap().len(), 1);
    assert!(lines(&archive).await.is_empty(), "it holds no lines that a reader counts");
    recover(&archive, Limits::DEFAULT).await;
    assert!(archive.names().is_empty());
}

#[tokio::test]
async fn exists_already_is_a_success_only_for_the_same_bytes() {
    let archive = MemoryArchive::new();
    let incarnation = Incarnation::random();
    archive.lose_answers(1);
    let first = store_part(&archive, window(), &incarnation, 0, &part("{}")).await;
    assert!(matches!(first, Err(StorePartError::Store(StoreError::Unavailable(_)))));
    assert!(store_part(&archive, window(), &incarnation, 0, &part("{}")).await.is_ok());
    let other = store_part(&archive, window(), &incarnation, 0, &part("[]")).await;
    assert!(matches!(other, Err(StorePartError::Taken(_))));
}

#[tokio::test]
async fn all_formats_in_all_compressions_are_read_back_from_finals_and_parts() {
    for format in [LineFormat::Annotated, LineFormat::Envelope, LineFormat::Payload] {
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            let archive = MemoryArchive::new();
            let incarnation = Incarnation::random();
            let mut expected = Vec::new();
            for number in 0..5 {
                let mut part = Part::new(format, compression);
                for event in 0..3 {
                    let payload = format!("{{\"part\":{number},\n\"event\":{event}}}");
                    part.append(&message(&payload));
                    expected.push(payload.replace('\n', " "));
                }
                assert_eq!(part.events(), 3);
                let part = part.encode().unwrap();
                store_part(&archive, window(), &incarnation, number, &part).await.unwrap();
                if number == 3 {
                    close(&archive, window(), &incarnation, Limits::DEFAULT).await.unwrap();
                }
            }
            let mut read = Vec::new();
            for (object, lines) in lines(&archive).await {
                assert_eq!(object.format, format, "{}", object.name);
                for line in lines {
                    let event = format.decode(line.into()).unwrap();
                    assert_eq!(event.origin.is_some(), format != LineFormat::Payload);
                    read.push(String::from_utf8(event.payload.to_vec()).unwrap());
                }
            }
            assert_eq!(read, expected, "{format:?} {compression:?}");
        }
    }
}

#[tokio::test]
async fn a_reader_gets_the_windows_that_its_range_touches() {
    let archive = MemoryArchive::new();
    let incarnation = Incarnation::random();
    let mut at = window();
    for number in 0..4 {
        store_part(&archive, at, &incarnation, number, &part(&line(number))).await.unwrap();
        if number % 2 == 0 {
            close(&archive, at, &incarnation, Limits::DEFAULT).await.unwrap();
        }
        at = Window::of(at.end());
    }
    let second = Window::of(window().end());
    let (from, to) = (second.start(), Timestamp::from_micros(second.end().micros() + 1));
    let found = objects_between(&archive, from, to).await.unwrap();
    let windows: Vec<_> = found.iter().map(|object| object.window).collect();
    assert_eq!(windows, [second, Window::of(second.end())]);
    assert!(found[0].name.starts_with("parts/") && found[1].name.starts_with("events/"));
    assert!(objects_between(&archive, to, from).await.unwrap().is_empty());
}

#[tokio::test]
async fn an_incarnation_that_stored_something_in_between_looks_different() {
    let archive = MemoryArchive::new();
    let incarnation = Incarnation::random();
    store_lines(&archive, &incarnation, 1).await;
    let before = unfinished(&archive).await.unwrap();
    assert_eq!(unfinished(&archive).await.unwrap(), before, "silent");
    store_part(&archive, window(), &incarnation, 1, &part(&line(1))).await.unwrap();
    assert_ne!(unfinished(&archive).await.unwrap(), before);
}
