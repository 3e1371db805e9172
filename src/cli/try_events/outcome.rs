//! The rows or dead letters of an event, made by the daemon's own envelope, matcher and processors.

use std::sync::Arc;

use bytes::Bytes;
use compact_str::{CompactString, ToCompactString as _};
use kappa_actors::dead_letter_table::Stage;
use kappa_actors::envelope::Envelope;
use kappa_actors::message::{Lease, Message};
use kappa_actors::processor::{EventView, Matcher, Processor as _, make_rows};
use kappa_actors::row::{Row, TableSpec};
use kappa_actors::time::Timestamp;

use crate::framing::Line;
use crate::wiring::Blueprint;

/// The result of one line.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) line: u64,
    /// The event's id, where it could be read.
    pub(super) event_id: Option<CompactString>,
    /// The event's type, where it could be read.
    pub(super) event_type: Option<CompactString>,
    /// By processor that takes it, in their order: none for an invalid event, and for one that is
    /// only archived.
    pub(super) rows: Vec<Made>,
    pub(super) dead_letters: Vec<Condemned>,
}

/// The result of one processor.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) processor: String,
    pub(super) table: Arc<TableSpec>,
    pub(super) rows: Vec<Row>,
}

/// One dead letter.
#[derive(Debug)]
pub(super) struct Condemned {
    pub(super) stage: Stage,
    pub(super) processor: Option<String>,
    pub(super) reason: String,
}

impl Outcome {
    /// Valid, and no processor takes it.
    pub(super) fn is_only_archived(&self) -> bool {
        self.rows.is_empty() && self.dead_letters.is_empty()
    }
}

/// Tries events.
pub(super) struct Trial {
    blueprint: Blueprint,
    matcher: Matcher,
    max_event_bytes: u64,
}

impl Trial {
    pub(super) fn new(blueprint: Blueprint, max_event_bytes: u64) -> Self {
        let matcher = Matcher::new(blueprint.processors.iter().map(|rule| rule.plan.patterns()));
        Self { blueprint, matcher, max_event_bytes }
    }

    /// Returns the result of the line.
    pub(super) fn of(&self, line: Line) -> Outcome {
        let (line, payload) = match line {
            Line::Event { number, payload } => (number, payload),
            Line::TooLong { number } => {
                let reason = format!("larger than max_event_bytes ({})", self.max_event_bytes);
                return Outcome { line: number, ..invalid(reason) };
            }
        };
        match self.blueprint.envelope.read(&payload) {
            Ok(envelope) => Outcome { line, ..self.process(line, payload, envelope) },
            Err(why) => {
                let outcome = invalid(why.reason.into_owned());
                Outcome { line, event_id: why.id, event_type: why.kind, ..outcome }
            }
        }
    }

    fn process(&self, line: u64, payload: Bytes, envelope: Envelope) -> Outcome {
        let now = Timestamp::now();
        let message = Message {
            id: line.to_compact_string(),
            payload,
            publish_time: now,
            attributes: None,
            ordering_key: CompactString::default(),
            attempt: None,
            archived: false,
            suspect: None,
            lease: Lease(0),
        };
        let (mut ways, mut outcome) = (Vec::new(), Outcome::default());
        self.matcher.ways(&envelope.kind, &mut ways);
        for plan in ways.into_iter().map(|way| &self.blueprint.processors[way].plan) {
            let (processor, mut rows) = (plan.name().to_owned(), Vec::new());
            let event = EventView { message: &message, envelope: &envelope };
            match make_rows(&**plan, &event, now, &mut rows) {
                Ok(_) => {
                    let table = Arc::clone(plan.table());
                    outcome.rows.push(Made { processor, table, rows });
                }
                Err(bad) => outcome.dead_letters.push(Condemned {
                    stage: Stage::Process,
                    processor: Some(processor),
                    reason: bad.to_string(),
                }),
            }
        }
        Outcome { event_id: Some(envelope.id), event_type: Some(envelope.kind), ..outcome }
    }
}

fn invalid(reason: String) -> Outcome {
    let letter = Condemned { stage: Stage::Parse, processor: None, reason };
    Outcome { dead_letters: vec![letter], ..Outcome::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Settings, Sources};

    fn outcome(sets: &[&str], event: &'static str) -> Outcome {
        let set = sets.iter().map(ToString::to_string).collect();
        let settings = Settings::load(&Sources { set, ..Sources::default() }).unwrap();
        let trial = Trial::new(Blueprint::of(&settings).unwrap(), settings.max_event_bytes);
        trial.of(Line::Event { number: 7, payload: Bytes::from_static(event.as_bytes()) })
    }

    const ORDER: &str = r#"{"event_id":"e1","event_type":"order.placed",
        "timestamp":"2026-02-17T14:30:00Z","data":{"total":"dear"}}"#;

    #[test]
    fn an_invalid_event_shows_its_reason_and_what_could_be_read_of_it() {
        let outcome = outcome(&[], r#"{"event_id":"e1","timestamp":"2026-02-17T14:30:00Z"}"#);
        assert_eq!((outcome.line, outcome.event_id.as_deref()), (7, Some("e1")));
        let [letter] = &outcome.dead_letters[..] else { panic!("{outcome:?}") };
        assert_eq!((letter.stage, &*letter.reason), (Stage::Parse, "/event_type: missing"));
    }

    #[test]
    fn one_processor_may_make_a_row_where_another_makes_a_dead_letter() {
        let users = r#"processors.users.match=["user.","order."]"#;
        let outcome = outcome(&[users], ORDER);
        let [made] = &outcome.rows[..] else { panic!("{outcome:?}") };
        assert_eq!((&*made.processor, made.rows.len()), ("users", 1));
        let [letter] = &outcome.dead_letters[..] else { panic!("{outcome:?}") };
        assert_eq!(letter.processor.as_deref(), Some("orders"));
        assert_eq!(letter.reason, "column total_amount: \"dear\" is no FLOAT");
    }

    #[test]
    fn an_event_that_no_processor_takes_is_only_archived() {
        let off = ["processors.orders.enabled=false", "processors.other.enabled=false"];
        assert!(outcome(&off, ORDER).is_only_archived());
    }
}
