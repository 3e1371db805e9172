//! The command as scripts meet it: exit codes, streams, and pipes that close.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod archive;
mod audit;
mod data_folder;
mod dead_letters;
mod killed;
mod lost_subscription;
mod publish;
mod questions;
mod replay;
mod sources;
mod staging;
mod util;

use std::io::{BufRead as _, BufReader};
use std::process::{Output, Stdio};

use util::kappa;

fn output(args: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = kappa(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

#[test]
fn a_wrong_configuration_exits_with_2_and_plain_words_on_stderr() {
    let told = "error: --set: actors.writer.max_batch_rows is 0\n\
                hint: use 1 to 50000, or leave it out for the default, 5000\n";
    let refused = output(&["config", "show", "--set", "actors.writer.max_batch_rows=0"]);
    assert_eq!(refused, (Some(2), String::new(), told.to_owned()));
}

#[test]
fn the_reference_is_there_when_the_configuration_is_broken() {
    let (code, reference, _) = output(&["config", "reference", "--set", "no.such.key=0"]);
    assert_eq!(code, Some(0));
    assert!(reference.contains("\nactors.writer.max_batch_rows\n"), "{reference}");
}

#[test]
fn the_environment_is_a_layer_of_the_configuration() {
    let mut show = kappa(&["config", "show", "--json"]);
    let shown = show.env("KAPPA__DRAIN_TIMEOUT", "9s").output().unwrap().stdout;
    let shown: serde_json::Value = serde_json::from_slice(&shown).unwrap();
    assert_eq!(shown["drain_timeout"]["value"], "9s");
    assert_eq!(shown["drain_timeout"]["from"], "KAPPA__DRAIN_TIMEOUT");
}

/// Returns how long the allocator keeps freed memory, in milliseconds, by its own report.
fn memory_kept(args: &str) -> String {
    let mut command = kappa(&args.split(' ').collect::<Vec<_>>());
    command.env("MIMALLOC_VERBOSE", "1").env_remove("MIMALLOC_PURGE_DELAY");
    let said = String::from_utf8(command.output().unwrap().stderr).unwrap();
    // It speaks before the settings are read, and again when they have become its own.
    let told = said.lines().rev().find_map(|line| line.strip_prefix("option 'purge_delay': "));
    told.unwrap().trim_end().to_owned()
}

#[test]
fn the_allocator_keeps_freed_memory_for_as_long_as_configured() {
    assert_eq!(memory_kept("config show"), "10");
    assert_eq!(memory_kept("config show --set memory_release=70ms"), "70");
}

#[test]
fn a_replay_keeps_freed_memory_for_a_tenth_of_a_second_at_least() {
    let dir = tempfile::tempdir().unwrap();
    let replay =
        format!("replay --from 2026-01-01 --to 2026-01-02 --data-dir {}", dir.path().display());
    assert_eq!(memory_kept(&replay), "100");
    assert_eq!(memory_kept(&format!("{replay} --set memory_release=2s")), "2000");
}

#[test]
fn a_pipe_closed_by_its_reader_ends_generate_quietly() {
    let mut generate = kappa(&["generate", "--events", "1000000"]);
    let mut child = generate.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let Output { status, stderr, .. } = child.wait_with_output().unwrap();
    assert_eq!((status.code(), String::from_utf8_lossy(&stderr).as_ref()), (Some(0), ""));
}
