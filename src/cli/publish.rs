//! `kappa publish`

mod feed;
mod progress;
mod publisher;
mod screen;

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::anyhow;

use super::Failure;
use super::output::{count, tell};
use super::process::runtime;
use super::source::Source;
use crate::framing::{Format, Line, Means, Mistake, Survey};
use crate::settings::Settings;
use crate::wiring::open_log;
use publisher::{Publisher, Tally};

/// Lines that are named one by one; the others are only counted.
const MAX_NAMED: u64 = 20;

/// Append the events of files to the log, one event a line
///
/// Lines are published unchanged, whatever bytes they have; blank ones are skipped. A line over
/// `max_event_bytes` is refused by its number, the others are published, and the exit code is 1.
/// Lines that are no JSON objects are counted in a warning: they become dead letters. Input without
/// any JSON object is refused. gzip and zstd are decompressed, a byte-order mark is left out.
/// It works with and without a running daemon. When the log is full or busy it waits half a
/// minute; if that does not help, or on Ctrl-C, it prints the line from which to go on.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kappa publish events.jsonl
  kappa publish --strict 'events-2026-01-*.jsonl.gz'
  kappa publish --format document webhook.json
  tail -n +5001 events.jsonl | kappa publish -
  kappa generate --events 1000 | kappa publish -")]
pub struct Args {
    /// Files, patterns such as 'events-*.jsonl', or - for standard input
    #[arg(value_name = "FILE|-", required = true)]
    pub files: Vec<PathBuf>,
    /// How events are written one after another
    #[arg(long, value_enum, default_value = "lines")]
    format: Format,
    /// Refuse lines that are no JSON objects: files are looked through first, and nothing is
    /// published if there are any; standard input is published up to the first
    #[arg(long)]
    strict: bool,
}

/// Publishes the files, and writes to `out` how many events that were.
pub(super) fn main(args: &Args, settings: &Settings, out: &mut impl Write) -> Result<(), Failure> {
    let files = expand(&args.files)?;
    look_through(&files, args, settings.max_event_bytes)?;
    let runtime = runtime()?;
    let log = runtime.block_on(open_log(settings))?;
    let mut tally = Tally::default();
    let done = runtime.block_on(async {
        let mut done = Ok(());
        for file in &files {
            let source = Source::open(file)?;
            let mut publisher = Publisher::new(&*log, &source, settings.max_event_bytes);
            done = publisher.until_stopped(source, args.format, args.strict).await;
            tally.add(publisher.tally());
            if done.as_ref().is_err_and(|_| !publisher.tally().is_complete()) {
                break;
            }
        }
        log.close().await;
        done
    });
    if tally.no_objects > 0 {
        let text = "no JSON objects: they become dead letters; --strict refuses such lines";
        tell("warning", &format!("{} of {} are {text}", tally.no_objects, tally.published));
    }
    let said = writeln!(out, "{tally}").and_then(|()| out.flush());
    // A line that was not published matters more than a closed output.
    done.and(said.map_err(Failure::from))
}

/// The files that the arguments name, each of which can be opened.
fn expand(named: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    for path in named {
        let pattern = path.to_string_lossy();
        if path == Path::new("-") || path.exists() || !pattern.contains(['*', '?', '[']) {
            files.push(path.clone());
            continue;
        }
        let wrong = |why: String| {
            Failure::with_hint(anyhow!("{pattern}: {why}"), "use *, ?, ** and [a-z] in patterns")
        };
        let found = glob::glob(&pattern).map_err(|error| wrong(error.to_string()))?;
        let found: Vec<_> = found.filter_map(Result::ok).filter(|file| file.is_file()).collect();
        if found.is_empty() {
            return Err(wrong("no file matches".to_owned()));
        }
        files.extend(found);
    }
    for file in files.iter().filter(|file| *file != Path::new("-")) {
        Source::open(file)?;
    }
    Ok(files)
}

/// Finds what would be refused in the middle, before anything is published.
fn look_through(files: &[PathBuf], args: &Args, most: u64) -> Result<(), Failure> {
    let mut refused = 0;
    for file in files.iter().filter(|_| args.strict || args.format != Format::Lines) {
        // Only a file can be read twice.
        if !file.is_file() {
            continue;
        }
        let source = Source::open(file)?;
        let name = source.name.clone();
        let report = |line: &Line| {
            let (number, why) = match line {
                Line::Event { number, .. } => (number, "no JSON object".to_owned()),
                Line::TooLong { number } => {
                    (number, format!("larger than max_event_bytes, {most}"))
                }
            };
            refused += 1;
            if args.strict && refused <= MAX_NAMED {
                tell("refused", &format!("{name}: line {number}: {why}"));
            }
        };
        let survey = Survey::of(source.events(args.format, most), report);
        let survey = survey.map_err(|error| unreadable(&name, error))?;
        if survey.has_no_object() && args.format == Format::Document {
            return Err(unreadable(&name, Mistake::NotAnObject.into()));
        }
    }
    if args.strict && refused > 0 {
        return Err(Failure::with_hint(
            anyhow!("refused {}, and published nothing", count(refused, "line")),
            "mend these lines, or leave out --strict",
        ));
    }
    Ok(())
}

/// Why a source cannot be read, with a hint where its framing is at fault.
fn unreadable(name: &str, error: std::io::Error) -> Failure {
    let hint = Mistake::behind(&error).map(|mistake| mistake.hint(Means::CommandLine));
    let error = anyhow!(error).context(name.to_owned());
    match hint {
        Some(hint) => Failure::with_hint(error, hint),
        None => error.into(),
    }
}
