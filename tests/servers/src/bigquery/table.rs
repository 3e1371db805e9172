//! A table: its resource, its columns and its rows.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

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
    Record(Map<String, Value>),
}

impl Row {
    /// The row by column name; pseudocolumns only where `all`.
    pub(super) fn record(&self, all: bool) -> Map<String, Value> {
        match self {
            Row::Record(record) => record.clone(),
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
    /// What queries see while changes are not applied.
    pub(super) stale: Option<Vec<Map<String, Value>>>,
    latest: HashMap<Vec<u8>, Latest>,
    plain: Vec<usize>,
}

impl Table {
    /// Takes columns and key from the resource.
    pub(super) fn adopt(&mut self, resource: Value) {
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
                self.latest.insert(key, Latest { sequence: order, row });
            }
        } else {
            self.plain.push(at);
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

    /// The rows a reader sees: changes merged by key, the rest as appended.
    pub(super) fn visible(&self) -> Vec<Map<String, Value>> {
        let mut at: Vec<usize> = self.latest.values().filter_map(|latest| latest.row).collect();
        at.extend(&self.plain);
        at.sort_unstable();
        at.into_iter().map(|at| self.rows[at].record(false)).collect()
    }

    /// The rows a query sees.
    pub(super) fn queried(&self) -> Vec<Map<String, Value>> {
        self.stale.clone().unwrap_or_else(|| self.visible())
    }

    /// Replaces the table's rows by those that a statement left.
    pub(super) fn replace(&mut self, records: Vec<Map<String, Value>>) {
        self.latest.clear();
        self.plain = (0..records.len()).collect();
        self.rows = records.into_iter().map(Row::Record).collect();
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
