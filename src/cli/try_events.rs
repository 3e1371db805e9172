//! `kappa try`

mod outcome;
mod render;
pub(super) mod value;

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context as _;

use super::source::Source;
use super::{Failure, output};
use crate::framing::{Format, Line};
use crate::settings::Settings;
use crate::wiring::Blueprint;
use outcome::Trial;
use render::{Renderer, Summary};

/// Show what each event would become: rows, or the dead letter and why
///
/// Reads one event a line. Writes nothing, and needs no log and no data folder. Where a column
/// wants what only a log knows, the message's id is the line's number and its publish time is now.
/// Invalid events are an answer, not a failure: the exit code is 0.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kappa try events.jsonl
  kappa generate --events 3 | kappa try -
  kappa try - --json < events.jsonl | jq 'select(.dead_letters != [])'")]
pub struct Args {
    /// The file, or - for standard input
    #[arg(value_name = "FILE|-")]
    pub file: PathBuf,
    /// One JSON object an event
    #[arg(long)]
    pub json: bool,
}

/// Tries the events of the file, and writes their rows and dead letters to `out`.
pub(super) fn main(args: &Args, settings: &Settings, out: &mut impl Write) -> Result<(), Failure> {
    let trial = Trial::new(Blueprint::of(settings)?, settings.max_event_bytes);
    let source = Source::open(&args.file)?;
    let name = source.name.clone();
    let mut lines = source.events(Format::Lines, settings.max_event_bytes);
    let mut renderer = Renderer::new(output::format(args.json), out);
    let mut summary = Summary::default();
    let mut is_spread = false;
    while let Some(line) = lines.next().with_context(|| name.clone())? {
        is_spread |= opens_only(&line);
        let outcome = trial.of(line);
        summary.add(&outcome);
        renderer.outcome(&outcome)?;
        if lines.may_wait() {
            // Events typed by hand are answered one by one.
            renderer.flush()?;
        }
    }
    renderer.end(&summary)?;
    if is_spread {
        output::tell("note", "an event is one line; `jq -c . FILE` writes it so");
    }
    Ok(())
}

/// Returns whether the line opens an object or array that a later line closes, as in pretty-printed JSON.
fn opens_only(line: &Line) -> bool {
    matches!(line, Line::Event { payload, .. } if matches!(payload.trim_ascii(), b"{" | b"["))
}
