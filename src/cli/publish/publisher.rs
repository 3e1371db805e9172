//! Publishes lines, and knows at any time which of them are durable.
//!
//! One batch is in flight at a time, so that the log has the lines in their order, and when a
//! publish breaks off, what is durable is everything before one line. While a batch is committed
//! the next one is read.

use std::fmt;

use anyhow::anyhow;
use kappa_actors::message::NewMessage;
use kappa_actors::port::{EventLog, PublishError};
use tokio_util::sync::CancellationToken;

use super::feed::{Batch, Feed};
use super::progress::Progress;
use crate::cli::output::count;
use crate::cli::process::Signals;
use crate::cli::source::{Line, Source};
use crate::cli::{Failure, patience};

/// What became of the lines.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    published: u64,
    refused: u64,
    /// The number of the last line that is dealt with.
    last_line: u64,
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
            max_event_bytes,
            progress: Progress::new(source),
            tally: Tally::default(),
        }
    }

    pub(super) fn tally(&self) -> Tally {
        self.tally
    }

    /// Publishes until the source ends, something fails, or a signal comes; what is being committed
    /// then is awaited.
    pub(super) async fn until_stopped(&mut self, source: Source) -> Result<(), Failure> {
        let mut signals = Signals::listen()?;
        let feed = Feed::start(source, self.max_event_bytes)?;
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
            let Some(batch) = next.map_err(|error| self.broken_off(error.into()))? else {
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
            anyhow!("{}: refused {}", self.name, count(self.tally.refused, "line")),
            "raise max_event_bytes, here and for the daemon, or split these events",
        ))
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
