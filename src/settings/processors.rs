//! The processors of a configuration: the shipped ones, a folder of files, and sections laid over
//! them.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use config::{Map, Value, ValueKind};
use serde::de::DeserializeOwned;

use super::problem::{Problem, Problems};
use super::sources::read_text;
use super::tree::{self, Layer};
use super::{DEFAULT, Settings, schema};

/// The key of a processor that switches it off.
pub(super) const ENABLED: &str = "enabled";

/// The processors built into the binary.
const SHIPPED: [(&str, &str); 4] = [
    ("orders", include_str!("../../config/processors/orders.toml")),
    ("users", include_str!("../../config/processors/users.toml")),
    ("products", include_str!("../../config/processors/products.toml")),
    ("other", include_str!("../../config/processors/other.toml")),
];

/// The keys that say where a column's value comes from: a column has one of them.
const COLUMN_SOURCES: [&str; 8] =
    ["from", "root", "len", "index", "value", "now", "message", "attribute"];
/// The keys that qualify a source.
const COLUMN_QUALIFIERS: [&str; 2] = ["default", "required"];

/// One processor as it is configured, not yet compiled.
#[derive(Clone, Debug, PartialEq)]
pub struct RawProcessor {
    /// Its name.
    pub name: String,
    /// Its keys, in the order they were written.
    pub table: toml::Table,
}

/// A fault that a compiler finds in a processor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The full key, as in `processors.orders.columns.total_amount.type`.
    pub key: String,
    /// The fault, as a predicate: `is no column`.
    pub reason: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Settings {
    /// Reads each processor as a `C` and compiles it.
    ///
    /// # Errors
    /// The fault of each of them, with its place.
    pub fn compile_processors<C: DeserializeOwned, P>(
        &self,
        compile: impl Fn(&str, C) -> Result<P, Fault>,
    ) -> Result<Vec<P>, Problems> {
        let (mut compiled, mut problems) = (Vec::new(), Vec::new());
        for RawProcessor { name, table } in &self.switched_off {
            // Its rules may fit another envelope, but a slip in its keys is a slip.
            if let Err(fault) = read::<C>(name, table) {
                problems.push(self.problem(&fault));
            }
        }
        for RawProcessor { name, table } in &self.processors {
            let read = read(name, table);
            match read.and_then(|config| compile(name, config)) {
                Ok(processor) => compiled.push(processor),
                Err(fault) => problems.push(self.problem(&fault)),
            }
        }
        Problems::none_or(problems, compiled)
    }

    /// The fault, at the place where its key was written.
    #[must_use]
    pub fn problem(&self, fault: &Fault) -> Problem {
        Problem {
            place: self.provenance.of(&fault.key).map(str::to_owned),
            reason: format!("{} {}", fault.key, fault.reason),
            hint: fault.hint.clone(),
        }
    }
}

fn read<C: DeserializeOwned>(name: &str, table: &toml::Table) -> Result<C, Fault> {
    serde_path_to_error::deserialize(table.clone()).map_err(|error| {
        let key = tree::child("processors", name);
        let key = match error.path().to_string().as_str() {
            "." => key,
            path => format!("{key}.{path}"),
        };
        let error = error.into_inner();
        let hint = match meant(error.message()) {
            Some(meant) => format!("did you mean {meant}?"),
            None => "the shipped processors show every key at work".to_owned(),
        };
        Fault { key, reason: format!("is wrong: {}", error.message()), hint: Some(hint) }
    })
}

/// Returns the known word in `message` that is most like the unknown word that it quotes.
fn meant(message: &str) -> Option<&str> {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let unknown = quoted.next()?;
    schema::nearest(unknown, quoted)
}

/// The processors of the tree: those that are enabled, and those that are switched off.
pub(super) fn of(tree: &Value) -> (Vec<RawProcessor>, Vec<RawProcessor>) {
    let (off, on): (Vec<_>, Vec<_>) = all(tree).partition(|(_, value)| is_off(value));
    (raw(on), raw(off))
}

fn raw(processors: Vec<(&String, &Value)>) -> Vec<RawProcessor> {
    processors
        .into_iter()
        .filter_map(|(name, value)| match tree::to_toml(value) {
            toml::Value::Table(mut table) => {
                table.remove(ENABLED);
                Some(RawProcessor { name: name.clone(), table })
            }
            _ => None,
        })
        .collect()
}

/// The names of the enabled processors.
pub(super) fn names(tree: &Value) -> Vec<&str> {
    enabled(tree).map(|(name, _)| name.as_str()).collect()
}

/// The tables that the enabled processors fill.
pub(super) fn tables(tree: &Value) -> Vec<&str> {
    enabled(tree)
        .filter_map(|(_, value)| match &tree::get(value, "table")?.kind {
            ValueKind::String(table) => Some(table.as_str()),
            _ => None,
        })
        .collect()
}

fn enabled(tree: &Value) -> impl Iterator<Item = (&String, &Value)> {
    all(tree).filter(|(_, value)| !is_off(value))
}

fn all(tree: &Value) -> impl Iterator<Item = (&String, &Value)> {
    tree::get(tree, "processors").and_then(tree::table).into_iter().flatten()
}

fn is_off(processor: &Value) -> bool {
    tree::get(processor, ENABLED).is_some_and(|v| v.kind == ValueKind::Boolean(false))
}

/// Whether a processor may have this name: it becomes part of actor paths and metric labels.
pub(super) fn is_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    (1..=64).contains(&name.len()) && name.chars().all(fits)
}

/// The files of the folder that `tree` names.
pub(super) fn folder(tree: &Value) -> Result<Layer, Problems> {
    let Some(value) = tree::get(tree, "processors_dir") else { return Ok(Layer::default()) };
    let ValueKind::String(dir) = &value.kind else { return Ok(Layer::default()) };
    let place = tree::place(value).unwrap_or(DEFAULT);
    let files = match toml_files(Path::new(dir)) {
        Ok(files) => files,
        Err(_) if place == DEFAULT => return Ok(Layer::default()),
        Err(error) => {
            let reason = format!("processors_dir is {dir:?}: {error}");
            return Err(Problem::new(place, reason, "name a folder of NAME.toml files").into());
        }
    };
    let (mut found, mut problems) = (Map::new(), Vec::new());
    for path in files {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let place = path.display().to_string();
        match read_text(&path).and_then(|text| tree::parse(&text, &place)) {
            Ok(layer) => {
                found.insert(name, Value::new(Some(&place), layer.0));
            }
            Err(problem) => problems.push(problem),
        }
    }
    Problems::none_or(problems, as_layer(found))
}

/// The TOML files in `dir`, by name.
fn toml_files(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files: Vec<_> =
        std::fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    files.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    Ok(files)
}

/// The shipped processors but those that `folder` holds.
pub(super) fn shipped_except(folder: &Layer) -> Result<Layer, Problem> {
    let replaced = folder.0.get("processors").and_then(tree::table);
    let mut shipped = Map::new();
    for (name, text) in SHIPPED {
        if !replaced.is_some_and(|replaced| replaced.contains_key(name)) {
            let place = format!("built-in processors/{name}.toml");
            shipped.insert(name.to_owned(), Value::new(Some(&place), tree::parse(text, &place)?.0));
        }
    }
    Ok(as_layer(shipped))
}

fn as_layer(processors: Map<String, Value>) -> Layer {
    Layer(Map::from([("processors".to_owned(), Value::new(None, processors))]))
}

/// Takes from lower layers the source of each column that a higher layer gives another source, so
/// that the column does not end up with two.
pub(super) fn drop_replaced_sources(layers: &mut [Layer]) {
    for upper in 1..layers.len() {
        let (below, above) = layers.split_at_mut(upper);
        let Some(above) = above.first_mut() else { continue };
        for (path, column) in columns(above) {
            let given: HashSet<_> = sources_in(column).collect();
            for layer in below.iter_mut().filter(|_| !given.is_empty()) {
                let standing = columns(layer).find(|(other, _)| *other == path);
                let Some((_, standing)) = standing else { continue };
                if sources_in(standing).any(|source| !given.contains(source)) {
                    standing.retain(|key, _| {
                        let key = key.as_str();
                        !COLUMN_SOURCES.contains(&key) && !COLUMN_QUALIFIERS.contains(&key)
                    });
                }
            }
        }
    }
}

fn sources_in(column: &Map<String, Value>) -> impl Iterator<Item = &'static str> {
    COLUMN_SOURCES.into_iter().filter(|source| column.contains_key(*source))
}

/// Each column of a layer, by processor and name.
fn columns(layer: &mut Layer) -> impl Iterator<Item = ((String, String), &mut Map<String, Value>)> {
    let processors = layer.0.get_mut("processors").and_then(table_mut);
    processors.into_iter().flatten().flat_map(|(processor, value)| {
        let columns = table_mut(value).and_then(|table| table_mut(table.get_mut("columns")?));
        columns.into_iter().flatten().filter_map(move |(name, column)| {
            Some(((processor.clone(), name.clone()), table_mut(column)?))
        })
    })
}

fn table_mut(value: &mut Value) -> Option<&mut Map<String, Value>> {
    match &mut value.kind {
        ValueKind::Table(table) => Some(table),
        _ => None,
    }
}
