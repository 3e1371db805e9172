//! Events selected by their own time, and ranges without any.

use super::*;
use crate::replay::ReplayRange;

fn at(id: &str, time: &str) -> Vec<u8> {
    String::from_utf8(event(id, "order.placed"))
        .unwrap()
        .replace("2026-02-17T14:30:00Z", time)
        .into_bytes()
}

fn time(text: &str) -> Timestamp {
    Timestamp::parse_rfc3339(text).unwrap()
}

fn between(from: &str, to: &str) -> Selection {
    let event_time = Some(ReplayRange { from: time(from), to: time(to) });
    Selection { event_time, ..rig::ALL }
}

#[tokio::test]
async fn an_event_time_selects_events_whenever_they_were_published() {
    for format in [LineFormat::Annotated, LineFormat::Payload] {
        let rig = Rig::new(format, &[orders("order.")]).await;
        let times = ["2025-12-31T23:59:59Z", "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"];
        let events: Vec<_> =
            ["a", "b", "c"].iter().zip(times).map(|(id, time)| at(id, time)).collect();
        rig.archive(0, Compression::None, &events).await;
        let january = between("2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z");
        let audit = rig.audit_with(&rig.engine(), january, Acknowledged::All).await;
        assert_eq!(shown(&audit.findings), ["0 orders b missing :2"], "{format:?}");
        assert_eq!((audit.summary.total.events, audit.summary.total.rows), (1, 1));
        let none = between("2024-01-01T00:00:00Z", "2024-02-01T00:00:00Z");
        let summary = rig.audit_with(&rig.engine(), none, Acknowledged::All).await.summary;
        let times = Some((time(times[0]), time(times[2])));
        assert_eq!((summary.total.events, summary.event_times), (0, times));
    }
}

#[tokio::test]
async fn a_range_without_windows_names_the_range_of_the_archive() {
    let rig = Rig::new(LineFormat::Annotated, &[orders("order.")]).await;
    let of = |from: i64, to: i64| {
        let published =
            ReplayRange { from: rig::window(from).start(), to: rig::window(to).start() };
        Selection { published, event_time: None }
    };
    let audit =
        async |selection| rig.audit_with(&rig.engine(), selection, Acknowledged::All).await.summary;
    assert_eq!(audit(of(0, 1)).await.archived, None, "the archive is empty");
    for window in [3, 5] {
        rig.archive(window, Compression::None, &[event("a", "order.placed")]).await;
    }
    let there = Some((rig::window(3).start(), rig::window(5).end()));
    assert_eq!(audit(of(0, 1)).await.archived, there);
    let summary = audit(of(0, 4)).await;
    assert_eq!((summary.windows, summary.archived), (1, None));
}
