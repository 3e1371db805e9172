//! One event, one line.

use std::fmt::Display;
use std::sync::Arc;

use bytes::Bytes;
use compact_str::CompactString;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;

use super::annotated;
use crate::message::{Attributes, Message};
use crate::time::{TimeError, Timestamp};

/// `archive.format`: the format of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LineFormat {
    /// The payload as it arrived, with a member `_kappa` at its end: message id, publish time,
    /// attributes and ordering key.
    Annotated,
    /// An object with message id, publish time, attributes, ordering key and data.
    Envelope,
    /// The payload as it arrived. An object whose name has no mark holds such lines.
    #[default]
    Payload,
}

/// An event read back from a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchivedEvent {
    /// The event's JSON.
    pub payload: Bytes,
    /// How it came; a payload line does not hold it.
    pub origin: Option<Origin>,
}

/// The log's metadata of an archived message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The log's name for the message.
    pub message_id: CompactString,
    /// When the log took it in.
    pub publish_time: Timestamp,
    /// Its attributes; `None` where there were none.
    pub attributes: Option<Arc<Attributes>>,
    /// Its ordering key; empty where there was none.
    pub ordering_key: CompactString,
}

/// Why a line cannot be read back.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// The line does not end with an annotation.
    #[error("not an annotated event: it does not end with a member _kappa")]
    NotAnnotated,
    /// The annotation is malformed.
    #[error("not an annotated event: {0}")]
    Annotation(#[source] serde_json::Error),
    /// The line is no archive envelope.
    #[error("not an archive envelope: {0}")]
    Envelope(#[from] serde_json::Error),
    /// The publish time cannot be read.
    #[error("publish time: {0}")]
    PublishTime(#[from] TimeError),
}

impl LineFormat {
    /// The mark of this format in an object's name, in front of `.jsonl`. Lines of payloads have
    /// none.
    #[must_use]
    pub const fn mark(self) -> &'static str {
        match self {
            Self::Annotated => ".annotated",
            Self::Envelope => ".envelope",
            Self::Payload => "",
        }
    }

    /// The format with this mark in the names of its objects.
    #[must_use]
    pub fn from_mark(mark: &str) -> Option<Self> {
        [Self::Annotated, Self::Envelope, Self::Payload].into_iter().find(|one| one.mark() == mark)
    }

    /// Appends `message` to `lines` as one line. Its payload is a valid event.
    ///
    /// A raw carriage return or line feed in valid JSON is whitespace between tokens, so each
    /// becomes a space; nothing else is rewritten.
    ///
    /// # Panics
    /// When the payload is no JSON object and the format is [`LineFormat::Annotated`].
    pub fn encode(self, message: &Message, lines: &mut Vec<u8>) {
        match self {
            Self::Annotated => annotated::encode(message, lines),
            Self::Payload => one_line(&message.payload, lines),
            Self::Envelope => {
                head(message, lines);
                one_line(&message.payload, lines);
                lines.push(b'}');
            }
        }
        lines.push(b'\n');
    }

    /// Reads an event back from `line`, which has no line feed.
    ///
    /// # Errors
    /// [`LineError`] when an annotation or an envelope is malformed. A payload is not looked at: it
    /// was valid when it was archived, and the parser looks again.
    pub fn decode(self, line: Bytes) -> Result<ArchivedEvent, LineError> {
        match self {
            Self::Annotated => annotated::decode(&line),
            Self::Payload => Ok(ArchivedEvent { payload: line, origin: None }),
            Self::Envelope => {
                let read: EnvelopeLine<'_> = serde_json::from_slice(&line)?;
                let attributes = Some(read.attributes).filter(|all| !all.is_empty());
                let origin = Origin {
                    message_id: read.message_id,
                    publish_time: Timestamp::parse_rfc3339(&read.publish_time)?,
                    attributes: attributes.map(Arc::new),
                    ordering_key: read.ordering_key,
                };
                let payload = line.slice_ref(read.data.get().as_bytes());
                Ok(ArchivedEvent { payload, origin: Some(origin) })
            }
        }
    }
}

/// Appends the bytes with a space for each newline byte: as long as they were.
pub(super) fn one_line(payload: &[u8], lines: &mut Vec<u8>) {
    let start = lines.len();
    lines.extend_from_slice(payload);
    // Few payloads have one, and the search is several times faster than a look at each byte.
    if let Some(first) = memchr::memchr2(b'\n', b'\r', payload) {
        for byte in &mut lines[start + first..] {
            if matches!(*byte, b'\n' | b'\r') {
                *byte = b' ';
            }
        }
    }
}

#[derive(Serialize)]
struct EnvelopeHead<'a> {
    message_id: &'a str,
    #[serde(serialize_with = "as_text")]
    publish_time: Timestamp,
    attributes: &'a Attributes,
    ordering_key: &'a str,
}

#[derive(Deserialize)]
struct EnvelopeLine<'a> {
    message_id: CompactString,
    publish_time: CompactString,
    attributes: Attributes,
    ordering_key: CompactString,
    #[serde(borrow)]
    data: &'a RawValue,
}

fn as_text<S: Serializer>(value: &impl Display, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(value)
}

/// Appends a value as JSON.
#[expect(clippy::expect_used, reason = "text and maps of text always become JSON")]
pub(super) fn write_json<T: Serialize + ?Sized>(value: &T, lines: &mut Vec<u8>) {
    serde_json::to_writer(lines, value).expect("text becomes JSON");
}

/// The envelope up to its data. The payload is put behind it as it is: reading it again, only to
/// write it again, would cost as much as parsing it did.
fn head(message: &Message, lines: &mut Vec<u8>) {
    let none = Attributes::new();
    let head = EnvelopeHead {
        message_id: &message.id,
        publish_time: message.publish_time,
        attributes: message.attributes.as_deref().unwrap_or(&none),
        ordering_key: &message.ordering_key,
    };
    write_json(&head, lines);
    lines.pop();
    lines.extend_from_slice(b",\"data\":");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Lease;

    fn message(payload: &str) -> Message {
        Message {
            id: "7".into(),
            payload: Bytes::copy_from_slice(payload.as_bytes()),
            publish_time: Timestamp::from_micros(1_771_338_600_000_001),
            attributes: Some(Arc::new([("k\"".to_owned(), "v\n".to_owned())].into())),
            ordering_key: "order-1".into(),
            attempt: None,
            archived: false,
            suspect: None,
            lease: Lease(1),
        }
    }

    fn line(format: LineFormat, message: &Message) -> Bytes {
        let mut lines = Vec::new();
        format.encode(message, &mut lines);
        assert_eq!(lines.pop(), Some(b'\n'));
        assert!(!lines.iter().any(|byte| matches!(byte, b'\n' | b'\r')));
        lines.into()
    }

    #[test]
    fn a_payload_line_is_the_payload_with_its_newlines_made_spaces() {
        let line = line(LineFormat::Payload, &message("{\r\n \"a\":\t\"x\\n\"\r}\n"));
        assert_eq!(line, "{   \"a\":\t\"x\\n\" } ");
        let event = LineFormat::Payload.decode(line.clone()).unwrap();
        assert_eq!(event, ArchivedEvent { payload: line, origin: None });
    }

    #[test]
    fn an_envelope_gives_back_all_that_the_live_run_saw() {
        let message = message("{\"n\":1.00,\"deep\":\"\u{e9}\"}");
        let event = LineFormat::Envelope.decode(line(LineFormat::Envelope, &message)).unwrap();
        assert_eq!(event.payload, message.payload);
        let origin = event.origin.unwrap();
        assert_eq!(origin.message_id, message.id);
        assert_eq!(origin.publish_time, message.publish_time);
        assert_eq!(origin.attributes, message.attributes);
        assert_eq!(origin.ordering_key, message.ordering_key);
    }

    #[test]
    fn the_deepest_valid_event_fits_into_an_envelope() {
        let payload = format!("{}0{}", "{\"a\":".repeat(127), "}".repeat(127));
        let message = Message { attributes: None, ..message(&payload) };
        let event = LineFormat::Envelope.decode(line(LineFormat::Envelope, &message)).unwrap();
        assert_eq!(event.payload, payload);
        assert_eq!(event.origin.unwrap().attributes, None);
    }

    #[test]
    fn a_payload_line_is_no_envelope() {
        let line = Bytes::from_static(b"{\"event_id\":\"1\"}");
        assert!(matches!(LineFormat::Envelope.decode(line), Err(LineError::Envelope(_))));
    }
}
