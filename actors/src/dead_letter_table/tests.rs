use super::*;

#[test]
fn the_id_differs_by_message_stage_duty_and_staging_replay() {
    let at = Timestamp::from_micros;
    let id = DeadLetter::id(("17", at(5)), Stage::Parse, ROUTE, None);
    assert_eq!(id.len(), 32);
    assert_eq!(id, DeadLetter::id(("17", at(5)), Stage::Parse, ROUTE, None));
    for other in [
        DeadLetter::id(("1", at(5)), Stage::Parse, ROUTE, None),
        DeadLetter::id(("17", at(6)), Stage::Parse, ROUTE, None),
        DeadLetter::id(("17", at(5)), Stage::Poison, ROUTE, None),
        DeadLetter::id(("17", at(5)), Stage::Parse, ARCHIVE, None),
        DeadLetter::id(("17", at(5)), Stage::Parse, ROUTE, Some("r")),
        DeadLetter::id(("17p", at(5)), Stage::Parse, ROUTE, None),
    ] {
        assert_ne!(id, other);
    }
}

#[test]
fn a_letter_comes_back_from_its_row() {
    let letter = DeadLetter {
        id: "1".to_owned(),
        event_id: Some("e".into()),
        event_type: None,
        stage: Stage::Write,
        actor: "kappa.writer".to_owned(),
        processor: Some("orders".to_owned()),
        duty: "orders".to_owned(),
        reason: "too long".to_owned(),
        payload: Bytes::from_static(b"{}"),
        attributes: Some(Arc::default()),
        message_id: "17".into(),
        publish_time: Timestamp::from_micros(1),
        failed_at: Timestamp::from_micros(2),
        attempts: 3,
        requeued_at: None,
        replay_id: None,
        ordering_key: "k".into(),
        class: None,
        payload_object: None,
        purged_at: None,
    };
    let mut row = letter.row();
    assert_eq!(row.0.len(), COLUMNS.len());
    assert_eq!(DeadLetter::from_row(&row).as_ref(), Ok(&letter));
    let places = [PAYLOAD, OBJECT, DUTY, VERSION, REQUEUED_AT, CLASS_AT, PURGED];
    let named = ["payload", PAYLOAD_OBJECT, "duty", "_version", "requeued_at", CLASS, PURGED_AT];
    assert_eq!(places.map(|at| COLUMNS[at].0), named);
    let mark = letter.mark(Timestamp::from_micros(9));
    assert!(mark.version > letter.version(), "a mark is newer than its failure");
    let again = DeadLetter { failed_at: Timestamp::from_micros(3), ..letter.clone() };
    assert!(again.version() > mark.version, "and older than the next failure");
    let mut marked = row.clone();
    mark.put_into(&mut marked);
    assert_eq!(marked, DeadLetter { requeued_at: Some(mark.at), ..letter.clone() }.row());
    assert_eq!((payload(&row), payload_object(&row)), (Some(&letter.payload), None));
    move_payload(&mut row, "there");
    assert_eq!((payload(&row), payload_object(&row)), (None, Some("there")));
    let moved = DeadLetter::from_row(&row).unwrap();
    assert_eq!((moved.payload_object.as_deref(), &*moved.payload), (Some("there"), &b""[..]));
    assert_eq!(moved.row(), row);
    row.0[3] = text("posted");
    assert_eq!(DeadLetter::from_row(&row), Err(UnreadableLetter("stage")));
}

#[test]
fn stages_are_found_by_their_names() {
    for stage in Stage::ALL {
        assert_eq!(Stage::from_name(stage.name()), Some(stage));
    }
    assert_eq!(Stage::from_name("Parse"), None);
}

#[test]
fn a_purged_letter_keeps_its_place_and_class_and_loses_its_content() {
    let letter = DeadLetter {
        id: "1".to_owned(),
        event_id: Some("secret".into()),
        event_type: Some("secret".into()),
        stage: Stage::Write,
        actor: "kappa.writer".to_owned(),
        processor: Some("orders".to_owned()),
        duty: "orders".to_owned(),
        class: Some("orders: refused for a value".into()),
        reason: "secret".to_owned(),
        payload: Bytes::from_static(b"secret"),
        payload_object: None,
        attributes: Some(Arc::new(Attributes::from([("a".into(), "secret".into())]))),
        message_id: "17".into(),
        publish_time: Timestamp::from_micros(1),
        failed_at: Timestamp::from_micros(2),
        attempts: 3,
        requeued_at: None,
        purged_at: None,
        replay_id: None,
        ordering_key: "secret".into(),
    };
    let mark = letter.mark(Timestamp::from_micros(9));
    let purged = letter.clone().purged(Timestamp::from_micros(9));
    assert!(letter.is_open() && !purged.is_open());
    assert!(purged.version() > letter.version() && purged.version() > mark.version);
    let again = DeadLetter { failed_at: Timestamp::from_micros(3), ..letter.clone() };
    assert!(again.version() > purged.version(), "the next failure is open again");
    assert!(!format!("{:?}", purged.row()).contains("secret"));
    assert_eq!(DeadLetter::from_row(&purged.row()), Ok(purged));
}
