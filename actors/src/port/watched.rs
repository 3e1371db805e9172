//! Ports whose calls the watchdog sees.
//!
//! Each caller gets a handle of its own on a port, so that a call without an answer names its actor.
//! A handle changes nothing about a call: dropping it cancels the call as before.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, stream};

use super::{
    Acknowledged, ArchiveStore, Backlog, ByteStream, EnsureError, Ensured, EventLog, LogError,
    LogFault, ObjectInfo, ObjectRef, PublishError, Pulled, Put, Room, Sought, StoreError,
    Warehouse, WriteError, Written,
};
use crate::message::{Lease, NewMessage};
use crate::row::{Row, TableSpec};
use crate::time::Timestamp;
use crate::vitals::{Calls, MayWait};

/// One caller's handle on a port.
struct Watched<Port: ?Sized> {
    inner: Arc<Port>,
    calls: Arc<Calls>,
    pull_may_wait: Option<MayWait>,
}

/// A handle on the log for the caller with these calls.
#[must_use]
pub fn watched_log(log: &Arc<dyn EventLog>, calls: &Arc<Calls>) -> Arc<dyn EventLog> {
    let (inner, calls) = (Arc::clone(log), Arc::clone(calls));
    Arc::new(Watched { inner, calls, pull_may_wait: None })
}

/// A handle on the log for the reader. A pull may take any time while `may_wait` is true.
pub(crate) fn watched_pulls(
    log: &Arc<dyn EventLog>,
    calls: &Arc<Calls>,
    may_wait: MayWait,
) -> Arc<dyn EventLog> {
    let (inner, calls) = (Arc::clone(log), Arc::clone(calls));
    Arc::new(Watched { inner, calls, pull_may_wait: Some(may_wait) })
}

/// A handle on the warehouse for the caller with these calls.
pub(crate) fn watched_warehouse(
    warehouse: &Arc<dyn Warehouse>,
    calls: &Arc<Calls>,
) -> Arc<dyn Warehouse> {
    let (inner, calls) = (Arc::clone(warehouse), Arc::clone(calls));
    Arc::new(Watched { inner, calls, pull_may_wait: None })
}

/// A handle on the archive store for the caller with these calls.
pub(crate) fn watched_archive(
    store: &Arc<dyn ArchiveStore>,
    calls: &Arc<Calls>,
) -> Arc<dyn ArchiveStore> {
    let (inner, calls) = (Arc::clone(store), Arc::clone(calls));
    Arc::new(Watched { inner, calls, pull_may_wait: None })
}

#[async_trait]
impl EventLog for Watched<dyn EventLog> {
    async fn pull(&self, room: Room, patience: Duration) -> Result<Pulled, LogError> {
        let may_wait = self.pull_may_wait.clone();
        self.calls.watch_unless(may_wait, "pull", self.inner.pull(room, patience)).await
    }

    async fn acknowledge(&self, leases: &[Lease]) -> Result<(), LogError> {
        self.calls.watch("acknowledge", self.inner.acknowledge(leases)).await
    }

    async fn acknowledge_unarchived(&self, leases: &[Lease]) -> Result<(), LogError> {
        self.calls.watch("acknowledge", self.inner.acknowledge_unarchived(leases)).await
    }

    async fn give_back(&self, leases: &[Lease]) -> Result<(), LogError> {
        self.calls.watch("give back", self.inner.give_back(leases)).await
    }

    async fn seek(&self, to: Timestamp) -> Result<Sought, LogError> {
        self.calls.watch("seek", self.inner.seek(to)).await
    }

    async fn publish(&self, messages: Vec<NewMessage>) -> Vec<Result<String, PublishError>> {
        self.calls.watch("publish", self.inner.publish(messages)).await
    }

    async fn backlog(&self) -> Result<Backlog, LogError> {
        self.calls.watch("backlog", self.inner.backlog()).await
    }

    fn lost_acknowledgements(&self) -> u64 {
        self.inner.lost_acknowledgements()
    }

    async fn faults(&self) -> Result<Vec<LogFault>, LogError> {
        self.calls.watch("faults", self.inner.faults()).await
    }

    async fn repairs(&self) -> Result<Vec<String>, LogError> {
        self.calls.watch("repairs", self.inner.repairs()).await
    }

    async fn acknowledged(&self) -> Result<Acknowledged, LogError> {
        self.calls.watch("acknowledged", self.inner.acknowledged()).await
    }

    fn ended(&self) -> Option<String> {
        self.inner.ended()
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}

#[async_trait]
impl Warehouse for Watched<dyn Warehouse> {
    async fn ensure_table(&self, table: &TableSpec) -> Result<Ensured, EnsureError> {
        self.calls.watch("ensure table", self.inner.ensure_table(table)).await
    }

    async fn is_empty(&self, table: &TableSpec) -> Result<bool, EnsureError> {
        self.calls.watch("is empty", self.inner.is_empty(table)).await
    }

    async fn write(
        &self,
        table: &Arc<TableSpec>,
        rows: Arc<Vec<Row>>,
    ) -> Result<Written, WriteError> {
        self.calls.watch("write", self.inner.write(table, rows)).await
    }

    fn ended(&self) -> Option<String> {
        self.inner.ended()
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}

#[async_trait]
impl ArchiveStore for Watched<dyn ArchiveStore> {
    async fn put_if_absent(&self, name: &str, body: Bytes) -> Result<Put, StoreError> {
        self.calls.watch("put", self.inner.put_if_absent(name, body)).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        self.calls.watch("list", self.inner.list(prefix)).await
    }

    async fn info(&self, name: &str) -> Result<ObjectInfo, StoreError> {
        self.calls.watch("info", self.inner.info(name)).await
    }

    async fn read(&self, name: &str) -> Result<ByteStream, StoreError> {
        let chunks = self.calls.watch("read", self.inner.read(name)).await?;
        let calls = Arc::clone(&self.calls);
        let next = move |mut chunks: ByteStream| {
            let calls = Arc::clone(&calls);
            async move {
                let chunk = calls.watch("read", chunks.next()).await?;
                Some((chunk, chunks))
            }
        };
        Ok(stream::unfold(chunks, next).boxed())
    }

    async fn compose(&self, name: &str, sources: &[ObjectRef]) -> Result<Put, StoreError> {
        self.calls.watch("compose", self.inner.compose(name, sources)).await
    }

    async fn delete(&self, object: &ObjectRef) -> Result<(), StoreError> {
        self.calls.watch("delete", self.inner.delete(object)).await
    }
}
