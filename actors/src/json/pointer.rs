//! JSON pointers (RFC 6901), taken apart once.

use std::fmt;

/// A JSON pointer, such as `/data/items/0/price`. The empty pointer means the whole document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pointer {
    text: String,
    tokens: Vec<String>,
}

impl Pointer {
    /// Parses a pointer. The error continues a sentence that begins with the text: "`x` …".
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        let tokens = match text.strip_prefix('/') {
            Some(rest) => rest.split('/').map(unescape).collect::<Result<_, _>>()?,
            None if text.is_empty() => Vec::new(),
            None => return Err("does not begin with /"),
        };
        Ok(Self { text: text.to_owned(), tokens })
    }

    /// The keys and indexes it walks along, unescaped.
    pub(crate) fn tokens(&self) -> &[String] {
        &self.tokens
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn unescape(token: &str) -> Result<String, &'static str> {
    let mut text = String::with_capacity(token.len());
    let mut chars = token.chars();
    while let Some(next) = chars.next() {
        text.push(match next {
            '~' => match chars.next() {
                Some('0') => '~',
                Some('1') => '/',
                _ => return Err("has a ~ without 0 or 1 behind it"),
            },
            other => other,
        });
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_unescaped_and_empty_keys_are_keys() {
        for (text, tokens) in [
            ("", vec![]),
            ("/", vec![""]),
            ("/a/b", vec!["a", "b"]),
            ("/a~1b/~01//0", vec!["a/b", "~1", "", "0"]),
        ] {
            assert_eq!(Pointer::parse(text).unwrap().tokens(), tokens, "{text}");
        }
    }

    #[test]
    fn malformed_pointers_are_refused() {
        for text in ["event_id", "$.a", "/a~", "/a~2b"] {
            assert!(Pointer::parse(text).is_err(), "{text}");
        }
    }
}
