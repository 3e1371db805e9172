use std::collections::BTreeSet;

use clap::CommandFactory as _;

use super::*;

fn parsed(line: &str) -> (Cli, GlobalArgs) {
    parse(line.split(' ').map(OsString::from)).unwrap()
}

#[test]
fn the_commands_are_consistent() {
    GlobalArgs::on_every(Cli::command()).debug_assert();
}

#[test]
fn settings_count_anywhere_in_the_line() {
    let (_, given) =
        parsed("kappa --set a=1 --config x.toml dead-letters --set a=2 list --set a=3");
    let (_, behind) =
        parsed("kappa dead-letters list --config x.toml --set a=1 --set a=2 --set a=3");
    assert_eq!(given, behind);
    let (_, both) = parsed("kappa --data-dir a run --data-dir b");
    assert_eq!(both.sources().data_dir.unwrap().to_str(), Some("b"));
}

#[test]
fn every_command_and_argument_has_help() {
    fn check(command: &clap::Command, seen: &mut BTreeSet<String>) {
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        assert!(seen.insert(about), "{} has no help of its own", command.get_name());
        for argument in command.get_arguments() {
            assert!(argument.get_help().is_some(), "{} has no help", argument.get_id());
        }
        command.get_subcommands().for_each(|below| check(below, seen));
    }
    check(&GlobalArgs::on_every(Cli::command()), &mut BTreeSet::from([String::new()]));
}

#[test]
fn wrong_usage_ends_with_2_and_help_with_0() {
    let code = |line: &str| parse(line.split(' ').map(OsString::from)).unwrap_err().exit_code();
    assert_eq!(code("kappa --no-such-flag run"), 2);
    assert_eq!(code("kappa generate --events 1 --invalid-percent 101"), 2);
    assert_eq!(code("kappa run --help"), 0);
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let gone = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
    let failure = Failure::from(anyhow::Error::from(gone).context("standard output"));
    assert_eq!(failure.report(), ExitCode::SUCCESS);
    assert_eq!(Failure::from(anyhow::anyhow!("disk full")).report(), ExitCode::FAILURE);
}

#[test]
fn generate_writes_a_line_an_event() {
    let (cli, _) = parsed("kappa generate --events 1000 --seed 7");
    let Command::Generate(args) = cli.command else { panic!("another command") };
    let mut out = Vec::new();
    generate::main(&args, &mut out).unwrap();
    assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 1000);
    let mut again = Vec::new();
    generate::main(&args, &mut again).unwrap();
    assert!(out == again, "the same seed gave other bytes");
}

#[test]
fn the_settings_shown_are_toml_that_makes_the_same_settings_again() {
    let dir = tempfile::tempdir().unwrap();
    let set = vec!["drain_timeout=9s".to_owned(), "processors.other.enabled=false".to_owned()];
    let sources = |files, set| crate::settings::Sources { files, set, ..Default::default() };
    let settings = Settings::load(&sources(vec![], set)).unwrap();
    let mut shown = Vec::new();
    config::show(&config::ShowArgs { json: false }, &settings, &mut shown).unwrap();
    let file = dir.path().join("shown.toml");
    // A folder is relative to the file that names it: this one line means something else there.
    let shown = String::from_utf8(shown).unwrap();
    let lines = shown.lines().filter(|line| !line.starts_with("processors_dir"));
    std::fs::write(&file, lines.collect::<Vec<_>>().join("\n")).unwrap();
    let again = Settings::load(&sources(vec![file], vec![])).unwrap();
    assert_eq!(again.processors, settings.processors);
    assert_eq!(again.drain_timeout, settings.drain_timeout);
    assert_eq!(again.actors, settings.actors);
}

#[test]
fn json_has_the_value_and_the_place_of_each_setting() {
    let set = vec!["drain_timeout=9s".to_owned()];
    let settings = crate::settings::Sources { set, ..Default::default() };
    let settings = Settings::load(&settings).unwrap();
    let mut shown = Vec::new();
    config::show(&config::ShowArgs { json: true }, &settings, &mut shown).unwrap();
    let shown: serde_json::Value = serde_json::from_slice(&shown).unwrap();
    assert_eq!(shown["drain_timeout"], serde_json::json!({ "value": "9s", "from": "--set" }));
    assert_eq!(shown["instance"]["from"], "default");
}

#[test]
fn the_reference_has_meaning_range_and_default() {
    let mut text = Vec::new();
    config::reference(&mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    let entry = "actors.writer.max_batch_rows\n    A commit is made when this many rows wait.\n    \
                 1 to 50000\n    default 5_000\n";
    assert!(text.contains(entry), "{text}");
}
