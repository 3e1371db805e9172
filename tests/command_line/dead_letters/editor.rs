//! `kappa dead-letters edit ID` with the user's editor, a script here.

use std::os::unix::fs::PermissionsExt as _;

use super::{OTHERS, ids, query, with_letters};
use crate::util::{Folder, Ran, kappa};

const CORRECTED: &str =
    r#"{"event_id":"new","event_type":"cart.filled","timestamp":"2026-02-17T14:30:00Z"}"#;

/// Edits the letter of the event that is not UTF-8, with a script in place of an editor. The script
/// has the file's name in `$2`, for the editor has an argument of its own. The temporary folder is
/// empty again afterwards.
fn edit(folder: &Folder, script: &str) -> Ran {
    let (ran, left) = edit_and_look(folder, script);
    assert_eq!(left, [""; 0], "a file is left behind");
    ran
}

/// As [`edit`], with the contents of the files that are left in the temporary folder, which are then
/// removed.
fn edit_and_look(folder: &Folder, script: &str) -> (Ran, Vec<String>) {
    let id = &ids(folder, " --reason UTF")[0];
    let here = folder.data().join("..").canonicalize().unwrap();
    let temporary = here.join("temporary");
    std::fs::create_dir_all(&temporary).unwrap();
    folder.file("editor", format!("#!/bin/sh\n{script}\n").as_bytes());
    let editor = here.join("editor");
    std::fs::set_permissions(&editor, std::fs::Permissions::from_mode(0o700)).unwrap();
    let mut command = kappa(&["dead-letters", "edit", id]);
    command.current_dir(&here).env("TMPDIR", &temporary).env_remove("VISUAL");
    command.env("EDITOR", format!("{} --wait", editor.display()));
    let ran = Ran::new(&format!("dead-letters edit {id}"), command.output().unwrap());
    let mut left = Vec::new();
    for file in std::fs::read_dir(temporary).unwrap().map(|file| file.unwrap().path()) {
        let content = std::fs::read_to_string(&file).unwrap();
        assert!(ran.stderr.contains(&format!("--file {}\n", file.display())), "{ran}");
        std::fs::remove_file(&file).unwrap();
        left.push(content);
    }
    (ran, left)
}

fn open(folder: &Folder) -> String {
    query(folder, "SELECT '' || count(*) FROM dead_letters WHERE requeued_at IS NULL")
}

#[test]
fn the_event_as_the_editor_leaves_it_is_published_and_closes_the_letter() {
    let folder = with_letters();
    let script = format!(
        "printf '%s ' \"$1\" >seen\nstat -c %a \"$2\" >>seen\ncat \"$2\" >>seen\nprintf '%s\\n' '{CORRECTED}' >\"$2\""
    );
    let done = edit(&folder, &script).done();
    assert!(done.stdout.starts_with("published "), "{done}");
    let seen = std::fs::read(folder.data().join("../seen")).unwrap();
    assert_eq!(seen, b"--wait 600\n\xff\xfe", "its argument, mode and content");
    assert_eq!(folder.published(6)[5].payload, CORRECTED.as_bytes());
    assert_eq!(open(&folder), "3");
    folder.drain("");
    assert_eq!(query(&folder, OTHERS), "b,new");
}

/// Runs an edit that fails with these words; nothing is published, and the letter stays open.
#[track_caller]
fn fails(folder: &Folder, script: &str, words: &str) {
    edit(folder, script).ended_with(1).says("").tells(words);
    assert_eq!((folder.published(5).len(), open(folder)), (5, "4".to_owned()));
}

#[test]
fn an_editor_that_fails_an_unchanged_event_and_an_invalid_one_publish_nothing() {
    let folder = with_letters();
    // Changes that the editor wrote before it failed do not count, as in an abandoned commit.
    fails(&folder, &format!("echo '{CORRECTED}' >\"$2\"; exit 3"), "exit status: 3");
    fails(&folder, &format!("echo '{CORRECTED}' >\"$2\"; kill -9 $$"), "137");
    fails(&folder, "exit 0", "unchanged");
    fails(&folder, "echo >>\"$2\"", "unchanged");
    let (invalid, kept) = edit_and_look(&folder, "echo '{\"event_id\":' >\"$2\"");
    invalid.ended_with(1).says("").tells("not valid");
    assert_eq!(kept, ["{\"event_id\":\n"], "the work is kept");
    fails(&folder, "rm \"$2\"", "kappa-");
    let id = &ids(&folder, " --reason UTF")[0];
    let mut without = kappa(&["dead-letters", "edit", id]);
    let without =
        without.current_dir(folder.data().join("..")).env_remove("VISUAL").env("EDITOR", "");
    let ran = Ran::new("dead-letters edit", without.output().unwrap());
    ran.ended_with(1).tells("neither VISUAL nor EDITOR is set");
}
