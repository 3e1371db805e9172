//! The memory budget: messages on loan and not yet acknowledged, with their rows.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use tokio::sync::{Mutex, MutexGuard, Notify};

use crate::message::OVERHEAD_BYTES;
use crate::port::Room;

/// Messages and bytes in flight, against their limits.
///
/// Charging never waits and may overdraw. Two kinds of actor wait before they take memory: the reader
/// before it takes more messages, and a processor before it makes more rows. Rows may take half of
/// the limit beside messages that take all of it.
///
/// A processor that waits holds no rows, so every row that is charged belongs to an actor that can
/// store and release it: no actor waits for memory that only it can release.
#[derive(Debug)]
pub struct Account {
    max_messages: u64,
    max_bytes: u64,
    messages: AtomicU64,
    message_bytes: AtomicI64,
    row_bytes: AtomicI64,
    /// Held while the rows of an event are made that are larger than a piece.
    large: Mutex<()>,
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
            message_bytes: AtomicI64::new(0),
            row_bytes: AtomicI64::new(0),
            large: Mutex::new(()),
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

    /// Bytes of rows that a processor may make before it waits for room again.
    #[must_use]
    pub fn piece_bytes(&self) -> u64 {
        (self.max_bytes / 32).clamp(1, MAX_PIECE_BYTES)
    }

    /// Waits while the account is overdrawn and rows take more than their half. Hold no rows here.
    pub async fn room_for_rows(&self) {
        loop {
            let mut released = std::pin::pin!(self.released());
            // From here on no release is missed.
            released.as_mut().enable();
            let rows = self.row_bytes();
            if rows <= self.max_bytes / 2 || !self.is_overdrawn() {
                return;
            }
            released.await;
        }
    }

    /// Waits for room to make the rows of an event that is larger than a piece: one event at a time,
    /// so that the account is overdrawn by one of them at most.
    pub async fn room_for_large_event(&self) -> MutexGuard<'_, ()> {
        let turn = self.large.lock().await;
        self.room_for_rows().await;
        turn
    }

    /// Charges so many bytes for rows that do not exist yet, until the answer is dropped.
    #[must_use = "dropping it releases the bytes"]
    pub fn reserve_rows(&self, bytes: u64) -> Reserved<'_> {
        let bytes = signed(bytes);
        self.change_rows(bytes);
        Reserved { account: self, bytes }
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
        self.message_bytes.load(Ordering::Acquire).max(0).cast_unsigned() + self.row_bytes()
    }

    /// Bytes of rows in flight, and reserved for rows.
    fn row_bytes(&self) -> u64 {
        self.row_bytes.load(Ordering::Acquire).max(0).cast_unsigned()
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

    /// Charges so many bytes for messages, or releases them if below 0.
    pub(super) fn change_messages(&self, change: i64) {
        self.change(&self.message_bytes, change);
    }

    /// Charges so many bytes for rows, or releases them if below 0.
    pub(super) fn change_rows(&self, change: i64) {
        self.change(&self.row_bytes, change);
    }

    fn change(&self, bytes: &AtomicI64, change: i64) {
        bytes.fetch_add(change, Ordering::AcqRel);
        if change < 0 {
            self.released.notify_waiters();
        }
    }
}

/// Bytes charged for rows that are being made.
#[derive(Debug)]
pub struct Reserved<'a> {
    account: &'a Account,
    bytes: i64,
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        self.account.change_rows(-self.bytes);
    }
}

/// The most bytes of rows in a piece: what all processors at once take beyond the limit stays small.
const MAX_PIECE_BYTES: u64 = 512 << 10;

pub(super) fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
