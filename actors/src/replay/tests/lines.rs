//! Lines are read by the format of their object and checked by its index.

use super::*;
use crate::envelope::{EnvelopeConfig, EnvelopePlan};
use crate::position::{IMPORTED, Position, imported_id};

/// Puts lines as they are into a part of the window.
async fn store_raw(archive: &MemoryArchive, number: i64, form: LineFormat, lines: &str) -> String {
    let (window, incarnation) = (window(number), Incarnation::random());
    let name = format!("parts/{window}/{incarnation}-000000{}.jsonl", form.mark());
    let lines = Bytes::copy_from_slice(lines.as_bytes());
    archive.put_if_absent(&name, lines).await.unwrap();
    name
}

/// An object's lines.
fn text(archive: &MemoryArchive, name: &str) -> String {
    String::from_utf8(archive.body(name).unwrap().to_vec()).unwrap()
}

#[tokio::test]
async fn each_object_is_read_by_its_own_format() {
    let archive = MemoryArchive::new();
    let formats = [LineFormat::Annotated, LineFormat::Envelope, LineFormat::Payload];
    let mut expected = Vec::new();
    for (format, prefix) in formats.into_iter().zip(["a", "b", "c"]) {
        let lines = payloads(prefix, 10);
        let written = store(&archive, window(0), (format, Compression::None), &lines).await;
        if format == LineFormat::Annotated {
            let limits = Limits { final_bytes: 1 << 20, parts: 10 };
            close(&archive, window(0), &written, limits).await.unwrap();
        }
        expected.extend(lines);
    }
    let messages = all(&open(&archive, range(1)), AMPLE).await;
    assert_eq!(said(&messages), expected);
    let known = messages.iter().filter(|message| message.id.starts_with("id-")).count();
    assert_eq!(known, 20, "all but the payload lines hold their message ids");
}

#[tokio::test]
async fn a_payload_line_counts_as_imported_at_its_event_time() {
    let archive = MemoryArchive::new();
    let event = r#"{"event_id":"1","event_type":"t","timestamp":"2020-01-01T00:00:00Z"}"#;
    let lines = [event.to_owned(), r#"{"no":"event"}"#.to_owned()];
    store(&archive, window(0), (LineFormat::Payload, Compression::None), &lines).await;
    let (id, r#type, time) = ("/event_id".into(), "/event_type".into(), "/timestamp".into());
    let config = EnvelopeConfig { id, r#type, time };
    let envelope = Arc::new(EnvelopePlan::compile(&config, 1 << 20).unwrap());
    let archive = Arc::new(archive);
    let log = ArchiveLog::open(archive, range(1), Some(envelope), HashSet::new());
    let messages = all(&log, AMPLE).await;
    let happened = Timestamp::parse_rfc3339("2020-01-01T00:00:00Z").unwrap();
    let expected = [
        (imported_id(1, event.as_bytes()), happened),
        (imported_id(2, lines[1].as_bytes()), window(0).start()),
    ];
    for (message, (id, time)) in messages.iter().zip(expected) {
        assert_eq!((&message.id, message.publish_time), (&id, time));
        let position = Position::of(&message.id, message.publish_time, 0);
        assert_eq!(position.to_bytes()[0] >> 4, IMPORTED, "nothing of a log is outranked");
    }
}

#[tokio::test]
async fn a_line_of_another_format_is_a_fault_and_no_event() {
    let archive = MemoryArchive::new();
    let good = r#"{"n":1,"_kappa":{"id":"7","at":"2026-02-17T14:30:00.000001Z"}}"#;
    let lines = format!("{good}\n{{\"n\":2}}\n{{\"n\":3}}\n{good}\n");
    let name = store_raw(&archive, 0, LineFormat::Annotated, &lines).await;
    let log = open(&archive, range(1));
    let messages = all(&log, AMPLE).await;
    log.acknowledge(&leases(&messages)).await.unwrap();
    assert_eq!(said(&messages), ["{\"n\":1}", "{\"n\":1}"]);
    let faults = log.progress().faults;
    assert_eq!((&*faults[0].object, faults[0].line, faults.len()), (&*name, 2, 1));
    assert_eq!(log.take_done(), [""; 0], "it never counts as done");
}

#[tokio::test]
async fn a_final_that_was_lost_cut_or_edited_is_a_fault() {
    let archive = MemoryArchive::new();
    let form = (LineFormat::Annotated, Compression::None);
    let mut finals = Vec::new();
    for number in 0..4 {
        let lines = payloads(&number.to_string(), 10);
        let written = store(&archive, window(number), form, &lines).await;
        let limits = Limits { final_bytes: 1 << 20, parts: 10 };
        let made = close(&archive, window(number), &written, limits).await.unwrap();
        finals.push(made[0].name.clone());
    }
    archive.lose(&finals[0]);
    let cut = text(&archive, &finals[1]).split_inclusive('\n').take(4).collect::<String>();
    archive.overwrite(&finals[1], cut);
    let edited = text(&archive, &finals[2]);
    archive.overwrite(&finals[2], edited.replacen("200003", "200004", 1));
    let log = open(&archive, range(4));
    let messages = all(&log, AMPLE).await;
    log.acknowledge(&leases(&messages)).await.unwrap();
    assert_eq!(messages.len(), 4 + 10 + 10, "the remaining lines are replayed");
    let mut faults = log.progress().faults;
    faults.sort_by(|a, b| a.object.cmp(&b.object));
    let found: Vec<_> = faults.iter().map(|fault| (&*fault.object, fault.line)).collect();
    assert_eq!(found, [(&*finals[0], 1), (&*finals[1], 5), (&*finals[2], 11)]);
    assert!(faults[1].reason.contains("has 4 of the 10 lines"), "{}", faults[1].reason);
    assert_eq!(log.take_done(), [finals[3].clone()]);
}
