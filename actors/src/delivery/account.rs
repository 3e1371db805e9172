//! The account that bounds memory: what is on loan and not yet acknowledged.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use tokio::sync::Notify;

use crate::message::OVERHEAD_BYTES;
use crate::port::Room;

/// Messages and bytes in flight, against their limits.
///
/// Charging never waits and may overdraw, since what is charged exists already. Only the reader
/// waits, before it takes more.
#[derive(Debug)]
pub struct Account {
    max_messages: u64,
    max_bytes: u64,
    messages: AtomicU64,
    bytes: AtomicI64,
    pressing: AtomicBool,
    released: Notify,
}

impl Account {
    /// An account with these limits; a limit of 0 counts as 1.
    #[must_use]
    pub fn new(max_messages: u64, max_bytes: u64) -> Self {
        Self {
            max_messages: max_messages.max(1),
            max_bytes: max_bytes.max(1),
            messages: AtomicU64::new(0),
            bytes: AtomicI64::new(0),
            pressing: AtomicBool::new(false),
            released: Notify::new(),
        }
    }

    /// What more may be taken now; `None` when nothing may.
    #[must_use]
    pub fn room(&self) -> Option<Room> {
        let messages = self.max_messages.saturating_sub(self.messages());
        let bytes = self.max_bytes.saturating_sub(self.bytes());
        if messages == 0 || bytes == 0 {
            return None;
        }
        // The log counts payloads alone: what messages cost beside has half of the room at most.
        let messages = messages.min(bytes / (2 * OVERHEAD_BYTES)).max(1);
        let bytes = bytes.saturating_sub(messages * OVERHEAD_BYTES).max(1);
        Some(Room { messages: usize::try_from(messages).unwrap_or(usize::MAX), bytes })
    }

    /// Waits until something was released. Create the future before looking at [`Self::room`],
    /// or a release in between goes unseen.
    pub fn released(&self) -> tokio::sync::futures::Notified<'_> {
        self.released.notified()
    }

    /// Whether more bytes are charged than there is room for.
    #[must_use]
    pub fn is_overdrawn(&self) -> bool {
        self.bytes() > self.max_bytes
    }

    /// Messages in flight.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.messages.load(Ordering::Acquire)
    }

    /// Bytes in flight.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        u64::try_from(self.bytes.load(Ordering::Acquire)).unwrap_or(0)
    }

    /// Whether everyone waits for permits, or nothing more is coming: sinks flush at once then,
    /// for no timer may hold what everyone waits for.
    #[must_use]
    pub fn is_pressing(&self) -> bool {
        self.pressing.load(Ordering::Acquire)
    }

    /// Says whether the reader waits for permits or has come to the end. True if that is news.
    pub fn set_pressing(&self, pressing: bool) -> bool {
        self.pressing.swap(pressing, Ordering::AcqRel) != pressing
    }

    pub(super) fn charge_messages(&self, count: u64) {
        self.messages.fetch_add(count, Ordering::AcqRel);
    }

    pub(super) fn release_messages(&self, count: u64) {
        self.messages.fetch_sub(count, Ordering::AcqRel);
        self.released.notify_waiters();
    }

    /// Charges so many bytes, or releases them if below 0.
    pub(super) fn change_bytes(&self, change: i64) {
        self.bytes.fetch_add(change, Ordering::AcqRel);
        if change < 0 {
            self.released.notify_waiters();
        }
    }
}

pub(super) fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
