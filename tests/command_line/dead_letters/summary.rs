//! `kappa dead-letters summary`, and the filter by class.

use super::{Folder, RULES, ids};

/// Events with a fault each, 40 different values for each fault.
fn with_many_reasons() -> Folder {
    let folder = Folder::new();
    std::fs::create_dir_all(folder.data().join("../config/processors")).unwrap();
    let (name, rule) = RULES[0];
    folder.file(name, rule.as_bytes());
    let mut lines = Vec::new();
    for n in 0..40 {
        let event = |total: &str, time: &str| {
            format!(
                r#"{{"event_id":"SECRET-{n}","event_type":"t.SECRET-{n}","timestamp":"{time}"{total}}}"#
            )
        };
        let time = "2026-02-17T14:30:00Z";
        lines.push(event(&format!(r#","total":"SECRET-{n}""#), time));
        lines.push(event("", time));
        lines.push(event(",\"total\":1", &format!("SECRET-{n}")));
        lines.push(format!("SECRET-{n}"));
    }
    folder.feed("publish -", lines.join("\n").as_bytes()).done();
    folder.drain("");
    folder
}

#[test]
fn a_hundred_letters_with_as_many_reasons_are_a_few_classes_and_none_holds_a_value() {
    let folder = with_many_reasons();
    let summary = folder.run("dead-letters summary").done();
    assert!(!summary.stdout.contains("SECRET"), "{summary}");
    let fields = |line: &str| line.split('\t').map(str::to_owned).collect::<Vec<_>>();
    let mut lines: Vec<_> = summary.stdout.lines().map(fields).collect();
    let mut classes: Vec<_> =
        lines.iter().map(|line| [&*line[5], &*line[6], &*line[7]].join(" ")).collect();
    classes.sort();
    assert_eq!(
        classes,
        [
            "parse route envelope.time: not a time of RFC 3339",
            "parse route envelope: not JSON",
            "process totals totals.total: missing",
            "process totals totals.total: not an INTEGER",
        ]
    );
    for line in &mut lines {
        assert_eq!((&*line[0], &*line[1], &*line[2]), ("40", "40", "0"), "{summary}");
        assert!(line[3] <= line[4], "{summary}");
        let example = folder.run(&format!("dead-letters show {} --json", line[8])).done().json();
        assert_eq!(example[0]["class"], *line[7]);
    }
    let json = folder.run("dead-letters summary --reason INTEGER --json").done().json();
    assert_eq!((json.len(), &json[0]["letters"], &json[0]["requeued"]), (1, &40.into(), &0.into()));
    assert_eq!(json[0]["class"], "totals.total: not an INTEGER");
}

#[test]
fn letters_are_listed_and_requeued_by_their_class() {
    let folder = with_many_reasons();
    let class = "envelope: not JSON";
    let of_class = folder.run_of_class("dead-letters list", class).done();
    assert_eq!(of_class.stdout.lines().count(), 40, "{of_class}");
    let of_none = folder.run_of_class("dead-letters list", "unclassified").done();
    of_none.says("").tells("no dead letters of the class \"unclassified\"");
    let again = folder.run_of_class("dead-letters requeue", class).ended_with(1);
    assert!(again.stdout.starts_with("requeued 40 events\n"), "{again}");
    assert_eq!(ids(&folder, " --limit 1000").len(), 160);
}

#[test]
fn a_summary_of_no_letters_prints_a_note() {
    let folder = Folder::new();
    folder.run("dead-letters summary").done().says("").tells("there is no warehouse");
    folder.feed("publish -", b"{}").done();
    folder.drain("");
    folder.run("dead-letters summary --reason nothing").done().says("").tells("\"nothing\"");
}
