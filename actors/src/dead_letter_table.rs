//! The table of dead letters: events that could not become rows, whole, each with the reason.
//!
//! A letter's id is a hash of its message (id and publish time), the stage and the duty that failed,
//! and the replay that it failed in, if that was a staging replay. A second delivery that fails the
//! same way is the same letter.
//!
//! A letter is open until it is requeued or purged. Its version is (time of the failure, position of
//! the message, 1 once it is requeued and 2 once it is purged), and the greatest version of an id
//! counts: so a mark counts for the failure that it was set on, and a failure that follows makes the
//! letter open again. Whoever requeues a letter writes a new failure with a later time than the one
//! before.
//!
//! A purge removes the content of a letter: payload, attributes, ordering key, event id and type, and
//! reason. The rest stays, so that an audit can explain why the event has no row.

mod payload;

use std::sync::Arc;

use bytes::Bytes;
use compact_str::CompactString;

use crate::message::Attributes;
use crate::position::Position;
use crate::processor::VERSION_COLUMN;
use crate::row::{Column, ColumnType, Row, TableSpec, Value};
use crate::time::Timestamp;
use crate::version::Version;

pub use payload::{move_payload, object_of, payload, payload_object};

/// The table's name.
pub const NAME: &str = "dead_letters";

/// The columns, in the order of [`DeadLetter::row`].
const COLUMNS: [(&str, ColumnType, &str); 21] = [
    ("id", ColumnType::String, "hash of message, stage, duty and staging replay"),
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
    (
        "requeued_at",
        ColumnType::Timestamp,
        "when it was requeued after this failure; NULL: it is open",
    ),
    ("replay_id", ColumnType::String, "the staging replay that it failed in, if it was one"),
    ("ordering_key", ColumnType::String, "the message's ordering key, if it had one"),
    (PAYLOAD_OBJECT, ColumnType::String, "the archive's object with a payload too large for a row"),
    (
        "duty",
        ColumnType::String,
        "failed duty: a processor's name, archive, or route for all duties",
    ),
    (VERSION_COLUMN, ColumnType::Bytes, "time of failure, position, state: the greatest counts"),
    (CLASS, ColumnType::String, "class of the fault: place and kind, no value of an event"),
    (PURGED_AT, ColumnType::Timestamp, "when its content was removed"),
];

/// The duty of an event that never was valid, or that no actor could route: all duties failed.
pub const ROUTE: &str = "route";
/// The duty of an event that could not be archived.
pub const ARCHIVE: &str = "archive";

/// The column that names where a payload is that no row of the warehouse can hold.
pub const PAYLOAD_OBJECT: &str = "payload_object";
/// The column with the class of the fault. Tables from before classes lack it.
pub const CLASS: &str = "class";
/// The column with the time of the purge. Tables from before purges lack it.
pub const PURGED_AT: &str = "purged_at";

/// Index of the payload among the columns.
const PAYLOAD: usize = 7;
/// Index of [`PAYLOAD_OBJECT`] among the columns.
const OBJECT: usize = 16;
/// Index of the duty among the columns.
const DUTY: usize = 17;
/// Index of the version among the columns.
const VERSION: usize = 18;
/// Index of the class among the columns.
const CLASS_AT: usize = 19;
/// Index of the time of the purge among the columns.
const PURGED: usize = 20;
/// Index of the time of the mark among the columns.
const REQUEUED_AT: usize = 13;

/// The column, with its type, that comes first in the version of a letter.
const ORDER_BY: &str = "failed_at TIMESTAMP";

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
        version: Some(VERSION),
        order_by: Some(ORDER_BY.to_owned()),
        partition_by: None,
        cluster_by: vec![],
        keeps_events: true,
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
    /// The duty that failed: a processor's name, [`ARCHIVE`], or [`ROUTE`] for all duties.
    pub duty: String,
    /// Class of the fault; `None` in letters from before classes.
    pub class: Option<CompactString>,
    /// What went wrong, in words.
    pub reason: String,
    /// The event as it arrived, whole; empty where the payload is an object, or purged.
    pub payload: Bytes,
    /// The archive's object that holds the payload, if the row does not.
    pub payload_object: Option<String>,
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
    /// When it was requeued after this failure; `None`: it is open.
    pub requeued_at: Option<Timestamp>,
    /// When its content was removed.
    pub purged_at: Option<Timestamp>,
    /// The staging replay that it failed in, if it was one.
    pub replay_id: Option<String>,
    /// The message's ordering key; empty where there is none.
    pub ordering_key: CompactString,
}

impl DeadLetter {
    /// The id of the letter for this message, stage and duty, and for the staging replay that it
    /// failed in, if it was one: 32 hexadecimal digits.
    #[must_use]
    pub fn id(
        (message_id, publish_time): (&str, Timestamp),
        stage: Stage,
        duty: &str,
        staging: Option<&str>,
    ) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&publish_time.micros().to_le_bytes());
        for part in [message_id, stage.name(), duty, staging.unwrap_or_default()] {
            // The length keeps apart what would read the same run together.
            hasher.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
        }
        hasher.finalize().to_hex()[..32].to_owned()
    }

    /// The version of the letter's row.
    #[must_use]
    pub fn version(&self) -> Version {
        let state = match (self.requeued_at, self.purged_at) {
            (_, Some(_)) => PURGED_STATE,
            (Some(_), None) => 1,
            (None, None) => 0,
        };
        version((&self.message_id, self.publish_time), self.failed_at, state)
    }

    /// The version of the row of a letter of this message and time of failure, once it is purged.
    #[must_use]
    pub fn purged_version(message: (&str, Timestamp), failed_at: Timestamp) -> Version {
        version(message, failed_at, PURGED_STATE)
    }

    /// The mark that this failure was requeued at this time.
    #[must_use]
    pub fn mark(&self, at: Timestamp) -> Mark {
        let version =
            Self { requeued_at: Some(at), payload: Bytes::new(), ..self.clone() }.version();
        Mark { id: self.id.clone(), at, version }
    }

    /// Whether the event still waits to be requeued.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.requeued_at.is_none() && self.purged_at.is_none()
    }

    /// Returns the letter as a purge at this time leaves it.
    #[must_use]
    pub fn purged(self, at: Timestamp) -> Self {
        Self {
            event_id: None,
            event_type: None,
            reason: String::new(),
            payload: Bytes::new(),
            attributes: None,
            ordering_key: CompactString::default(),
            purged_at: Some(at),
            ..self
        }
    }

    /// The letter as a row of [`spec`].
    #[must_use]
    pub fn row(&self) -> Row {
        let attributes = self.attributes.as_ref().map(|all| serde_json::json!(**all).to_string());
        let payload = match (&self.payload_object, self.purged_at) {
            (None, None) => Value::Bytes(self.payload.clone().into()),
            _ => Value::Null,
        };
        let ordering_key = (!self.ordering_key.is_empty()).then_some(&self.ordering_key);
        Row(Box::new([
            text(&self.id),
            optional(self.event_id.as_ref()),
            optional(self.event_type.as_ref()),
            text(self.stage.name()),
            text(&self.actor),
            optional(self.processor.as_ref()),
            text(&self.reason),
            payload,
            optional(attributes),
            text(&self.message_id),
            Value::Timestamp(self.publish_time),
            Value::Timestamp(self.failed_at),
            Value::Integer(i64::from(self.attempts)),
            self.requeued_at.map_or(Value::Null, Value::Timestamp),
            optional(self.replay_id.as_ref()),
            optional(ordering_key),
            optional(self.payload_object.as_ref()),
            text(&self.duty),
            version_value(&self.version()),
            optional(self.class.as_ref()),
            self.purged_at.map_or(Value::Null, Value::Timestamp),
        ]))
    }

    /// The letter that a row of [`spec`] holds.
    ///
    /// # Errors
    /// The name of the first column with an invalid value.
    pub fn from_row(row: &Row) -> Result<Self, UnreadableLetter> {
        let column = |at: usize| row.0.get(at).unwrap_or(&Value::Null);
        let text = |at: usize| match column(at) {
            Value::Text(text) => Some(text.clone()),
            _ => None,
        };
        let time = |at: usize| match column(at) {
            Value::Timestamp(time) => Some(*time),
            _ => None,
        };
        let unreadable = |at: usize| UnreadableLetter(COLUMNS[at].0);
        let attributes = match text(8) {
            Some(json) => Some(Arc::new(serde_json::from_str(&json).map_err(|_| unreadable(8))?)),
            None => None,
        };
        Ok(Self {
            id: text(0).ok_or_else(|| unreadable(0))?.into(),
            event_id: text(1),
            event_type: text(2),
            stage: text(3).and_then(|name| Stage::from_name(&name)).ok_or_else(|| unreadable(3))?,
            actor: text(4).unwrap_or_default().into(),
            processor: text(5).map(String::from),
            reason: text(6).unwrap_or_default().into(),
            payload: match column(PAYLOAD) {
                Value::Bytes(payload) => Bytes::clone(payload),
                _ => Bytes::new(),
            },
            attributes,
            message_id: text(9).unwrap_or_default(),
            publish_time: time(10).unwrap_or_default(),
            failed_at: time(11).unwrap_or_default(),
            attempts: match column(12) {
                Value::Integer(count) => u32::try_from(*count).unwrap_or(u32::MAX),
                _ => 0,
            },
            requeued_at: time(13),
            replay_id: text(14).map(String::from),
            ordering_key: text(15).unwrap_or_default(),
            duty: text(DUTY).unwrap_or_default().into(),
            class: text(CLASS_AT),
            payload_object: text(OBJECT).map(String::from),
            purged_at: time(PURGED),
        })
    }
}

/// That a letter was requeued. It counts until the letter fails again: then its version is the lower
/// one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The letter's id.
    pub id: String,
    /// When it was requeued.
    pub at: Timestamp,
    /// The version of the marked row.
    pub version: Version,
}

impl Mark {
    /// Puts the mark into a row of [`spec`].
    pub fn put_into(&self, row: &mut Row) {
        for (at, value) in
            [(REQUEUED_AT, Value::Timestamp(self.at)), (VERSION, version_value(&self.version))]
        {
            if let Some(cell) = row.0.get_mut(at) {
                *cell = value;
            }
        }
    }
}

/// The state in the version of a purged letter.
const PURGED_STATE: u16 = 2;

fn version((id, published): (&str, Timestamp), failed_at: Timestamp, state: u16) -> Version {
    Version::new(Some(failed_at.micros()), Position::of(id, published, 0), state)
}

fn version_value(version: &Version) -> Value {
    Value::Version(Box::new(*version))
}

/// A row of dead letters that another program wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("column {0} of {NAME} has a value that no dead letter has")]
pub struct UnreadableLetter(&'static str);

fn text(text: &str) -> Value {
    Value::Text(text.into())
}

fn optional(text: Option<impl AsRef<str>>) -> Value {
    text.map_or(Value::Null, |text| Value::Text(text.as_ref().into()))
}

#[cfg(test)]
mod tests;
