//! Reads values from JSON text by pointers, without building a document.
//!
//! Captured values are the event's own text: numbers keep their digits. The last of several equal keys counts, and it
//! replaces all values of an earlier one.

mod minify;
mod pointer;
mod trie;

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};

pub(crate) use minify::{minify, without_huge_numbers};
pub(crate) use pointer::Pointer;
pub(crate) use trie::{Key, Node, Trie};

/// Decodes the JSON string `raw`; `None` if `raw` is no string.
pub(crate) fn unquote(raw: &str) -> Option<Cow<'_, str>> {
    let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') {
        serde_json::from_str(raw).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(inner))
    }
}

/// The number of elements of the JSON array `raw`; `None` where `raw` is no array.
pub(crate) fn array_len(raw: &str) -> Option<usize> {
    struct Count;

    impl<'de> Visitor<'de> for Count {
        type Value = usize;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an array")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<usize, A::Error> {
            let mut count = 0;
            while elements.next_element::<IgnoredAny>()?.is_some() {
                count += 1;
            }
            Ok(count)
        }
    }

    if raw.starts_with('[') {
        serde_json::Deserializer::from_str(raw).deserialize_seq(Count).ok()
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_is_unescaped_and_anything_else_is_none() {
        assert_eq!(unquote(r#""plain""#).as_deref(), Some("plain"));
        assert_eq!(unquote(r#""a\u00e9\n\"b""#).as_deref(), Some("aé\n\"b"));
        for raw in ["12", "null", "true", "[]", "{}"] {
            assert_eq!(unquote(raw), None, "{raw}");
        }
    }

    #[test]
    fn only_arrays_have_a_length() {
        for (raw, len) in [
            ("[]", Some(0)),
            (r#"[1, [2, 3], {"a": [4]}]"#, Some(3)),
            ("{}", None),
            ("\"[1]\"", None),
            ("null", None),
        ] {
            assert_eq!(array_len(raw), len, "{raw}");
        }
    }
}
