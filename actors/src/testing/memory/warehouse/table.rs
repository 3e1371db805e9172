//! One table in memory.

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

    /// Adds the columns that `spec` has and the table lacks, or says what contradicts.
    pub(super) fn ensure(&mut self, spec: &TableSpec) -> Result<Ensured, String> {
        let name = &spec.name;
        if key_names(&self.spec) != key_names(spec) {
            return Err(format!("table {name} has another key"));
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

    /// Where each of `spec`'s columns stands here.
    pub(super) fn places(&self, spec: &TableSpec) -> Result<Vec<usize>, String> {
        let place = |name: &String| {
            self.spec.column(name).ok_or_else(|| format!("table {} lacks {name}", spec.name))
        };
        spec.columns.iter().map(|column| place(&column.name)).collect()
    }

    /// Puts a row of `spec`, whose columns stand at `places`, if the port's rule lets it stand.
    pub(super) fn put(&mut self, spec: &TableSpec, places: &[usize], row: &Row) {
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
        let stands = self.rows.get(&key).is_some_and(|standing| match spec.version {
            Some(version) => version_of(standing, places[version]) > version_of(row, version),
            None => true,
        });
        if !stands {
            self.rows.insert(key, Row(values.into()));
        }
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

fn version_of(row: &Row, column: usize) -> Option<i64> {
    match row.0[column] {
        Value::Integer(version) => Some(version),
        _ => None,
    }
}
