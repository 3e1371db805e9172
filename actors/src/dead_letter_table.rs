//! The table of dead letters: events that could not become rows, whole, each with the reason.
//!
//! A letter's id is made of its message, the stage and the duty that failed: a second delivery
//! that fails the same way is the same letter, and the first one stands.

use std::sync::Arc;

use bytes::Bytes;
use compact_str::CompactString;

use crate::message::Attributes;
use crate::row::{Column, ColumnType, Row, TableSpec, Value};
use crate::time::Timestamp;

/// The table's name.
pub const NAME: &str = "dead_letters";

/// The columns, in the order of [`DeadLetter::row`].
const COLUMNS: [(&str, ColumnType, &str); 16] = [
    ("id", ColumnType::String, "hash of message, stage and duty"),
    ("event_id", ColumnType::String, "the event's id, where it could be read"),
    ("event_type", ColumnType::String, "the event's type, where it could be read"),
    ("stage", ColumnType::String, "parse, process, write or poison"),
    ("actor", ColumnType::String, "path of the actor that met the failure"),
    ("processor", ColumnType::String, "the processor concerned, if one was"),
    ("reason", ColumnType::String, "what went wrong"),
    ("payload", ColumnType::Bytes, "the event as it arrived, whole"),
    ("attributes", ColumnType::Json, "the message's attributes"),
    ("message_id", ColumnType::String, "the log's name for the message"),
    ("publish_time", ColumnType::Timestamp, "when the log took the message in"),
    ("failed_at", ColumnType::Timestamp, "when it became a dead letter"),
    ("attempts", ColumnType::Integer, "how often it was tried"),
    ("requeued_at", ColumnType::Timestamp, "when it was published again, if it was"),
    ("replay_id", ColumnType::String, "the replay it failed in, if it was one"),
    ("ordering_key", ColumnType::String, "the message's ordering key, if it had one"),
];

/// The table as every warehouse is asked to hold it.
#[must_use]
pub fn spec() -> TableSpec {
    let columns = COLUMNS.map(|(name, kind, description)| Column {
        name: name.to_owned(),
        kind,
        description: Some(description.to_owned()),
    });
    TableSpec {
        name: NAME.to_owned(),
        columns: columns.into(),
        key: vec![0],
        version: None,
        partition_by: None,
        cluster_by: vec![],
    }
}

/// Where an event's way ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// It is no valid event.
    Parse,
    /// No row could be made of it.
    Process,
    /// The warehouse refuses its row.
    Write,
    /// It panics the actor that meets it.
    Poison,
}

impl Stage {
    /// All of them, in an event's order.
    pub const ALL: [Self; 4] = [Self::Parse, Self::Process, Self::Write, Self::Poison];

    /// The name in the table and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Parse => "parse",
            Self::Process => "process",
            Self::Write => "write",
            Self::Poison => "poison",
        }
    }

    /// The stage of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| stage.name() == name)
    }
}

/// One event that could not become a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The letter's id, as [`DeadLetter::id`] makes it.
    pub id: String,
    /// The event's id, where it could be read.
    pub event_id: Option<CompactString>,
    /// The event's type, where it could be read.
    pub event_type: Option<CompactString>,
    /// Where its way ended.
    pub stage: Stage,
    /// Path of the actor that met the failure.
    pub actor: String,
    /// The processor concerned, if one was.
    pub processor: Option<String>,
    /// What went wrong, in words.
    pub reason: String,
    /// The event as it arrived, whole.
    pub payload: Bytes,
    /// The message's attributes, as the message holds them.
    pub attributes: Option<Arc<Attributes>>,
    /// The log's name for the message.
    pub message_id: CompactString,
    /// When the log took the message in.
    pub publish_time: Timestamp,
    /// When it became a dead letter.
    pub failed_at: Timestamp,
    /// How often it was tried.
    pub attempts: u32,
    /// When it was published again, if it was.
    pub requeued_at: Option<Timestamp>,
    /// The replay it failed in, if it was one.
    pub replay_id: Option<String>,
    /// The message's ordering key; empty where there is none.
    pub ordering_key: CompactString,
}

impl DeadLetter {
    /// The id of the letter for this message, stage and duty: 32 hexadecimal digits.
    #[must_use]
    pub fn id(message_id: &str, stage: Stage, duty: &str) -> String {
        let mut hasher = blake3::Hasher::new();
        for part in [message_id, stage.name(), duty] {
            // The length keeps apart what would read the same run together.
            hasher.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
        }
        hasher.finalize().to_hex()[..32].to_owned()
    }

    /// The letter as a row of [`spec`].
    #[must_use]
    pub fn row(&self) -> Row {
        let attributes = self.attributes.as_ref().map(|all| serde_json::json!(**all).to_string());
        let ordering_key = (!self.ordering_key.is_empty()).then_some(&self.ordering_key);
        Row(Box::new([
            text(&self.id),
            optional(self.event_id.as_ref()),
            optional(self.event_type.as_ref()),
            text(self.stage.name()),
            text(&self.actor),
            optional(self.processor.as_ref()),
            text(&self.reason),
            Value::Bytes(self.payload.clone().into()),
            optional(attributes),
            text(&self.message_id),
            Value::Timestamp(self.publish_time),
            Value::Timestamp(self.failed_at),
            Value::Integer(i64::from(self.attempts)),
            self.requeued_at.map_or(Value::Null, Value::Timestamp),
            optional(self.replay_id.as_ref()),
            optional(ordering_key),
        ]))
    }
}

fn text(text: &str) -> Value {
    Value::Text(text.into())
}

fn optional(text: Option<impl AsRef<str>>) -> Value {
    text.map_or(Value::Null, |text| Value::Text(text.as_ref().into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_tells_message_stage_and_duty_apart() {
        let id = DeadLetter::id("17", Stage::Parse, "dead letter");
        assert_eq!(id.len(), 32);
        assert_eq!(id, DeadLetter::id("17", Stage::Parse, "dead letter"));
        for other in [
            DeadLetter::id("1", Stage::Parse, "dead letter"),
            DeadLetter::id("17", Stage::Poison, "dead letter"),
            DeadLetter::id("17", Stage::Parse, "archive"),
            DeadLetter::id("17p", Stage::Parse, "dead letter"),
        ] {
            assert_ne!(id, other);
        }
    }

    #[test]
    fn stages_are_found_by_their_names() {
        for stage in Stage::ALL {
            assert_eq!(Stage::from_name(stage.name()), Some(stage));
        }
        assert_eq!(Stage::from_name("Parse"), None);
    }
}
