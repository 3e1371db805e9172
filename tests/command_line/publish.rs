//! `kappa publish`

use std::io::Write as _;
use std::process::Command;

use super::util::{Folder, Ran};

fn payloads(folder: &Folder, count: usize) -> Vec<Vec<u8>> {
    folder.published(count).iter().map(|message| message.payload.to_vec()).collect()
}

#[test]
fn lines_reach_the_log_as_they_are_and_blank_ones_do_not() {
    let folder = Folder::new();
    let input = b"{\"a\":1}\r\n\n \t\r\n\xff\xfe\0\x1b[2J\n  \xe2\x80\xa8 \nlast";
    folder.feed("publish -", input).done().says("published 4 events\n");
    let hostile: [&[u8]; 4] = [b"{\"a\":1}\r", b"\xff\xfe\0\x1b[2J", b"  \xe2\x80\xa8 ", b"last"];
    assert_eq!(payloads(&folder, 4), hostile);
}

#[test]
fn a_line_that_is_too_long_is_refused_by_its_number_and_the_others_are_published() {
    let folder = Folder::new();
    folder
        .file("events.jsonl", format!("{{\"n\":1}}\n\n{}\ntwo", "x".repeat(1_000_000)).as_bytes());
    folder
        .run("publish events.jsonl --set max_event_bytes=999999")
        .ended_with(1)
        .says("published 2 events, refused 1 line\n")
        .tells("refused: events.jsonl: line 3: larger than max_event_bytes, 999999\n")
        .tells("error: events.jsonl: refused 1 line\nhint: ");
    assert_eq!(payloads(&folder, 2), [&b"{\"n\":1}"[..], b"two"]);
}

#[test]
fn order_and_number_of_many_lines_are_kept() {
    let folder = Folder::new();
    let lines: Vec<_> = (0..60_000).map(|n| format!("{{\"n\":\"{n:0>100}\"}}")).collect();
    folder.feed("publish -", lines.join("\n").as_bytes()).done().says("published 60000 events\n");
    let same = payloads(&folder, 60_000).iter().zip(&lines).all(|(it, line)| it == line.as_bytes());
    assert!(same, "another order, or other bytes");
}

#[test]
fn nothing_to_publish_is_no_failure() {
    Folder::new().run("publish -").done().says("published 0 events\n");
}

#[test]
fn a_missing_file_is_reported_before_anything_is_created() {
    let folder = Folder::new();
    folder.run("publish evnts.jsonl").ended_with(1).tells("error: evnts.jsonl: No such file");
    folder.run("publish .").ended_with(1).tells("error: .: is a folder");
    assert!(folder.is_empty());
}

#[test]
fn an_interrupted_publish_reports_the_durable_lines_and_where_to_go_on() {
    let folder = Folder::new();
    let mut publish = folder.spawn("publish -");
    let mut input = publish.stdin.take().unwrap();
    input.write_all(b"\n{\"n\":1}\ntwo\nthr").unwrap();
    assert_eq!(payloads(&folder, 2), [&b"{\"n\":1}"[..], b"two"], "published though more may come");
    Command::new("kill").args(["-INT", &publish.id().to_string()]).status().unwrap();
    Ran::new("publish -", publish.wait_with_output().unwrap())
        .ended_with(1)
        .says("published 2 events\n")
        .tells("error: stopped after line 3 of standard input: interrupted\n")
        .tells("hint: go on with `tail -n +4 FILE | kappa publish -`\n");
}

#[test]
fn publishers_work_side_by_side() {
    let folder = Folder::new();
    let lines = "{\"n\":1}\n".repeat(5_000);
    let mut publishers = [folder.spawn("publish -"), folder.spawn("publish -")];
    for publisher in &mut publishers {
        publisher.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    }
    for publisher in publishers {
        Ran::new("publish -", publisher.wait_with_output().unwrap()).done();
    }
    assert_eq!(payloads(&folder, 10_000).len(), 10_000);
}

#[test]
fn lines_beside_events_are_counted_in_a_warning_and_refused_by_strict() {
    let folder = Folder::new();
    folder.file("mixed.jsonl", b"nonsense\n{\"n\":1}\n\n[1]\n");
    folder
        .run("publish --strict mixed.jsonl")
        .ended_with(1)
        .tells("refused: mixed.jsonl: line 1: no JSON object\n")
        .tells("refused: mixed.jsonl: line 4: no JSON object\n")
        .tells("error: refused 2 lines, and published nothing\nhint: ");
    folder
        .run("publish mixed.jsonl")
        .done()
        .says("published 3 events\n")
        .tells("warning: 2 of 3 are no JSON objects");
    let mixed = [&b"nonsense"[..], b"{\"n\":1}", b"[1]"];
    assert_eq!(payloads(&folder, 3), mixed, "once, and nothing of the strict run");
    folder
        .feed("publish --strict -", b"{\"n\":2}\nnonsense\n{\"n\":3}\n")
        .ended_with(1)
        .says("published 1 event\n")
        .tells("error: stopped after line 1 of standard input: line 2 is no JSON object");
}

#[test]
fn a_file_that_is_framed_in_another_way_is_refused_with_a_hint() {
    let folder = Folder::new();
    folder.file("pretty.json", b"{\n  \"n\": 1\n}\n");
    folder.file("array.json", b"[\n{\"n\":1},\n{\"n\":2}\n]\n");
    folder.file("wide.json", b"\xff\xfe{\0}\0\n\0");
    folder.file("nonsense", b"nonsense\nmore\n");
    for (file, word) in [
        ("pretty.json", "--format document"),
        ("array.json", "--format array"),
        ("wide.json", "iconv"),
        ("nonsense", "an event is a JSON object"),
        ("--format=document array.json", "an event is a JSON object"),
        ("--format=array pretty.json", "--format lines"),
    ] {
        let ran = folder.run(&format!("publish {file}")).ended_with(1);
        ran.tells("\nhint: ").tells(word);
    }
    folder.run("publish --format document pretty.json").done().says("published 1 event\n");
    folder.run("publish --format array array.json").done().says("published 2 events\n");
    let all = [&b"{\n  \"n\": 1\n}\n"[..], b"{\"n\":1}", b"{\"n\":2}"];
    assert_eq!(payloads(&folder, 3), all);
}

#[test]
fn patterns_compressed_files_and_marks_are_read() {
    use kappa_actors::archive::Compression::{Gzip, Zstd};
    let folder = Folder::new();
    folder.file("a-1.jsonl.gz", &Gzip.encode(b"{\"n\":1}\n".to_vec()).unwrap());
    folder.file("a-2.jsonl.zst", &Zstd.encode(b"{\"n\":2}\n".to_vec()).unwrap());
    folder.file("a-3.jsonl", b"\xef\xbb\xbf{\"n\":3}\n");
    folder.run("publish a-*.js*").done().says("published 3 events\n");
    assert_eq!(payloads(&folder, 3), [b"{\"n\":1}", b"{\"n\":2}", b"{\"n\":3}"]);
    folder.run("publish b-*").ended_with(1).tells("error: b-*: no file matches\nhint: ");
}
