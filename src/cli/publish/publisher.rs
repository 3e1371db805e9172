//! Publishes lines, and knows at any time which of them are durable.
//!
//! One batch is in flight at a time, so that the log has the lines in their order. When a publish breaks off, exactly
//! the lines before one number are durable. While a batch is committed the next one is read.

use std::fmt;

use anyhow::anyhow;
use kappa_actors::message::NewMessage;
use kappa_actors::port::{EventLog, PublishError};
use tokio_util::sync::CancellationToken;

use super::feed::{Batch, Feed};
use super::progress::Progress;
use crate::cli::output::count;
use crate::cli::process::Signals;
use crate::cli::source::Source;
use crate::cli::{Failure, patience};
use crate::framing::{Format, Line, Means, Mistake};

/// What became of the lines.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub(super) published: u64,
    refused: u64,
    /// Published lines that are no JSON objects.
    pub(super) no_objects: u64,
    /// Whether the source was read to its end.
    is_complete: bool,
    /// The number of the last line that is dealt with.
    last_line: u64,
}

impl Tally {
    /// Counts the lines of one more source.
    pub(super) fn add(&mut self, more: Self) {
        self.published += more.published;
        self.refused += more.refused;
        self.no_objects += more.no_objects;
    }

    /// Whether the source was read to its end.
    pub(super) fn is_complete(&self) -> bool {
        self.is_complete
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "published {}", count(self.published, "event"))?;
        match self.refused {
            0 => Ok(()),
            lines => write!(f, ", refused {}", count(lines, "line")),
        }
    }
}

/// Publishes the lines of one source.
pub(super) struct Publisher<'a> {
    log: &'a dyn EventLog,
    stop: CancellationToken,
    /// The source's, for messages.
    name: String,
    format: Format,
    max_event_bytes: u64,
    progress: Progress,
    tally: Tally,
}

impl<'a> Publisher<'a> {
    pub(super) fn new(log: &'a dyn EventLog, source: &Source, max_event_bytes: u64) -> Self {
        Self {
            log,
            stop: CancellationToken::new(),
            name: source.name.clone(),
            format: Format::Lines,
            max_event_bytes,
            progress: Progress::new(source),
            tally: Tally::default(),
        }
    }

    pub(super) fn tally(&self) -> Tally {
        self.tally
    }

    /// Publishes until the source ends, an error occurs, or a signal comes; a commit in progress is awaited.
    pub(super) async fn until_stopped(
        &mut self,
        source: Source,
        format: Format,
        strict: bool,
    ) -> Result<(), Failure> {
        self.format = format;
        let mut signals = Signals::listen()?;
        let feed = Feed::start(source, self.max_event_bytes, format, strict)?;
        let stop = self.stop.clone();
        let done = {
            let mut work = std::pin::pin!(self.all(feed));
            tokio::select! {
                done = &mut work => done,
                _ = signals.next() => {
                    stop.cancel();
                    work.await
                }
            }
        };
        self.progress.finish();
        done
    }

    async fn all(&mut self, mut feed: Feed) -> Result<(), Failure> {
        loop {
            let next = tokio::select! {
                biased;
                () = self.stop.cancelled() => return Err(self.broken_off(anyhow!("interrupted"))),
                next = feed.next() => next,
            };
            let Some(batch) = next.map_err(|error| self.unreadable(error))? else {
                self.tally.is_complete = true;
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

    async fn batch(&mut self, batch: Batch) -> Result<(), Failure> {
        let Batch { lines, position, no_objects, .. } = batch;
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
        self.tally.no_objects += no_objects;
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
            anyhow!("{}: refused {}", self.name, count(self.tally.refused, "line")),
            "raise max_event_bytes, here and for the daemon, or split these events",
        ))
    }

    /// The source cannot be read on.
    fn unreadable(&self, error: std::io::Error) -> Failure {
        match Mistake::behind(&error).map(|mistake| mistake.hint(Means::CommandLine)) {
            Some(hint) if self.tally.last_line == 0 => {
                Failure::with_hint(anyhow!(error).context(self.name.clone()), hint)
            }
            _ => self.broken_off(error.into()),
        }
    }

    /// Publishing ends before the source does.
    fn broken_off(&self, why: anyhow::Error) -> Failure {
        let last = self.tally.last_line;
        let (noun, hint) = match self.format {
            Format::Lines => {
                ("line", format!("go on with `tail -n +{} FILE | kappa publish -`", last + 1))
            }
            Format::Document | Format::Array => {
                ("element", "publish only the elements behind it".to_owned())
            }
        };
        Failure::with_hint(
            why.context(format!("stopped after {noun} {last} of {}", self.name)),
            hint,
        )
    }
}
