//! The expectation of an event: its rows, or a dead letter.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use compact_str::CompactString;
use serde::de::IgnoredAny;

use crate::envelope::{Envelope, EnvelopePlan};
use crate::message::Message;
use crate::processor::{BadRow, EventView, Matcher, Processor, Trace, make_rows};
use crate::replay::{Decoder, ReplayRange};
use crate::row::{Row, Value};
use crate::time::Timestamp;
use crate::version::Version;

/// One processor, and how the rows of its table are asked for.
pub(super) struct Rule {
    pub(super) processor: Arc<dyn Processor>,
    pub(super) trace: Trace,
    /// The columns that a row, or an event's rows, are found by.
    pub(super) columns: Arc<[usize]>,
    /// The columns whose values are compared.
    pub(super) compared: Vec<usize>,
}

impl Rule {
    /// `values`: which columns' values are not compared; `None`: no values are.
    fn of(processor: Arc<dyn Processor>, values: Option<&Passed>) -> Self {
        let trace = processor.trace();
        let columns = match trace {
            Trace::Key => processor.table().key.as_slice().into(),
            Trace::Event(column) => [column].into(),
            Trace::Lost(_) => [].into(),
        };
        let table = processor.table();
        let passed_over = |at: &usize, passed: &Passed| {
            let name = &table.columns[*at].name;
            table.key.contains(at)
                || table.version == Some(*at)
                || passed.iter().any(|it| it.0 == processor.name() && it.1 == *name)
        };
        let compared = values
            .map(|passed| (0..table.columns.len()).filter(|at| !passed_over(at, passed)).collect());
        Self { trace, columns, compared: compared.unwrap_or_default(), processor }
    }

    /// Whether rows are found by their key and have versions: then versions are compared, else rows
    /// are counted.
    pub(super) fn is_versioned(&self) -> bool {
        self.trace == Trace::Key && self.processor.table().version.is_some()
    }
}

/// Processors, each with a column whose values are not compared.
type Passed = HashSet<(String, String)>;

/// The present rules.
pub(super) struct Rules {
    pub(super) envelope: Arc<EnvelopePlan>,
    pub(super) processors: Vec<Rule>,
    /// Only events of this time of their own are audited.
    event_time: Option<ReplayRange>,
    matcher: Matcher,
}

/// Identifies a message among all messages.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Identity {
    /// The log's name for it, and when the log took it in.
    Message(CompactString, Timestamp),
    /// A hash of the payload, where the line does not hold the message's id: messages with the same
    /// payload have the same identity.
    Payload(u128),
}

impl Identity {
    /// The identity of a payload, with or without its line breaks.
    pub(super) fn of_payload(payload: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new();
        for part in payload.split_inclusive(|byte| matches!(byte, b'\n' | b'\r')) {
            // An archived line has a space for each line break.
            match part.split_last() {
                Some((b'\n' | b'\r', line)) => hasher.update(line).update(b" "),
                _ => hasher.update(part),
            };
        }
        let mut hash = [0; 16];
        hash.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        Self::Payload(u128::from_le_bytes(hash))
    }
}

/// An event of the archive.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) line: u64,
    /// Equal for lines that repeat one another.
    pub(super) identity: Identity,
    /// The event's id; empty where it cannot be read.
    pub(super) id: CompactString,
}

/// Rows that the table should have.
#[derive(Debug)]
pub(super) struct Expected {
    /// The event, by its place in the chunk.
    pub(super) event: usize,
    pub(super) processor: usize,
    pub(super) key: Row,
    /// The row's version, if the table has versions.
    pub(super) version: Option<Version>,
    /// The lowest version that the row may have. Lower than `version` where the line does not hold
    /// the message's position.
    pub(super) lowest: Option<Version>,
    /// The values of the compared columns.
    pub(super) values: Row,
    pub(super) rows: u64,
    /// The row's value in the column that partitions the table.
    pub(super) place: Option<Value>,
}

/// An event of which no row can be made.
#[derive(Debug)]
pub(super) struct Bad {
    /// The event, by its place in the chunk.
    pub(super) event: usize,
    /// `None`: it is not valid by the present rules.
    pub(super) processor: Option<usize>,
    pub(super) reason: String,
    /// The keys of rows that an earlier rule may have made.
    pub(super) keys: Vec<Row>,
    /// The lowest version that such a row may have.
    pub(super) lowest: Version,
}

/// The events and expectations of consecutive lines.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    pub(super) events: Vec<Event>,
    pub(super) rows: Vec<Expected>,
    pub(super) bad: Vec<Bad>,
    /// Lines that cannot be read, and why.
    pub(super) damaged: Vec<(u64, String)>,
    /// The first and the last of the events' own times, selected or not.
    pub(super) times: Option<(Timestamp, Timestamp)>,
}

/// Room to work in.
#[derive(Default)]
struct Room {
    ways: Vec<usize>,
    rows: Vec<Row>,
}

impl Rules {
    pub(super) fn new(
        envelope: Arc<EnvelopePlan>,
        processors: impl IntoIterator<Item = Arc<dyn Processor>>,
        event_time: Option<ReplayRange>,
        values: Option<&Passed>,
    ) -> Self {
        let processors = processors.into_iter().map(|processor| Rule::of(processor, values));
        let processors: Vec<_> = processors.collect();
        // The router's own matcher: an event goes here where it goes there.
        let matcher = Matcher::new(processors.iter().map(|rule| rule.processor.patterns()));
        Self { envelope, processors, event_time, matcher }
    }

    /// Computes the expectations of these lines, for the tables of all processors except `without`.
    pub(super) fn chunk(
        &self,
        decoder: &mut Decoder,
        lines: Vec<Bytes>,
        without: &[usize],
    ) -> Chunk {
        let (mut chunk, mut room) = (Chunk::default(), Room::default());
        let now = Timestamp::now();
        for line in lines {
            match decoder.read(line) {
                Ok(None) => {}
                Ok(Some(message)) => {
                    let line = (decoder.lines, decoder.holds_origins());
                    self.event(&message, line, now, without, &mut chunk, &mut room);
                }
                Err(error) => chunk.damaged.push((decoder.lines, error.to_string())),
            }
        }
        chunk
    }

    fn event(
        &self,
        message: &Message,
        (line, told): (u64, bool),
        now: Timestamp,
        without: &[usize],
        chunk: &mut Chunk,
        room: &mut Room,
    ) {
        let number = chunk.events.len();
        let id = match self.envelope.read(&message.payload) {
            Ok(envelope) => {
                let (first, last) = chunk.times.unwrap_or((envelope.time, envelope.time));
                chunk.times = Some((first.min(envelope.time), last.max(envelope.time)));
                if self.event_time.is_some_and(|range| !range.holds(envelope.time)) {
                    return;
                }
                self.matcher.ways(&envelope.kind, &mut room.ways);
                room.ways.retain(|way| !without.contains(way));
                for &way in &room.ways {
                    let event = EventView { message, envelope: &envelope };
                    self.process(way, number, &event, (now, told), chunk, &mut room.rows);
                }
                let Envelope { id, .. } = envelope;
                id
            }
            Err(invalid) => {
                // Only valid events are archived, so a line that is no JSON was damaged since.
                if let Err(error) = serde_json::from_slice::<IgnoredAny>(&message.payload) {
                    chunk.damaged.push((line, format!("not JSON: {error}")));
                    return;
                }
                let reason = invalid.reason.into_owned();
                let (keys, lowest) = (Vec::new(), Version::new(None, message.position(), 0));
                chunk.bad.push(Bad { event: number, processor: None, reason, keys, lowest });
                invalid.id.unwrap_or_default()
            }
        };
        let identity = if told {
            Identity::Message(message.id.clone(), message.publish_time)
        } else {
            Identity::of_payload(&message.payload)
        };
        chunk.events.push(Event { line, identity, id });
    }

    /// Adds the expectation of one processor for the event.
    fn process(
        &self,
        way: usize,
        number: usize,
        event: &EventView<'_>,
        (now, told): (Timestamp, bool),
        chunk: &mut Chunk,
        rows: &mut Vec<Row>,
    ) {
        let position = event.message.position();
        let lowest = if told { position } else { position.lowest_of_time() };
        let rule = &self.processors[way];
        rows.clear();
        let made = catch_unwind(AssertUnwindSafe(|| make_rows(&*rule.processor, event, now, rows)));
        let made = made.unwrap_or_else(|_| Err(BadRow::Other("its processor panics".to_owned())));
        if let Err(bad) = made {
            let keys = match rule.trace {
                Trace::Key => rule.processor.keys(event).unwrap_or_default(),
                Trace::Event(_) | Trace::Lost(_) => Vec::new(),
            };
            let (processor, reason) = (Some(way), bad.to_string());
            let order = rule.processor.table().order_by.as_ref().map(|_| i64::MIN);
            let lowest = Version::new(order, lowest, 0);
            chunk.bad.push(Bad { event: number, processor, reason, keys, lowest });
            return;
        }
        let partition = rule.processor.table().partition_by;
        let version = |row: &Row| match row.0.get(rule.processor.table().version?)? {
            Value::Version(version) => Some(**version),
            _ => None,
        };
        let expected = |row: &Row, rows| Expected {
            version: version(row),
            lowest: version(row).map(|version| if told { version } else { version.at(lowest) }),
            values: Row(rule.compared.iter().map(|&column| row.0[column].clone()).collect()),
            event: number,
            processor: way,
            key: Row(rule.columns.iter().map(|&column| row.0[column].clone()).collect()),
            rows,
            place: partition.map(|column| row.0[column].clone()),
        };
        match (rule.trace, rows.first()) {
            (Trace::Key, _) => chunk.rows.extend(rows.iter().map(|row| expected(row, 1))),
            (Trace::Event(_), Some(row)) => chunk.rows.push(expected(row, rows.len() as u64)),
            (Trace::Event(_), None) | (Trace::Lost(_), _) => {}
        }
    }
}
