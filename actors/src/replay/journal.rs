//! The journal of a replay, kept beside the archive so that a killed replay can be resumed anywhere.
//!
//! `replays/ID/` has the plan, the names of finished objects in batches, and at the end a mark of completion. No file
//! is rewritten. An object is recorded only after all its lines are acknowledged: a kill just before costs reading it
//! again, a kill just after costs nothing. Two processes on one replay would both count the work of one: a process
//! that finds the name of its next batch taken stops.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use rand::RngExt as _;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::port::{ArchiveStore, Put, StoreError};
use crate::time::Timestamp;

/// What all journals' names begin with.
const REPLAYS: &str = "replays/";
const PLAN: &str = "plan.json";
const FINISHED: &str = "finished.json";

/// Why a journal cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The store: try again later.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no replay of this id.
    #[error("no replay {0}")]
    Unknown(String),
    /// Nothing is left of it to resume.
    #[error("the replay {0} is finished")]
    Finished(String),
    /// Another process goes on with the same replay.
    #[error("another process is at work on the replay {0}")]
    Shared(String),
    /// The file was not written by a replay.
    #[error("{name} is damaged: {reason}")]
    Damaged {
        /// The object.
        name: String,
        /// The fault.
        reason: String,
    },
}

/// The journal of one replay, of whose plan it knows only that it can be written down.
pub struct Journal {
    store: Arc<dyn ArchiveStore>,
    id: String,
    next: u32,
    /// The batch of this number, until it is known to be stored: it may be stored already by a call
    /// whose answer was lost, so it does not change any more.
    batch: Vec<String>,
    /// Done, for the batch after it.
    unnoted: Vec<String>,
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A journal that is taken up again.
#[derive(Debug)]
pub struct Resumed<P> {
    /// The journal, to go on with.
    pub journal: Journal,
    /// The plan.
    pub plan: P,
    /// The names of the objects that need not be read again.
    pub done: HashSet<String>,
}

impl Journal {
    /// Begins the journal of a new replay, under an id of its own.
    ///
    /// # Errors
    /// [`JournalError::Store`].
    pub async fn begin(
        store: Arc<dyn ArchiveStore>,
        plan: &(impl Serialize + Sync),
    ) -> Result<Self, JournalError> {
        let id = new_id();
        put(&*store, &id, PLAN, plan).await?;
        Ok(Self { store, id, next: 0, batch: Vec::new(), unnoted: Vec::new() })
    }

    /// Takes up the replay of this id.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn resume<P: DeserializeOwned>(
        store: Arc<dyn ArchiveStore>,
        id: &str,
    ) -> Result<Resumed<P>, JournalError> {
        let prefix = format!("{REPLAYS}{id}/");
        let names: Vec<_> = store.list(&prefix).await?.into_iter().map(|info| info.name).collect();
        let has = |name: &str| names.iter().any(|one| one.strip_prefix(&prefix) == Some(name));
        if !has(PLAN) {
            return Err(JournalError::Unknown(id.to_owned()));
        }
        if has(FINISHED) {
            return Err(JournalError::Finished(id.to_owned()));
        }
        let plan = get(&*store, &format!("{prefix}{PLAN}")).await?;
        let mut done = HashSet::new();
        let mut next = 0;
        for name in names.iter().filter(|name| name.starts_with(&format!("{prefix}done-"))) {
            done.extend(get::<Vec<String>>(&*store, name).await?);
            next += 1;
        }
        let journal =
            Self { store, id: id.to_owned(), next, batch: Vec::new(), unnoted: Vec::new() };
        Ok(Resumed { journal, plan, done })
    }

    /// The replay's id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Notes that these objects are done. After an error they are noted with the next.
    ///
    /// # Errors
    /// [`JournalError::Store`]: go on and note again later; [`JournalError::Shared`]: stop.
    pub async fn note(&mut self, done: Vec<String>) -> Result<(), JournalError> {
        self.unnoted.extend(done);
        loop {
            if self.batch.is_empty() {
                self.batch = std::mem::take(&mut self.unnoted);
            }
            if self.batch.is_empty() {
                return Ok(());
            }
            let file = format!("done-{:06}.json", self.next);
            put(&*self.store, &self.id, &file, &self.batch).await?;
            self.next += 1;
            self.batch.clear();
        }
    }

    /// Notes that nothing is left to do.
    ///
    /// # Errors
    /// As [`Self::note`].
    pub async fn finish(mut self) -> Result<(), JournalError> {
        self.note(Vec::new()).await?;
        put(&*self.store, &self.id, FINISHED, &Timestamp::now().to_string()).await
    }
}

/// The plans of the replays that began and did not finish, by their ids.
///
/// # Errors
/// [`JournalError`].
pub async fn unfinished_replays<P: DeserializeOwned>(
    store: &dyn ArchiveStore,
) -> Result<BTreeMap<String, P>, JournalError> {
    let listed = store.list(REPLAYS).await?;
    let ids_with = |file: &str| -> HashSet<String> {
        let ids = listed.iter().filter_map(|info| {
            info.name.strip_prefix(REPLAYS)?.strip_suffix(file)?.strip_suffix('/')
        });
        ids.map(str::to_owned).collect()
    };
    let finished = ids_with(FINISHED);
    let mut unfinished = BTreeMap::new();
    for id in ids_with(PLAN).difference(&finished) {
        let plan = get(store, &format!("{REPLAYS}{id}/{PLAN}")).await?;
        unfinished.insert(id.clone(), plan);
    }
    Ok(unfinished)
}

/// Ids sort by the time they were made.
fn new_id() -> String {
    let now = Timestamp::now().to_utc().format("%Y%m%dT%H%M%S");
    let random: u32 = rand::rng().random();
    format!("{now}-{random:08x}")
}

/// Writes a new file of a journal. It may exist already if an answer was lost.
async fn put(
    store: &dyn ArchiveStore,
    id: &str,
    file: &str,
    content: &(impl Serialize + Sync + ?Sized),
) -> Result<(), JournalError> {
    let name = format!("{REPLAYS}{id}/{file}");
    let damaged = |error: serde_json::Error| JournalError::Damaged {
        name: name.clone(),
        reason: error.to_string(),
    };
    let body = serde_json::to_vec(content).map_err(damaged)?;
    let crc32c = Some(crc32c::crc32c(&body));
    match store.put_if_absent(&name, Bytes::from(body)).await? {
        Put::Stored(_) => Ok(()),
        Put::Exists(standing) if standing.crc32c == crc32c || file == FINISHED => Ok(()),
        Put::Exists(_) => Err(JournalError::Shared(id.to_owned())),
    }
}

async fn get<T: DeserializeOwned>(store: &dyn ArchiveStore, name: &str) -> Result<T, JournalError> {
    let chunks: Vec<Bytes> = store.read(name).await?.try_collect().await?;
    serde_json::from_slice(&chunks.concat())
        .map_err(|error| JournalError::Damaged { name: name.to_owned(), reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::testing::memory::archive_store::MemoryArchive;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Plan {
        into: String,
    }

    fn plan() -> Plan {
        Plan { into: "staging".to_owned() }
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[tokio::test]
    async fn recorded_progress_is_read_on_resume() {
        let archive = MemoryArchive::new();
        let store: Arc<dyn ArchiveStore> = Arc::new(archive.clone());
        let mut journal = Journal::begin(Arc::clone(&store), &plan()).await.unwrap();
        let id = journal.id().to_owned();
        journal.note(names(&["a", "b"])).await.unwrap();
        journal.note(names(&[])).await.unwrap();
        journal.note(names(&["c"])).await.unwrap();
        drop(journal);
        let unfinished = unfinished_replays::<Plan>(&archive).await.unwrap();
        assert_eq!(unfinished, [(id.clone(), plan())].into());
        let mut resumed = Journal::resume::<Plan>(Arc::clone(&store), &id).await.unwrap();
        assert_eq!(
            (resumed.plan, resumed.done),
            (plan(), ["a", "b", "c"].map(str::to_owned).into())
        );
        resumed.journal.note(names(&["d"])).await.unwrap();
        resumed.journal.finish().await.unwrap();
        assert!(unfinished_replays::<Plan>(&archive).await.unwrap().is_empty());
        let finished = Journal::resume::<Plan>(store, &id).await.unwrap_err();
        assert!(matches!(finished, JournalError::Finished(_)), "{finished}");
    }

    #[tokio::test]
    async fn what_could_not_be_noted_is_noted_with_the_next() {
        let archive = MemoryArchive::new();
        let store: Arc<dyn ArchiveStore> = Arc::new(archive.clone());
        let mut journal = Journal::begin(Arc::clone(&store), &plan()).await.unwrap();
        archive.set_unavailable(true);
        assert!(journal.note(names(&["a"])).await.is_err());
        archive.set_unavailable(false);
        // It is stored, but the answer is lost.
        archive.lose_answers(1);
        assert!(journal.note(names(&["b"])).await.is_err());
        journal.note(names(&["c"])).await.unwrap();
        let id = journal.id().to_owned();
        let resumed = Journal::resume::<Plan>(store, &id).await.unwrap();
        assert_eq!(resumed.done, ["a", "b", "c"].map(str::to_owned).into());
    }

    #[tokio::test]
    async fn two_processes_on_one_replay_do_not_go_on() {
        let store: Arc<dyn ArchiveStore> = Arc::new(MemoryArchive::new());
        let mut one = Journal::begin(Arc::clone(&store), &plan()).await.unwrap();
        let id = one.id().to_owned();
        let mut other = Journal::resume::<Plan>(Arc::clone(&store), &id).await.unwrap().journal;
        one.note(names(&["a"])).await.unwrap();
        let error = other.note(names(&["b"])).await.unwrap_err();
        assert!(matches!(error, JournalError::Shared(_)), "{error}");
    }

    #[tokio::test]
    async fn an_unknown_replay_cannot_be_resumed() {
        let store: Arc<dyn ArchiveStore> = Arc::new(MemoryArchive::new());
        let error = Journal::resume::<Plan>(store, "20260217T143000-00000000").await.unwrap_err();
        assert_eq!(error.to_string(), "no replay 20260217T143000-00000000");
    }
}
