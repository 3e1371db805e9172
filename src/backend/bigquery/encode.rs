//! Rows in protobuf, as the Storage Write API takes them.
//!
//! - A field's number is the column's place, counted from 1, so one message type is one
//!   [`TableSpec`]; NULL is a field left out.
//! - After its columns an upsert has the kind of change and its sequence number among the changes of
//!   its key: <https://cloud.google.com/bigquery/docs/change-data-capture>.
//!
//! The types are those of
//! <https://cloud.google.com/bigquery/docs/supported-data-types#supported_protobuf_data_types>.

use std::sync::atomic::{AtomicU64, Ordering};

use kappa_actors::row::{ColumnType, Row, TableSpec, Value};
use kappa_actors::time::Timestamp;
use kappa_actors::version::Version;
use prost::encoding::{WireType, encode_key, encode_varint};
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto};

use super::WriteMode;

/// The changes of a row without a version are numbered by their arrival, the first one highest.
/// Shared by all tables: no two of this process have the same number.
static ARRIVALS: AtomicU64 = AtomicU64::new(0);

/// The effect of a row on the current row of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// As it came: without versions the first of a key stays.
    Arrival,
    /// A correction of what arrived: without versions it wins.
    Correction,
    /// Removes the current row, unless it has a higher version; only the key and the version of this row matter.
    Removal,
    /// It takes the place of a newer row, which is removed. Behind the columns the row has the version
    /// of the removal.
    InPlace,
}

/// The message type that the rows of `table` are encoded as.
pub(super) fn descriptor(table: &TableSpec, mode: WriteMode) -> DescriptorProto {
    let columns = table.columns.iter().map(|column| (&*column.name, wire_type(column.kind)));
    let change: &[_] = match mode {
        WriteMode::Upsert => {
            &[("_CHANGE_TYPE", Type::String), ("_CHANGE_SEQUENCE_NUMBER", Type::String)]
        }
        WriteMode::Append => &[],
    };
    let field = (1..).zip(columns.chain(change.iter().copied())).map(|(number, (name, kind))| {
        FieldDescriptorProto {
            name: Some(name.to_owned()),
            number: Some(number),
            label: Some(Label::Optional.into()),
            r#type: Some(kind.into()),
            ..FieldDescriptorProto::default()
        }
    });
    DescriptorProto {
        name: Some("Row".to_owned()),
        field: field.collect(),
        ..DescriptorProto::default()
    }
}

const fn wire_type(kind: ColumnType) -> Type {
    match kind {
        ColumnType::String | ColumnType::Numeric | ColumnType::Json => Type::String,
        ColumnType::Integer | ColumnType::Timestamp => Type::Int64,
        ColumnType::Float => Type::Double,
        ColumnType::Boolean => Type::Bool,
        ColumnType::Date => Type::Int32,
        ColumnType::Bytes => Type::Bytes,
    }
}

/// One row as a message of [`descriptor`].
pub(super) fn encode(table: &TableSpec, mode: WriteMode, row: &Row, change: Change) -> Vec<u8> {
    // A key and a small value are 11 bytes at most; texts come on top.
    let mut out = Vec::with_capacity(row.0.iter().map(|value| 11 + text_len(value)).sum());
    let mut number = 0;
    for value in row.0.iter().take(table.columns.len()) {
        number += 1;
        put(&mut out, number, value);
    }
    if mode == WriteMode::Upsert {
        let kind: &[u8] = if change == Change::Removal { b"DELETE" } else { b"UPSERT" };
        put_bytes(&mut out, number + 1, kind);
        let version = match change {
            Change::InPlace => row.0.last(),
            _ => table.version.and_then(|at| row.0.get(at)),
        };
        let (digits, len) = sequence(version, change);
        put_bytes(&mut out, number + 2, digits.get(..len).unwrap_or_default());
    }
    out
}

fn text_len(value: &Value) -> usize {
    match value {
        Value::Text(text) => text.len(),
        Value::Bytes(bytes) => bytes.len(),
        Value::Version(_) => Version::ORDERED_BYTES,
        _ => 0,
    }
}

fn put(out: &mut Vec<u8>, number: u32, value: &Value) {
    match value {
        Value::Null => {}
        Value::Text(text) => put_bytes(out, number, text.as_bytes()),
        Value::Bytes(bytes) => put_bytes(out, number, bytes),
        Value::Version(version) => put_bytes(out, number, version.to_bytes().as_ref()),
        Value::Integer(value) => put_varint(out, number, *value),
        Value::Timestamp(time) => put_varint(out, number, time.micros()),
        Value::Date(days) => put_varint(out, number, i64::from(*days)),
        Value::Boolean(value) => put_varint(out, number, i64::from(*value)),
        Value::Float(value) => {
            encode_key(number, WireType::SixtyFourBit, out);
            out.extend_from_slice(&value.to_le_bytes());
        }
    }
}

fn put_bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    encode_key(number, WireType::LengthDelimited, out);
    encode_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

fn put_varint(out: &mut Vec<u8>, number: u32, value: i64) {
    encode_key(number, WireType::Varint, out);
    encode_varint(value.cast_unsigned(), out);
}

/// The length of the longest sequence number: its digits and the `/` between its sections.
const MAX_SEQUENCE: usize = 4 * 16 + 3;

/// The sequence number: the version as it is displayed, or without one the kind of the change and
/// the arrival, backwards.
fn sequence(version: Option<&Value>, change: Change) -> ([u8; MAX_SEQUENCE], usize) {
    let version = match version {
        Some(Value::Version(version)) => Some(**version),
        // As a query returned it.
        Some(Value::Bytes(bytes)) => Version::from_bytes(bytes),
        _ => None,
    };
    let mut out = [0; MAX_SEQUENCE];
    match (version, change) {
        (Some(version), Change::Removal | Change::InPlace) => {
            return sections(version.removed().to_bytes().as_ref());
        }
        (Some(version), _) => return sections(version.to_bytes().as_ref()),
        // A row from before the version column is older than every row that has a version.
        (None, Change::Removal | Change::InPlace) => {
            hexadecimal(&mut out[..16], 0);
            return (out, 16);
        }
        (None, Change::Arrival) => out[0] = b'0',
        (None, Change::Correction) => out[0] = b'1',
    }
    out[1] = b'/';
    hexadecimal(&mut out[2..18], u64::MAX - arrival());
    (out, 18)
}

/// Formats bytes as [`Version`] is displayed, without an allocation for each row.
fn sections(bytes: &[u8]) -> ([u8; MAX_SEQUENCE], usize) {
    let (mut out, mut len) = ([0; MAX_SEQUENCE], 0);
    for section in bytes.chunks(8).take(4) {
        if len > 0 {
            out[len] = b'/';
            len += 1;
        }
        let number = section.iter().fold(0_u64, |number, &byte| number << 8 | u64::from(byte));
        hexadecimal(&mut out[len..len + 16], number);
        len += 16;
    }
    (out, len)
}

fn hexadecimal(out: &mut [u8], value: u64) {
    for (at, digit) in out.iter_mut().enumerate() {
        let nibble = (value >> (60 - 4 * at)) & 0xf;
        *digit = b"0123456789abcdef"[usize::try_from(nibble).unwrap_or_default()];
    }
}

/// Microseconds since 1970, later than every one before.
fn arrival() -> u64 {
    let now = u64::try_from(Timestamp::now().micros()).unwrap_or_default();
    let next = |last: u64| Some(now.max(last + 1));
    let last = ARRIVALS.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
    last.map_or(now, |last| now.max(last + 1))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use kappa_actors::position::Position;
    use kappa_actors::row::Column;

    use super::*;

    fn table(columns: &[(&str, ColumnType)], version: Option<usize>) -> TableSpec {
        let column = |&(name, kind): &(&str, ColumnType)| Column {
            name: name.to_owned(),
            kind,
            description: None,
        };
        TableSpec {
            name: "t".to_owned(),
            columns: columns.iter().map(column).collect(),
            key: vec![0],
            version,
            order_by: None,
            partition_by: None,
            cluster_by: vec![],
            keeps_events: true,
        }
    }

    #[test]
    fn a_row_is_a_message_of_its_descriptor() {
        let spec = table(&[("id", ColumnType::String), ("v", ColumnType::Bytes)], Some(1));
        let fields = descriptor(&spec, WriteMode::Upsert).field;
        let told: Vec<_> = fields.iter().map(|field| (field.number(), field.name())).collect();
        let expected = [(1, "id"), (2, "v"), (3, "_CHANGE_TYPE"), (4, "_CHANGE_SEQUENCE_NUMBER")];
        assert_eq!(told, expected);
        let position = Position::of("17", Timestamp::from_micros(300), 0);
        let version = Version::new(None, position, 0);
        let row = Row(Box::new([Value::Text("ab".into()), Value::Version(Box::new(version))]));
        let plain = [b"\x0a\x02ab\x12\x18", version.to_bytes().as_ref()].concat();
        let numbered = |change: &[u8], number: String| {
            [plain.as_slice(), b"\x1a\x06", change, b"\x22\x32", number.as_bytes()].concat()
        };
        let bytes = encode(&spec, WriteMode::Upsert, &row, Change::Arrival);
        assert_eq!(bytes, numbered(b"UPSERT", version.to_string()));
        assert_eq!(encode(&spec, WriteMode::Append, &row, Change::Arrival), plain);
        let bytes = encode(&spec, WriteMode::Upsert, &row, Change::Removal);
        assert_eq!(bytes, numbered(b"DELETE", version.removed().to_string()));
        assert_eq!(descriptor(&spec, WriteMode::Append).field.len(), 2);
    }

    #[test]
    fn a_version_is_its_own_sequence_number() {
        let text =
            |(digits, len): ([u8; MAX_SEQUENCE], usize)| String::from_utf8(digits[..len].to_vec());
        for order in [None, Some(i64::MIN), Some(-1), Some(0), Some(1_700_000_000_000_000)] {
            let position = Position::of("17", Timestamp::from_micros(1_700_000_000_000_000), 3);
            let version = Version::new(order, position, 7);
            let bytes = Bytes::copy_from_slice(version.to_bytes().as_ref());
            for value in [Value::Version(Box::new(version)), Value::Bytes(Box::new(bytes))] {
                let number = |change| text(sequence(Some(&value), change)).unwrap();
                assert_eq!(number(Change::Arrival), version.to_string());
                assert_eq!(number(Change::Removal), version.removed().to_string());
            }
        }
    }

    #[test]
    fn without_a_version_the_first_has_the_highest_number_but_for_a_correction() {
        let text = |(digits, len): ([u8; MAX_SEQUENCE], usize)| {
            String::from_utf8(digits[..len].to_vec()).unwrap()
        };
        let numbers: Vec<_> = (0..1000).map(|_| text(sequence(None, Change::Arrival))).collect();
        assert!(numbers.is_sorted_by(|earlier, later| earlier > later), "{numbers:?}");
        assert!(numbers[0].starts_with("0/fff"), "{}", numbers[0]);
        assert!(text(sequence(None, Change::Correction)) > numbers[0]);
    }
}
