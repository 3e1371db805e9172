//! Versions and values of current rows.

use super::rig::ALL;
use super::*;
use crate::version::Version;

/// A rule whose events all make the row `c`; those of [`event`] have the same `order_by` value.
fn latest(revision: u16) -> String {
    format!(
        "match = [\"order.\"]\ntable = \"latest\"\nkey = [\"customer\"]\norder_by = \"at\"\nrevision = {revision}\n\
         [columns.customer]\ntype = \"STRING\"\nvalue = \"c\"\n\
         [columns.id]\ntype = \"STRING\"\nfrom = \"/event_id\"\n\
         [columns.at]\ntype = \"TIMESTAMP\"\nfrom = \"/timestamp\"\n\
         [columns.seen]\ntype = \"TIMESTAMP\"\nnow = true"
    )
}

fn at() -> Timestamp {
    Timestamp::parse_rfc3339("2026-02-17T14:30:00Z").unwrap()
}

/// The version of the row that a revision of [`latest`] makes of an event.
fn version(window: i64, event: &[u8], revision: u16) -> Version {
    match Rig::version(window, event, revision) {
        Value::Version(it) => Version::new(Some(at().micros()), it.position(), revision),
        other => panic!("{other}"),
    }
}

async fn found(rig: &Rig) -> Vec<String> {
    shown(&rig.audit(Acknowledged::All).await.findings)
}

#[tokio::test]
async fn a_row_of_an_older_message_is_stale_and_a_newer_one_is_right() {
    for format in [LineFormat::Annotated, LineFormat::Envelope] {
        let rig = Rig::new(format, &[latest(0)]).await;
        let events = ["a", "b", "c"].map(|id| event(id, "order.placed"));
        for (window, event) in (0..).zip(&events) {
            rig.archive(window, Compression::None, std::slice::from_ref(event)).await;
        }
        rig.process_at(0, &events[..1]).await;
        let stale = ["1 latest c stale :1", "2 latest c stale :1"];
        assert_eq!(found(&rig).await, stale, "{format:?}");
        rig.process_at(1, &events[1..2]).await;
        let audit = rig.audit(Acknowledged::All).await;
        assert_eq!(shown(&audit.findings), stale[1..]);
        assert_eq!((audit.summary.total.stale, audit.summary.tables[0].stale), (1, 1));
        assert!(!audit.summary.total.is_clean());
        // The newest is current: the older events were rightly superseded.
        rig.process_at(2, &events[2..]).await;
        assert_eq!(found(&rig).await, [""; 0]);
    }
}

#[tokio::test]
async fn of_several_stale_rows_of_a_key_the_greatest_expected_version_is_named() {
    let rig = Rig::new(LineFormat::Annotated, &[latest(0)]).await;
    let mut events: Vec<_> = (0..6).map(|n| event(&format!("{n}"), "order.placed")).collect();
    events.sort_by_key(|event| version(0, event, 0));
    rig.process(&events[..1]).await;
    // The newest event is in the middle of the file.
    events.swap(3, 5);
    rig.archive(0, Compression::None, &events).await;
    assert_eq!(found(&rig).await, ["0 latest c stale :4"]);
}

#[tokio::test]
async fn a_row_that_the_same_message_made_under_a_lower_revision_is_reported_and_no_fault() {
    let rig = Rig::new(LineFormat::Annotated, &[latest(0)]).await;
    let events = ["a", "b"].map(|id| event(id, "order.placed"));
    rig.archive(0, Compression::None, &events[..1]).await;
    rig.process(&events[..1]).await;
    let raised = rig.with(&[latest(3)]);
    let audit = raised.audit(Acknowledged::All).await;
    assert_eq!(shown(&audit.findings), ["0 latest c revision 0, not 3 :1"]);
    assert!(audit.summary.total.is_clean());
    assert_eq!((audit.summary.total.older_rule, audit.summary.tables[0].older_rule), (1, 1));
    // A row of a higher revision is newer.
    raised.process(&events[..1]).await;
    assert_eq!(found(&raised).await, [""; 0]);
    assert_eq!(found(&rig).await, [""; 0]);
}

#[tokio::test]
async fn a_row_of_an_older_rule_does_not_hide_that_it_is_stale() {
    let rig = Rig::new(LineFormat::Annotated, &[latest(0)]).await;
    let mut events = ["a", "b"].map(|id| event(id, "order.placed"));
    events.sort_by_key(|event| version(0, event, 0));
    rig.archive(0, Compression::None, &events).await;
    rig.process(&events[..1]).await;
    let found = found(&rig.with(&[latest(1)])).await;
    assert_eq!(found, ["0 latest c revision 0, not 1 :1", "0 latest c stale :2"]);
}

#[tokio::test]
async fn values_are_compared_on_request_at_equal_versions_but_for_the_time_of_processing() {
    let rig = Rig::new(LineFormat::Annotated, &[latest(1)]).await;
    let events = [event("a", "order.placed")];
    rig.archive(0, Compression::None, &events).await;
    rig.process(&events).await;
    let mut engine = rig.engine();
    engine.values = Some([("p0".to_owned(), "seen".to_owned())].into());
    let audit = rig.audit_with(&engine, ALL, Acknowledged::All).await;
    assert_eq!(shown(&audit.findings), [""; 0]);
    for (revision, wrong) in [(1, true), (2, false)] {
        rig.warehouse.remove("latest", |_| true);
        let version = Value::Version(Box::new(version(0, &events[0], revision)));
        let values = [text("c"), text("edited"), Value::Timestamp(at()), Value::Null, version];
        rig.put("latest", &values).await;
        assert_eq!(found(&rig).await, [""; 0], "values are compared on request");
        let audit = rig.audit_with(&engine, ALL, Acknowledged::All).await;
        let differs = ["0 latest c id: \"edited\" instead of \"a\" :1"];
        assert_eq!(shown(&audit.findings), if wrong { &differs[..] } else { &[] });
        assert_eq!(audit.summary.total.is_clean(), !wrong);
    }
}

#[tokio::test]
async fn an_event_without_a_row_is_not_accounted_for_by_a_row_of_an_older_message() {
    let strict =
        orders("order.") + "\n[columns.n]\ntype = \"INTEGER\"\nfrom = \"/n\"\nrequired = true";
    let rig = Rig::new(LineFormat::Annotated, &[strict]).await;
    // Two messages with one event id.
    let event = event("a", "order.placed");
    rig.archive(1, Compression::None, std::slice::from_ref(&event)).await;
    for (window, missing) in [(0, true), (1, false)] {
        let version = Rig::version(window, &event, 0);
        rig.put("orders", &[text("a"), Value::Null, version]).await;
        let missing = missing.then_some("1 p0 a (column n: missing) :1");
        assert_eq!(found(&rig).await, missing.into_iter().collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_line_without_its_position_proves_a_row_and_an_order_by_value_alone() {
    let rig = Rig::new(LineFormat::Payload, &[latest(0)]).await;
    let events = ["a", "b"].map(|id| event(id, "order.placed"));
    rig.archive(1, Compression::None, &events).await;
    assert_eq!(found(&rig).await, ["1 latest c missing :1"]);
    // A log made it, perhaps before: that cannot be decided.
    rig.process_at(0, &events[..1]).await;
    assert_eq!(found(&rig).await, [""; 0]);
    let early = String::from_utf8(event("a", "order.placed")).unwrap().replace("2026", "2025");
    rig.warehouse.remove("latest", |_| true);
    rig.process_at(2, &[early.into_bytes()]).await;
    assert_eq!(found(&rig).await, ["1 latest c stale :2"]);
}
