//! The envelope: validates an event.
//!
//! A valid event is one JSON object in UTF-8, with an id and a type that are non-empty strings and a time
//! that follows RFC 3339. Everything else is [`Invalid`], with a reason that many events can share,
//! and with id and type if they could still be read. One pass over the payload decides.

mod scan;

use std::borrow::Cow;
use std::fmt;

use compact_str::CompactString;
use serde::{Deserialize, Serialize};

use crate::fault_class::FaultClass;
use crate::json::{Pointer, Trie};
use crate::processor::PlanError;
use crate::time::Timestamp;

use scan::Field;

/// The common fields of every event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// The event's id; never empty.
    pub id: CompactString,
    /// The event's type; never empty.
    pub kind: CompactString,
    /// The event's own time.
    pub time: Timestamp,
}

/// Why a payload is no event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// The reason.
    pub reason: Cow<'static, str>,
    /// The class of the fault.
    pub class: FaultClass,
    /// The event's id, where readable.
    pub id: Option<CompactString>,
    /// The event's type, where readable.
    pub kind: Option<CompactString>,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for Invalid {}

/// `envelope`: where an event keeps its identity, as JSON pointers.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct EnvelopeConfig {
    /// Pointer to the id.
    pub id: String,
    /// Pointer to the type.
    pub r#type: String,
    /// Pointer to the time.
    pub time: String,
}

/// Reads envelopes.
#[derive(Debug)]
pub struct EnvelopePlan {
    trie: Trie,
    id: Place,
    kind: Place,
    time: Place,
    max_event_bytes: u64,
}

#[derive(Debug)]
struct Place {
    /// Its key in the configuration.
    key: &'static str,
    pointer: Pointer,
    slot: usize,
}

/// A fault of the payload.
#[derive(Debug)]
struct Fault {
    class: FaultClass,
    reason: Cow<'static, str>,
}

impl Fault {
    /// A fault of the payload as a whole.
    fn new(kind: &'static str, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { class: FaultClass::envelope("envelope", kind), reason: reason.into() }
    }
}

impl Place {
    fn fault(&self, kind: &'static str, reason: impl fmt::Display) -> Fault {
        let reason = format!("{}: {reason}", self.pointer).into();
        Fault { class: FaultClass::envelope(self.key, kind), reason }
    }
}

impl EnvelopePlan {
    /// Takes the pointers apart. A payload of more than `max_event_bytes` will be invalid.
    ///
    /// # Errors
    /// [`PlanError`] when one of them is no JSON pointer.
    pub fn compile(config: &EnvelopeConfig, max_event_bytes: u64) -> Result<Self, PlanError> {
        let mut trie = Trie::default();
        let mut place = |key: &'static str, text: &str| {
            let fault = |reason: String| PlanError {
                key: key.to_owned(),
                reason,
                hint: Some("use a JSON pointer such as /event_id".to_owned()),
            };
            let pointer = Pointer::parse(text)
                .map_err(|why| fault(format!("is no JSON pointer: {text:?} {why}")))?;
            if pointer.tokens().is_empty() {
                return Err(fault("is empty, which means the whole event".to_owned()));
            }
            Ok(Place { key, slot: trie.insert(&pointer), pointer })
        };
        let id = place("envelope.id", &config.id)?;
        let kind = place("envelope.type", &config.r#type)?;
        let time = place("envelope.time", &config.time)?;
        Ok(Self { trie, id, kind, time, max_event_bytes })
    }

    /// The size above which a payload is invalid.
    #[must_use]
    pub fn max_event_bytes(&self) -> u64 {
        self.max_event_bytes
    }

    /// Returns whether `pointer` leads to the id.
    pub(crate) fn is_id(&self, pointer: &Pointer) -> bool {
        self.id.pointer == *pointer
    }

    /// Validates the whole payload and reads its envelope.
    ///
    /// # Errors
    /// [`Invalid`]: the payload can never become an event.
    pub fn read(&self, payload: &[u8]) -> Result<Envelope, Invalid> {
        let mut fields = [const { Field::Missing }; 3];
        self.validate(payload, &mut fields).and_then(|()| self.envelope(&fields)).map_err(
            |Fault { class, reason }| Invalid {
                reason,
                class,
                id: fields[self.id.slot].text().map(CompactString::from),
                kind: fields[self.kind.slot].text().map(CompactString::from),
            },
        )
    }

    fn validate<'a>(&self, payload: &'a [u8], fields: &mut [Field<'a>]) -> Result<(), Fault> {
        let scanned = match std::str::from_utf8(payload) {
            Ok(text) => scan::object(text, self.trie.root(), fields),
            Err(fault) => {
                let (valid, _) = payload.split_at(fault.valid_up_to());
                // The fields before the fault may still identify the event.
                let _ = scan::object(
                    std::str::from_utf8(valid).unwrap_or_default(),
                    self.trie.root(),
                    fields,
                );
                Err(Fault::new("not UTF-8", "not UTF-8"))
            }
        };
        let (size, max) = (payload.len() as u64, self.max_event_bytes);
        if size > max {
            let reason = format!("larger than max_event_bytes ({size} > {max})");
            return Err(Fault::new("larger than max_event_bytes", reason));
        }
        scanned
    }

    fn envelope(&self, fields: &[Field<'_>]) -> Result<Envelope, Fault> {
        let text =
            |place: &Place| fields[place.slot].required().map_err(|kind| place.fault(kind, kind));
        let (id, kind) = (text(&self.id)?.into(), text(&self.kind)?.into());
        let time = Timestamp::parse_rfc3339(text(&self.time)?)
            .map_err(|reason| self.time.fault("not a time of RFC 3339", reason))?;
        Ok(Envelope { id, kind, time })
    }
}

#[cfg(test)]
mod tests;
