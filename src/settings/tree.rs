//! The configuration as a tree of values, each of which knows the place it was written at.
//!
//! The values and their layering are those of the `config` crate. Its own file and environment
//! sources are not used: they fold the case of keys, turn text into numbers and stop at the first
//! mistake.

use config::{Config, ConfigError, Map, Source, Value, ValueKind};

use super::problem::Problem;

/// One layer of values, in the order they were written.
#[derive(Clone, Debug, Default)]
pub(super) struct Layer(pub(super) Map<String, Value>);

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        Ok(self.0.clone())
    }
}

/// Lays each layer over the ones before it, key by key.
pub(super) fn merge(layers: &[Layer]) -> Result<Value, Problem> {
    layers
        .iter()
        .fold(Config::builder(), |builder, layer| builder.add_source(layer.clone()))
        .build()
        .map(|config| config.cache)
        .map_err(|error| Problem { place: None, reason: error.to_string(), hint: None })
}

/// Reads TOML; every value remembers `place`.
pub(super) fn parse(text: &str, place: &str) -> Result<Layer, Problem> {
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        let reason = format!("line {line}, column {column}: {}", error.message());
        Problem::new(place, reason, "the file is read as TOML")
    })?;
    Ok(Layer(placed(table, &place.to_owned())))
}

fn placed(table: toml::Table, place: &String) -> Map<String, Value> {
    table.into_iter().map(|(key, value)| (key, with_place(value, place))).collect()
}

/// The TOML value as one that remembers `place`.
pub(super) fn with_place(value: toml::Value, place: &String) -> Value {
    let kind = match value {
        toml::Value::String(text) => ValueKind::String(text),
        toml::Value::Integer(number) => ValueKind::I64(number),
        toml::Value::Float(number) => ValueKind::Float(number),
        toml::Value::Boolean(flag) => ValueKind::Boolean(flag),
        toml::Value::Datetime(time) => ValueKind::String(time.to_string()),
        toml::Value::Array(values) => {
            ValueKind::Array(values.into_iter().map(|value| with_place(value, place)).collect())
        }
        toml::Value::Table(table) => ValueKind::Table(placed(table, place)),
    };
    Value::new(Some(place), kind)
}

/// The value without its places.
pub(super) fn to_toml(value: &Value) -> toml::Value {
    match &value.kind {
        ValueKind::Boolean(flag) => toml::Value::Boolean(*flag),
        ValueKind::I64(number) => toml::Value::Integer(*number),
        ValueKind::Float(number) => toml::Value::Float(*number),
        ValueKind::Array(values) => toml::Value::Array(values.iter().map(to_toml).collect()),
        ValueKind::Table(table) => toml::Value::Table(
            table.iter().map(|(key, value)| (key.clone(), to_toml(value))).collect(),
        ),
        // `parse` makes no other kinds of integer.
        other => toml::Value::String(other.to_string()),
    }
}

/// The value as TOML text.
pub(super) fn show(value: &Value) -> String {
    to_toml(value).to_string()
}

/// The table behind a value that is one.
pub(super) fn table(value: &Value) -> Option<&Map<String, Value>> {
    match &value.kind {
        ValueKind::Table(table) => Some(table),
        _ => None,
    }
}

/// The value at a dotted key.
pub(super) fn get<'a>(tree: &'a Value, key: &str) -> Option<&'a Value> {
    key.split('.').try_fold(tree, |value, segment| table(value)?.get(segment))
}

/// Where a value was written: its own place, or that of the first value in it.
pub(super) fn place(value: &Value) -> Option<&str> {
    match table(value) {
        Some(table) => table.values().find_map(place),
        None => value.origin(),
    }
}

/// `key` within `parent`, quoted where TOML wants it.
pub(super) fn child(parent: &str, key: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let quoted = if key.chars().all(bare) && !key.is_empty() {
        key.to_owned()
    } else {
        toml::Value::from(key).to_string()
    };
    if parent.is_empty() { quoted } else { format!("{parent}.{quoted}") }
}

/// Every value that is no table, with its full key, in order.
pub(super) fn leaves(tree: &Value) -> Vec<(String, &Value)> {
    fn collect<'a>(key: &str, value: &'a Value, into: &mut Vec<(String, &'a Value)>) {
        match table(value) {
            Some(table) => table.iter().for_each(|(name, v)| collect(&child(key, name), v, into)),
            None => into.push((key.to_owned(), value)),
        }
    }
    let mut leaves = Vec::new();
    collect("", tree, &mut leaves);
    leaves
}
