//! `kappa archive`

use std::fs;
use std::path::{Path, PathBuf};

use super::util::{Folder, Ran};

/// Makes an archive of some hundred generated events; returns the published lines, sorted.
fn with_events(settings: &str) -> (Folder, Vec<String>) {
    let folder = Folder::new();
    let events = folder.run("generate --events 500 --seed 3").done().stdout;
    folder.feed("publish -", events.as_bytes()).done();
    folder.drain(settings);
    let mut lines: Vec<_> = events.lines().map(str::to_owned).collect();
    lines.sort();
    (folder, lines)
}

fn sorted(ran: &Ran) -> Vec<String> {
    let mut lines: Vec<_> = ran.stdout.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// The files of the archive below `kind`.
fn files(folder: &Folder, kind: &str) -> Vec<PathBuf> {
    fn below(path: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() { below(&path, found) } else { found.push(path) }
        }
    }
    let mut found = Vec::new();
    below(&folder.data().join("archive").join(kind), &mut found);
    found.sort();
    found
}

/// The archive's first file of events.
fn file(folder: &Folder) -> PathBuf {
    let mut found = files(folder, "events");
    assert!(!found.is_empty(), "nothing is archived");
    found.remove(0)
}

/// The path of a file below the archive.
fn name(folder: &Folder, path: &Path) -> String {
    path.strip_prefix(folder.data().join("archive")).unwrap().display().to_string()
}

#[test]
fn cat_writes_every_valid_event_as_it_arrived_in_any_format_and_compression() {
    for (format, compression) in [
        ("annotated", "none"),
        ("annotated", "zstd"),
        ("envelope", "gzip"),
        ("payload", "none"),
        ("payload", "zstd"),
    ] {
        let form =
            format!(" --set archive.format={format} --set archive.compression={compression}");
        let (folder, events) = with_events(&form);
        let ran = folder.run(&format!("archive cat{form}")).done();
        // The generator's invalid events are dead letters, and not archived.
        let valid = sorted(&ran);
        assert!(valid.len() > 450 && valid.len() <= events.len(), "{}", valid.len());
        assert!(valid.iter().all(|event| events.binary_search(event).is_ok()));
        let verified = folder.run(&format!("archive verify{form}")).done();
        assert!(
            verified.stdout.ends_with(&format!("{} lines, 0 faults\n", valid.len())),
            "{verified}"
        );
    }
}

#[test]
fn list_prints_windows_and_files() {
    let (folder, _) = with_events("");
    let list = folder.run("archive list").done();
    for line in list.stdout.lines() {
        let fields: Vec<_> = line.split('\t').collect();
        assert_eq!((fields.len(), fields[1]), (4, "final"), "{list}");
        assert!(fields[3].starts_with("events/dt="), "{list}");
    }
    let json = folder.run("archive list --json").done().json();
    assert_eq!(json.len(), list.stdout.lines().count());
    assert!(json[0]["bytes"].as_u64().unwrap() > 10_000, "{list}");
}

#[test]
fn a_range_without_archived_events_is_reported() {
    let (folder, _) = with_events("");
    for what in ["list", "cat"] {
        let line = format!("archive {what} --from 2001-01-01 --to 2002-01-01");
        folder.run(&line).done().says("").tells("nothing of that time");
    }
    folder.run("archive list --from yesterday").ended_with(2).tells("use 2026-02-17");
}

#[test]
fn damage_is_named_with_its_file_and_line_and_the_rest_is_still_read() {
    let (folder, _) = with_events("");
    let path = file(&folder);
    let name = name(&folder, &path);
    let before = folder.run("archive cat").done().stdout.lines().count();
    let mut bytes = fs::read(&path).unwrap();
    let second = bytes.iter().position(|&byte| byte == b'\n').unwrap() + 1;
    bytes[second] = b'#';
    fs::write(&path, &bytes).unwrap();
    let verified = folder.run("archive verify").ended_with(1);
    assert!(
        verified.stdout.starts_with(&format!("{name}:2: not an annotated event")),
        "{verified}"
    );
    assert!(verified.stdout.contains(&format!("\n{name}: was edited")), "{verified}");
    assert!(verified.stdout.ends_with(" 2 faults\n"), "{verified}");
    let cat = folder.run("archive cat").ended_with(1).tells(&format!("{name}:2: not an annotated"));
    assert_eq!(cat.stdout.lines().count(), before - 1);
    let raw = folder.run("archive cat --raw").ended_with(1);
    assert_eq!(raw.stdout.as_bytes(), bytes, "the lines as they are stored");
}

#[test]
fn verify_names_files_and_lines_that_were_lost_or_edited_in_any_format() {
    for format in ["annotated", "envelope", "payload"] {
        let (folder, _) = with_events(&format!(" --set archive.format={format}"));
        let path = file(&folder);
        let name = name(&folder, &path);
        let whole = fs::read_to_string(&path).unwrap();
        let lines: Vec<_> = whole.split_inclusive('\n').collect();
        let of = lines.len();
        let spoiled = [
            (lines[..of - 9].concat(), format!("has {} of the {of} lines", of - 9)),
            (lines[..7].concat() + &lines[9..].concat(), format!("has {} of the {of}", of - 2)),
            (String::new(), format!("has 0 of the {of} lines")),
            (whole.clone() + lines[0], format!("has {} of the {of} lines", of + 1)),
            (whole.replacen("\"currency\":\"", "\"currency\":\"X", 1), "has ".to_owned()),
            (
                whole.replacen("\"event_type\":\"o", "\"event_type\":\"O", 1),
                "was edited".to_owned(),
            ),
        ];
        for (body, reason) in spoiled {
            assert_ne!(body, whole, "{reason}");
            fs::write(&path, body).unwrap();
            let verified = folder.run("archive verify").ended_with(1);
            assert!(verified.stdout.starts_with(&format!("{name}: {reason}")), "{verified}");
            assert!(verified.stdout.ends_with(" 1 fault\n"), "{verified}");
        }
        fs::remove_file(&path).unwrap();
        let verified = folder.run("archive verify").ended_with(1);
        assert!(
            verified.stdout.starts_with(&format!("{name}: is lost, with {of} line")),
            "{verified}"
        );
        fs::write(&path, whole).unwrap();
        folder.run("archive verify").done();
        files(&folder, "index").iter().for_each(|index| fs::remove_file(index).unwrap());
        let verified = folder.run("archive verify").ended_with(1);
        assert!(verified.stdout.starts_with(&format!("{name}: has no index")), "{verified}");
    }
}

#[test]
fn raw_lines_hold_the_message_and_are_the_event_to_other_tools() {
    let (folder, events) = with_events("");
    let raw = folder.run("archive cat --raw").done().json();
    assert!(raw.len() > 450 && raw.len() <= events.len());
    for line in raw {
        assert!(line["event_id"].is_string() && line["event_type"].is_string(), "{line}");
        assert!(line["_kappa"]["id"].is_string(), "{line}");
        let at = line["_kappa"]["at"].as_str().unwrap();
        assert_eq!((at.len(), &at[26..]), (27, "Z"), "microseconds in UTC: {at}");
    }
}

#[test]
fn unique_leaves_out_repeated_lines_and_nothing_else() {
    // The first event is published twice: two messages, not one that is repeated.
    let folder = Folder::new();
    let events = folder.run("generate --events 300 --seed 3 --invalid-percent 0").done().stdout;
    let twice = events.clone() + events.split_inclusive('\n').next().unwrap();
    folder.feed("publish -", twice.as_bytes()).done();
    folder.drain("");
    // Another life of the window stored all lines of a file again.
    let path = file(&folder);
    let lines = fs::read_to_string(&path).unwrap();
    let again = path.to_str().unwrap().replace(
        path.to_str().unwrap().rsplit('/').next().unwrap().split('-').nth(2).unwrap(),
        "aaaaaaaaaaaa",
    );
    fs::write(again, &lines).unwrap();
    let all = folder.run("archive cat").done().stdout.lines().count();
    assert_eq!(all, 301 + lines.lines().count());
    assert_eq!(folder.run("archive cat --unique").done().stdout.lines().count(), 301);
    assert_eq!(folder.run("archive cat --unique --raw").done().stdout.lines().count(), 301);
}

#[test]
fn objects_of_several_formats_are_read_each_by_its_own() {
    let folder = Folder::new();
    let mut published = Vec::new();
    for (seed, format) in [(1, "payload"), (2, "annotated"), (3, "envelope")] {
        let line = format!("generate --events 100 --seed {seed} --invalid-percent 0");
        let events = folder.run(&line).done().stdout;
        folder.feed("publish -", events.as_bytes()).done();
        folder.drain(&format!(" --set archive.format={format}"));
        published.extend(events.lines().map(str::to_owned));
    }
    published.sort();
    let cat = folder.run("archive cat").done();
    assert_eq!(sorted(&cat), published);
    folder.run("archive verify").done();
    folder.run("archive cat --unique").done().tells("hold no message ids");
    let replay = "replay --from 2001-01-01 --to 2999-01-01 --into live";
    folder.run(replay).ended_with(1).tells("payloads without their positions").tells("--as-import");
    let before = folder.rows_of_orders();
    let import = folder.run(&format!("{replay} --as-import")).done();
    assert!(import.stdout.contains("events\t300\n"), "{import}");
    assert_eq!(folder.rows_of_orders(), before, "a row of a log stays as it is");
    std::fs::remove_file(folder.data().join("warehouse.db")).unwrap();
    assert!(folder.run(replay).done().stdout.contains("events\t300\n"), "the tables are empty");
}

#[test]
fn a_truncated_compressed_file_is_a_fault_and_its_lines_before_the_cut_are_written() {
    let form = " --set archive.compression=zstd";
    let (folder, _) = with_events(form);
    let path = file(&folder);
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 20]).unwrap();
    let verified = folder.run("archive verify").ended_with(1);
    assert!(verified.stdout.contains(": damaged: "), "{verified}");
    folder.run("archive cat").ended_with(1).tells("damaged");
}
