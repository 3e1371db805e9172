//! Every key of `config/default.toml`, with its allowed values.

use config::Value;

use super::problem::Problem;
use super::rules::Kind;
use super::{reference, tree};

/// One key.
#[derive(Debug)]
pub(super) struct Key {
    /// The full key.
    pub(super) name: String,
    /// Its allowed values.
    pub(super) kind: Kind,
    /// Its default as TOML; `None` where it is not set by default.
    pub(super) default: Option<String>,
}

/// All keys, in the order of the default file. Keys of processors are not among them.
#[derive(Debug)]
pub(super) struct Schema(Vec<Key>);

impl Schema {
    /// The schema that the default file and the table of rules make together.
    pub(super) fn new(defaults: &Value) -> Result<Self, Problem> {
        let all = tree::merge(&[tree::parse(&reference::with_examples(), "default")?])?;
        let keys = tree::leaves(&all).into_iter().filter_map(|(name, _)| {
            let (kind, default) = (Kind::of(&name)?, tree::get(defaults, &name).map(tree::show));
            Some(Key { name, kind, default })
        });
        Ok(Self(keys.collect()))
    }

    /// The key of this name.
    pub(super) fn key(&self, name: &str) -> Option<&Key> {
        self.0.iter().find(|key| key.name == name)
    }

    /// Whether there are keys below this name.
    pub(super) fn is_section(&self, name: &str) -> bool {
        let below = |key: &Key| key.name.strip_prefix(name).is_some_and(|k| k.starts_with('.'));
        name.is_empty() || self.0.iter().any(below)
    }

    /// The key or section that someone who wrote `name` may have meant.
    pub(super) fn nearest(&self, name: &str) -> Option<String> {
        let mut known = vec!["processors".to_owned()];
        for key in &self.0 {
            let ends = key.name.match_indices('.').map(|(at, _)| at).chain([key.name.len()]);
            known.extend(ends.filter_map(|end| key.name.get(..end)).map(str::to_owned));
        }
        let last = name.rsplit('.').next();
        nearest(name, known.iter().map(String::as_str)).map(str::to_owned).or_else(|| {
            known.into_iter().find(|key| key.contains('.') && key.rsplit('.').next() == last)
        })
    }
}

/// The one of `known` that is at most a few slips away from `name`.
pub(super) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let last = name.rsplit('.').next().unwrap_or(name);
    let distance = |other: &str| strsim::damerau_levenshtein(name, other);
    known
        .into_iter()
        .map(|other| (distance(other), other))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, _)| *distance <= last.len() / 3 + 1)
        .map(|(_, other)| other)
}

impl Key {
    /// How to put a wrong value right.
    pub(super) fn hint(&self) -> String {
        match &self.default {
            Some(default) => {
                format!("use {}, or leave it out for the default, {default}", self.kind)
            }
            None => format!("use {}, or leave it out", self.kind),
        }
    }
}
