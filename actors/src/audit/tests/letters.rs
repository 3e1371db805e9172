//! Dead letters that account for rows, and those that do not.

use super::*;

async fn with_letter(change: impl Fn(&mut crate::dead_letter_table::DeadLetter)) -> Tally {
    let rig = Rig::new(LineFormat::Annotated, &[orders("order.")]).await;
    let lost = event("a", "order.placed");
    rig.archive(0, Compression::None, std::slice::from_ref(&lost)).await;
    rig.letter_with(0, &lost, Stage::Write, Some("p0"), change).await;
    rig.audit(Acknowledged::All).await.summary.total
}

#[tokio::test]
async fn only_an_open_letter_of_the_same_message_and_publish_time_accounts_for_a_row() {
    let Tally { missing, dead_letters, .. } = with_letter(|_| {}).await;
    assert_eq!((missing, dead_letters), (0, 1));
    let time = Timestamp::from_micros(rig::window(0).start().micros() + 7);
    type Change = fn(&mut crate::dead_letter_table::DeadLetter, Timestamp);
    let others: [(&str, Change); 5] = [
        ("a namesake's", |letter, _| letter.message_id = "m-other".into()),
        ("of another time", |letter, time| letter.publish_time = time),
        ("requeued", |letter, time| letter.requeued_at = Some(time)),
        ("a staging replay's", |letter, _| letter.replay_id = Some("r1".to_owned())),
        ("another processor's", |letter, _| letter.processor = Some("p1".to_owned())),
    ];
    for (name, change) in others {
        let Tally { missing, dead_letters, .. } = with_letter(|it| change(it, time)).await;
        assert_eq!((missing, dead_letters), (1, 0), "{name}");
    }
}

#[tokio::test]
async fn a_letter_accounts_for_a_row_that_an_older_message_made() {
    let rig = Rig::new(LineFormat::Annotated, &[orders("order.")]).await;
    let event = event("a", "order.placed");
    rig.archive(1, Compression::None, std::slice::from_ref(&event)).await;
    rig.process_at(0, std::slice::from_ref(&event)).await;
    assert_eq!(rig.audit(Acknowledged::All).await.summary.total.stale, 1);
    rig.letter(1, &event, Stage::Write, Some("p0")).await;
    let total = rig.audit(Acknowledged::All).await.summary.total;
    assert_eq!((total.stale, total.dead_letters), (0, 1));
}

#[tokio::test]
async fn a_letter_of_the_same_payload_accounts_for_a_line_without_an_id() {
    let rig = Rig::new(LineFormat::Payload, &[orders("order.")]).await;
    let lines = ["{\n\"event_id\":\"a\"", "{\r\"event_id\":\"a\",\"n\":1"];
    let event = |line: &str| {
        format!("{line},\"event_type\":\"order.placed\",\"timestamp\":\"2026-02-17T14:30:00Z\"}}")
            .into_bytes()
    };
    rig.archive(0, Compression::None, &[event(lines[0])]).await;
    // A letter with the same event id and another payload is not the event's.
    rig.letter(0, &event(lines[1]), Stage::Write, Some("p0")).await;
    assert_eq!(rig.audit(Acknowledged::All).await.summary.total.missing, 1);
    rig.letter(0, &event(lines[0]), Stage::Write, Some("p0")).await;
    assert_eq!(rig.audit(Acknowledged::All).await.summary.total.missing, 0);
}

#[tokio::test]
async fn a_purged_letter_explains_a_row_and_does_not_account_for_it() {
    let purged = |letter: &mut crate::dead_letter_table::DeadLetter| {
        *letter = letter.clone().purged(Timestamp::from_micros(5));
    };
    let total = with_letter(purged).await;
    assert_eq!((total.purged, total.dead_letters, total.missing), (1, 0, 0));
    assert!(!total.is_clean(), "a purge is no success");
    let requeued = |letter: &mut crate::dead_letter_table::DeadLetter| {
        letter.requeued_at = Some(Timestamp::from_micros(4));
        purged(letter);
    };
    let total = with_letter(requeued).await;
    assert_eq!((total.purged, total.dead_letters, total.missing), (0, 0, 1));
}

#[tokio::test]
async fn an_open_letter_counts_beside_a_purged_one_of_another_stage() {
    let rig = Rig::new(LineFormat::Annotated, &[orders("order.")]).await;
    let lost = event("a", "order.placed");
    rig.archive(0, Compression::None, std::slice::from_ref(&lost)).await;
    let purge = |letter: &mut crate::dead_letter_table::DeadLetter| {
        *letter = letter.clone().purged(Timestamp::from_micros(5));
    };
    rig.letter_with(0, &lost, Stage::Process, Some("p0"), purge).await;
    rig.letter(0, &lost, Stage::Write, Some("p0")).await;
    rig.letter_with(0, &lost, Stage::Poison, Some("p0"), purge).await;
    let total = rig.audit(Acknowledged::All).await.summary.total;
    assert_eq!((total.purged, total.dead_letters, total.missing), (0, 1, 0));
}
