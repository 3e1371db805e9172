//! `kappa archive`

use std::fs;
use std::path::{Path, PathBuf};

use super::util::{Folder, Ran};

/// An archive of some hundred generated events; what was published, sorted.
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

/// The archive's only file.
fn file(folder: &Folder) -> PathBuf {
    fn below(path: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(path).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() { below(&path, found) } else { found.push(path) }
        }
    }
    let mut found = Vec::new();
    below(&folder.data().join("archive/events"), &mut found);
    assert!(!found.is_empty(), "nothing is archived");
    found.remove(0)
}

#[test]
fn cat_writes_every_valid_event_in_either_format_and_any_compression() {
    for (format, compression) in [("payload", "none"), ("envelope", "gzip"), ("payload", "zstd")] {
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
fn list_tells_windows_and_files() {
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
fn a_time_of_which_nothing_is_archived_is_said() {
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
    let name = path.strip_prefix(folder.data().join("archive")).unwrap().display().to_string();
    let before = folder.run("archive cat").done().stdout.lines().count();
    let mut bytes = fs::read(&path).unwrap();
    let second = bytes.iter().position(|&byte| byte == b'\n').unwrap() + 1;
    bytes[second] = b'#';
    fs::write(&path, &bytes).unwrap();
    let verified = folder.run("archive verify").ended_with(1);
    assert!(verified.stdout.starts_with(&format!("{name}:2: not JSON")), "{verified}");
    assert!(verified.stdout.ends_with(" 1 fault\n"), "{verified}");
    assert_eq!(folder.run("archive cat").done().stdout.lines().count(), before);
}

#[test]
fn a_compressed_file_cut_short_is_a_fault_and_what_is_before_the_cut_is_written() {
    let form = " --set archive.compression=zstd";
    let (folder, _) = with_events(form);
    let path = file(&folder);
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 20]).unwrap();
    let verified = folder.run("archive verify").ended_with(1);
    assert!(verified.stdout.contains(": damaged: "), "{verified}");
    folder.run("archive cat").ended_with(1).tells("damaged");
}
