//! The note of a run, in the archive store, and which runs have died.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt as _;
use kappa_actors::port::{ArchiveStore, ObjectInfo, ObjectRef, StoreError};
use kappa_actors::time::Timestamp;
use serde::{Deserialize, Serialize};

/// The prefix of all notes' names.
const RUNS: &str = "runs/";
const SUFFIX: &str = ".json";
/// A run of another machine is gone for good, whether it ended or died.
const FORGOTTEN: Duration = Duration::from_secs(7 * 86_400);
/// The name of a machine that every container of some services has.
const ANY_HOST: &str = "localhost";

/// The state of a run, for the runs after it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    process: Process,
    /// When it was written.
    at: String,
    /// Runs that died before this one, in a row.
    pub(super) deaths: u32,
    /// Runs whose notes this one has taken over: they count no more.
    #[serde(default)]
    taken_over: BTreeSet<String>,
    /// The messages that are being tried.
    #[serde(default)]
    pub(super) trying: Vec<String>,
    /// Messages that were in a batch at a kill, with the size of the batches to try them in next.
    #[serde(default)]
    pub(super) sizes: BTreeMap<String, usize>,
    /// Messages that were alone at a kill, and at how many.
    #[serde(default)]
    pub(super) alone: BTreeMap<String, u32>,
}

/// A process, distinguished from a later one of the same number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Process {
    host: String,
    pid: u32,
    /// When the machine and the process started.
    started: String,
}

impl Process {
    pub(super) fn this() -> Self {
        let pid = std::process::id();
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Self { host, pid, started: started(pid).unwrap_or_default() }
    }

    /// Whether this process is known to have ended: it ran on the machine of `here`, and is gone.
    fn has_ended(&self, here: &Self) -> bool {
        self.host == here.host
            && self.host != ANY_HOST
            && started(self.pid).is_none_or(|started| started != self.started)
    }
}

/// The boot of the machine and the start of a process, where there is one of this number.
fn started(pid: u32) -> Option<String> {
    // The name of the program, in parentheses, may hold anything; 20 fields behind it is the start.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let start = stat.rsplit(')').next()?.split_whitespace().nth(19)?.to_owned();
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    Some(format!("{} {start}", boot.trim()))
}

impl Note {
    /// Takes over the note of a dead run, and counts its death.
    fn take_over(&mut self, run: &str, dead: Self, sizes: &[usize]) {
        self.deaths = self.deaths.max(dead.deaths + 1);
        self.taken_over.insert(run.to_owned());
        self.learn(&dead);
        let smaller = sizes.iter().find(|size| **size < dead.trying.len());
        match (&dead.trying[..], smaller) {
            ([id], _) => *self.alone.entry(id.clone()).or_default() += 1,
            (ids, Some(smaller)) => {
                self.sizes.extend(ids.iter().map(|id| (id.clone(), *smaller)));
            }
            _ => {}
        }
    }

    /// Adds the knowledge of a run that may still live.
    fn learn(&mut self, other: &Self) {
        for (id, size) in &other.sizes {
            let known = self.sizes.entry(id.clone()).or_insert(*size);
            *known = (*known).min(*size);
        }
        for (id, deaths) in &other.alone {
            let known = self.alone.entry(id.clone()).or_default();
            *known = (*known).max(*deaths);
            self.sizes.insert(id.clone(), 1);
        }
    }

    /// Forgets messages that have passed.
    pub(super) fn pass(&mut self, ids: &[String]) {
        for id in ids {
            self.sizes.remove(id);
            self.alone.remove(id);
        }
    }
}

/// The notes of all runs that read one subscription.
pub(super) struct Notes {
    store: Arc<dyn ArchiveStore>,
    folder: String,
    run: String,
    number: u32,
    /// The object with the present note.
    present: Option<ObjectRef>,
}

impl Notes {
    pub(super) fn of(store: Arc<dyn ArchiveStore>, subscription: &str) -> Self {
        let run = format!("{:016x}", rand::random::<u64>());
        Self { store, folder: format!("{RUNS}{subscription}/"), run, number: 0, present: None }
    }

    /// Reads the notes of others, takes over those of dead runs, and writes the note of this run, which is
    /// returned. `sizes` are those of batches, the largest first.
    pub(super) async fn begin(&mut self, sizes: &[usize]) -> Result<Note, StoreError> {
        let here = Process::this();
        let mut note = Note { process: here.clone(), ..Note::default() };
        let found = self.others().await?;
        let void: BTreeSet<_> = found.values().flat_map(|(note, _)| &note.taken_over).collect();
        let mut gone = Vec::new();
        for (run, (other, objects)) in &found {
            if void.contains(run) {
                gone.extend(objects);
            } else if other.process.has_ended(&here) {
                note.take_over(run, other.clone(), sizes);
                gone.extend(objects);
            } else if other.age() > FORGOTTEN {
                gone.extend(objects);
            } else {
                note.learn(other);
            }
        }
        self.write(&mut note).await?;
        for object in gone {
            let object = ObjectRef { name: object.name.clone(), generation: object.generation };
            self.store.delete(&object).await?;
        }
        Ok(note)
    }

    /// The last note of each run, with all objects of that run.
    async fn others(&self) -> Result<BTreeMap<String, (Note, Vec<ObjectInfo>)>, StoreError> {
        let mut runs: BTreeMap<String, Vec<ObjectInfo>> = BTreeMap::new();
        // In the order of their names, so each run's last note is the last.
        for info in self.store.list(&self.folder).await? {
            let name = info.name.strip_prefix(&self.folder).and_then(|it| it.strip_suffix(SUFFIX));
            let Some((run, _)) = name.and_then(|name| name.split_once('-')) else { continue };
            if run != self.run {
                runs.entry(run.to_owned()).or_default().push(info);
            }
        }
        let mut notes = BTreeMap::new();
        for (run, objects) in runs {
            let Some(last) = objects.last() else { continue };
            let chunks: Vec<Bytes> = match self.store.read(&last.name).await {
                Ok(chunks) => chunks.try_collect().await?,
                // Its run has just ended, or written another.
                Err(StoreError::NotFound(_)) => continue,
                Err(error) => return Err(error),
            };
            match serde_json::from_slice(&chunks.concat()) {
                Ok(note) => _ = notes.insert(run, (note, objects)),
                Err(error) => tracing::warn!(name = last.name, %error, "no note of a run"),
            }
        }
        Ok(notes)
    }

    /// Puts a note in the place of the present one.
    pub(super) async fn write(&mut self, note: &mut Note) -> Result<(), StoreError> {
        note.at = Timestamp::now().to_string();
        let body = serde_json::to_vec(note).map_err(|error| {
            StoreError::Refused(format!("the note of a run cannot be written: {error}"))
        })?;
        // Before the await: a cancelled write may have taken the name.
        self.number += 1;
        let name = format!("{}{}-{:08}{SUFFIX}", self.folder, self.run, self.number);
        let put = self.store.put_if_absent(&name, body.into()).await?;
        let (kappa_actors::port::Put::Stored(info) | kappa_actors::port::Put::Exists(info)) = put;
        let before = self.present.replace(ObjectRef { name, generation: info.generation });
        if let Some(before) = before {
            self.store.delete(&before).await?;
        }
        Ok(())
    }

    /// Removes the note: the run has ended by itself.
    pub(super) async fn end(&mut self) -> Result<(), StoreError> {
        let left = self.store.list(&format!("{}{}-", self.folder, self.run)).await?;
        for info in left {
            let object = ObjectRef { name: info.name, generation: info.generation };
            self.store.delete(&object).await?;
        }
        self.present = None;
        Ok(())
    }
}

impl Note {
    fn age(&self) -> Duration {
        let at = Timestamp::parse_rfc3339(&self.at);
        at.map_or(Duration::ZERO, |at| at.age_at(Timestamp::now()))
    }
}

#[cfg(test)]
mod tests {
    use kappa_actors::testing::memory::archive_store::MemoryArchive;

    use super::*;

    const SIZES: [usize; 3] = [1_024, 32, 1];

    fn ids(count: usize) -> Vec<String> {
        (0..count).map(|id| id.to_string()).collect()
    }

    fn dead(trying: Vec<String>) -> Note {
        Note { trying, ..Note::default() }
    }

    #[test]
    fn a_batch_at_a_kill_is_tried_in_smaller_ones_and_a_single_message_is_counted() {
        let mut note = Note::default();
        note.take_over("a", dead(ids(500)), &SIZES);
        assert_eq!((note.sizes.len(), note.sizes["7"]), (500, 32));
        note.take_over("b", dead(ids(20)), &SIZES);
        assert_eq!((note.sizes["7"], note.sizes["30"]), (1, 32));
        for deaths in 1..3 {
            note.take_over("c", dead(vec!["7".to_owned()]), &SIZES);
            assert_eq!(note.alone["7"], deaths);
        }
        // A run that was killed without a trial accuses none.
        let before = note.clone();
        note.take_over("d", dead(vec![]), &SIZES);
        assert_eq!((&note.sizes, &note.alone), (&before.sizes, &before.alone));
        note.pass(&["7".to_owned()]);
        assert!(!note.sizes.contains_key("7") && note.alone.is_empty());
    }

    #[test]
    fn this_process_has_not_ended_and_one_of_another_start_or_machine_is_not_mistaken_for_it() {
        let this = Process::this();
        assert!(!this.has_ended(&this));
        let earlier = Process { started: "an earlier boot 17".to_owned(), ..this.clone() };
        assert!(earlier.has_ended(&this) || this.host == ANY_HOST);
        let elsewhere = Process { host: "elsewhere".to_owned(), ..earlier.clone() };
        assert!(!elsewhere.has_ended(&this));
        let unknown = Process { host: ANY_HOST.to_owned(), ..earlier };
        assert!(!unknown.has_ended(&unknown));
    }

    #[tokio::test]
    async fn the_death_of_a_run_is_counted_once_although_the_one_that_counted_it_died_at_once() {
        let store: Arc<dyn ArchiveStore> = Arc::new(MemoryArchive::default());
        let notes = || Notes::of(Arc::clone(&store), "s");
        let ended = |note: &mut Note| note.process.started = "an earlier boot 17".to_owned();
        let mut first = notes();
        let mut note = first.begin(&SIZES).await.unwrap();
        note.trying = ids(1);
        ended(&mut note);
        first.write(&mut note).await.unwrap();
        // The second takes it over and dies before it has removed the first's note.
        let left = store.list(RUNS).await.unwrap();
        let [left] = &left[..] else { panic!("{left:?}") };
        let body: Vec<Bytes> = store.read(&left.name).await.unwrap().try_collect().await.unwrap();
        let mut second = notes();
        let mut note = second.begin(&SIZES).await.unwrap();
        assert_eq!((note.alone["0"], note.deaths), (1, 1));
        store.put_if_absent(&left.name, body.concat().into()).await.unwrap();
        ended(&mut note);
        second.write(&mut note).await.unwrap();
        let mut third = notes();
        let note = third.begin(&SIZES).await.unwrap();
        assert_eq!((note.alone["0"], note.deaths), (1, 2));
        assert_eq!(store.list(RUNS).await.unwrap().len(), 1);
        third.end().await.unwrap();
        assert_eq!(store.list(RUNS).await.unwrap(), []);
    }

    #[tokio::test]
    async fn a_run_that_lives_elsewhere_keeps_its_note_and_shares_its_knowledge() {
        let store: Arc<dyn ArchiveStore> = Arc::new(MemoryArchive::default());
        let notes = || Notes::of(Arc::clone(&store), "s");
        let mut other = notes();
        let mut note = other.begin(&SIZES).await.unwrap();
        note.process.host = "elsewhere".to_owned();
        note.alone.insert("7".to_owned(), 2);
        note.trying = ids(1);
        other.write(&mut note).await.unwrap();
        let mut mine = notes();
        let note = mine.begin(&SIZES).await.unwrap();
        assert_eq!((note.deaths, note.alone["7"], note.sizes["7"]), (0, 2, 1));
        assert!(!note.alone.contains_key("0"), "it may live");
        assert_eq!(store.list(RUNS).await.unwrap().len(), 2);
        // Another subscription's runs are no matter of these.
        let mut apart = Notes::of(Arc::clone(&store), "t");
        assert!(apart.begin(&SIZES).await.unwrap().alone.is_empty());
    }
}
