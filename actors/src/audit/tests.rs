//! Archives in memory against warehouses in memory.

mod damage;
mod letters;
mod rig;
mod selection;
mod versions;

use std::time::Duration;

use rig::{Rig, event, orders, shown};

use super::*;
use crate::archive::{Compression, LineFormat};
use crate::dead_letter_table::Stage;
use crate::row::Value;
use crate::testing::warehouse::text;
use crate::time::Timestamp;

#[tokio::test]
async fn the_tables_of_a_run_are_clean_in_every_line_format() {
    for format in [LineFormat::Annotated, LineFormat::Payload, LineFormat::Envelope] {
        for compression in [Compression::None, Compression::Zstd] {
            let rig = Rig::new(format, &[orders("order.")]).await;
            for window in 0..3 {
                let events: Vec<_> =
                    (0..20).map(|n| event(&format!("{window}-{n}"), "order.placed")).collect();
                rig.archive(window, compression, &events).await;
                rig.process_at(window, &events).await;
            }
            let audit = rig.audit(Acknowledged::All).await;
            assert_eq!(shown(&audit.findings), [""; 0]);
            let Summary { windows, total, .. } = audit.summary;
            assert_eq!((windows, total.events, total.rows), (3, 60, 60));
            assert!(total.is_clean());
            let windows: Vec<_> = audit.windows.iter().map(|tally| tally.window).collect();
            assert_eq!(windows, [0, 1, 2].map(rig::window));
            assert!(audit.windows.iter().all(|tally| tally.events == 20 && tally.rows == 20));
        }
    }
}

#[tokio::test]
async fn a_row_that_was_removed_is_named_with_its_window_table_key_and_place() {
    let rig = Rig::new(LineFormat::Payload, &[orders("order.")]).await;
    for window in 0..2 {
        let events: Vec<_> =
            (0..20).map(|n| event(&format!("{window}-{n:02}"), "order.placed")).collect();
        rig.archive(window, Compression::Gzip, &events).await;
        rig.process(&events).await;
    }
    let gone = [text("0-05"), text("0-19"), text("1-00")];
    rig.warehouse.remove("orders", |row| gone.contains(&row.0[0]));
    let audit = rig.audit(Acknowledged::All).await;
    assert_eq!(
        shown(&audit.findings),
        ["0 orders 0-05 missing :6", "0 orders 0-19 missing :20", "1 orders 1-00 missing :1"]
    );
    let missing: Vec<_> = audit.windows.iter().map(|tally| tally.missing).collect();
    assert_eq!(missing, [2, 1]);
    assert_eq!(audit.summary.tables[0].missing, 3);
    assert!(audit.findings[0].file.starts_with("events/dt="), "{:?}", audit.findings[0].file);
}

#[tokio::test]
async fn rows_of_a_table_without_a_key_are_counted_by_event() {
    let added = "match = [\"order.\"]\ntable = \"added\"\n[columns.id]\ntype = \"STRING\"\n\
                 from = \"/event_id\"";
    let rig = Rig::new(LineFormat::Envelope, &[added.to_owned()]).await;
    let events = ["a", "b", "c"].map(|id| event(id, "order.placed"));
    rig.archive(0, Compression::None, &events).await;
    rig.process(&events).await;
    rig.process(&events[1..2]).await;
    rig.warehouse.remove("added", |row| row.0[0] == text("c"));
    let audit = rig.audit(Acknowledged::All).await;
    assert_eq!(shown(&audit.findings), ["0 added b twice :2", "0 added c missing :3"]);
    assert_eq!((audit.summary.total.twice, audit.summary.total.missing), (1, 1));
}

#[tokio::test]
async fn a_table_whose_rows_cannot_be_found_again_is_reported_as_left_out() {
    let lost = "match = [\"order.\"]\ntable = \"lost\"\n[columns.total]\ntype = \"FLOAT\"\n\
                from = \"/data/total\"";
    let rig = Rig::new(LineFormat::Envelope, &[lost.to_owned(), orders("order.")]).await;
    rig.archive(0, Compression::None, &[event("a", "order.placed")]).await;
    let audit = rig.audit(Acknowledged::All).await;
    let [left] = &audit.left_out[..] else { panic!("{:?}", audit.left_out) };
    assert_eq!((left.table.as_deref(), left.windows), (Some("lost"), 1));
    assert!(matches!(left.reason, Reason::Untraceable(_)));
    assert_eq!(shown(&audit.findings), ["0 orders a missing :1"]);
}

#[tokio::test]
async fn windows_that_wait_for_the_log_or_for_composing_are_left_out() {
    let rig = Rig::new(LineFormat::Payload, &[orders("order.")]).await;
    for window in [0, 1, 3, 4, 5] {
        rig.archive(window, Compression::None, &[event(&format!("{window}"), "order.placed")])
            .await;
    }
    rig.part(2, &[event("2", "order.placed")]).await;
    // A late part opens a sealed window again.
    rig.part(3, &[event("3", "order.placed")]).await;
    let told = |audit: &rig::Audited| -> Vec<_> {
        let rows = audit.left_out.iter();
        rows.map(|it| (rig::number(it.from), it.windows, it.reason)).collect()
    };
    let waits = rig::window(4).end();
    let audit = rig.audit(Acknowledged::Before(waits)).await;
    let unacknowledged = Reason::Unacknowledged(waits);
    assert_eq!(told(&audit), [(2, 2, Reason::Unsealed), (5, 1, unacknowledged)]);
    assert_eq!(
        shown(&audit.findings),
        ["0 orders 0 missing :1", "1 orders 1 missing :1", "4 orders 4 missing :1"]
    );
    // One that began before, and ends behind it, may hold the event that waits.
    let inside = Acknowledged::Before(waits.after(Duration::from_secs(1)));
    assert_eq!(rig.audit(inside).await.summary.windows, 3);
    assert_eq!(rig.audit(Acknowledged::All).await.summary.windows, 4);
}

#[tokio::test]
async fn a_window_that_still_runs_is_audited_where_nothing_waits() {
    let rig = Rig::new(LineFormat::Payload, &[orders("order.")]).await;
    let now = Timestamp::now();
    rig.archive(rig::number(now), Compression::None, &[event("a", "order.placed")]).await;
    assert_eq!(rig.audit(Acknowledged::All).await.summary.windows, 1);
    assert_eq!(rig.audit(Acknowledged::Before(now)).await.summary.windows, 0);
}

#[tokio::test]
async fn a_table_that_may_be_stale_is_left_out_of_the_newest_windows_alone() {
    let both = [orders("order."), orders("order.").replace("orders", "others")];
    let rig = Rig::new(LineFormat::Payload, &both).await;
    let newest = rig::number(Timestamp::now()) - 1;
    for window in [newest - 1, newest] {
        let events = [event(&format!("{window}"), "order.placed")];
        rig.archive(window, Compression::None, &events).await;
        rig.process(&events).await;
    }
    rig.warehouse.remove("orders", |_| true);
    rig.warehouse.set_staleness("orders", Duration::from_secs(301));
    let audit = rig.audit(Acknowledged::All).await;
    let [left] = &audit.left_out[..] else { panic!("{:?}", audit.left_out) };
    assert_eq!((rig::number(left.from), left.table.as_deref()), (newest, Some("orders")));
    assert_eq!(left.reason, Reason::Stale(Duration::from_secs(301)));
    assert_eq!(
        shown(&audit.findings),
        [format!("{} orders {} missing :1", newest - 1, newest - 1)]
    );
    assert_eq!(audit.summary.tables[0].staleness, Duration::from_secs(301));
    // A letter may be hidden as well.
    rig.warehouse.set_staleness(dead_letter_table::NAME, Duration::from_secs(900));
    assert_eq!(rig.audit(Acknowledged::All).await.left_out.len(), 2);
}

#[tokio::test]
async fn a_dead_letter_accounts_for_its_event_and_processor_alone() {
    for format in [LineFormat::Annotated, LineFormat::Payload, LineFormat::Envelope] {
        let both = [orders("order."), orders("order.").replace("orders", "others")];
        let rig = Rig::new(format, &both).await;
        let events: Vec<_> =
            ["a", "b", "c", "d"].iter().map(|id| event(id, "order.placed")).collect();
        rig.archive(0, Compression::None, &events).await;
        rig.process(&events[3..]).await;
        rig.letter(0, &events[0], Stage::Write, Some("orders")).await;
        rig.letter(0, &events[0], Stage::Poison, Some("others")).await;
        rig.letter(0, &events[1], Stage::Write, Some("orders")).await;
        // A letter without a processor, or of a distant window, does not account for this row.
        rig.letter(0, &events[2], Stage::Poison, None).await;
        rig.letter(9, &events[2], Stage::Write, Some("orders")).await;
        let audit = rig.audit(Acknowledged::All).await;
        assert_eq!(
            shown(&audit.findings),
            ["0 others b missing :2", "0 orders c missing :3", "0 others c missing :3"],
            "{format:?}"
        );
        assert_eq!(audit.summary.total.dead_letters, 3);
    }
}

#[tokio::test]
async fn an_event_of_which_no_row_can_be_made_is_a_dead_letter_or_named() {
    for format in [LineFormat::Annotated, LineFormat::Payload, LineFormat::Envelope] {
        let strict = format!(
            "{}\n[columns.n]\ntype = \"INTEGER\"\nfrom = \"/data/n\"\nrequired = true",
            orders("order.")
        );
        let rig = Rig::new(format, &[strict]).await;
        let events = ["lettered", "nowhere", "earlier"].map(|id| event(id, "order.placed"));
        // JSON, and no event by the present rules.
        let invalid = [br#"{"event_id":"x"}"#.to_vec(), br#"{"event_id":"y"}"#.to_vec()];
        let lines = [&events[..], &invalid[..]].concat();
        rig.archive(0, Compression::None, &lines).await;
        rig.letter(0, &events[0], Stage::Process, Some("p0")).await;
        rig.letter(0, &lines[3], Stage::Parse, None).await;
        // A row that an earlier rule has made.
        let version = Rig::version(0, &events[2], 0);
        rig.put("orders", &[text("earlier"), Value::Null, version]).await;
        let audit = rig.audit(Acknowledged::All).await;
        assert_eq!(
            shown(&audit.findings),
            ["0 p0 nowhere (column n: missing) :2", "0 - y (/event_type: missing) :5"],
            "{format:?}"
        );
        let total = audit.summary.total;
        assert_eq!((total.unaccounted, total.dead_letters, total.events), (2, 2, 5));
    }
}

#[tokio::test]
async fn lines_that_repeat_others_are_counted_and_are_no_fault() {
    for format in [LineFormat::Annotated, LineFormat::Payload, LineFormat::Envelope] {
        let added = "match = [\"order.\"]\ntable = \"added\"\n[columns.id]\ntype = \"STRING\"\n\
                     from = \"/event_id\"";
        let rig = Rig::new(format, &[orders("order."), added.to_owned()]).await;
        let events: Vec<_> = (0..30).map(|n| event(&format!("{n}"), "order.placed")).collect();
        rig.archive(0, Compression::None, &events).await;
        rig.archive(0, Compression::None, &events[10..20]).await;
        rig.process(&events).await;
        let audit = rig.audit(Acknowledged::All).await;
        assert_eq!(shown(&audit.findings), [""; 0]);
        let Tally { events, repeated, .. } = audit.summary.total;
        assert_eq!((events, repeated), (30, 10), "{format:?}");
    }
}

#[tokio::test]
async fn a_missing_row_that_several_events_make_is_named_once_a_window() {
    let latest = "match = [\"order.\"]\ntable = \"latest\"\nkey = [\"customer\"]\n\
                  order_by = \"at\"\n[columns.customer]\ntype = \"STRING\"\nvalue = \"c\"\n\
                  [columns.at]\ntype = \"TIMESTAMP\"\nfrom = \"/timestamp\"";
    let rig = Rig::new(LineFormat::Payload, &[latest.to_owned()]).await;
    for window in 0..2 {
        let events: Vec<_> =
            (0..20).map(|n| event(&format!("{window}-{n}"), "order.placed")).collect();
        rig.archive(window, Compression::None, &events).await;
    }
    let audit = rig.audit(Acknowledged::All).await;
    assert_eq!(shown(&audit.findings), ["0 latest c missing :1", "1 latest c missing :1"]);
}

#[tokio::test]
async fn damage_is_named_by_file_and_line_and_the_rest_is_audited() {
    let rig = Rig::new(LineFormat::Payload, &[orders("order.")]).await;
    let events: Vec<_> = (0..30).map(|n| event(&format!("{n}"), "order.placed")).collect();
    let mut lines = events.clone();
    lines[4] = b"{\"event_id\":".to_vec();
    rig.archive(0, Compression::None, &lines).await;
    rig.archive(1, Compression::Zstd, &events).await;
    rig.cut(1).await;
    rig.process(&events[..29]).await;
    let audit = rig.audit(Acknowledged::All).await;
    let found = shown(&audit.findings);
    assert!(found[0].starts_with("0 damaged (not JSON: ") && found[0].ends_with(":5"), "{found:?}");
    assert_eq!(found[1], "0 orders 29 missing :30");
    assert!(found.last().unwrap().starts_with("1 damaged ("), "{found:?}");
    assert_eq!(audit.summary.total.damaged, 2);
}

#[tokio::test]
async fn rules_that_are_newer_than_their_events_miss_all_their_rows() {
    let rig = Rig::new(LineFormat::Payload, &[orders("order.")]).await;
    let events: Vec<_> = (0..20).map(|n| event(&format!("{n:02}"), "order.placed")).collect();
    rig.archive(0, Compression::None, &events).await;
    rig.process(&events).await;
    let later = rig.with(&[orders("order."), orders("order.").replace("orders", "later")]);
    let audit = later.audit(Acknowledged::All).await;
    assert_eq!(audit.findings.len(), 20);
    let tables = audit.summary.tables.iter().map(|it| (it.table.as_str(), it.rows, it.missing));
    assert_eq!(tables.collect::<Vec<_>>(), [("orders", 20, 0), ("later", 20, 20)]);
}

#[tokio::test]
async fn audit_routes_with_the_routers_matcher() {
    let rest = orders("*").replace("orders", "rest");
    let rig = Rig::new(LineFormat::Payload, &[orders("order."), rest]).await;
    let events = [event("a", "order.placed"), event("b", "user.created")];
    rig.archive(0, Compression::None, &events).await;
    let audit = rig.audit(Acknowledged::All).await;
    assert_eq!(shown(&audit.findings), ["0 orders a missing :1", "0 rest b missing :2"]);
}

#[tokio::test]
async fn an_empty_range_is_clean_and_a_callback_that_returns_false_ends_the_audit() {
    let rig = Rig::new(LineFormat::Payload, &[orders("order.")]).await;
    let audit = rig.audit(Acknowledged::All).await;
    assert_eq!((audit.summary.windows, audit.summary.total.is_clean()), (0, true));
    let events: Vec<_> = (0..200).map(|n| event(&format!("{n}"), "order.placed")).collect();
    rig.archive(0, Compression::None, &events).await;
    let mut told = 0;
    let mut tell = |_| {
        told += 1;
        told < 3
    };
    let log = async { Ok(Acknowledged::All) };
    rig.engine().run(rig::ALL, log, &mut tell).await.unwrap();
    assert_eq!(told, 3);
}

#[tokio::test(start_paused = true)]
async fn a_warehouse_that_has_no_answer_is_asked_again_and_then_ends_the_audit() {
    use crate::testing::memory::warehouse::Fault;
    let rig = Rig::new(LineFormat::Payload, &[orders("order.")]).await;
    let events = [event("a", "order.placed")];
    rig.archive(0, Compression::None, &events).await;
    rig.process(&events).await;
    rig.warehouse.fail("orders", Fault::Unavailable);
    let engine = rig.engine();
    let mut tell = |_| true;
    let log = async { Ok(Acknowledged::All) };
    let failed = engine.run(rig::ALL, log, &mut tell).await;
    assert!(matches!(failed, Err(AuditFailure::Warehouse(AuditError::Unavailable(_)))));
    let warehouse = Arc::clone(&rig.warehouse);
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(300)).await;
        warehouse.mend("orders");
    });
    assert!(rig.audit(Acknowledged::All).await.summary.total.is_clean());
}
