//! Five minutes of publish time.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use chrono::NaiveDateTime;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::time::Timestamp;

/// How long a window is.
pub const WINDOW: Duration = Duration::from_secs(300);

const WINDOW_MICROS: i64 = 300 * 1_000_000;
const FORMAT: &str = "%Y%m%dT%H%M%SZ";

/// A window: the messages published in `[start, start + 300 s)`, aligned to the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Window(Timestamp);

impl Window {
    /// The window in which a message published at `time` belongs.
    #[must_use]
    pub const fn of(time: Timestamp) -> Self {
        let number = time.micros().div_euclid(WINDOW_MICROS);
        Self(Timestamp::from_micros(number.saturating_mul(WINDOW_MICROS)))
    }

    /// The first moment that belongs to it.
    #[must_use]
    pub const fn start(self) -> Timestamp {
        self.0
    }

    /// The first moment that belongs to it no more.
    #[must_use]
    pub fn end(self) -> Timestamp {
        self.0.after(WINDOW)
    }

    /// The day its start lies in, in UTC: `2026-02-17`.
    #[must_use]
    pub fn day(self) -> String {
        self.0.to_utc().format("%Y-%m-%d").to_string()
    }
}

/// Its start, as names have it: `20260217T143000Z`.
impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.to_utc().format(FORMAT))
    }
}

/// The text names no window.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no start of a five-minute window, as in 20260217T143000Z")]
pub struct NotAWindow(String);

impl FromStr for Window {
    type Err = NotAWindow;

    fn from_str(text: &str) -> Result<Self, NotAWindow> {
        NaiveDateTime::parse_from_str(text, FORMAT)
            .ok()
            .map(|start| Self::of(Timestamp::from_micros(start.and_utc().timestamp_micros())))
            .filter(|window| window.to_string() == text)
            .ok_or_else(|| NotAWindow(text.to_owned()))
    }
}

impl Serialize for Window {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Window {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Window {
        Window::of(Timestamp::parse_rfc3339(text).unwrap())
    }

    #[test]
    fn a_window_takes_its_start_and_leaves_its_end_to_the_next() {
        let window = at("2026-02-17T14:30:00Z");
        assert_eq!(window.to_string(), "20260217T143000Z");
        assert_eq!(window.day(), "2026-02-17");
        assert_eq!(at("2026-02-17T14:34:59.999999Z"), window);
        assert_eq!(Window::of(window.end()), at("2026-02-17T14:35:00Z"));
        assert_ne!(Window::of(window.end()), window);
    }

    #[test]
    fn times_before_the_epoch_have_windows_too() {
        assert_eq!(at("1969-12-31T23:59:59Z").to_string(), "19691231T235500Z");
    }

    #[test]
    fn only_aligned_starts_are_read_back() {
        let window = at("2026-02-17T14:30:00Z");
        assert_eq!(window.to_string().parse(), Ok(window));
        for text in ["20260217T143001Z", "20260217T1430Z", "2026-02-17T14:30:00Z", ""] {
            assert!(text.parse::<Window>().is_err(), "{text}");
        }
    }
}
