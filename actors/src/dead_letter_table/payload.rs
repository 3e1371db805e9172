//! The payload of a letter: in its row, or an object of the archive.

use bytes::Bytes;

use super::{OBJECT, PAYLOAD, text};
use crate::row::{Row, Value};

/// Returns the payload that a row of [`spec`](super::spec) holds itself.
#[must_use]
pub fn payload(row: &Row) -> Option<&Bytes> {
    match row.0.get(PAYLOAD) {
        Some(Value::Bytes(payload)) => Some(payload),
        _ => None,
    }
}

/// The archive's object for the payload of the letter with this id.
#[must_use]
pub fn object_of(id: &str) -> String {
    format!("dead-letters/{id}")
}

/// The object that holds the payload of a row of [`spec`](super::spec), where the row does not.
#[must_use]
pub fn payload_object(row: &Row) -> Option<&str> {
    match row.0.get(OBJECT) {
        Some(Value::Text(name)) => Some(name),
        _ => None,
    }
}

/// Lets a row of [`spec`](super::spec) name the object that holds its payload from now on.
pub fn move_payload(row: &mut Row, object: &str) {
    for (at, value) in [(PAYLOAD, Value::Null), (OBJECT, text(object))] {
        if let Some(cell) = row.0.get_mut(at) {
            *cell = value;
        }
    }
}
