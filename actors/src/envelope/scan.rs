//! The one pass over a payload: validates all of it, and keeps the texts of the envelope's fields.
//!
//! Skipping values unread (serde's `IgnoredAny`) would let lone surrogates pass, so every string
//! and number is read, and only the requested ones are kept.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::Fault;
use crate::json::{Key, Node, without_huge_numbers};

/// The value at a pointer of the envelope.
#[derive(Debug, Default)]
pub(super) enum Field<'a> {
    #[default]
    Missing,
    Null,
    Text(Cow<'a, str>),
    /// Anything but a string or null.
    Other,
}

impl Field<'_> {
    fn into_owned<'o>(self) -> Field<'o> {
        match self {
            Self::Text(text) => Field::Text(Cow::Owned(text.into_owned())),
            Self::Missing => Field::Missing,
            Self::Null => Field::Null,
            Self::Other => Field::Other,
        }
    }

    /// The text, unless it is empty or there is none.
    pub(super) fn text(&self) -> Option<&str> {
        self.required().ok()
    }

    /// The text, or why there is none.
    pub(super) fn required(&self) -> Result<&str, &'static str> {
        match self {
            Self::Missing => Err("missing"),
            Self::Null => Err("null"),
            Self::Other => Err("not a string"),
            Self::Text(text) if text.is_empty() => Err("empty"),
            Self::Text(text) => Ok(text),
        }
    }
}

/// Validates that `text` is one JSON object, and fills `fields` with the values at the pointers below `root`. After an
/// error `fields` has the values read before it.
pub(super) fn object<'a>(
    text: &'a str,
    root: &Node,
    fields: &mut [Field<'a>],
) -> Result<(), Fault> {
    if let Err(fault) = doubles(text, root, fields) {
        let mended = without_huge_numbers(text).ok_or_else(|| not_json(&fault))?;
        let mut found: Vec<_> = fields.iter().map(|_| Field::Missing).collect();
        let scanned = doubles(&mended, root, &mut found);
        for (field, found) in fields.iter_mut().zip(found) {
            *field = found.into_owned();
        }
        scanned.map_err(|fault| not_json(&fault))?;
    }
    // Valid JSON is an object exactly if it begins like one.
    if text.trim_ascii_start().starts_with('{') {
        Ok(())
    } else {
        Err(Fault::new("not an object", "not an object"))
    }
}

/// As [`object`], of a text whose numbers are doubles.
fn doubles<'a>(
    text: &'a str,
    root: &Node,
    fields: &mut [Field<'a>],
) -> Result<(), serde_json::Error> {
    let mut json = serde_json::Deserializer::from_str(text);
    Scan { node: Some(root), fields }.deserialize(&mut json).and_then(|()| json.end())
}

/// The fault without its line and column, which would make every reason another.
fn not_json(fault: &serde_json::Error) -> Fault {
    let text = fault.to_string();
    let what = text.rsplit_once(" at line ").map_or(&*text, |(what, _)| what);
    Fault::new("not JSON", format!("not JSON: {what}"))
}

/// Reads one value; `node` has the pointers into it.
struct Scan<'t, 'f, 'a> {
    node: Option<&'t Node>,
    fields: &'f mut [Field<'a>],
}

impl<'a> Scan<'_, '_, 'a> {
    fn keep(self, field: Field<'a>) {
        if let Some(slot) = self.node.and_then(Node::slot) {
            self.fields[slot] = field;
        }
    }
}

impl<'a> DeserializeSeed<'a> for Scan<'_, '_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'a> Visitor<'a> for Scan<'_, '_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut members: A) -> Result<(), A::Error> {
        while let Some(node) = members.next_key_seed(Key(self.node))? {
            if let Some(repeated) = node {
                repeated.clear(self.fields);
            }
            members.next_value_seed(Scan { node, fields: &mut *self.fields })?;
        }
        self.keep(Field::Other);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut elements: A) -> Result<(), A::Error> {
        for index in 0.. {
            let node = self.node.and_then(|node| node.element(index));
            let element = Scan { node, fields: &mut *self.fields };
            if elements.next_element_seed(element)?.is_none() {
                break;
            }
        }
        self.keep(Field::Other);
        Ok(())
    }

    fn visit_borrowed_str<E>(self, text: &'a str) -> Result<(), E> {
        self.keep(Field::Text(Cow::Borrowed(text)));
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        if self.node.is_some() {
            self.keep(Field::Text(Cow::Owned(text.to_owned())));
        }
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        self.keep(Field::Other);
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        self.keep(Field::Other);
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        self.keep(Field::Other);
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        self.keep(Field::Other);
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.keep(Field::Null);
        Ok(())
    }
}
