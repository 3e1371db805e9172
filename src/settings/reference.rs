//! `config/default.toml` read as the reference of all settings: its comments are their docs.

use super::DEFAULT_TOML;
use super::rules::Kind;

/// One key as the default file documents it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The full key.
    pub key: String,
    /// The lines of the comment above it.
    pub doc: String,
    /// Its allowed values.
    pub kind: String,
    /// The default as TOML; where `is_set` is false, an example.
    pub value: String,
    /// Whether the key is set by default.
    pub is_set: bool,
}

/// One section of the default file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Section {
    /// Its full name; empty for the keys on top.
    pub name: String,
    /// The lines of the comment above it.
    pub doc: String,
    /// Its own keys.
    pub entries: Vec<Entry>,
}

/// Returns the default file, section by section. The first has the comment of the whole file.
#[must_use]
pub fn sections() -> Vec<Section> {
    let (mut sections, mut section) = (Vec::new(), Section::default());
    let mut doc = Vec::new();
    for line in DEFAULT_TOML.lines().filter(|line| !line.starts_with("# ---")) {
        if let Some(comment) = line.strip_prefix('#').filter(|text| !is_key(text)) {
            doc.push(comment.trim_start());
            continue;
        }
        if let Some(name) = line.strip_prefix('[') {
            let name = name.trim_end_matches(']').to_owned();
            let next = Section { name, doc: doc.join("\n"), entries: Vec::new() };
            sections.push(std::mem::replace(&mut section, next));
        } else if let Some((key, value)) = line.trim_start_matches('#').split_once(" = ") {
            let key = match section.name.as_str() {
                "" => key.to_owned(),
                name => format!("{name}.{key}"),
            };
            section.entries.push(Entry {
                kind: kind(&key, value),
                key,
                doc: doc.join("\n"),
                value: value.to_owned(),
                is_set: !line.starts_with('#'),
            });
        } else if section == Section::default() {
            section.doc = doc.join("\n");
        }
        doc.clear();
    }
    sections.push(section);
    sections
}

/// Returns whether the text after a `#` is a key that is not set by default, and no comment.
fn is_key(text: &str) -> bool {
    text.starts_with(char::is_alphabetic)
}

/// Returns the allowed values of the key; for a table, those of each key of its default.
fn kind(key: &str, value: &str) -> String {
    if let Some(kind) = Kind::of(key) {
        return kind.to_string();
    }
    let Ok(layer) = super::tree::parse(&format!("value = {value}"), "") else {
        return String::new();
    };
    let Some(table) = layer.0.get("value") else { return String::new() };
    let kinds = super::tree::leaves(table).into_iter().filter_map(|(name, _)| {
        let kind = Kind::of(&format!("{key}.{name}"))?;
        Some(format!("{name}: {kind}"))
    });
    kinds.collect::<Vec<_>>().join("; ")
}

/// The default file with the keys that are not set by default put in, holding their examples.
pub(super) fn with_examples() -> String {
    let uncommented = |line: &'static str| match line.strip_prefix('#') {
        Some(key) if is_key(key) => key,
        _ => line,
    };
    DEFAULT_TOML.lines().map(uncommented).collect::<Vec<_>>().join("\n")
}
