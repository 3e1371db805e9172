//! `kappa publish`
//!
//! One batch is in flight at a time, so that the log has the lines in their order and what is
//! durable when a publish breaks off is everything before one line. While a batch is committed the
//! next one is read.

mod feed;
mod progress;

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::{Context as _, anyhow};
use kappa_actors::message::NewMessage;
use kappa_actors::port::{EventLog, PublishError};
use tokio_util::sync::CancellationToken;

use super::output::count;
use super::process::{Signals, runtime};
use super::source::{Line, Source};
use super::{Failure, patience};
use crate::settings::Settings;
use crate::wiring::open_log;
use feed::{Batch, Feed};
use progress::Progress;

/// Append the lines of a file to the log, one event a line
///
/// Lines are taken as they are, whatever bytes they hold; blank ones are skipped. A line over
/// `max_event_bytes` is refused by its number, the others are published, and the exit code is 1.
/// It works while a daemon runs and while none does. When the log is full or busy it waits half a
/// minute; if that does not help, or on Ctrl-C, it says from which line to go on.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kappa publish events.jsonl
  tail -n +5001 events.jsonl | kappa publish -
  kappa generate --events 1000 | kappa publish -")]
pub struct Args {
    /// The file, or - for standard input
    #[arg(value_name = "FILE|-")]
    pub file: PathBuf,
}

/// Publishes the file, and writes to `out` how many events that were.
pub(super) fn main(args: &Args, settings: &Settings, out: &mut impl Write) -> Result<(), Failure> {
    let source = Source::open(&args.file)?;
    let progress = Progress::new(&source);
    let log = open_log(settings).with_context(|| settings.data_dir.display().to_string())?;
    let publisher = Publisher {
        log: &log,
        stop: CancellationToken::new(),
        name: source.name.clone(),
        max_event_bytes: settings.max_event_bytes,
        progress,
        tally: Tally::default(),
    };
    let runtime = runtime()?;
    let done = runtime.block_on(publisher.until_stopped(source));
    // A reader that waits for its terminal keeps a runtime, but not the process.
    runtime.shutdown_background();
    let (tally, done) = done?;
    let refused = if tally.refused > 0 { ", " } else { "" };
    writeln!(out, "published {}{refused}{}", count(tally.published, "event"), tally.refusals())?;
    out.flush()?;
    done
}

/// What became of the lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    published: u64,
    refused: u64,
    /// The number of the last line that is dealt with.
    last_line: u64,
}

impl Tally {
    fn refusals(self) -> String {
        match self.refused {
            0 => String::new(),
            lines => format!("refused {}", count(lines, "line")),
        }
    }
}

struct Publisher<'a> {
    log: &'a dyn EventLog,
    stop: CancellationToken,
    name: String,
    max_event_bytes: u64,
    progress: Progress,
    tally: Tally,
}

impl Publisher<'_> {
    /// Publishes until the source ends, something fails, or a signal comes. What is being
    /// committed at a signal is awaited, unless another comes.
    async fn until_stopped(mut self, source: Source) -> io::Result<(Tally, Result<(), Failure>)> {
        let mut signals = Signals::listen()?;
        let feed = Feed::start(source, self.max_event_bytes)?;
        let stop = self.stop.clone();
        let done = {
            let mut work = std::pin::pin!(self.all(feed));
            tokio::select! {
                done = &mut work => done,
                signal = signals.next() => {
                    stop.cancel();
                    tokio::select! {
                        done = work => done,
                        _ = signals.next() => Err(anyhow!("a second signal ({signal}): what was being committed may be published").into()),
                    }
                }
            }
        };
        self.progress.finish();
        Ok((self.tally, done))
    }

    async fn all(&mut self, mut feed: Feed) -> Result<(), Failure> {
        loop {
            let next = tokio::select! {
                biased;
                () = self.stop.cancelled() => return Err(self.broken_off(anyhow!("interrupted"))),
                next = feed.next() => next,
            };
            let Some(batch) = next.map_err(|error| self.unreadable(error))? else {
                return self.end();
            };
            let mut publishing = std::pin::pin!(self.batch(batch));
            loop {
                tokio::select! {
                    biased;
                    done = &mut publishing => break done?,
                    () = feed.read_on() => {}
                }
            }
        }
    }

    async fn batch(&mut self, Batch { lines, position, .. }: Batch) -> Result<(), Failure> {
        let mut numbers = Vec::with_capacity(lines.len());
        let mut messages = Vec::with_capacity(lines.len());
        let mut last_line = self.tally.last_line;
        for line in lines {
            match line {
                Line::Event { number, payload } => {
                    numbers.push(number);
                    messages.push(NewMessage::from_payload(payload));
                    last_line = number;
                }
                Line::TooLong { number } => {
                    let most = self.max_event_bytes;
                    self.refuse(number, &format!("larger than max_event_bytes, {most}"));
                    last_line = number;
                }
            }
        }
        let waits = |why: &str| self.progress.say("waiting", why);
        let outcomes = patience::publish(self.log, &messages, &self.stop, waits).await;
        let mut missing = None;
        for (number, outcome) in numbers.into_iter().zip(outcomes) {
            match outcome {
                Ok(_) => self.tally.published += 1,
                Err(PublishError::Refused(why)) => self.refuse(number, &why),
                Err(why) => missing = missing.or(Some((number, why))),
            }
        }
        if let Some((first, why)) = missing {
            self.tally.last_line = first - 1;
            return Err(self.broken_off(why.into()));
        }
        self.tally.last_line = last_line;
        self.progress.at(position, self.tally.published);
        Ok(())
    }

    fn refuse(&mut self, number: u64, why: &str) {
        self.tally.refused += 1;
        self.progress.say("refused", &format!("{}: line {number}: {why}", self.name));
    }

    /// The source is at its end.
    fn end(&self) -> Result<(), Failure> {
        if self.tally.refused == 0 {
            return Ok(());
        }
        Err(Failure::with_hint(
            anyhow!("{}: {}", self.name, self.tally.refusals()),
            "raise max_event_bytes, here and for the daemon, or split these events",
        ))
    }

    fn unreadable(&self, error: io::Error) -> Failure {
        self.broken_off(anyhow::Error::from(error).context(self.name.clone()))
    }

    /// Publishing ends before the source does.
    fn broken_off(&self, why: anyhow::Error) -> Failure {
        let last = self.tally.last_line;
        Failure::with_hint(
            why.context(format!("stopped after line {last} of {}", self.name)),
            format!("go on with `tail -n +{} FILE | kappa publish -`", last + 1),
        )
    }
}
