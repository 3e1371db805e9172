//! Filters of subscriptions: <https://cloud.google.com/pubsub/docs/subscription-message-filter>.
//!
//! A filter looks at attributes alone, and is fixed when the subscription is made. Messages that it leaves out
//! are acknowledged by the service.

use std::collections::HashMap;

/// The longest filter, in bytes.
const MAX_BYTES: usize = 256;

/// A filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Filter {
    All(Vec<Filter>),
    Any(Vec<Filter>),
    Not(Box<Filter>),
    Has(String),
    Is(String, String),
    HasPrefix(String, String),
}

impl Filter {
    /// Reads a filter; an empty text lets everything through.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        if text.len() > MAX_BYTES {
            return Err(format!("the filter has {} bytes, at most {MAX_BYTES}", text.len()));
        }
        let mut words = words(text)?;
        words.reverse();
        if words.is_empty() {
            return Ok(Self::All(Vec::new()));
        }
        let filter = expression(&mut words)?;
        match words.pop() {
            None => Ok(filter),
            Some(word) => Err(format!("unexpected {word:?} in the filter")),
        }
    }

    pub(super) fn matches<S: std::hash::BuildHasher>(
        &self,
        attributes: &HashMap<String, String, S>,
    ) -> bool {
        match self {
            Self::All(all) => all.iter().all(|one| one.matches(attributes)),
            Self::Any(any) => any.iter().any(|one| one.matches(attributes)),
            Self::Not(not) => !not.matches(attributes),
            Self::Has(name) => attributes.contains_key(name),
            Self::Is(name, value) => attributes.get(name) == Some(value),
            Self::HasPrefix(name, prefix) => {
                attributes.get(name).is_some_and(|value| value.starts_with(prefix))
            }
        }
    }
}

/// Names, quoted texts (with their first quote) and signs.
fn words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let end = match first {
            '"' => 1 + rest[1..].find('"').ok_or("a quote in the filter does not end")?,
            '!' if rest.starts_with("!=") => 2,
            first if is_name(first) => rest.find(|c| !is_name(c)).unwrap_or(rest.len()),
            ':' | '.' | '=' | '(' | ')' | ',' | '-' => 1,
            other => return Err(format!("unexpected {other:?} in the filter")),
        };
        words.push(rest[..end].to_owned());
        rest = rest[end + usize::from(first == '"')..].trim_start();
    }
    Ok(words)
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Terms joined by one of AND and OR: both need parentheses.
fn expression(words: &mut Vec<String>) -> Result<Filter, String> {
    let mut terms = vec![term(words)?];
    let mut joined: Option<String> = None;
    while let Some(word) = words.last().filter(|word| *word == "AND" || *word == "OR").cloned() {
        if joined.as_ref().is_some_and(|joined| *joined != word) {
            return Err("AND and OR in one expression need parentheses".to_owned());
        }
        words.pop();
        terms.push(term(words)?);
        joined = Some(word);
    }
    Ok(match joined.as_deref() {
        Some("OR") => Filter::Any(terms),
        _ => Filter::All(terms),
    })
}

fn term(words: &mut Vec<String>) -> Result<Filter, String> {
    match words.pop().as_deref() {
        Some("NOT" | "-") => Ok(Filter::Not(Box::new(term(words)?))),
        Some("(") => {
            let inner = expression(words)?;
            expect(words, ")")?;
            Ok(inner)
        }
        Some("hasPrefix") => {
            expect(words, "(")?;
            expect(words, "attributes")?;
            expect(words, ".")?;
            let name = name(words)?;
            expect(words, ",")?;
            let prefix = text(words)?;
            expect(words, ")")?;
            Ok(Filter::HasPrefix(name, prefix))
        }
        Some("attributes") => match words.pop().as_deref() {
            Some(":") => Ok(Filter::Has(name(words)?)),
            Some(".") => {
                let name = name(words)?;
                match words.pop().as_deref() {
                    Some("=") => Ok(Filter::Is(name, text(words)?)),
                    Some("!=") => Ok(Filter::Not(Box::new(Filter::Is(name, text(words)?)))),
                    other => Err(format!("expected = or != in the filter, not {other:?}")),
                }
            }
            other => Err(format!("expected : or . in the filter, not {other:?}")),
        },
        other => Err(format!("a filter looks at attributes, not at {other:?}")),
    }
}

fn expect(words: &mut Vec<String>, wanted: &str) -> Result<(), String> {
    match words.pop() {
        Some(word) if word == wanted => Ok(()),
        other => Err(format!("expected {wanted} in the filter, not {other:?}")),
    }
}

fn name(words: &mut Vec<String>) -> Result<String, String> {
    match words.pop() {
        Some(word) if word.starts_with('"') => Ok(word[1..].to_owned()),
        Some(word) if word.chars().all(is_name) => Ok(word),
        other => Err(format!("expected the name of an attribute, not {other:?}")),
    }
}

fn text(words: &mut Vec<String>) -> Result<String, String> {
    match words.pop() {
        Some(word) if word.starts_with('"') => Ok(word[1..].to_owned()),
        other => Err(format!("expected a text in quotes, not {other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_lets_through_the_messages_whose_attributes_match() {
        let attributes = |pairs: &[(&str, &str)]| -> HashMap<String, String> {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let of = attributes(&[("type", "order.placed"), ("shard-1", "7")]);
        for (filter, expected) in [
            ("", true),
            ("attributes:type", true),
            ("attributes:other", false),
            (r#"attributes.type = "order.placed""#, true),
            (r#"attributes.type != "order.placed""#, false),
            (r#"hasPrefix(attributes.type, "order.")"#, true),
            (r#"NOT attributes:type OR attributes."shard-1" = "7""#, true),
            (r#"attributes:type AND (attributes:other OR -attributes:other)"#, true),
            (r#"attributes:type AND -attributes."shard-1" = "7""#, false),
        ] {
            assert_eq!(Filter::read(filter).unwrap().matches(&of), expected, "{filter}");
        }
    }

    #[test]
    fn a_filter_that_the_service_does_not_take_is_refused() {
        for filter in [
            "data:x",
            "attributes.type = order",
            r#"attributes.type = "open"#,
            "attributes:a AND attributes:b OR attributes:c",
            "(attributes:a",
            "attributes:a attributes:b",
            &format!("attributes:{}", "x".repeat(256)),
        ] {
            assert!(Filter::read(filter).is_err(), "{filter}");
        }
    }
}
