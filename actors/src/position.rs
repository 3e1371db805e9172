//! A message's place in the order of its log.
//!
//! A position is a pure function of the message id, the publish time and the event's index in its
//! message, so a live run, a replay, a dead letter and an audit all compute the same one.

use compact_str::{CompactString, format_compact};

use crate::time::Timestamp;

/// The rank of messages without a log: imported lines. They never outrank a message of a log.
pub const IMPORTED: u8 = 0;

/// The rank of logs without generations, such as Pub/Sub.
const SINGLE_GENERATION: u8 = 1;

/// The highest rank: 4 bits. Later generations share it, and their publish times order them.
const MAX_RANK: u64 = 15;

/// Added to microseconds since 1970 so that every RFC 3339 time is a positive number of 60 bits.
const TIME_BIAS: i64 = 1 << 59;

const IMPORT_PREFIX: &str = "import.";

/// The place of an event in the order of its log: rank, publish time, tie, index, compared in this
/// order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Rank (4 bits) above the biased publish time in microseconds (60 bits).
    rank_and_time: u64,
    /// Orders the messages of one rank and publish time.
    tie: u64,
    /// The event's index in its message.
    index: u32,
}

impl Position {
    /// The length of [`Position::to_bytes`].
    pub const BYTES: usize = 20;

    /// Computes the position of the event with this index in the message.
    ///
    /// - `<log id>.<generation>-<offset>` (the embedded log): the rank is the generation, at most 15;
    ///   the tie is the offset (48 bits) above 16 bits of the log id.
    /// - `import.<line>-<hash>`: rank 0; the tie is the line number above the payload's hash.
    /// - A decimal number of 64 bits (Pub/Sub): the tie is that number.
    /// - Any other id: the tie is its hash.
    #[must_use]
    pub fn of(message_id: &str, publish_time: Timestamp, index: u32) -> Self {
        let (rank, tie) = embedded(message_id)
            .or_else(|| imported(message_id))
            .or_else(|| Some((SINGLE_GENERATION, decimal(message_id)?)))
            .unwrap_or_else(|| (SINGLE_GENERATION, hash(message_id.as_bytes())));
        let time = publish_time.micros().clamp(-TIME_BIAS, TIME_BIAS - 1) + TIME_BIAS;
        Self { rank_and_time: (u64::from(rank) << 60) | time.cast_unsigned(), tie, index }
    }

    /// The lowest position of this rank and time.
    #[must_use]
    pub fn lowest_of_time(self) -> Self {
        Self { tie: 0, index: 0, ..self }
    }

    /// The bytes of a position; their order is that of positions.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.rank_and_time.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.tie.to_be_bytes());
        bytes[16..].copy_from_slice(&self.index.to_be_bytes());
        bytes
    }

    /// Reads the bytes of [`Position::to_bytes`].
    #[must_use]
    pub fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        let [rank_and_time, tie] = [0, 8]
            .map(|from| bytes[from..from + 8].iter().fold(0, |n, &byte| n << 8 | u64::from(byte)));
        let index = bytes[16..].iter().fold(0, |n, &byte| n << 8 | u32::from(byte));
        Self { rank_and_time, tie, index }
    }
}

/// Names a message of the embedded log. `log_id` has 48 bits, `generation` begins at 1.
#[must_use]
pub fn embedded_id(log_id: u64, generation: u32, offset: i64) -> CompactString {
    // Each message that is read gets one, so it is put together without a formatter.
    let mut id = CompactString::const_new("");
    for digit in (0..LOG_ID_DIGITS).rev() {
        let value = (log_id >> (4 * digit)) & 0xf;
        id.push(char::from(b"0123456789abcdef"[value as usize]));
    }
    id.push('.');
    id.push_str(itoa::Buffer::new().format(generation));
    id.push('-');
    id.push_str(itoa::Buffer::new().format(offset));
    id
}

/// Names an imported line: `line` counts from 1. The path is no part of it, so a file imported
/// from two places has the same messages.
#[must_use]
pub fn imported_id(line: u64, payload: &[u8]) -> CompactString {
    format_compact!("{IMPORT_PREFIX}{line}-{:016x}", hash(payload))
}

/// The bits of an embedded log's id.
const LOG_ID_MASK: u64 = (1 << 48) - 1;
const LOG_ID_DIGITS: usize = 12;

fn embedded(id: &str) -> Option<(u8, u64)> {
    let (log_id, rest) = id.split_at_checked(LOG_ID_DIGITS)?;
    let (generation, offset) = rest.strip_prefix('.')?.split_once('-')?;
    let log_id = hexadecimal(log_id)?;
    let (generation, offset) = (decimal(generation)?, decimal(offset)?);
    if generation == 0 || offset > LOG_ID_MASK {
        return None;
    }
    let rank = generation.min(MAX_RANK) as u8;
    Some((rank, (offset << 16) | (log_id & 0xffff)))
}

fn imported(id: &str) -> Option<(u8, u64)> {
    let (line, hash) = id.strip_prefix(IMPORT_PREFIX)?.split_once('-')?;
    let line = decimal(line)?.min(u64::from(u32::MAX));
    let hash = (hash.len() == 16).then(|| hexadecimal(hash))??;
    Some((IMPORTED, (line << 32) | (hash >> 32)))
}

/// A decimal number as logs write it: digits only, no leading zero.
fn decimal(text: &str) -> Option<u64> {
    let canonical = text == "0" || !text.starts_with('0');
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (canonical && digits).then(|| text.parse().ok())?
}

fn hexadecimal(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    digits.then(|| u64::from_str_radix(text, 16).ok())?
}

/// The first 64 bits of the BLAKE3 hash.
fn hash(bytes: &[u8]) -> u64 {
    let hash = blake3::hash(bytes);
    hash.as_bytes()[..8].iter().fold(0, |n, &byte| n << 8 | u64::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(id: &str, micros: i64) -> Position {
        Position::of(id, Timestamp::from_micros(micros), 0)
    }

    #[test]
    fn an_embedded_position_orders_by_generation_time_offset_and_log() {
        let id = |log, generation, offset| embedded_id(log, generation, offset);
        let ordered = [
            at(&id(1, 1, 7), 10),
            at(&id(2, 1, 7), 10),
            at(&id(1, 1, 8), 10),
            at(&id(1, 1, 1), 11),
            at(&id(1, 2, 1), 0),
            at(&id(1, 15, 1), 0),
            at(&id(1, 16, 2), 0),
        ];
        assert!(ordered.is_sorted_by(|a, b| a < b), "{ordered:?}");
        assert_eq!(id(0xab, 1, 123), "0000000000ab.1-123");
    }

    #[test]
    fn a_number_counts_as_a_number_and_anything_else_by_its_hash() {
        assert!(at("9", 5) < at("10", 5));
        assert_eq!(at("18446744073709551615", 5).tie, u64::MAX);
        for other in ["18446744073709551616", "007", "", "+7", "0000000000ab.0-1", "ab.1-1"] {
            assert_eq!(at(other, 5).tie, hash(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn an_import_never_outranks_a_log() {
        let line = |line, payload: &[u8]| imported_id(line, payload);
        assert!(at(&line(1, b"a"), i64::MAX) < at("0", i64::MIN));
        assert!(at(&line(1, b"a"), 5) < at(&line(2, b"a"), 5));
        assert!(at(&line(9, b"a"), 5) < at(&line(1, b"a"), 6));
        assert_ne!(at(&line(1, b"a"), 5), at(&line(1, b"b"), 5));
    }

    #[test]
    fn bytes_keep_the_order_over_the_full_range() {
        let times = [i64::MIN, -62_135_596_800_000_000, -1, 0, 1, 253_402_300_799_999_999];
        let positions: Vec<_> =
            times.into_iter().flat_map(|time| [at("1", time), at("2", time)]).collect();
        assert!(positions.is_sorted_by(|a, b| a < b));
        assert!(positions.is_sorted_by(|a, b| a.to_bytes() < b.to_bytes()));
        for position in positions {
            assert_eq!(Position::from_bytes(position.to_bytes()), position);
        }
        let second = Position::of("1", Timestamp::from_micros(0), 1);
        assert!(at("1", 0) < second && second < at("2", 0));
    }
}
