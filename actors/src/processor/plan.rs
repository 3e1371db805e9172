//! A configured processor at work: captures what its columns want in one walk, then converts.

use std::sync::Arc;
use std::time::Duration;

use super::config::MessageField;
use super::{BadRow, EventView, NewRow, NewRows, Processor, Trace, convert};
use crate::json::{Pointer, Trie, array_len};
use crate::position::Position;
use crate::row::{Row, TableSpec, Value};
use crate::time::Timestamp;
use crate::version::Version;

/// Bounds on the rows of one event.
#[derive(Clone, Copy, Debug)]
pub struct EventLimits {
    /// Rows that it may explode into.
    pub max_rows: usize,
    /// Bytes that its rows may take in memory.
    pub max_bytes: u64,
}

/// A configured processor, checked and ready.
#[derive(Debug)]
pub struct ProcessorPlan {
    pub(super) name: String,
    pub(super) patterns: Vec<String>,
    pub(super) table: Arc<TableSpec>,
    /// One for each column of the table but the version.
    pub(super) cells: Vec<Cell>,
    /// The pointers into the event.
    pub(super) event: Trie,
    pub(super) explode: Option<Explode>,
    pub(super) revision: u16,
    /// The column whose value comes first in a version.
    pub(super) order_by: Option<usize>,
    pub(super) max_future: Option<Duration>,
    pub(super) freshness: Option<Duration>,
    pub(super) trace: Trace,
    pub(super) limits: EventLimits,
}

/// A row for each element of an array.
#[derive(Debug)]
pub(super) struct Explode {
    pub(super) pointer: Pointer,
    /// The array's slot among the event's pointers.
    pub(super) slot: usize,
    /// The pointers into each element.
    pub(super) element: Trie,
}

/// How one column comes by its value.
#[derive(Debug)]
pub(super) struct Cell {
    pub(super) source: Source,
    /// Stands in for a missing value; itself null where the column has no default.
    pub(super) default: Value,
    pub(super) required: bool,
}

#[derive(Debug)]
pub(super) enum Source {
    Json(Place),
    Len(Place),
    Index,
    Constant(Value),
    Now,
    Message(MessageField),
    Attribute(String),
}

/// A slot of captured text.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    Event(usize),
    Element(usize),
}

/// The inputs of one row.
struct Scope<'a> {
    event: &'a EventView<'a>,
    now: Timestamp,
    /// Raw values from the event, by slot.
    root: &'a [Option<&'a str>],
    /// Raw values from the element, by slot.
    element: &'a [Option<&'a str>],
    index: usize,
}

impl Scope<'_> {
    /// The raw value there; missing and null are the same.
    fn raw(&self, place: Place) -> Option<&str> {
        let raw = match place {
            Place::Event(slot) => self.root[slot],
            Place::Element(slot) => self.element[slot],
        };
        raw.filter(|raw| *raw != "null")
    }
}

impl Processor for ProcessorPlan {
    fn name(&self) -> &str {
        &self.name
    }

    fn patterns(&self) -> &[String] {
        &self.patterns
    }

    fn table(&self) -> &Arc<TableSpec> {
        &self.table
    }

    fn trace(&self) -> Trace {
        self.trace
    }

    fn keys(&self, event: &EventView<'_>) -> Option<Vec<Row>> {
        let mut keys = Vec::new();
        let mut new = NewRows::new(&mut keys, self.limits.max_bytes);
        let columns = self.table.key.len();
        self.make(event, Timestamp::default(), columns, &mut new, |scope, row| {
            self.table.key.iter().try_for_each(|&column| row.push(self.value(column, scope)?))
        })
        .ok()
        .map(|()| keys)
    }

    fn max_bytes_per_event(&self) -> u64 {
        self.limits.max_bytes
    }

    fn rows(
        &self,
        event: &EventView<'_>,
        now: Timestamp,
        rows: &mut NewRows<'_>,
    ) -> Result<(), BadRow> {
        let position = event.message.position();
        let columns = self.table.columns.len();
        self.make(event, now, columns, rows, |scope, row| self.row(position, scope, row))
    }
}

impl ProcessorPlan {
    /// The revision in the versions of the rows.
    #[must_use]
    pub fn revision(&self) -> u16 {
        self.revision
    }

    /// How far the table's rows may be behind, if that was configured.
    #[must_use]
    pub fn freshness(&self) -> Option<Duration> {
        self.freshness
    }

    /// Returns the columns that need the message's metadata, with the field: a replay from an archive of payloads
    /// could not fill them.
    pub fn message_columns(&self) -> impl Iterator<Item = (&str, String)> {
        self.table.columns.iter().zip(&self.cells).filter_map(|(column, cell)| {
            let need = match &cell.source {
                Source::Message(field) => format!("message = \"{}\"", field.name()),
                Source::Attribute(name) => format!("attribute = {name:?}"),
                _ => return None,
            };
            Some((column.name.as_str(), need))
        })
    }

    /// Appends what `row` makes of the event or of each of its elements.
    fn make(
        &self,
        event: &EventView<'_>,
        now: Timestamp,
        columns: usize,
        rows: &mut NewRows<'_>,
        row: impl Fn(&Scope<'_>, &mut NewRow<'_>) -> Result<(), BadRow>,
    ) -> Result<(), BadRow> {
        let json = std::str::from_utf8(&event.message.payload)
            .map_err(|_| BadRow::Other("not UTF-8".to_owned()))?;
        let root = self.event.capture(json).map_err(not_json)?;
        let scope = Scope { event, now, root: &root, element: &[], index: 0 };
        let Some(explode) = &self.explode else {
            return rows.collect(columns, |new| row(&scope, new));
        };
        let Some(array) = scope.raw(Place::Event(explode.slot)) else { return Ok(()) };
        let pointer = || explode.pointer.to_string();
        let count = array_len(array).ok_or_else(|| BadRow::NotAnArray { pointer: pointer() })?;
        let max = self.limits.max_rows;
        if count > max {
            return Err(BadRow::TooManyRows { pointer: pointer(), rows: count, max });
        }
        let elements: Vec<&serde_json::value::RawValue> =
            serde_json::from_str(array).map_err(not_json)?;
        rows.reserve(count, columns);
        for (index, element) in elements.into_iter().enumerate() {
            let element = explode.element.capture(element.get()).map_err(not_json)?;
            let scope = Scope { element: &element, index, ..scope };
            rows.collect(columns, |new| row(&scope, new))?;
        }
        Ok(())
    }

    fn row(
        &self,
        position: Position,
        scope: &Scope<'_>,
        row: &mut NewRow<'_>,
    ) -> Result<(), BadRow> {
        for column in 0..self.cells.len() {
            row.push(self.value(column, scope)?)?;
        }
        if self.table.version.is_some() {
            let order = match self.order_by {
                Some(column) => Some(self.order(column, &row.values()[column], scope.event)?),
                None => None,
            };
            let version = Version::new(order, position, self.revision);
            row.push(Value::Version(Box::new(version)))?;
        }
        Ok(())
    }

    /// The number that an `order_by` value counts as: microseconds, days, or the integer itself.
    fn order(&self, column: usize, value: &Value, event: &EventView<'_>) -> Result<i64, BadRow> {
        const MICROS_A_DAY: i64 = 86_400_000_000;
        let (order, micros) = match value {
            Value::Timestamp(time) => (time.micros(), time.micros()),
            Value::Date(days) => (i64::from(*days), i64::from(*days) * MICROS_A_DAY),
            Value::Integer(integer) => return Ok(*integer),
            _ => unreachable!("the type was checked, and the column is required"),
        };
        match self.max_future {
            Some(max) if micros > event.message.publish_time.after(max).micros() => {
                let column = self.table.columns[column].name.clone();
                Err(BadRow::Future { column, value: value.to_string(), max })
            }
            _ => Ok(order),
        }
    }

    fn value(&self, column: usize, scope: &Scope<'_>) -> Result<Value, BadRow> {
        let cell = &self.cells[column];
        match self.sourced(column, scope)? {
            Some(value) => Ok(value),
            None if cell.required && cell.default == Value::Null => {
                Err(BadRow::Missing { column: self.table.columns[column].name.clone() })
            }
            None => Ok(cell.default.clone()),
        }
    }

    /// Returns the value of the column's source; `None` if the source is absent.
    fn sourced(&self, column: usize, scope: &Scope<'_>) -> Result<Option<Value>, BadRow> {
        let spec = &self.table.columns[column];
        let of_text = |text: &str| {
            let shown = || serde_json::Value::from(text).to_string();
            convert::from_text(spec.kind, text)
                .ok_or_else(|| BadRow::value(&spec.name, &shown(), spec.kind))
        };
        let message = scope.event.message;
        Ok(Some(match &self.cells[column].source {
            Source::Json(place) => {
                let Some(raw) = scope.raw(*place) else { return Ok(None) };
                convert::from_json(spec.kind, raw)
                    .ok_or_else(|| BadRow::value(&spec.name, raw, spec.kind))?
            }
            Source::Len(place) => integer(scope.raw(*place).and_then(array_len).unwrap_or(0)),
            Source::Index => integer(scope.index),
            Source::Constant(value) => value.clone(),
            Source::Now => Value::Timestamp(scope.now),
            Source::Message(MessageField::Id) => of_text(&message.id)?,
            Source::Message(MessageField::PublishTime) => Value::Timestamp(message.publish_time),
            Source::Message(MessageField::OrderingKey) if message.ordering_key.is_empty() => {
                return Ok(None);
            }
            Source::Message(MessageField::OrderingKey) => of_text(&message.ordering_key)?,
            Source::Attribute(name) => {
                match message.attributes.as_ref().and_then(|all| all.get(name)) {
                    Some(text) => of_text(text)?,
                    None => return Ok(None),
                }
            }
        }))
    }
}

fn integer(count: usize) -> Value {
    Value::Integer(i64::try_from(count).unwrap_or(i64::MAX))
}

/// Cannot happen to a validated event; if it does, the row is bad and the daemon lives.
fn not_json(fault: serde_json::Error) -> BadRow {
    BadRow::Other(format!("not JSON: {fault}"))
}
