use bytes::Bytes;

use super::*;
use crate::archive::{
    Compression, Incarnation, Limits, LineFormat, Part, Window, close, store_part,
};
use crate::dead_letter_table::{ARCHIVE, Stage};
use crate::testing::event_log::{Abilities, conforms};
use crate::testing::memory::archive_store::MemoryArchive;
use crate::testing::memory::dead_letters::MemoryLetters;

const ROOM: Room = Room { messages: 100, bytes: 1 << 20 };
const MARKED: Selection = Selection { requeued_too: false, marks: true, range: None };

fn letter(message: &str, duty: &str, payload: &[u8]) -> DeadLetter {
    let publish_time = Timestamp::from_micros(1_000);
    DeadLetter {
        id: DeadLetter::id((message, publish_time), Stage::Process, duty, None),
        event_id: None,
        event_type: None,
        stage: Stage::Process,
        actor: String::new(),
        processor: Some(duty.to_owned()),
        duty: duty.to_owned(),
        reason: "bad".to_owned(),
        payload: payload.to_vec().into(),
        attributes: None,
        message_id: message.into(),
        publish_time,
        failed_at: Timestamp::from_micros(2_000),
        attempts: 1,
        requeued_at: None,
        replay_id: None,
        ordering_key: "k".into(),
        class: None,
        payload_object: None,
        purged_at: None,
    }
}

fn log_of(letters: &MemoryLetters, all: &[DeadLetter], selection: Selection) -> LetterLog {
    for letter in all {
        letters.write(letter.clone());
    }
    let ids = all.iter().map(|letter| letter.id.clone()).collect();
    LetterLog::new(Arc::new(letters.clone()), ids, selection)
}

async fn pull(log: &LetterLog) -> Vec<Message> {
    match log.pull(ROOM, Duration::from_millis(1)).await.unwrap() {
        Pulled::Messages(messages) => messages,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn it_keeps_the_promises_of_an_event_log() {
    let fresh = |messages: Vec<NewMessage>| async move {
        let letters: Vec<_> = (0..)
            .zip(messages)
            .map(|(n, message): (u32, _)| letter(&n.to_string(), "orders", &message.payload))
            .collect();
        log_of(&MemoryLetters::default(), &letters, MARKED)
    };
    let abilities =
        Abilities { publish: false, empty: false, order: true, seek: false, backlog: false };
    conforms(fresh, abilities).await;
}

#[tokio::test]
async fn a_message_comes_with_its_old_position_for_the_duty_that_failed_alone() {
    let letters = MemoryLetters::default();
    let all = [letter("1", "orders", b"a"), letter("2", ROUTE, b"b"), letter("3", ARCHIVE, b"c")];
    let log = log_of(&letters, &all, MARKED);
    let messages = pull(&log).await;
    let open = log.open_letters();
    let duties: Vec<_> = messages.iter().map(|it| open.only(&it.id)).collect();
    assert_eq!(duties, [Some("orders".to_owned()), None, Some(ARCHIVE.to_owned())]);
    for (message, letter) in messages.iter().zip(&all) {
        assert_eq!((&message.id, message.publish_time), (&letter.message_id, letter.publish_time));
        assert_eq!(
            (&message.payload, &message.ordering_key),
            (&letter.payload, &letter.ordering_key)
        );
    }
}

#[tokio::test]
async fn two_letters_of_one_message_never_are_under_way_together() {
    let letters = MemoryLetters::default();
    let log = log_of(&letters, &[letter("1", "orders", b"a"), letter("1", "users", b"a")], MARKED);
    for duty in ["orders", "users"] {
        let messages = pull(&log).await;
        assert_eq!(messages.len(), 1);
        assert_eq!(log.open_letters().only("1").as_deref(), Some(duty));
        let more = log.pull(ROOM, Duration::from_millis(1)).await.unwrap();
        assert_eq!(matches!(more, Pulled::End), duty == "users", "{more:?}");
        log.acknowledge(&[messages[0].lease]).await.unwrap();
    }
    assert!(letters.letters().iter().all(|letter| letter.requeued_at.is_some()));
}

#[tokio::test]
async fn a_letter_that_failed_again_before_its_mark_stays_open() {
    let letters = MemoryLetters::default();
    let first = letter("1", "orders", b"a");
    let log = log_of(&letters, std::slice::from_ref(&first), MARKED);
    let messages = pull(&log).await;
    let at = log.open_letters().failed_at("1").unwrap();
    letters.write(DeadLetter { failed_at: at.after(Duration::from_micros(1)), ..first });
    log.acknowledge(&[messages[0].lease]).await.unwrap();
    assert_eq!(letters.letters()[0].requeued_at, None);
}

#[tokio::test]
async fn a_requeued_letter_is_passed_over_unless_it_is_meant_and_staging_marks_none() {
    let letters = MemoryLetters::default();
    let done =
        DeadLetter { requeued_at: Some(Timestamp::from_micros(3_000)), ..letter("1", "o", b"") };
    let log = log_of(&letters, std::slice::from_ref(&done), MARKED);
    assert!(matches!(log.pull(ROOM, Duration::ZERO).await.unwrap(), Pulled::End));
    log_of(&letters, &[done], Selection { requeued_too: true, ..MARKED })
        .pull(ROOM, Duration::ZERO)
        .await
        .unwrap();
    let open = letter("2", "o", b"");
    let log = log_of(&letters, std::slice::from_ref(&open), Selection { marks: false, ..MARKED });
    let messages = pull(&log).await;
    log.acknowledge(&[messages[0].lease]).await.unwrap();
    assert_eq!(letters.letters().iter().filter(|it| it.requeued_at.is_none()).count(), 1);
}

/// Stores the line of a message, in a part or composed.
async fn store_line(
    archive: &Arc<dyn ArchiveStore>,
    of: &DeadLetter,
    by: Incarnation,
    seals: bool,
) {
    let mut part = Part::new(LineFormat::Annotated, Compression::None);
    let message = Message {
        id: of.message_id.clone(),
        payload: Bytes::from_static(b"{}"),
        publish_time: of.publish_time,
        attributes: None,
        ordering_key: CompactString::default(),
        attempt: None,
        archived: false,
        suspect: None,
        lease: Lease(0),
    };
    part.append(&message);
    let window = Window::of(of.publish_time);
    store_part(&**archive, window, &by, 0, &part.encode().unwrap()).await.unwrap();
    if seals {
        let limits = Limits::DEFAULT;
        close(&**archive, window, &by, limits).await.unwrap();
    }
}

#[tokio::test]
async fn the_line_of_a_killed_requeue_is_found_in_part_and_final() {
    for seals in [false, true] {
        let archive: Arc<dyn ArchiveStore> = Arc::new(MemoryArchive::default());
        let mut all = vec![
            letter("1", ROUTE, b"{}"),
            letter("2", ARCHIVE, b"{}"),
            letter("3", "orders", b"{}"),
            letter("4", ROUTE, b"{}"),
            letter("5", "", b"{}"),
        ];
        for letter in &all[..3] {
            store_line(&archive, letter, Incarnation::of_requeue(), seals).await;
        }
        // A daemon's line is of another delivery; and this publish time is of another message.
        store_line(&archive, &all[3], "abcdefghijkl".parse().unwrap(), seals).await;
        store_line(&archive, &all[4], Incarnation::of_requeue(), seals).await;
        all[4].publish_time = Timestamp::from_micros(1_001);
        let log = log_of(&MemoryLetters::default(), &all, MARKED).archived_in(archive);
        let archived: Vec<_> = pull(&log).await.iter().map(|it| it.archived).collect();
        assert_eq!(archived, [true, true, false, false, false], "composed: {seals}");
    }
}
