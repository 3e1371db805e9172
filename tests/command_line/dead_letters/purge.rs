//! `kappa dead-letters purge`, and the daemon's own purge.

use std::time::{Duration, Instant};

use super::{Folder, query, with_a_failed_processor, with_letters};

/// How many letters hold content of an event, or a reason.
fn with_content(folder: &Folder) -> String {
    query(
        folder,
        "SELECT '' || count(*) FROM dead_letters WHERE payload IS NOT NULL OR reason <> '' \
         OR concat(event_id, event_type, attributes, ordering_key) <> ''",
    )
}

/// Asks again and again, each time by a command of its own.
fn until(is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < deadline, "it has not come");
    }
}

#[test]
fn a_purge_asks_first_and_takes_the_content_and_nothing_else() {
    let folder = with_letters();
    assert_eq!(with_content(&folder), "4");
    let purge = "dead-letters purge --older-than";
    folder.run(&format!("{purge} 1h --yes")).done().says("purged\t0\nopen\t0\n");
    folder.run(&format!("{purge} 0s --dry-run")).done().says("would purge\t4\nopen\t4\n");
    let hint = "pass --yes to purge them";
    folder
        .run(&format!("{purge} 0s"))
        .ended_with(1)
        .says("")
        .tells("of which 4 are open")
        .tells(hint);
    assert_eq!(with_content(&folder), "4", "nothing was purged");

    let some = format!("{purge} 0s --reason /event_type --yes");
    folder.run(&some).done().says("purged\t2\nopen\t2\n");
    folder.run(&some).done().says("purged\t0\nopen\t0\n");
    let left = folder.run("dead-letters list").done();
    assert_eq!(left.stdout.lines().count(), 2, "{left}");
    folder.run(&format!("{purge} 0s --requeued --yes")).done().says("purged\t0\nopen\t0\n");
    folder.run(&format!("{purge} 0s --yes")).done().says("purged\t2\nopen\t2\n");
    assert_eq!(with_content(&folder), "0");

    // The letters are still counted, and nothing empty is processed in their place.
    let summary = folder.run("dead-letters summary --json").done().json();
    let counts = |key: &str| summary.iter().map(|group| group[key].as_u64().unwrap()).sum::<u64>();
    assert_eq!((counts("letters"), counts("open"), counts("purged")), (4, 0, 4));
    folder.run("dead-letters requeue").done().says("requeued 0 events\n");
    let id = summary[0]["example"].as_str().unwrap();
    let at = "was purged at";
    folder.run(&format!("dead-letters requeue --id {id}")).ended_with(1).says("").tells(at);
    folder.run(&format!("dead-letters edit {id} --file x")).ended_with(1).says("").tells(at);
    let shown = folder.run(&format!("dead-letters show {id} --json")).done().json();
    assert!(shown[0]["purged_at"].is_string() && shown[0]["payload_bytes"] == 0, "{shown:?}");
}

#[test]
fn an_audit_reports_a_row_that_is_missing_because_its_letter_was_purged() {
    let folder = with_a_failed_processor();
    folder.run("audit").done();
    folder.run("dead-letters purge --older-than 0s --yes").done().says("purged\t1\nopen\t1\n");
    let audit = folder.run("audit").ended_with(1);
    let audit = audit.tells("error: 1 row is missing because its dead letter was purged\n");
    let audit = audit.tells("--accept-purged");
    assert!(audit.stdout.contains(" 0 dead letters, 1 purged, "), "{audit}");
    let json = folder.run("audit --json").ended_with(1).json();
    assert_eq!((&json[0]["clean"], &json[0]["total"]["purged"]), (&false.into(), &1.into()));
    let accepted = folder.run("audit --accept-purged").done().tells("1 row");
    assert!(accepted.stdout.contains(" 1 dead letter, 0 purged, "), "{accepted}");
    // Replayed, the event has an open letter again, and the audit is clean.
    let replay = "replay --into live --from 2020-01-01 --to 2100-01-01 --processors totals";
    folder.run(replay).done();
    assert_eq!(folder.run("dead-letters list").done().stdout.lines().count(), 1);
    folder.run("audit").done();
}

#[test]
fn the_daemon_purges_letters_over_max_age_and_counts_them() {
    let folder = with_letters();
    let daemon = folder.daemon(" --set dead_letters.max_age=1h");
    let open = || {
        let summary = folder.run("dead-letters summary --json").done().json();
        summary.iter().map(|group| group["open"].as_u64().unwrap()).sum::<u64>()
    };
    assert_eq!(open(), 4);
    drop(daemon);
    let daemon = folder.daemon(" --set dead_letters.max_age=1s");
    until(|| open() == 0);
    // The count is of the daemon itself, shortly after.
    until(|| folder.run("status --json").done().stdout.contains("\"letters_purged\":4"));
    drop(daemon);
}
