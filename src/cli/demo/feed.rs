//! Generates events, publishes them, and keeps their expected results.

use std::time::Duration;

use bytes::Bytes;
use kappa_actors::message::NewMessage;
use kappa_actors::port::{EventLog, PublishError};
use kappa_actors::processor::Matcher;
use kappa_actors::vitals::Counter;

use super::{Args, INVALID_PERCENT};
use crate::wiring::{Blueprint, Rule};

/// Events of one publish: a commit of the log's.
const BATCH_EVENTS: u64 = 2_000;

/// How long to wait for a log that is full or busy.
const PAUSE: Duration = Duration::from_millis(100);

/// The published events and their expected results.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Feed {
    /// Events, the invalid included.
    pub(super) events: u64,
    /// Events that should become dead letters, and nothing else.
    pub(super) invalid: u64,
    /// Rows and dead letters together. `None` where a processor makes another number of rows than
    /// one of an event.
    pub(super) outcomes: Option<u64>,
}

/// Publishes the events of `args` in their order, and counts them in `published`.
///
/// # Errors
/// [`PublishError::Refused`]; transient errors are waited for.
pub(super) async fn publish(
    log: &dyn EventLog,
    args: &Args,
    blueprint: &Blueprint,
    published: &Counter,
) -> anyhow::Result<Feed> {
    let rules = &blueprint.processors;
    let matcher = Matcher::new(rules.iter().map(|rule| &*rule.config.r#match));
    let (mut generator, mut ways) = (args.generator(INVALID_PERCENT), Vec::new());
    let (mut invalid, mut outcomes) = (0, 0);
    let mut left = args.events;
    while left > 0 {
        let count = left.min(BATCH_EVENTS);
        let mut batch = Vec::new();
        for event in generator.by_ref().take(count as usize) {
            if event.expected.defect.is_some() {
                invalid += 1;
                outcomes += 1;
            } else {
                matcher.ways(event.expected.kind, &mut ways);
                outcomes += ways.len() as u64;
            }
            batch.push(NewMessage::from_payload(Bytes::from(event.payload)));
        }
        publish_all(log, batch).await?;
        published.add(count);
        left -= count;
    }
    let outcomes = rules.iter().all(makes_one_row).then_some(outcomes);
    Ok(Feed { events: args.events, invalid, outcomes })
}

/// Publishes until the log has taken each of them.
async fn publish_all(log: &dyn EventLog, mut batch: Vec<NewMessage>) -> Result<(), PublishError> {
    loop {
        let mut again = Vec::new();
        for (message, outcome) in batch.iter().zip(log.publish(batch.clone()).await) {
            match outcome {
                Ok(_) => {}
                Err(PublishError::Full(_) | PublishError::Unavailable(_)) => {
                    again.push(message.clone());
                }
                Err(refused @ PublishError::Refused(_)) => return Err(refused),
            }
        }
        if again.is_empty() {
            return Ok(());
        }
        batch = again;
        tokio::time::sleep(PAUSE).await;
    }
}

/// Whether each event adds exactly one row to the table.
fn makes_one_row(rule: &Rule) -> bool {
    rule.config.explode.is_none() && rule.config.order_by.is_none()
}
