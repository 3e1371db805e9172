//! The ways in which a generated event is invalid.

use super::random::SplitMix64;

/// One way of being invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Defect {
    /// The text breaks off.
    Truncated,
    /// A byte that no UTF-8 text holds.
    NotUtf8,
    /// Something follows the object.
    TrailingBytes,
    /// A byte-order mark comes first.
    ByteOrderMark,
    /// Half of a surrogate pair, escaped.
    LoneSurrogate,
    /// The object is inside an array.
    Array,
    /// No id.
    MissingId,
    /// An id of no characters.
    EmptyId,
    /// An id that is a number.
    NumericId,
    /// No type.
    MissingType,
    /// A type that is null.
    NullType,
    /// No time.
    MissingTime,
    /// A time that is no RFC 3339 timestamp.
    BadTime,
    /// A time in a year that no calendar of the warehouse holds.
    YearZero,
}

impl Defect {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Truncated,
        Self::NotUtf8,
        Self::TrailingBytes,
        Self::ByteOrderMark,
        Self::LoneSurrogate,
        Self::Array,
        Self::MissingId,
        Self::EmptyId,
        Self::NumericId,
        Self::MissingType,
        Self::NullType,
        Self::MissingTime,
        Self::BadTime,
        Self::YearZero,
    ];

    pub(super) fn any(random: &mut SplitMix64) -> Self {
        random.pick(&Self::ALL)
    }

    /// Spoils the event that `buffer` holds from `begin` on, where the defect is one of its bytes
    /// and not of a field.
    pub(super) fn spoil(self, buffer: &mut Vec<u8>, begin: usize) {
        let length = buffer.len() - begin;
        match self {
            Self::Truncated => buffer.truncate(begin + length - 8),
            Self::NotUtf8 => buffer[begin + length / 2] = 0xFF,
            Self::TrailingBytes => buffer.extend_from_slice(b"}"),
            Self::ByteOrderMark => {
                buffer.splice(begin..begin, *b"\xEF\xBB\xBF");
            }
            Self::Array => {
                buffer.insert(begin, b'[');
                buffer.push(b']');
            }
            _ => {}
        }
    }
}
