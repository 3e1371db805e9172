//! `kappa dead-letters`

use super::util::Folder;

/// Four letters of two kinds, and one event that is fine.
fn with_letters() -> Folder {
    let folder = Folder::new();
    let event = |id: &str, kind: &str| {
        format!(
            r#"{{"event_id":"{id}","{kind}":"cart.filled","timestamp":"2026-02-17T14:30:00Z"}}"#
        )
    };
    let lines = [event("a", "kind"), event("b", "event_type"), event("c", "kind")].join("\n");
    let input = [lines.as_bytes(), b"\n\xff\xfe\n\x1b[2J"].concat();
    folder.feed("publish -", &input).done();
    folder.drain("");
    folder
}

fn ids(folder: &Folder, filter: &str) -> Vec<String> {
    let list = folder.run(&format!("dead-letters list{filter}")).done();
    list.stdout.lines().map(|line| line.split('\t').next().unwrap().to_owned()).collect()
}

#[test]
fn a_list_has_a_line_for_each_letter_and_may_be_filtered() {
    let folder = with_letters();
    let list = folder.run("dead-letters list").done();
    assert_eq!(list.stdout.lines().count(), 4, "{list}");
    let fields: Vec<_> = list.stdout.lines().map(|line| line.split('\t').count()).collect();
    assert_eq!(fields, [8; 4], "{list}");
    assert_eq!(ids(&folder, " --reason /event_type").len(), 2);
    folder.run("dead-letters list --reason nothing").done().says("").tells("\"nothing\"");
    let first = folder.run("dead-letters list --limit 1").done().tells("there are more");
    assert_eq!(first.stdout.lines().count(), 1, "{first}");
    let json = folder.run("dead-letters list --reason UTF --json").done().json();
    assert_eq!((&json[0]["stage"], &json[0]["payload_bytes"]), (&"parse".into(), &2.into()));
    assert!(json[0].get("payload").is_none());
}

#[test]
fn a_letter_is_shown_whole_whatever_its_payload_holds() {
    let folder = with_letters();
    let show = |filter: &str, json: &str| {
        let id = &ids(&folder, filter)[0];
        folder.run(&format!("dead-letters show {}{json}", &id[..16])).done()
    };
    let text = show(" --reason /event_type", "");
    assert!(text.stdout.contains("\nreason       /event_type: missing\n"), "{text}");
    assert!(text.stdout.contains("\"kind\":\"cart.filled\""), "{text}");
    let bytes = show(" --reason UTF", "");
    assert!(
        bytes.stdout.ends_with("2 bytes, not all printable text; in base64:\n//4=\n"),
        "{bytes}"
    );
    assert_eq!(show(" --reason UTF", " --json").json()[0]["payload"], "//4=");
    assert!(!show(" --reason JSON", "").stdout.contains('\x1b'));
}

#[test]
fn requeued_events_are_processed_again_and_each_once() {
    let folder = with_letters();
    let [first, second] = &ids(&folder, " --reason /event_type")[..] else { panic!() };
    let requeue = "dead-letters requeue --reason /event_type";
    folder.run(requeue).done().says("requeued 2 events\n");
    folder.run(requeue).done().says("requeued 0 events\n");
    let again = folder.published(7);
    let from = |at: usize| again[at].attributes.as_ref().unwrap()["kappa-requeued-from"].clone();
    assert_eq!([from(5), from(6)], [second.clone(), first.clone()], "the oldest first");
    assert_eq!(again[5].payload, again[0].payload);
    let listed = folder.run("dead-letters list --reason /event_type --json").done().json();
    assert!(listed.iter().all(|letter| letter["requeued_at"].is_string()), "{listed:?}");
    // The rule is mended: they become rows.
    folder.drain(" --set envelope.type=/kind");
    let rows = rusqlite::Connection::open(folder.data().join("warehouse.db")).unwrap();
    let ids: String = rows
        .query_row("SELECT group_concat(event_id ORDER BY event_id) FROM other", (), |row| {
            row.get(0)
        })
        .unwrap();
    assert_eq!(ids, "a,b,c");
}

#[test]
fn a_letter_named_by_its_id_may_be_requeued_again() {
    let folder = with_letters();
    let id = &ids(&folder, " --reason UTF")[0];
    for _ in 0..2 {
        let line = format!("dead-letters requeue --id {id} --id {}", &id[..16]);
        folder.run(&line).done().says("requeued 1 event\n");
    }
    folder.run("dead-letters requeue").done().says("requeued 3 events\n");
}

#[test]
fn requeue_publishes_nothing_when_one_of_the_ids_is_unknown() {
    let folder = with_letters();
    folder.run("dead-letters requeue --reason x --id 1").ended_with(2);
    let known = &ids(&folder, "")[0];
    let line = format!("dead-letters requeue --id {known} --id xyz");
    folder.run(&line).ended_with(1).says("").tells("begins with \"xyz\"\nhint: ");
    assert_eq!(folder.published(5).len(), 5, "nothing was published");
}

#[test]
fn a_beginning_that_several_ids_have_is_answered_with_them() {
    let folder = Folder::new();
    folder.feed("publish -", "x\n".repeat(17).as_bytes()).done();
    folder.drain("");
    // Of 17 hexadecimal digits two are the same.
    let mut firsts: Vec<_> = ids(&folder, "").iter().map(|id| id[..1].to_owned()).collect();
    firsts.sort();
    let twice = firsts.windows(2).find(|pair| pair[0] == pair[1]).unwrap()[0].clone();
    let shown = folder.run(&format!("dead-letters show {twice}")).ended_with(1).says("");
    let candidates = shown.stderr.split("choose from ").nth(1).unwrap();
    assert!(candidates.split(", ").count() >= 2, "{shown}");
}

#[test]
fn without_a_warehouse_there_are_no_letters_and_none_is_made() {
    let folder = Folder::new();
    folder.run("dead-letters list").done().says("").tells("no dead letters: there is no warehouse");
    folder.run("dead-letters show 7f").ended_with(1);
    folder.run("dead-letters requeue").done().says("requeued 0 events\n");
    assert!(folder.is_empty());
}
