//! Lost files, and lost and edited lines.

use super::*;

async fn archived() -> Rig {
    let rig = Rig::new(LineFormat::Annotated, &[orders("order.")]).await;
    for window in 0..3 {
        let events: Vec<_> =
            (0..5).map(|n| event(&format!("{window}-{n}"), "order.placed")).collect();
        rig.archive(window, Compression::None, &events).await;
        rig.process_at(window, &events).await;
    }
    assert_eq!(shown(&rig.audit(Acknowledged::All).await.findings), [""; 0]);
    rig
}

/// The only finding; all rows are there.
async fn finding(rig: &Rig) -> String {
    let audit = rig.audit(Acknowledged::All).await;
    let windows: Vec<_> = audit.windows.iter().map(|tally| tally.window).collect();
    assert_eq!(windows, [0, 1, 2].map(rig::window), "each window is reported once, in order");
    assert!(!audit.summary.total.is_clean());
    let [found] = &shown(&audit.findings)[..] else { panic!("{:?}", audit.findings) };
    found.clone()
}

#[tokio::test]
async fn a_lost_file_is_damage_of_its_window() {
    let rig = archived().await;
    rig.edit(1, |_| None).await;
    let found = finding(&rig).await;
    assert_eq!(found, "1 damaged (the file is lost, with 5 lines: its index names it) :0");
}

#[tokio::test]
async fn a_lost_line_is_damage_though_every_other_line_can_be_read() {
    let rig = archived().await;
    let without_last = |body: &[u8]| {
        let end = body[..body.len() - 1].iter().rposition(|&byte| byte == b'\n').unwrap();
        Some(body[..=end].to_vec())
    };
    rig.edit(1, without_last).await;
    let found = finding(&rig).await;
    assert_eq!(found, "1 damaged (has 4 of the 5 lines that it was composed of) :5");
}

#[tokio::test]
async fn an_edited_line_is_damage_though_it_can_be_read() {
    let rig = archived().await;
    let edited = |body: &[u8]| {
        Some(String::from_utf8(body.to_vec()).unwrap().replace("14:30:00", "14:30:01").into())
    };
    rig.edit(2, edited).await;
    assert!(finding(&rig).await.starts_with("2 damaged (was edited"));
}

#[tokio::test]
async fn a_lost_index_is_damage() {
    let rig = archived().await;
    rig.lose_index(0).await;
    assert!(finding(&rig).await.starts_with("0 damaged (has no index"));
}
