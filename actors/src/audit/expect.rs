//! What should stand of an event: its rows, or a dead letter.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use compact_str::CompactString;
use serde::de::IgnoredAny;

use crate::envelope::{Envelope, EnvelopePlan};
use crate::message::Message;
use crate::processor::{BadRow, EventView, Matcher, Processor, Trace, make_rows};
use crate::replay::Decoder;
use crate::row::{Row, Value};
use crate::time::Timestamp;

/// One processor, and how the rows of its table are asked for.
pub(super) struct Rule {
    pub(super) processor: Arc<dyn Processor>,
    pub(super) trace: Trace,
    /// The columns that a row, or an event's rows, are found by.
    pub(super) columns: Arc<[usize]>,
}

impl Rule {
    fn of(processor: Arc<dyn Processor>) -> Self {
        let trace = processor.trace();
        let columns = match trace {
            Trace::Key => processor.table().key.as_slice().into(),
            Trace::Event(column) => [column].into(),
            Trace::Lost(_) => [].into(),
        };
        Self { processor, trace, columns }
    }
}

/// The present rules.
pub(super) struct Rules {
    pub(super) envelope: Arc<EnvelopePlan>,
    pub(super) processors: Vec<Rule>,
    matcher: Matcher,
}

/// An event of the archive.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) line: u64,
    /// Equal for lines that repeat one another.
    pub(super) mark: u64,
    /// The event's id; empty where it cannot be read.
    pub(super) id: CompactString,
    /// The log's name for its message, where the archive tells.
    pub(super) message: Option<CompactString>,
}

/// Rows that should stand.
#[derive(Debug)]
pub(super) struct Expected {
    /// The event, by its place in the chunk.
    pub(super) event: usize,
    pub(super) processor: usize,
    pub(super) key: Row,
    pub(super) rows: u64,
    /// What the row has in the column that the table is partitioned by.
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
}

/// What a stretch of lines holds.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    pub(super) events: Vec<Event>,
    pub(super) rows: Vec<Expected>,
    pub(super) bad: Vec<Bad>,
    /// Lines that cannot be read, and why.
    pub(super) damaged: Vec<(u64, String)>,
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
    ) -> Self {
        let processors: Vec<_> = processors.into_iter().map(Rule::of).collect();
        // The router's own matcher: an event goes here where it goes there.
        let matcher = Matcher::new(processors.iter().map(|rule| rule.processor.patterns()));
        Self { envelope, processors, matcher }
    }

    /// What is to stand of these lines, in the tables of all processors but `without`.
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
                self.matcher.ways(&envelope.kind, &mut room.ways);
                room.ways.retain(|way| !without.contains(way));
                for &way in &room.ways {
                    let event = EventView { message, envelope: &envelope };
                    self.process(way, number, &event, now, chunk, &mut room.rows);
                }
                let Envelope { id, .. } = envelope;
                id
            }
            Err(invalid) => {
                // It was valid when it was archived: what is no JSON now was damaged since.
                if let Err(error) = serde_json::from_slice::<IgnoredAny>(&message.payload) {
                    chunk.damaged.push((line, format!("not JSON: {error}")));
                    return;
                }
                let reason = invalid.reason.into_owned();
                chunk.bad.push(Bad { event: number, processor: None, reason, keys: Vec::new() });
                invalid.id.unwrap_or_default()
            }
        };
        let mut mark = DefaultHasher::new();
        if told {
            message.id.hash(&mut mark)
        } else {
            message.payload.hash(&mut mark)
        }
        let message = told.then(|| message.id.clone());
        chunk.events.push(Event { line, mark: mark.finish(), id, message });
    }

    /// What one processor makes of the event.
    fn process(
        &self,
        way: usize,
        number: usize,
        event: &EventView<'_>,
        now: Timestamp,
        chunk: &mut Chunk,
        rows: &mut Vec<Row>,
    ) {
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
            chunk.bad.push(Bad { event: number, processor, reason, keys });
            return;
        }
        let partition = rule.processor.table().partition_by;
        let expected = |row: &Row, rows| Expected {
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
