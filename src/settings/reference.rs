//! `config/default.toml` read as the reference of all settings: its comments are their docs.

use super::DEFAULT_TOML;
use super::rules::Kind;

/// One key as the default file documents it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The full key.
    pub key: String,
    /// What the comment above it says, in its lines.
    pub doc: String,
    /// What it may hold.
    pub kind: String,
    /// The default as TOML; where `is_set` is false, an example.
    pub value: String,
    /// Whether the key is set by default.
    pub is_set: bool,
}

/// All keys in the order of the default file.
#[must_use]
pub fn entries() -> Vec<Entry> {
    let (mut section, mut doc, mut entries) = (String::new(), Vec::new(), Vec::new());
    for line in DEFAULT_TOML.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            doc.push(comment);
        } else if let Some(name) = line.strip_prefix('[') {
            name.trim_end_matches(']').clone_into(&mut section);
            doc.clear();
        } else if let Some((key, value)) = line.trim_start_matches('#').split_once(" = ") {
            let key = match section.as_str() {
                "" => key.to_owned(),
                section => format!("{section}.{key}"),
            };
            entries.push(Entry {
                kind: kind(&key, value),
                key,
                doc: doc.join("\n"),
                value: value.to_owned(),
                is_set: !line.starts_with('#'),
            });
            doc.clear();
        } else {
            doc.clear();
        }
    }
    entries
}

/// What the key may hold; where it is a table, what each key of its default may.
fn kind(key: &str, value: &str) -> String {
    if let Some(kind) = Kind::of(key) {
        return kind.to_string();
    }
    let table = value.parse::<toml::Value>().ok();
    let names = table.iter().filter_map(toml::Value::as_table).flat_map(toml::Table::keys);
    let kinds =
        names.filter_map(|name| Some(format!("{name}: {}", Kind::of(&format!("{key}.{name}"))?)));
    kinds.collect::<Vec<_>>().join("; ")
}

/// The default file with the keys that are not set by default put in, holding their examples.
pub(super) fn with_examples() -> String {
    let uncommented = |line: &'static str| match line.strip_prefix('#') {
        Some(key) if key.starts_with(char::is_alphabetic) => key,
        _ => line,
    };
    DEFAULT_TOML.lines().map(uncommented).collect::<Vec<_>>().join("\n")
}
