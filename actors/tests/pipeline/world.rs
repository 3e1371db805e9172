//! The three backends with records: they note the pipeline's calls, and can be made to panic.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use kappa_actors::dead_letter_table;
use kappa_actors::message::{Lease, NewMessage};
use kappa_actors::pipeline::Ports;
use kappa_actors::port::{
    ArchiveStore, Backlog, ByteStream, EnsureError, Ensured, EventLog, LogError, ObjectInfo,
    ObjectRef, PublishError, Pulled, Put, Room, Sought, StoreError, Warehouse, WriteError, Written,
};
use kappa_actors::row::{Row, TableSpec, Value};
use kappa_actors::testing::memory::archive_store::MemoryArchive;
use kappa_actors::testing::memory::event_log::MemoryLog;
use kappa_actors::testing::memory::warehouse::MemoryWarehouse;
use kappa_actors::time::Timestamp;

/// The attribute that holds a message's publish time, in microseconds.
pub(crate) const AT: &str = "at";

/// How often each event met something, by its id.
pub(crate) type Times = BTreeMap<String, usize>;

/// The backends of a pipeline. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct World {
    pub(crate) log: MemoryLog,
    pub(crate) warehouse: Arc<MemoryWarehouse>,
    pub(crate) archive: MemoryArchive,
    notes: Arc<Mutex<Notes>>,
}

#[derive(Default)]
struct Notes {
    leases: Vec<Lease>,
    most_messages: usize,
    most_bytes: u64,
    sizes: BTreeMap<String, u64>,
    written: BTreeMap<String, Times>,
    archived: Times,
    /// Writes to a table that panic once they are committed.
    fatal_commits: BTreeMap<String, usize>,
    /// Storing a part with this text panics.
    fatal_line: Option<String>,
    fatal_acknowledgements: bool,
    /// Writes to a table that are answered as if it could not be reached.
    unanswered_writes: BTreeMap<String, usize>,
    /// Writes to a table that are under way.
    writing: BTreeMap<String, usize>,
    at_put: Option<Box<dyn FnMut() + Send>>,
    /// Calls that are never answered.
    hanging: BTreeSet<&'static str>,
    /// The warehouse has ended.
    ended: bool,
    /// The log was closed.
    closed: bool,
}

impl World {
    pub(crate) fn ports(&self) -> Ports {
        let world = Arc::new(self.clone());
        Ports { log: world.clone(), warehouse: world.clone(), archive: world }
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// How often each event was written to `table`, refused or not.
    pub(crate) fn written(&self, table: &str) -> Times {
        self.notes().written.get(table).cloned().unwrap_or_default()
    }

    /// How many writes to `table` are under way.
    pub(crate) fn writing(&self, table: &str) -> usize {
        self.notes().writing.get(table).copied().unwrap_or_default()
    }

    /// How often each event was put into the archive.
    pub(crate) fn archived(&self) -> Times {
        self.notes().archived.clone()
    }

    /// Leases that were acknowledged.
    pub(crate) fn leases(&self) -> usize {
        self.notes().leases.len()
    }

    /// The most messages, and payload bytes, that were on loan at a time.
    pub(crate) fn most_on_loan(&self) -> (usize, u64) {
        let notes = self.notes();
        (notes.most_messages, notes.most_bytes)
    }

    /// The next `times` writes to `table` panic once they are committed.
    pub(crate) fn panic_after_commit(&self, table: &str, times: usize) {
        self.notes().fatal_commits.insert(table.to_owned(), times);
    }

    /// The next `times` writes to `table` fail at once.
    pub(crate) fn fail_writes(&self, table: &str, times: usize) {
        self.notes().unanswered_writes.insert(table.to_owned(), times);
    }

    /// From now on calls of this name are never answered: `write TABLE`, `put`, `pull` or
    /// `acknowledge`.
    pub(crate) fn hang(&self, call: &'static str) {
        self.notes().hanging.insert(call);
    }

    /// Calls of this name are answered again; those that hang stay as they are.
    pub(crate) fn answer(&self, call: &str) {
        self.notes().hanging.remove(call);
    }

    async fn meet(&self, call: &str) {
        if self.notes().hanging.contains(call) {
            std::future::pending().await
        }
    }

    /// Whether the log was closed.
    pub(crate) fn is_closed(&self) -> bool {
        self.notes().closed
    }

    /// From now on the warehouse reports that it has ended.
    pub(crate) fn end_warehouse(&self) {
        self.notes().ended = true;
    }

    /// From now on, storing a part with `text` in it panics.
    pub(crate) fn panic_at_line(&self, text: &str) {
        self.notes().fatal_line = Some(text.to_owned());
    }

    /// From now on, acknowledging panics.
    pub(crate) fn panic_at_acknowledgements(&self) {
        self.notes().fatal_acknowledgements = true;
    }

    /// Has `look` called whenever a part is put.
    pub(crate) fn at_put(&self, look: impl FnMut() + Send + 'static) {
        self.notes().at_put = Some(Box::new(look));
    }

    /// The dead letters by event id, each as its columns' texts.
    pub(crate) fn dead_letters(&self) -> BTreeMap<String, BTreeMap<String, String>> {
        let spec = dead_letter_table::spec();
        let letter = |row: Row| -> BTreeMap<String, String> {
            let named = spec.columns.iter().zip(row.0);
            named.map(|(column, value)| (column.name.clone(), shown(&value))).collect()
        };
        let letters = self.warehouse.rows(dead_letter_table::NAME).into_iter().map(letter);
        letters.map(|letter| (letter["event_id"].clone(), letter)).collect()
    }

    /// Counts each event in the archive, as a reader sees it.
    pub(crate) async fn read_archive(&self) -> Times {
        let lines = kappa_actors::testing::archive_store::lines(&self.archive).await;
        times(lines.iter().flat_map(|(_, lines)| lines).map(|line| id_of(line)))
    }

    fn lend(&self, pulled: Pulled) -> Pulled {
        let Pulled::Messages(mut messages) = pulled else { return pulled };
        let mut notes = self.notes();
        for message in &mut messages {
            let at = message.attributes.as_ref().and_then(|all| all.get(AT)?.parse().ok());
            message.publish_time = at.map_or(message.publish_time, Timestamp::from_micros);
            notes.sizes.insert(message.id.to_string(), message.payload.len() as u64);
        }
        let on_loan = self.log.outstanding();
        let bytes = on_loan.iter().map(|id| notes.sizes[id.as_str()]).sum();
        notes.most_messages = notes.most_messages.max(on_loan.len());
        notes.most_bytes = notes.most_bytes.max(bytes);
        Pulled::Messages(messages)
    }
}

/// A write that is under way, until it is dropped.
struct Writing<'w>(&'w World, String);

impl<'w> Writing<'w> {
    fn begin(world: &'w World, table: &str) -> Self {
        *world.notes().writing.entry(table.to_owned()).or_default() += 1;
        Self(world, table.to_owned())
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        *self.0.notes().writing.get_mut(&self.1).unwrap() -= 1;
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Text(text) => text.to_string(),
        Value::Integer(number) => number.to_string(),
        Value::Null => String::new(),
        other => format!("{other:?}"),
    }
}

pub(crate) fn times(ids: impl IntoIterator<Item = String>) -> Times {
    let mut times = Times::new();
    for id in ids {
        *times.entry(id).or_default() += 1;
    }
    times
}

fn id_of(line: &str) -> String {
    let event: serde_json::Value = serde_json::from_str(line).unwrap();
    event["event_id"].as_str().unwrap().to_owned()
}

#[async_trait]
impl EventLog for World {
    async fn pull(&self, room: Room, patience: Duration) -> Result<Pulled, LogError> {
        self.meet("pull").await;
        Ok(self.lend(self.log.pull(room, patience).await?))
    }

    async fn acknowledge(&self, leases: &[Lease]) -> Result<(), LogError> {
        assert!(!self.notes().fatal_acknowledgements, "injected panic");
        self.meet("acknowledge").await;
        self.log.acknowledge(leases).await?;
        self.notes().leases.extend(leases);
        Ok(())
    }

    async fn give_back(&self, leases: &[Lease]) -> Result<(), LogError> {
        self.log.give_back(leases).await
    }

    async fn seek(&self, to: Timestamp) -> Result<Sought, LogError> {
        self.log.seek(to).await
    }

    async fn publish(&self, messages: Vec<NewMessage>) -> Vec<Result<String, PublishError>> {
        self.log.publish(messages).await
    }

    async fn backlog(&self) -> Result<Backlog, LogError> {
        self.log.backlog().await
    }

    async fn close(&self) {
        self.notes().closed = true;
        self.log.close().await;
    }
}

#[async_trait]
impl Warehouse for World {
    async fn ensure_table(&self, table: &TableSpec) -> Result<Ensured, EnsureError> {
        self.warehouse.ensure_table(table).await
    }

    async fn is_empty(&self, table: &TableSpec) -> Result<bool, EnsureError> {
        self.warehouse.is_empty(table).await
    }

    async fn write(
        &self,
        table: &Arc<TableSpec>,
        rows: Arc<Vec<Row>>,
    ) -> Result<Written, WriteError> {
        self.meet(&format!("write {}", table.name)).await;
        if let Some(left) = self.notes().unanswered_writes.get_mut(&table.name)
            && *left > 0
        {
            *left -= 1;
            return Err(WriteError::Unavailable("told to be".to_owned()));
        }
        let _under_way = Writing::begin(self, &table.name);
        let refused = self.warehouse.write(table, Arc::clone(&rows)).await?;
        let mut notes = self.notes();
        for row in rows.iter() {
            let written = notes.written.entry(table.name.clone()).or_default();
            *written.entry(shown(&row.0[0])).or_default() += 1;
        }
        let fatal = notes.fatal_commits.get_mut(&table.name).filter(|left| **left > 0);
        if let Some(left) = fatal {
            *left -= 1;
            drop(notes);
            panic!("died of its own commit");
        }
        Ok(refused)
    }

    fn ended(&self) -> Option<String> {
        self.notes().ended.then(|| "its thread panicked".to_owned())
    }
}

#[async_trait]
impl ArchiveStore for World {
    async fn put_if_absent(&self, name: &str, body: Bytes) -> Result<Put, StoreError> {
        self.meet("put").await;
        if let Some(look) = &mut self.notes().at_put {
            look();
        }
        let text = String::from_utf8_lossy(&body).into_owned();
        let fatal = self.notes().fatal_line.clone();
        assert!(!fatal.is_some_and(|line| text.contains(&line)), "a line too many");
        let put = self.archive.put_if_absent(name, body).await?;
        if name.starts_with("parts/") {
            let mut notes = self.notes();
            for line in text.lines() {
                *notes.archived.entry(id_of(line)).or_default() += 1;
            }
        }
        Ok(put)
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        self.archive.list(prefix).await
    }

    async fn info(&self, name: &str) -> Result<ObjectInfo, StoreError> {
        self.archive.info(name).await
    }

    async fn read(&self, name: &str) -> Result<ByteStream, StoreError> {
        self.archive.read(name).await
    }

    async fn compose(&self, name: &str, sources: &[ObjectRef]) -> Result<Put, StoreError> {
        self.archive.compose(name, sources).await
    }

    async fn delete(&self, object: &ObjectRef) -> Result<(), StoreError> {
        self.archive.delete(object).await
    }
}
