//! Many pointers, one walk: captures the raw text under each pointer of a set.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::{Pointer, without_huge_numbers};

/// A set of pointers. Each has a slot; slots count from 0.
#[derive(Debug, Default)]
pub(crate) struct Trie {
    root: Node,
    slots: usize,
}

/// A place that pointers lead to or through.
#[derive(Debug, Default)]
pub(crate) struct Node {
    slot: Option<usize>,
    children: Vec<Child>,
}

#[derive(Debug)]
struct Child {
    key: String,
    /// The key as a place in an array, where it is one.
    index: Option<usize>,
    node: Node,
}

impl Trie {
    /// Adds a pointer and answers its slot; the same pointer has the same slot each time.
    pub(crate) fn insert(&mut self, pointer: &Pointer) -> usize {
        let node = pointer.tokens().iter().fold(&mut self.root, |node, token| node.grow(token));
        *node.slot.get_or_insert_with(|| {
            self.slots += 1;
            self.slots - 1
        })
    }

    /// Where all pointers begin.
    pub(crate) fn root(&self) -> &Node {
        &self.root
    }

    /// Returns the raw text under each pointer, by slot; `None` where the document has no value.
    ///
    /// `json` is valid JSON: text outside the pointers is skipped, not checked.
    pub(crate) fn capture<'a>(
        &self,
        json: &'a str,
    ) -> Result<Vec<Option<&'a str>>, serde_json::Error> {
        self.capture_doubles(json).or_else(|error| {
            let Some(mended) = without_huge_numbers(json) else { return Err(error) };
            let found = self.capture_doubles(&mended)?;
            let place = |raw: &str| raw.as_ptr().addr() - mended.as_ptr().addr();
            let same = |raw: &str| &json[place(raw)..place(raw) + raw.len()];
            Ok(found.into_iter().map(|raw| raw.map(same)).collect())
        })
    }

    /// As [`Trie::capture`], of a document whose numbers are doubles.
    fn capture_doubles<'a>(
        &self,
        json: &'a str,
    ) -> Result<Vec<Option<&'a str>>, serde_json::Error> {
        let mut found = vec![None; self.slots];
        if self.slots > 0 {
            let mut json = serde_json::Deserializer::from_str(json);
            Capture { node: &self.root, found: &mut found }.deserialize(&mut json)?;
        }
        Ok(found)
    }
}

impl Node {
    /// The slot of the pointer that ends here.
    pub(crate) fn slot(&self) -> Option<usize> {
        self.slot
    }

    /// Where the pointers go on that lead through the object member `key`.
    pub(crate) fn member(&self, key: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.key == key).map(|child| &child.node)
    }

    /// Where the pointers go on that lead through the array element at `index`.
    pub(crate) fn element(&self, index: usize) -> Option<&Self> {
        self.children.iter().find(|child| child.index == Some(index)).map(|child| &child.node)
    }

    /// Clears the values found here and below: a repeated key begins again.
    pub(crate) fn clear<T: Default>(&self, found: &mut [T]) {
        if let Some(slot) = self.slot {
            found[slot] = T::default();
        }
        for child in &self.children {
            child.node.clear(found);
        }
    }

    fn grow(&mut self, token: &str) -> &mut Self {
        let at = self.children.iter().position(|child| child.key == token).unwrap_or_else(|| {
            let (key, index) = (token.to_owned(), array_index(token));
            self.children.push(Child { key, index, node: Self::default() });
            self.children.len() - 1
        });
        &mut self.children[at].node
    }
}

/// RFC 6901: digits without a leading zero.
fn array_index(token: &str) -> Option<usize> {
    let plain = token.bytes().all(|byte| byte.is_ascii_digit())
        && (token.len() == 1 || !token.starts_with('0'));
    if plain { token.parse().ok() } else { None }
}

/// Walks one value along `node`.
struct Capture<'t, 'f, 'de> {
    node: &'t Node,
    found: &'f mut [Option<&'de str>],
}

impl<'de> DeserializeSeed<'de> for Capture<'_, '_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        let Some(slot) = self.node.slot else { return json.deserialize_any(self) };
        let raw = <&RawValue>::deserialize(json)?.get();
        self.found[slot] = Some(raw);
        if self.node.children.is_empty() {
            return Ok(());
        }
        // Wanted as a whole and in parts: rare enough to read it twice.
        serde_json::Deserializer::from_str(raw).deserialize_any(self).map_err(D::Error::custom)
    }
}

impl<'de> Visitor<'de> for Capture<'_, '_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        while let Some(child) = members.next_key_seed(Key(Some(self.node)))? {
            match child {
                Some(node) => {
                    node.clear(self.found);
                    members.next_value_seed(Capture { node, found: &mut *self.found })?;
                }
                None => {
                    members.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        for index in 0.. {
            let more = match self.node.element(index) {
                Some(node) => {
                    elements.next_element_seed(Capture { node, found: &mut *self.found })?.is_some()
                }
                None => elements.next_element::<IgnoredAny>()?.is_some(),
            };
            if !more {
                break;
            }
        }
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

/// Looks a member's key up, so that no key is ever copied; answers where the pointers go on.
pub(crate) struct Key<'t>(pub(crate) Option<&'t Node>);

impl<'de, 't> DeserializeSeed<'de> for Key<'t> {
    type Value = Option<&'t Node>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_str(self)
    }
}

impl<'t> Visitor<'_> for Key<'t> {
    type Value = Option<&'t Node>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.and_then(|node| node.member(key)))
    }
}

#[cfg(test)]
mod tests;
