//! One table in memory.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use crate::port::Ensured;
use crate::row::{Row, TableSpec, Value};

/// Rows by key, in the columns that were ever configured.
pub(super) struct Table {
    spec: TableSpec,
    rows: BTreeMap<String, Row>,
    added: u64,
}

impl Table {
    pub(super) fn new(spec: TableSpec) -> Self {
        Self { spec, rows: BTreeMap::new(), added: 0 }
    }

    /// Adds the columns of `spec` that are missing, or returns the contradiction.
    pub(super) fn ensure(&mut self, spec: &TableSpec) -> Result<Ensured, String> {
        let name = &spec.name;
        if key_names(&self.spec) != key_names(spec) {
            return Err(format!("table {name} has another key"));
        }
        if self.spec.order_by != spec.order_by {
            return Err(format!("table {name} has another order_by"));
        }
        let mut ensured = Ensured::default();
        for column in &spec.columns {
            match self.spec.column(&column.name).map(|at| self.spec.columns[at].kind) {
                None => ensured.added.push(column.name.clone()),
                Some(kind) if kind == column.kind => {}
                Some(kind) => {
                    let (column, was, wanted) = (&column.name, kind.name(), column.kind.name());
                    return Err(format!("column {column} of {name} is {was}, not {wanted}"));
                }
            }
        }
        let idle = self.spec.columns.iter().filter(|column| spec.column(&column.name).is_none());
        ensured.idle = idle.map(|column| column.name.clone()).collect();
        let lacking = spec.columns.iter().filter(|column| ensured.added.contains(&column.name));
        self.spec.columns.extend(lacking.cloned());
        for row in self.rows.values_mut() {
            let mut values = row.0.to_vec();
            values.resize(self.spec.columns.len(), Value::Null);
            row.0 = values.into();
        }
        Ok(ensured)
    }

    /// Returns the index of each column of `spec`.
    pub(super) fn places(&self, spec: &TableSpec) -> Result<Vec<usize>, String> {
        let place = |name: &String| {
            self.spec.column(name).ok_or_else(|| format!("table {} lacks {name}", spec.name))
        };
        spec.columns.iter().map(|column| place(&column.name)).collect()
    }

    /// Puts a row of `spec`, whose columns are at `places`, if the port's rule allows it. Returns whether a newer version
    /// kept it out.
    pub(super) fn put(&mut self, spec: &TableSpec, places: &[usize], row: &Row) -> bool {
        let mut values = vec![Value::Null; self.spec.columns.len()];
        for (&place, value) in places.iter().zip(&row.0) {
            values[place] = value.clone();
        }
        let key: Vec<_> = spec.key.iter().map(|&column| &row.0[column]).collect();
        let key = if key.is_empty() {
            self.added += 1;
            format!("{:020}", self.added)
        } else {
            format!("{key:?}")
        };
        let current = self.rows.get(&key).map(|current| match spec.version {
            Some(version) => current.0[places[version]].total_cmp(&row.0[version]),
            None => Ordering::Equal,
        });
        if current.is_none_or(Ordering::is_lt) {
            self.rows.insert(key, Row(values.into()));
        }
        current.is_some_and(Ordering::is_gt)
    }

    /// Removes rows.
    pub(super) fn remove(&mut self, gone: impl Fn(&Row) -> bool) {
        self.rows.retain(|_, row| !gone(row));
    }

    /// The rows, in the order of their keys.
    pub(super) fn rows(&self) -> Vec<Row> {
        self.rows.values().cloned().collect()
    }

    /// The rows in the columns of `spec`, NULL for those the table lacks.
    pub(super) fn rows_as(&self, spec: &TableSpec) -> Vec<Row> {
        let places: Vec<_> =
            spec.columns.iter().map(|column| self.spec.column(&column.name)).collect();
        let value =
            |row: &Row, place: Option<usize>| place.map_or(Value::Null, |at| row.0[at].clone());
        self.rows
            .values()
            .map(|row| Row(places.iter().map(|&place| value(row, place)).collect()))
            .collect()
    }
}

fn key_names(spec: &TableSpec) -> Vec<&str> {
    spec.key.iter().map(|&column| spec.columns[column].name.as_str()).collect()
}
