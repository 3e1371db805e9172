//! Annotated lines: an event's JSON with one more member at its end.
//!
//! `{"a":1}` becomes `{"a":1,"_kappa":{"id":"7","at":"2026-02-17T14:30:00.000001Z"}}`. The bytes in
//! front of the member and behind the closing brace are those of the payload. An event may have a
//! `_kappa` of its own: the last one counts.

use std::io::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use compact_str::CompactString;
use serde::Deserialize;

use super::line::{LineError, one_line, write_json};
use super::{ArchivedEvent, Origin};
use crate::message::{Attributes, Message};
use crate::time::Timestamp;

/// The member's key, up to its value.
const KEY: &[u8] = b"\"_kappa\":";
/// The member's beginning. No string contains these bytes, because JSON escapes its quotes; so
/// their last occurrence is the annotation's.
const BEGIN: &[u8] = b"\"_kappa\":{";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Annotation {
    id: CompactString,
    at: CompactString,
    #[serde(default)]
    attributes: Attributes,
    #[serde(default)]
    ordering_key: CompactString,
}

/// Appends the message as an annotated line, without a line feed.
///
/// # Panics
/// When the payload is no JSON object. Only valid events are archived, and each is an object. Were
/// one not, it would become a dead letter after it was tried alone, as the cause of a panic.
pub(super) fn encode(message: &Message, lines: &mut Vec<u8>) {
    let event = message.payload.trim_ascii_end();
    let begins = message.payload.trim_ascii_start().starts_with(b"{");
    assert!(begins && event.ends_with(b"}"), "an archived event is a JSON object");
    let (head, behind) = message.payload.split_at(event.len() - 1);
    one_line(head, lines);
    if !is_empty_object(head) {
        lines.push(b',');
    }
    lines.extend_from_slice(KEY);
    lines.extend_from_slice(b"{\"id\":");
    write_json(&*message.id, lines);
    lines.extend_from_slice(b",\"at\":\"");
    // Digits and signs, which need no escape.
    drop(write!(lines, "{}", message.publish_time));
    lines.push(b'"');
    if let Some(attributes) = message.attributes.as_deref().filter(|all| !all.is_empty()) {
        lines.extend_from_slice(b",\"attributes\":");
        write_json(attributes, lines);
    }
    if !message.ordering_key.is_empty() {
        lines.extend_from_slice(b",\"ordering_key\":");
        write_json(&*message.ordering_key, lines);
    }
    lines.push(b'}');
    one_line(behind, lines);
}

/// Takes the annotation out of a line. Checks only the payload's first and last byte.
pub(super) fn decode(line: &Bytes) -> Result<ArchivedEvent, LineError> {
    let event = line.trim_ascii_end();
    let inner = event.strip_suffix(b"}").ok_or(LineError::NotAnnotated)?;
    let begin = last_begin(inner).ok_or(LineError::NotAnnotated)?;
    let head = head(&inner[..begin]).ok_or(LineError::NotAnnotated)?;
    let annotation: Annotation =
        serde_json::from_slice(&inner[begin + KEY.len()..]).map_err(LineError::Annotation)?;
    let behind = &line[inner.len()..];
    let mut payload = Vec::with_capacity(head.len() + behind.len());
    payload.extend_from_slice(head);
    payload.extend_from_slice(behind);
    let origin = Origin {
        message_id: annotation.id,
        publish_time: Timestamp::parse_rfc3339(&annotation.at)?,
        attributes: Some(annotation.attributes).filter(|all| !all.is_empty()).map(Arc::new),
        ordering_key: annotation.ordering_key,
    };
    Ok(ArchivedEvent { payload: payload.into(), origin: Some(origin) })
}

/// Searches from the end: the annotation is short, and the payload may be megabytes.
fn last_begin(inner: &[u8]) -> Option<usize> {
    let mut end = inner.len();
    while let Some(brace) = inner[..end].iter().rposition(|&byte| byte == b'{') {
        if inner[..=brace].ends_with(BEGIN) {
            return Some(brace + 1 - BEGIN.len());
        }
        end = brace;
    }
    None
}

/// The payload up to its closing brace: the bytes before the annotation, without the comma that
/// joins them.
fn head(before: &[u8]) -> Option<&[u8]> {
    let head = match before {
        [head @ .., b','] => head,
        // Nothing but the opening brace: an object without a member of its own.
        head => return (head.trim_ascii() == b"{").then_some(head),
    };
    let begins = head.trim_ascii_start().starts_with(b"{");
    (begins && !is_empty_object(head)).then_some(head)
}

/// Whether an object that begins like this has no member. A `{` in front of the last `}` opened
/// the object itself.
fn is_empty_object(head: &[u8]) -> bool {
    head.trim_ascii_end().ends_with(b"{")
}

#[cfg(test)]
mod tests;
