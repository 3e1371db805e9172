//! An archive store in memory.
//!
//! Every client of it sees the same objects and misbehaves by itself: it can be unavailable, lose
//! its answers, die after some calls, be held before a call, and take its calls one poll at a time,
//! so that a test decides how two of them interleave.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream};
use tokio::sync::{Notify, Semaphore, watch};

use crate::port::{ArchiveStore, ByteStream, ObjectInfo, ObjectRef, Put, StoreError};

/// Sources that one call may compose.
const FAN_IN: usize = 32;

/// A client of an archive in memory. A clone is the same client.
#[derive(Clone, Debug)]
pub struct MemoryArchive {
    shared: Arc<Shared>,
    faults: Arc<Mutex<Faults>>,
}

#[derive(Debug)]
struct Shared {
    objects: Mutex<Objects>,
    /// Counts changes, for those who await one.
    changes: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Objects {
    by_name: BTreeMap<String, Object>,
    generations: i64,
}

#[derive(Debug)]
struct Object {
    body: Bytes,
    generation: i64,
}

#[derive(Debug, Default)]
struct Faults {
    unavailable: bool,
    /// Changes that take effect and are answered with an error.
    lost_answers: usize,
    /// Calls left to live.
    calls_left: Option<usize>,
    gate: Option<Arc<Gate>>,
    one_call_a_poll: bool,
}

/// Holds a client's calls before they take effect, until it is opened.
#[derive(Debug)]
pub struct Gate {
    arrived: Notify,
    open: Semaphore,
}

impl Gate {
    /// Waits until a call has reached the gate.
    pub async fn arrived(&self) {
        self.arrived.notified().await;
    }

    /// Lets all calls through, now and later.
    pub fn open(&self) {
        self.open.close();
    }
}

impl Default for MemoryArchive {
    fn default() -> Self {
        let objects = Mutex::new(Objects::default());
        let shared = Arc::new(Shared { objects, changes: watch::Sender::new(0) });
        Self { shared, faults: Arc::default() }
    }
}

impl MemoryArchive {
    /// An empty archive, and a client that behaves.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Another client of the same objects, which behaves.
    #[must_use]
    pub fn client(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), faults: Arc::default() }
    }

    /// From now on every call answers that the store is unavailable, or none does.
    pub fn set_unavailable(&self, unavailable: bool) {
        self.faults().unavailable = unavailable;
    }

    /// The next `changes` take effect and are still answered with an error.
    pub fn lose_answers(&self, changes: usize) {
        self.faults().lost_answers = changes;
    }

    /// After this many calls more, every call of this client fails: as if it had been killed.
    pub fn die_after(&self, calls: usize) {
        self.faults().calls_left = Some(calls);
    }

    /// Holds all calls from now on until the gate is opened.
    #[must_use]
    pub fn hold(&self) -> Arc<Gate> {
        let gate = Arc::new(Gate { arrived: Notify::new(), open: Semaphore::new(0) });
        self.faults().gate = Some(Arc::clone(&gate));
        gate
    }

    /// Makes each call wait one poll before it takes effect, and a listing another in its middle, so that a test
    /// decides which steps happen in between.
    pub fn one_call_a_poll(&self) {
        self.faults().one_call_a_poll = true;
    }

    /// Waits until `wanted` accepts the existing names.
    pub async fn wait_until(&self, mut wanted: impl FnMut(&[String]) -> bool) {
        let mut changes = self.shared.changes.subscribe();
        while !wanted(&self.names()) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// The names of all objects, sorted.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.objects().by_name.keys().cloned().collect()
    }

    /// The bytes of one object.
    #[must_use]
    pub fn body(&self, name: &str) -> Option<Bytes> {
        self.objects().by_name.get(name).map(|object| object.body.clone())
    }

    /// Removes an object behind its owners' backs.
    pub fn lose(&self, name: &str) {
        self.objects().by_name.remove(name);
    }

    /// Puts other bytes in an object's place behind its owners' backs.
    pub fn overwrite(&self, name: &str, body: impl Into<Bytes>) {
        if let Some(object) = self.objects().by_name.get_mut(name) {
            object.body = body.into();
        }
    }

    fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn objects(&self) -> MutexGuard<'_, Objects> {
        self.shared.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What every call goes through before it takes effect.
    async fn enter(&self) -> Result<(), StoreError> {
        self.pause().await;
        let gate = self.faults().gate.clone();
        if let Some(gate) = gate {
            gate.arrived.notify_one();
            // The semaphore has no permits: the wait ends when the gate is opened.
            drop(gate.open.acquire().await);
        }
        let mut faults = self.faults();
        match &mut faults.calls_left {
            Some(0) => faults.unavailable = true,
            Some(left) => *left -= 1,
            None => {}
        }
        if faults.unavailable { Err(unavailable()) } else { Ok(()) }
    }

    async fn pause(&self) {
        if self.faults().one_call_a_poll {
            futures::future::poll_fn(yield_once()).await;
        }
    }

    /// Ends a call that may have changed something.
    fn leave<T>(&self, answer: T, changed: bool) -> Result<T, StoreError> {
        if !changed {
            return Ok(answer);
        }
        self.shared.changes.send_modify(|count| *count += 1);
        let mut faults = self.faults();
        if faults.lost_answers > 0 {
            faults.lost_answers -= 1;
            return Err(unavailable());
        }
        Ok(answer)
    }

    fn leave_put(&self, put: Put) -> Result<Put, StoreError> {
        let stored = matches!(put, Put::Stored(_));
        self.leave(put, stored)
    }

    fn listed(&self, keep: impl Fn(&str) -> bool) -> Vec<ObjectInfo> {
        let objects = self.objects();
        let kept = objects.by_name.iter().filter(|(name, _)| keep(name));
        // Without checksums: a store need not know them when it lists.
        kept.map(|(name, object)| ObjectInfo { crc32c: None, ..object.info(name) }).collect()
    }
}

#[async_trait]
impl ArchiveStore for MemoryArchive {
    async fn put_if_absent(&self, name: &str, body: Bytes) -> Result<Put, StoreError> {
        self.enter().await?;
        check(name)?;
        let put = self.objects().put(name, body);
        self.leave_put(put)
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        self.enter().await?;
        let first = self.listed(|name| name.starts_with(prefix));
        let Some(middle) = first.get(first.len() / 2).map(|info| info.name.clone()) else {
            return Ok(first);
        };
        // Listings come page by page, and a page shows the store as it is by then.
        let mut page: Vec<_> = first.into_iter().filter(|info| info.name < middle).collect();
        self.pause().await;
        page.extend(self.listed(|name| name.starts_with(prefix) && name >= middle.as_str()));
        Ok(page)
    }

    async fn info(&self, name: &str) -> Result<ObjectInfo, StoreError> {
        self.enter().await?;
        self.objects().get(name).map(|object| object.info(name))
    }

    async fn read(&self, name: &str) -> Result<ByteStream, StoreError> {
        self.enter().await?;
        let body = self.objects().get(name)?.body.clone();
        // In small pieces: a reader must not rely on where one ends.
        let pieces: Vec<_> = body.chunks(7).map(|piece| Ok(body.slice_ref(piece))).collect();
        Ok(stream::iter(pieces).boxed())
    }

    async fn compose(&self, name: &str, sources: &[ObjectRef]) -> Result<Put, StoreError> {
        self.enter().await?;
        check(name)?;
        if !(1..=FAN_IN).contains(&sources.len()) {
            return Err(StoreError::Refused(format!("{} sources, not 1 to 32", sources.len())));
        }
        let put = {
            let mut objects = self.objects();
            let mut body = Vec::new();
            for source in sources {
                let object = objects.get(&source.name)?;
                if object.generation != source.generation {
                    return Err(StoreError::NotFound(source.name.clone()));
                }
                body.extend_from_slice(&object.body);
            }
            objects.put(name, body.into())
        };
        self.leave_put(put)
    }

    async fn delete(&self, object: &ObjectRef) -> Result<(), StoreError> {
        self.enter().await?;
        let removed = self.objects().delete(object);
        self.leave((), removed)
    }
}

impl Objects {
    fn get(&self, name: &str) -> Result<&Object, StoreError> {
        self.by_name.get(name).ok_or_else(|| StoreError::NotFound(name.to_owned()))
    }

    fn put(&mut self, name: &str, body: Bytes) -> Put {
        if let Some(standing) = self.by_name.get(name) {
            return Put::Exists(standing.info(name));
        }
        self.generations += 1;
        let object = Object { body, generation: self.generations };
        let info = object.info(name);
        self.by_name.insert(name.to_owned(), object);
        Put::Stored(info)
    }

    /// Returns whether it existed in this version.
    fn delete(&mut self, object: &ObjectRef) -> bool {
        let standing = self.by_name.get(&object.name);
        let stood = standing.is_some_and(|found| found.generation == object.generation);
        if stood {
            self.by_name.remove(&object.name);
        }
        stood
    }
}

impl Object {
    fn info(&self, name: &str) -> ObjectInfo {
        ObjectInfo {
            name: name.to_owned(),
            size: self.body.len() as u64,
            generation: self.generation,
            crc32c: Some(crc32c::crc32c(&self.body)),
        }
    }
}

fn check(name: &str) -> Result<(), StoreError> {
    let odd = |part: &str| part.is_empty() || part == "." || part == "..";
    if name.split('/').any(odd) {
        return Err(StoreError::Refused(format!("{name:?} is no name for an object")));
    }
    Ok(())
}

fn unavailable() -> StoreError {
    StoreError::Unavailable("as the test wants it".to_owned())
}

fn yield_once() -> impl FnMut(&mut Context<'_>) -> Poll<()> {
    let mut yielded = false;
    move |context| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::archive_store::conforms;

    #[tokio::test]
    async fn memory_keeps_every_promise_of_the_port() {
        conforms(MemoryArchive::new).await;
    }

    #[tokio::test]
    async fn a_lost_answer_is_a_change_that_took_effect() {
        let archive = MemoryArchive::new();
        archive.lose_answers(1);
        let body = Bytes::from_static(b"x");
        assert!(archive.put_if_absent("a", body.clone()).await.is_err());
        assert!(matches!(archive.put_if_absent("a", body).await, Ok(Put::Exists(_))));
    }

    #[tokio::test]
    async fn a_client_misbehaves_alone() {
        let archive = MemoryArchive::new();
        let mortal = archive.client();
        mortal.die_after(1);
        assert!(mortal.put_if_absent("a", Bytes::new()).await.is_ok());
        assert!(mortal.info("a").await.is_err());
        assert!(archive.info("a").await.is_ok());
        archive.set_unavailable(true);
        assert!(archive.info("a").await.is_err());
        archive.set_unavailable(false);
        assert!(archive.info("a").await.is_ok());
    }

    #[tokio::test]
    async fn a_held_call_takes_effect_when_the_gate_is_opened() {
        let archive = MemoryArchive::new();
        let held = archive.client();
        let gate = held.hold();
        let put = tokio::spawn(async move { held.put_if_absent("a", Bytes::new()).await.is_ok() });
        gate.arrived().await;
        assert!(archive.names().is_empty());
        gate.open();
        archive.wait_until(|names| names == ["a"]).await;
        assert!(put.await.unwrap());
    }
}
