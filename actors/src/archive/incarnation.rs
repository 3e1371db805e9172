//! Who wrote a part.

use std::fmt;
use std::str::FromStr;

use compact_str::CompactString;
use serde::{Deserialize, Deserializer, Serialize};

const LENGTH: usize = 12;
const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// Incarnations of requeues begin with it. One in 1,296 of the others does too.
pub(super) const REQUEUE: &str = "rq";

/// One life of a window's actor: random, so that no two writers ever mean the same part.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Incarnation(CompactString);

impl Incarnation {
    /// A new one: 12 random characters of `[a-z0-9]`, 62 bits.
    #[must_use]
    pub fn random() -> Self {
        Self::begins("")
    }

    /// A new one of a requeue: its objects are found by their names.
    #[must_use]
    pub fn of_requeue() -> Self {
        Self::begins(REQUEUE)
    }

    fn begins(with: &str) -> Self {
        let digit = |_| char::from(DIGITS[rand::random_range(0..DIGITS.len())]);
        Self(with.chars().chain((with.len()..LENGTH).map(digit)).collect())
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The text names no incarnation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not 12 characters of a-z and 0-9")]
pub struct NotAnIncarnation(String);

impl FromStr for Incarnation {
    type Err = NotAnIncarnation;

    fn from_str(text: &str) -> Result<Self, NotAnIncarnation> {
        if text.len() == LENGTH && text.bytes().all(|byte| DIGITS.contains(&byte)) {
            Ok(Self(text.into()))
        } else {
            Err(NotAnIncarnation(text.to_owned()))
        }
    }
}

impl<'de> Deserialize<'de> for Incarnation {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        CompactString::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_incarnations_differ_and_are_read_back() {
        let (one, other) = (Incarnation::random(), Incarnation::random());
        assert_ne!(one, other);
        assert_eq!(one.to_string().parse(), Ok(one));
        assert!("abc-defghijk".parse::<Incarnation>().is_err());
    }
}
