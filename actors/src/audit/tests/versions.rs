//! Versions and values of current rows.

use super::rig::ALL;
use super::*;

/// A rule whose events all make the row `c`.
fn latest(revision: u16) -> String {
    format!(
        "match = [\"order.\"]\ntable = \"latest\"\nkey = [\"customer\"]\nrevision = {revision}\n\
         [columns.customer]\ntype = \"STRING\"\nvalue = \"c\"\n\
         [columns.id]\ntype = \"STRING\"\nfrom = \"/event_id\"\n\
         [columns.seen]\ntype = \"TIMESTAMP\"\nnow = true"
    )
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
    events.sort_by_key(|event| match Rig::version(0, event, 0) {
        Value::Version(version) => *version,
        other => panic!("{other}"),
    });
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
    events.sort_by_key(|event| match Rig::version(0, event, 0) {
        Value::Version(version) => *version,
        other => panic!("{other}"),
    });
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
        let version = Rig::version(0, &events[0], revision);
        rig.put("latest", &[text("c"), text("edited"), Value::Null, version]).await;
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
        format!("{}\n[columns.n]\ntype = \"INTEGER\"\nfrom = \"/n\"\nrequired = true", latest(1));
    let rig = Rig::new(LineFormat::Annotated, &[strict]).await;
    let events = ["a", "b"].map(|id| event(id, "order.placed"));
    rig.archive(1, Compression::None, &events[1..]).await;
    let put = async |window, event: &[u8]| {
        let version = Rig::version(window, event, 0);
        rig.put("latest", &[text("c"), text("x"), Value::Null, Value::Null, version]).await;
    };
    put(0, &events[0]).await;
    assert_eq!(found(&rig).await, ["1 p0 b (column n: missing) :1"]);
    put(1, &events[1]).await;
    assert_eq!(found(&rig).await, [""; 0]);
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
    let ordered = latest(0) + "\n[columns.at]\ntype = \"TIMESTAMP\"\nfrom = \"/timestamp\"";
    let ordered = format!("order_by = \"at\"\n{ordered}").replace("latest", "ordered");
    let rig = Rig::new(LineFormat::Payload, &[ordered]).await;
    let early = String::from_utf8(event("a", "order.placed")).unwrap().replace("2026", "2025");
    rig.archive(1, Compression::None, &events[1..]).await;
    rig.process_at(2, &[early.into_bytes()]).await;
    assert_eq!(found(&rig).await, ["1 ordered c stale :1"]);
}
