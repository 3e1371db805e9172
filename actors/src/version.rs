//! The version of a row: which row of a key is current.

use std::fmt;

use crate::position::Position;

/// The version of one row. The greatest version of a key is current; equal versions are the same
/// row.
///
/// Compared by the `order_by` value (where the table has one), then by position, then by revision:
/// a later event of a key wins over an earlier one, and the same event under a higher revision
/// wins over itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// The `order_by` value; the same for every row of a table without one.
    order: Option<i64>,
    position: Position,
    revision: u16,
    removal: bool,
}

impl Version {
    /// The length of the encoding in a table without `order_by`.
    pub const BYTES: usize = 24;
    /// The length of the encoding in a table with `order_by`.
    pub const ORDERED_BYTES: usize = 32;

    /// The version of a row that `revision` of a rule makes of the event at `position`.
    #[must_use]
    pub fn new(order: Option<i64>, position: Position, revision: u16) -> Self {
        Self { order, position, revision, removal: false }
    }

    /// The version under which this row is removed: just above the row itself.
    #[must_use]
    pub fn removed(self) -> Self {
        Self { removal: true, ..self }
    }

    /// The position of the event that made the row.
    #[must_use]
    pub fn position(&self) -> Position {
        self.position
    }

    /// The revision of the rule that made the row.
    #[must_use]
    pub fn revision(&self) -> u16 {
        self.revision
    }

    /// The lowest version with this `order_by` value and a position.
    #[must_use]
    pub fn at(self, position: Position) -> Self {
        Self { position, revision: 0, removal: false, ..self }
    }

    /// The bytes of the column `_version`, big-endian; their order is that of versions.
    ///
    /// `order_by` value (64 bits, sign flipped; only in tables with `order_by`) · rank 4, time 60 ·
    /// tie 64 · index 32, revision 16, zeros 15, removal 1.
    #[must_use]
    pub fn to_bytes(&self) -> VersionBytes {
        let mut bytes = [0; Self::ORDERED_BYTES];
        if let Some(order) = self.order {
            bytes[..8].copy_from_slice(&(order.cast_unsigned() ^ SIGN).to_be_bytes());
        }
        bytes[8..28].copy_from_slice(&self.position.to_bytes());
        bytes[28..30].copy_from_slice(&self.revision.to_be_bytes());
        bytes[31] = u8::from(self.removal);
        VersionBytes { bytes, from: if self.order.is_some() { 0 } else { 8 } }
    }

    /// Reads the bytes of the column `_version`.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (order, rest) = match bytes.len() {
            Self::BYTES => (None, bytes),
            Self::ORDERED_BYTES => {
                let (order, rest) = bytes.split_first_chunk()?;
                (Some((u64::from_be_bytes(*order) ^ SIGN).cast_signed()), rest)
            }
            _ => return None,
        };
        let (position, rest) = rest.split_first_chunk()?;
        let [high, low, 0, removal @ (0 | 1)] = *rest else { return None };
        Some(Self {
            order,
            position: Position::from_bytes(*position),
            revision: u16::from_be_bytes([high, low]),
            removal: removal == 1,
        })
    }
}

const SIGN: u64 = 1 << 63;

/// An encoded version.
#[derive(Clone, Copy, Debug)]
pub struct VersionBytes {
    bytes: [u8; Version::ORDERED_BYTES],
    from: usize,
}

impl AsRef<[u8]> for VersionBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[self.from..]
    }
}

/// The BigQuery sequence number of the version: its bytes as three or four sections of 16
/// hexadecimal digits, separated by `/`.
impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, section) in self.to_bytes().as_ref().chunks(8).enumerate() {
            if nth > 0 {
                f.write_str("/")?;
            }
            let number = section.iter().fold(0u64, |n, &byte| n << 8 | u64::from(byte));
            write!(f, "{number:016x}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Timestamp;

    fn at(micros: i64) -> Position {
        Position::of("1", Timestamp::from_micros(micros), 0)
    }

    #[test]
    fn order_comes_before_position_and_position_before_revision() {
        let (min, max) = (i64::MIN, i64::MAX);
        let ordered = [
            Version::new(Some(min), at(max), u16::MAX),
            Version::new(Some(-1), at(0), 0),
            Version::new(Some(0), at(0), 0),
            Version::new(Some(1), at(0), 0),
            Version::new(Some(1), at(0), 0).removed(),
            Version::new(Some(1), at(0), 1),
            Version::new(Some(1), at(1), 0),
            Version::new(Some(max), at(0), 0),
        ];
        assert!(ordered.is_sorted_by(|a, b| a < b));
        assert!(ordered.is_sorted_by(|a, b| a.to_bytes().as_ref() < b.to_bytes().as_ref()));
        assert!(ordered.is_sorted_by(|a, b| a.to_string() < b.to_string()));
        for version in ordered {
            assert_eq!(Version::from_bytes(version.to_bytes().as_ref()), Some(version));
        }
    }

    #[test]
    fn a_table_without_order_by_has_24_bytes_and_three_sections() {
        let version = Version::new(None, Position::of("258", Timestamp::from_micros(0), 1), 2);
        assert_eq!(version.to_bytes().as_ref().len(), Version::BYTES);
        assert_eq!(
            version.removed().to_string(),
            "1800000000000000/0000000000000102/0000000100020001"
        );
        assert_eq!(Version::from_bytes(version.to_bytes().as_ref()), Some(version));
        assert_eq!(Version::from_bytes(&[0; 8]), None);
    }
}
