//! Publishes dead letters again, and then marks them.
//!
//! In this order: killed in between, a letter is requeued a second time, which a key makes
//! harmless; the other way round its event would be lost.

use std::sync::Arc;

use anyhow::anyhow;
use kappa_actors::dead_letter_table::DeadLetter;
use kappa_actors::message::NewMessage;
use kappa_actors::port::{EventLog, PublishError};
use tokio_util::sync::CancellationToken;

use super::shelf::Shelf;
use crate::cli::output::{count, tell};
use crate::cli::{Failure, patience};
use crate::settings::Settings;
use crate::wiring::open_log;

/// The attribute that names the letter an event comes from.
const REQUEUED_FROM: &str = "kappa-requeued-from";

/// Letters that are published and marked together, at most; few enough that little is requeued
/// twice after a kill.
const BATCH_LETTERS: usize = 500;

/// Payload bytes that are held at once, but for a single larger letter.
const BATCH_BYTES: usize = 8 << 20;

/// Requeues letters.
pub(super) struct Requeuer<'a> {
    shelf: &'a Shelf,
    log: Arc<dyn EventLog>,
    /// Whether those that were requeued before are meant too.
    again: bool,
    requeued: u64,
    refused: u64,
}

impl<'a> Requeuer<'a> {
    /// Opens the log. `again`: letters that are marked are meant too.
    pub(super) async fn new(
        shelf: &'a Shelf,
        settings: &Settings,
        again: bool,
    ) -> anyhow::Result<Self> {
        let log = open_log(settings).await?;
        Ok(Self { shelf, log, again, requeued: 0, refused: 0 })
    }

    /// Lets go of the log.
    pub(super) async fn close(&self) {
        self.log.close().await;
    }

    /// How many are durable in the log again.
    pub(super) fn requeued(&self) -> u64 {
        self.requeued
    }

    /// Requeues all of these, in their order.
    pub(super) async fn all(&mut self, ids: &[String]) -> Result<(), Failure> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        for id in ids {
            let Some(letter) = self.shelf.get(id).await? else { continue };
            if letter.requeued_at.is_some() && !self.again {
                // Somebody else was faster.
                continue;
            }
            bytes += letter.payload.len();
            batch.push(letter);
            if batch.len() == BATCH_LETTERS || bytes >= BATCH_BYTES {
                self.publish_and_mark(std::mem::take(&mut batch)).await?;
                bytes = 0;
            }
        }
        self.publish_and_mark(batch).await?;
        match self.refused {
            0 => Ok(()),
            refused => Err(anyhow!("the log refused {}", count(refused, "event")).into()),
        }
    }

    async fn publish_and_mark(&mut self, letters: Vec<DeadLetter>) -> Result<(), Failure> {
        let messages: Vec<_> = letters.iter().map(message).collect();
        let waits = |why: &str| tell("waiting", why);
        let stop = CancellationToken::new();
        let outcomes = patience::publish(&*self.log, &messages, &stop, waits).await;
        let (mut published, mut missing) = (Vec::new(), None);
        for (letter, outcome) in letters.into_iter().zip(outcomes) {
            match outcome {
                Ok(_) => published.push(letter.id),
                Err(PublishError::Refused(why)) => {
                    self.refused += 1;
                    tell("refused", &format!("dead letter {}: {why}", letter.id));
                }
                Err(why) => missing = Some(why),
            }
        }
        self.requeued += published.len() as u64;
        self.shelf.mark(&published).await.map_err(|why| {
            let events = count(published.len() as u64, "event");
            Failure::with_hint(
                anyhow!("{why}: {events} published again, but not marked as requeued"),
                "requeue them once more: a table with a key gets no second row",
            )
        })?;
        let hint = "what is published is marked: the same command goes on with the rest";
        missing.map_or(Ok(()), |why| Err(Failure::with_hint(why, hint)))
    }
}

/// The event as it first came, with the letter it comes from.
fn message(letter: &DeadLetter) -> NewMessage {
    let mut attributes = letter.attributes.as_deref().cloned().unwrap_or_default();
    attributes.insert(REQUEUED_FROM.to_owned(), letter.id.clone());
    let ordering_key = letter.ordering_key.to_string();
    NewMessage { payload: letter.payload.clone(), attributes, ordering_key }
}
