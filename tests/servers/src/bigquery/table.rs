//! A table: its resource, its columns and its rows.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rusqlite::types::Value as Sql;
use serde_json::{Map, Value, json};

use super::cell::Cell;
use super::wire::{Plan, sequence};

/// A column.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) required: bool,
}

/// A row, as appended or as a query left it.
#[derive(Clone, Debug)]
pub(super) enum Row {
    Wire(Arc<Plan>, Vec<u8>),
    Kept(Arc<[Column]>, Vec<Sql>),
}

impl Row {
    /// The row by column name; pseudocolumns only where `all`.
    pub(super) fn record(&self, all: bool) -> Map<String, Value> {
        match self {
            Row::Kept(columns, values) => {
                let names = columns.iter().map(|column| column.name.clone());
                names.zip(values.iter().map(json_of)).collect()
            }
            Row::Wire(plan, bytes) => {
                let mut cells = Vec::new();
                if plan.read(bytes, &mut cells).is_err() {
                    return Map::new();
                }
                let columns =
                    plan.columns().iter().map(|column| (column.name.as_str(), &*column.kind));
                let pseudo = ["_CHANGE_TYPE", "_CHANGE_SEQUENCE_NUMBER"];
                let pseudo = pseudo.into_iter().filter(|_| all && plan.changes);
                let columns = columns.chain(pseudo.map(|name| (name, "STRING")));
                let record = columns.zip(&cells).map(|((name, kind), cell)| match (kind, *cell) {
                    // From a protobuf string.
                    ("BYTES", Cell::Text(text)) => {
                        (name.to_owned(), Cell::Bytes(text.as_bytes()).json())
                    }
                    (_, cell) => (name.to_owned(), cell.json()),
                });
                record.collect()
            }
        }
    }

    /// The row's values of these columns, as a table of SQLite holds them.
    pub(super) fn values(&self, wanted: &[Column]) -> Vec<Sql> {
        match self {
            Row::Kept(columns, values) => of(wanted, columns, |_, at| values[at].clone()),
            Row::Wire(plan, bytes) => {
                let mut cells = Vec::new();
                // The cells of a row that cannot be read were never stored.
                let _ = plan.read(bytes, &mut cells);
                of(wanted, plan.columns(), |kind, at| cells[at].sql(kind))
            }
        }
    }
}

/// The value of each wanted column, by its type and its place among the columns of a row.
fn of(wanted: &[Column], columns: &[Column], value: impl Fn(&str, usize) -> Sql) -> Vec<Sql> {
    let place = |name: &str| columns.iter().position(|column| column.name == name);
    let values =
        wanted.iter().map(|it| place(&it.name).map_or(Sql::Null, |at| value(&it.kind, at)));
    values.collect()
}

/// A value of SQLite in JSON; bytes in base64.
pub(super) fn json_of(value: &Sql) -> Value {
    match value {
        Sql::Null => Value::Null,
        Sql::Integer(value) => (*value).into(),
        Sql::Real(value) => (*value).into(),
        Sql::Text(text) => text.as_str().into(),
        Sql::Blob(bytes) => BASE64_STANDARD.encode(bytes).into(),
    }
}

/// A row of which only this was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The value of the column.
    pub key: String,
    /// When its append was answered.
    pub visible: SystemTime,
}

struct Latest {
    sequence: Option<Vec<u64>>,
    /// `None` once deleted.
    row: Option<usize>,
}

/// A table.
#[derive(Default)]
pub(super) struct Table {
    /// The REST resource.
    pub(super) resource: Value,
    pub(super) columns: Vec<Column>,
    /// How many of the columns the write API knows already.
    pub(super) known: usize,
    /// Raised with every change that the write API can see.
    pub(super) version: u64,
    pub(super) key: Vec<usize>,
    /// Whether changes were ever streamed into it.
    pub(super) upserted: bool,
    /// Every row in the order of arrival.
    pub(super) rows: Vec<Row>,
    /// Rows of which only one column was kept, in the order of arrival.
    pub(super) arrivals: Vec<Arrival>,
    /// Raised by each change of the queried rows that `changes` does not record.
    pub(super) epoch: u64,
    /// The rows that went and came in the present epoch, by their place in `rows`.
    changes: Vec<(Option<usize>, Option<usize>)>,
    /// What queries see while changes are not applied.
    stale: Option<Vec<Row>>,
    latest: HashMap<Vec<u8>, Latest>,
    plain: Vec<usize>,
}

impl Table {
    /// Takes columns and key from the resource.
    pub(super) fn adopt(&mut self, resource: Value) {
        self.begin_epoch();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let fields = resource["schema"]["fields"].as_array().cloned().unwrap_or_default();
        self.columns = fields
            .iter()
            .map(|field| Column {
                name: text(&field["name"]),
                kind: text(&field["type"]).to_ascii_uppercase(),
                required: field["mode"] == json!("REQUIRED"),
            })
            .collect();
        let key = resource["tableConstraints"]["primaryKey"]["columns"].as_array().cloned();
        self.key = key
            .unwrap_or_default()
            .iter()
            .filter_map(|name| self.columns.iter().position(|column| *name == json!(column.name)))
            .collect();
        self.resource = resource;
    }

    /// Lets the write API know all columns.
    pub(super) fn spread(&mut self) {
        self.known = self.columns.len();
        self.version += 1;
    }

    /// Stores a row whose cells were found good.
    pub(super) fn store(&mut self, plan: &Arc<Plan>, cells: &[Cell<'_>], bytes: &[u8]) {
        let at = self.rows.len();
        if plan.changes {
            self.upserted = true;
            let mut key = Vec::with_capacity(32);
            for &column in &self.key {
                push_key(&mut key, cells[column]);
            }
            let width = plan.columns().len();
            let order = match cells[width + 1] {
                Cell::Text(text) => sequence(text),
                _ => None,
            };
            let row = (cells[width] == Cell::Text("UPSERT")).then_some(at);
            // Of equal numbers the later ingestion counts, and of rows without one too:
            // https://cloud.google.com/bigquery/docs/change-data-capture#manage_custom_ordering.
            let newer = self.latest.get(&key).is_none_or(|latest| {
                order.is_none() || latest.sequence.is_none() || order >= latest.sequence
            });
            if newer {
                let before = self.latest.insert(key, Latest { sequence: order, row });
                self.changes.push((before.and_then(|before| before.row), row));
            }
        } else {
            self.plain.push(at);
            self.changes.push((None, Some(at)));
        }
        self.rows.push(Row::Wire(Arc::clone(plan), bytes.to_vec()));
    }

    /// Keeps one column of a row whose cells were found good.
    pub(super) fn note(
        &mut self,
        plan: &Plan,
        cells: &[Cell<'_>],
        column: &str,
        visible: SystemTime,
    ) {
        self.upserted |= plan.changes;
        let at = plan.columns().iter().position(|known| known.name == column);
        let key = match at.map(|at| cells[at]) {
            Some(Cell::Text(text)) => text.to_owned(),
            other => other.map_or_else(String::new, |other| other.json().to_string()),
        };
        self.arrivals.push(Arrival { key, visible });
    }

    /// Forgets which keys were deleted, and when.
    pub(super) fn forget_deletes(&mut self) {
        self.latest.retain(|_, latest| latest.row.is_some());
    }

    /// The places of the rows a reader sees: changes merged by key, the rest as appended.
    fn seen(&self) -> impl Iterator<Item = usize> {
        let mut at: Vec<usize> = self.latest.values().filter_map(|latest| latest.row).collect();
        at.extend(&self.plain);
        at.sort_unstable();
        at.into_iter()
    }

    /// The rows of [`Table::seen`], by column name.
    pub(super) fn visible(&self) -> Vec<Map<String, Value>> {
        self.seen().map(|at| self.rows[at].record(false)).collect()
    }

    fn begin_epoch(&mut self) {
        self.epoch += 1;
        self.changes.clear();
    }

    /// Lets queries see the rows as they are now until this is ended.
    pub(super) fn hold(&mut self, held: bool) {
        self.begin_epoch();
        self.stale = held.then(|| self.seen().map(|at| self.rows[at].clone()).collect());
    }

    /// Whether queries see other rows than there are.
    pub(super) fn is_held(&self) -> bool {
        self.stale.is_some()
    }

    /// The query of a view.
    pub(super) fn view(&self) -> Option<&str> {
        self.resource["view"]["query"].as_str()
    }

    /// How many changes there were in the present epoch.
    pub(super) fn changes(&self) -> usize {
        self.changes.len()
    }

    /// The rows that a query sees: what became of those that were known after `known` changes of this
    /// epoch, or all of them. Each has a number, and its values, or none if it went.
    pub(super) fn queried(&self, known: Option<usize>) -> Vec<(usize, Option<&Row>)> {
        match (&self.stale, known) {
            (Some(_), Some(_)) => Vec::new(),
            (Some(stale), None) => stale.iter().map(Some).enumerate().collect(),
            (None, None) => self.seen().map(|at| (at, Some(&self.rows[at]))).collect(),
            (None, Some(known)) => {
                let new = self.changes.get(known..).unwrap_or_default();
                let new = new.iter().flat_map(|&(gone, came)| {
                    let gone = gone.map(|at| (at, None));
                    gone.into_iter().chain(came.map(|at| (at, Some(&self.rows[at]))))
                });
                new.collect()
            }
        }
    }

    /// Replaces the table's rows by those that a statement left.
    pub(super) fn replace(&mut self, rows: Vec<Vec<Sql>>) {
        self.begin_epoch();
        self.latest.clear();
        self.plain = (0..rows.len()).collect();
        let columns: Arc<[Column]> = self.columns.clone().into();
        self.rows = rows.into_iter().map(|row| Row::Kept(Arc::clone(&columns), row)).collect();
    }
}

/// A key's bytes, each cell with its length so that no two keys look alike.
fn push_key(key: &mut Vec<u8>, cell: Cell<'_>) {
    let mut push = |bytes: &[u8]| {
        key.extend((bytes.len() as u64).to_le_bytes());
        key.extend(bytes);
    };
    match cell {
        Cell::Null => push(&[]),
        Cell::Bool(value) => push(&[u8::from(value)]),
        Cell::Int(value) => push(&value.to_le_bytes()),
        Cell::Float(value) => push(&value.to_le_bytes()),
        Cell::Text(value) => push(value.as_bytes()),
        Cell::Bytes(value) => push(value),
    }
}
