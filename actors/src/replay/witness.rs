//! Notes which events a replay went through.

use std::sync::Arc;

use bytes::Bytes;

use crate::port::replayed_events;
use crate::processor::{BadRow, EventView, NewRows, Processor};
use crate::row::{Row, TableSpec, Value};
use crate::time::Timestamp;

/// A processor that writes down the position of every valid event it sees. A live row of such an event
/// that the replay has not made is one that the present rules make no more.
#[derive(Debug)]
pub struct Witness {
    table: Arc<TableSpec>,
}

impl Witness {
    /// The processor's name, as in its actor's path.
    pub const NAME: &str = "replayed-events";

    /// Returns the recorder of the replay of this id.
    #[must_use]
    pub fn of(replay: &str) -> Self {
        Self { table: Arc::new(replayed_events(replay)) }
    }
}

impl Processor for Witness {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn patterns(&self) -> &[String] {
        &[]
    }

    fn table(&self) -> &Arc<TableSpec> {
        &self.table
    }

    fn max_bytes_per_event(&self) -> u64 {
        u64::MAX
    }

    fn rows(
        &self,
        event: &EventView<'_>,
        _: Timestamp,
        rows: &mut NewRows<'_>,
    ) -> Result<(), BadRow> {
        let position = Bytes::copy_from_slice(&event.message.position().to_bytes());
        rows.push(Row([Value::Bytes(Box::new(position))].into()))
    }
}
