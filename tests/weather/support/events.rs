//! Events to publish, each with its expected result.

use kappa::generate::{DEFAULT_START, Generator, Ids, Options};

/// The expected result of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// A row, and a line in the archive.
    Stored,
    /// No event: a dead letter, and nothing else.
    Invalid,
    /// A line in the archive, and in the place of its row a dead letter of this stage.
    Condemned(&'static str),
}

/// A payload and its fate.
#[derive(Clone, Debug)]
pub(crate) struct Published {
    pub(crate) payload: Vec<u8>,
    pub(crate) fate: Fate,
}

impl Published {
    pub(crate) fn new(payload: impl Into<Vec<u8>>, fate: Fate) -> Self {
        Self { payload: payload.into(), fate }
    }
}

/// Generated events without end; those of different seeds never meet.
pub(crate) fn generated(seed: u64) -> impl Iterator<Item = Published> {
    let options = Options { seed, invalid_percent: 2.0, ids: Ids::Ordered, start: DEFAULT_START };
    Generator::new(options).map(|event| {
        let fate = if event.expected.defect.is_some() { Fate::Invalid } else { Fate::Stored };
        Published::new(event.payload, fate)
    })
}

/// A valid event, with `rest` behind its envelope: nothing, or `,"data":…`.
pub(crate) fn envelope(id: &str, kind: &str, rest: &str) -> String {
    let time = "2026-02-17T14:30:00.123Z";
    format!(r#"{{"event_id":"{id}","event_type":"{kind}","timestamp":"{time}"{rest}}}"#)
}
