//! Messages that the log hands out and takes in.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use bytes::Bytes;
use compact_str::CompactString;

use crate::position::Position;
use crate::time::Timestamp;

/// A message's attributes, in the order of their names.
pub type Attributes = BTreeMap<String, String>;

/// The log's own handle on one hand-out of a message. It means something only to the log that
/// made it; a message handed out twice has two leases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lease(pub u64);

/// A table by lease, for a log that numbers its leases in sequence.
///
/// The number itself is the hash: leases on loan have close numbers, so their entries are close in memory.
pub type LeaseMap<T> = HashMap<Lease, T, BuildHasherDefault<NumberHasher>>;

/// The hasher of a [`LeaseMap`].
#[derive(Debug, Default)]
pub struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(self.0.rotate_left(8) ^ u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        // The table finds an entry by the low bits, and compares the highest seven of its neighbours.
        self.0 = number ^ (number << 57);
    }
}

/// One message as the log hands it out.
#[derive(Clone, Debug)]
pub struct Message {
    /// The log's name for the message, the same at every hand-out.
    pub id: CompactString,
    /// The bytes as they were published.
    pub payload: Bytes,
    /// When the log took the message in.
    pub publish_time: Timestamp,
    /// Attributes; `None` where there are none, as for most messages.
    pub attributes: Option<Arc<Attributes>>,
    /// The ordering key; empty where there is none.
    pub ordering_key: CompactString,
    /// Which hand-out this is, from 1, where the log counts them.
    pub attempt: Option<u32>,
    /// The archive has its line already: it was acknowledged before, and a seek brings it again.
    /// False where the log does not know.
    pub archived: bool,
    /// The process was killed while this was in flight; the number of times that nothing else was.
    /// The log then hands it out with few others, and waits until those are acknowledged.
    pub suspect: Option<u32>,
    /// What to name when acknowledging or giving back.
    pub lease: Lease,
}

impl Message {
    /// Where the message's event is in the order of the log.
    #[must_use]
    pub fn position(&self) -> Position {
        Position::of(&self.id, self.publish_time, 0)
    }

    /// Returns the memory that the message needs, in bytes: payload and metadata.
    #[must_use]
    pub fn cost_bytes(&self) -> u64 {
        let attributes = self
            .attributes
            .as_ref()
            .map_or(0, |all| all.iter().map(|(name, value)| name.len() + value.len()).sum());
        (self.payload.len() + self.id.len() + self.ordering_key.len() + attributes) as u64
            + OVERHEAD_BYTES
    }
}

/// The fixed cost of a message in flight: the delivery, its place in the in-flight table and its
/// claims, counted from the sizes of those types and rounded up.
pub(crate) const OVERHEAD_BYTES: u64 = 384;

/// A message to be published.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewMessage {
    /// The bytes, as they are.
    pub payload: Bytes,
    /// Attributes to travel with it.
    pub attributes: Attributes,
    /// The ordering key; empty for none.
    pub ordering_key: String,
}

impl NewMessage {
    /// A message of these bytes alone.
    #[must_use]
    pub fn from_payload(payload: impl Into<Bytes>) -> Self {
        Self { payload: payload.into(), ..Self::default() }
    }
}
