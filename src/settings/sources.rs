//! Where settings come from, and the order in which they are laid over one another.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use config::{Map, Value, ValueKind};

use super::problem::{Problem, Problems};
use super::rules::Kind;
use super::tree::{self, Layer};
use super::{DEFAULT, DEFAULT_TOML, processors};

/// The prefix of an environment variable that is a setting; segments are divided by `__`.
const PREFIX: &str = "KAPPA__";

/// Where the Pub/Sub emulator listens, as `host:port`.
const EMULATOR: &str = "PUBSUB_EMULATOR_HOST";

/// The user's input, uninterpreted.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// Files, each laid over the one before.
    pub files: Vec<PathBuf>,
    /// The environment; only variables that begin with `KAPPA__` count, and
    /// `PUBSUB_EMULATOR_HOST`.
    pub environment: Vec<(OsString, OsString)>,
    /// Texts of the form `key=value`.
    pub set: Vec<String>,
    /// Stands for the key `data_dir`.
    pub data_dir: Option<PathBuf>,
}

impl Sources {
    /// The whole configuration as one tree.
    pub(super) fn stack(&self) -> Result<Value, Problems> {
        let defaults = tree::parse(DEFAULT_TOML, DEFAULT)?;
        let mut files = vec![defaults];
        let mut problems = Vec::new();
        for path in &self.files {
            take(read_file(path), &mut files, &mut problems);
        }
        // Which folder of processors is meant is known once all else is laid out.
        let (all, _) = self.over(files.clone())?;
        let folder = match processors::folder(&tree::merge(&all)?) {
            Ok(folder) => folder,
            Err(more) => {
                problems.extend(more.0);
                Layer::default()
            }
        };
        let shipped = processors::shipped_except(&folder)?;
        files.splice(1..1, [shipped, folder]);
        let (mut all, more) = self.over(files)?;
        problems.extend(more);
        processors::drop_replaced_sources(&mut all);
        Problems::none_or(problems, tree::merge(&all)?)
    }

    /// Returns the emulator's endpoint from the variable of Google's own tools; a setting of kappa's in the environment
    /// has precedence.
    fn emulator(&self) -> Option<Layer> {
        let (_, host) = self.environment.iter().find(|(name, _)| name == EMULATOR)?;
        let host = host.to_str().filter(|host| !host.is_empty())?;
        let url = if host.contains("://") { host.to_owned() } else { format!("http://{host}") };
        let path = ["event_log", "pubsub", "endpoint"].map(str::to_owned);
        Some(at(&path, toml::Value::String(url), EMULATOR))
    }

    /// Adds environment and flags on top of the layers `below`, and returns their faults.
    fn over(&self, mut below: Vec<Layer>) -> Result<(Vec<Layer>, Vec<Problem>), Problem> {
        let mut problems = Vec::new();
        let known = tree::merge(&below)?;
        below.extend(self.emulator());
        let mut variables: Vec<_> = self.environment.iter().collect();
        variables.sort();
        for (name, value) in variables {
            if let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) {
                take(read_variable(name, value, &known), &mut below, &mut problems);
            }
        }
        if let Some(dir) = &self.data_dir {
            let dir = toml::Value::String(dir.display().to_string());
            below.push(at(&["data_dir".to_owned()], dir, "--data-dir"));
        }
        for text in &self.set {
            take(read_flag(text), &mut below, &mut problems);
        }
        Ok((below, problems))
    }
}

fn take(read: Result<Layer, Problem>, layers: &mut Vec<Layer>, problems: &mut Vec<Problem>) {
    match read {
        Ok(layer) => layers.push(layer),
        Err(problem) => problems.push(problem),
    }
}

/// Reads the text of a configuration file.
pub(super) fn read_text(path: &Path) -> Result<String, Problem> {
    std::fs::read_to_string(path).map_err(|error| {
        let hint = "the file must exist, be readable and hold UTF-8 text";
        Problem::new(&path.display().to_string(), error.to_string(), hint)
    })
}

fn read_file(path: &Path) -> Result<Layer, Problem> {
    let mut layer = tree::parse(&read_text(path)?, &path.display().to_string())?;
    if let Some(value) = layer.0.get_mut("processors_dir")
        && let ValueKind::String(dir) = &mut value.kind
    {
        *dir = path.parent().unwrap_or(Path::new("")).join(&*dir).display().to_string();
    }
    Ok(layer)
}

/// Reads one environment variable. The environment folds case: a segment names the key in `known`
/// that differs from it in case only.
fn read_variable(name: &str, value: &OsString, known: &Value) -> Result<Layer, Problem> {
    let Some(value) = value.to_str() else {
        return Err(Problem::new(name, "the value is not UTF-8", "use UTF-8 text"));
    };
    let mut below = Some(known);
    let mut path = Vec::new();
    for segment in name.trim_start_matches(PREFIX).split("__") {
        let found = below
            .and_then(tree::table)
            .and_then(|table| table.iter().find(|(key, _)| key.eq_ignore_ascii_case(segment)));
        path.push(found.map_or_else(|| segment.to_ascii_lowercase(), |(key, _)| key.clone()));
        below = found.map(|(_, value)| value);
    }
    let value = read_value(&path, value);
    Ok(at(&path, value, name))
}

fn read_flag(text: &str) -> Result<Layer, Problem> {
    let wrong = |reason| {
        Problem::new("--set", reason, "write --set key=value, as in --set drain_timeout=10s")
    };
    // Behind the key's letters a secret may follow.
    let shown = || text.split(|c: char| !c.is_alphanumeric() && !"._-".contains(c)).next();
    let shown = || shown().unwrap_or_default();
    let (key, value) =
        text.split_once('=').ok_or_else(|| wrong(format!("{:?} has no value", shown())))?;
    let path = read_key(key.trim()).ok_or_else(|| wrong(format!("{:?} is no key", shown())))?;
    let value = read_value(&path, value);
    Ok(at(&path, value, "--set"))
}

/// The segments of a dotted key; a segment may be quoted, as in TOML.
fn read_key(key: &str) -> Option<Vec<String>> {
    let mut table: toml::Table = format!("{key} = 0").parse().ok()?;
    let mut path = Vec::new();
    loop {
        let mut entries = table.into_iter();
        let (segment, below) = entries.next()?;
        path.push(segment);
        match below {
            toml::Value::Table(below) => table = below,
            _ => return entries.next().is_none().then_some(path),
        }
    }
}

/// Reads `raw` as TOML, and as text where it is none or where only text can be meant.
fn read_value(path: &[String], raw: &str) -> toml::Value {
    let parsed = format!("value = {raw}").parse::<toml::Table>().ok();
    let parsed = parsed.filter(|table| table.len() == 1).and_then(|mut t| t.remove("value"));
    let is_text = Kind::of(&path.join(".")).is_some_and(Kind::is_text);
    parsed
        .filter(|value| value.is_str() || value.is_table() || !is_text)
        .unwrap_or_else(|| toml::Value::String(raw.to_owned()))
}

/// A layer of one value.
fn at(path: &[String], value: toml::Value, place: &str) -> Layer {
    let place = place.to_owned();
    let value = tree::with_place(value, &place);
    let nested = path.iter().rev().fold(value, |value, segment| {
        Value::new(Some(&place), Map::from([(segment.clone(), value)]))
    });
    Layer(match nested.kind {
        ValueKind::Table(table) => table,
        _ => Map::new(),
    })
}
