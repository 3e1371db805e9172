//! The archive, read as files: names and lines, without the code that wrote them.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;

use super::scene::files_below;

/// One line, and the window that its file is named for, as `20260217T143000Z`.
pub(super) struct Line {
    pub(super) payload: Vec<u8>,
    pub(super) window: String,
}

/// The contents of an archive.
#[derive(Default)]
pub(super) struct Archived {
    pub(super) lines: Vec<Line>,
    /// Files that are no final objects.
    pub(super) unfinished: Vec<String>,
}

pub(super) fn read(folder: &Path) -> Archived {
    let mut archived = Archived::default();
    for path in files_below(folder) {
        let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
        if name.starts_with("index/dt=") {
            continue;
        }
        let is_final = name.starts_with("events/dt=") && name.contains(".jsonl");
        if !is_final {
            archived.unfinished.push(name);
            continue;
        }
        let window = name.split("/events-").nth(1).unwrap().split('-').next().unwrap();
        let text = lines_of(&path);
        assert!(text.ends_with(b"\n"), "{name} ends within a line");
        let lines = text[..text.len() - 1].split(|byte| *byte == b'\n');
        archived
            .lines
            .extend(lines.map(|line| Line { payload: payload(line), window: window.to_owned() }));
    }
    archived
}

fn lines_of(path: &Path) -> Vec<u8> {
    let mut text = Vec::new();
    match path.extension().and_then(|ending| ending.to_str()) {
        Some("jsonl") => text = fs::read(path).unwrap(),
        Some("gz") => {
            let mut members = flate2::read::MultiGzDecoder::new(File::open(path).unwrap());
            members.read_to_end(&mut text).unwrap();
        }
        Some("zst") => text = zstd::decode_all(File::open(path).unwrap()).unwrap(),
        _ => panic!("{} has an unknown ending", path.display()),
    }
    text
}

/// The payload of a line of any format: the data of an envelope, which begins with the message's id
/// as no event here does; the members before an annotation, the last member of an event.
fn payload(line: &[u8]) -> Vec<u8> {
    const DATA: &[u8] = br#","data":"#;
    const ANNOTATION: &[u8] = br#","_kappa":{"id":"#;
    let begin = line.windows(ANNOTATION.len()).rposition(|found| found == ANNOTATION);
    if let Some(begin) = begin {
        let behind = line.iter().rposition(|byte| *byte == b'}').unwrap();
        return [&line[..begin], &line[behind..]].concat();
    }
    if !line.starts_with(br#"{"message_id":"#) {
        return line.to_vec();
    }
    let data = line.windows(DATA.len()).position(|found| found == DATA).unwrap();
    line[data + DATA.len()..line.len() - 1].to_vec()
}
