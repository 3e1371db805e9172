//! One replay, from its begin or its resumption to its end.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use kappa_actors::archive::{WINDOW, objects_between};
use kappa_actors::pipeline::{Intake, Pipeline, Plan, Ports, ProcessorSpec};
use kappa_actors::port::{ArchiveStore, Reprocessing};
use kappa_actors::processor::Processor as _;
use kappa_actors::replay::{Fault, Journal, JournalError, ReplayRange, Resumed, Witness};
use kappa_actors::row::TableSpec;
use kappa_actors::time::Timestamp;
use kappa_actors::vitals::Board;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::files;
use super::history::{History, Progress};
use super::imports;
use super::own_log::OwnLog;
use super::room::{make_room, undo};
use super::staged::StagedWarehouse;
use super::{MAX_OUTSTANDING, ReplayError, ReplayPlan, Source, Target};
use crate::daemon::{Files, status_branch};
use crate::settings::Settings;
use crate::status::StatusOptions;
use crate::wiring::{self, Blueprint, Rule};

/// The interval of progress reports.
const TICK: Duration = Duration::from_secs(1);

/// Ticks between two notes in the journal: the longest stretch that is read again after a crash.
const TICKS_A_NOTE: u32 = 10;

/// How long one note may delay the progress report; it is tried again.
const NOTE_PATIENCE: Duration = Duration::from_secs(5);

/// The name in the journal of a replay from the log after its subscription was moved to the beginning of the range.
const SOUGHT: &str = "sought";

/// How the job is to work.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Events a second, at most.
    pub rate: Option<NonZeroU32>,
    /// Drop the rows that an earlier replay staged for these tables.
    pub replace: bool,
    /// Unreadable lines of the archive and events missing from the log are left out, and the
    /// replay is complete without them.
    pub skip_damaged: bool,
    /// Archived payloads without positions are imported into tables that have rows.
    pub as_import: bool,
}

/// A running replay.
pub struct Job {
    id: String,
    plan: ReplayPlan,
    options: Options,
    pipeline: Pipeline,
    board: Arc<Board>,
    address: SocketAddr,
    history: History,
    journal: Journal,
    archive: Arc<dyn ArchiveStore>,
    staging: Option<Arc<dyn Reprocessing>>,
    tables: Vec<Arc<TableSpec>>,
    drain_timeout: Duration,
    files: Files,
    /// It was not begun by another process.
    fresh: bool,
    reached_the_end: bool,
}

/// The result of a replay, as far as this process knows.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Its id.
    pub id: String,
    /// Nothing is left to resume.
    pub complete: bool,
    /// Events whose rows and dead letters are durable.
    pub events: u64,
    /// Rows written, by live table.
    pub rows: BTreeMap<String, u64>,
    /// Events, or their rows, that became dead letters.
    pub dead_letters: u64,
    /// Archived objects that could not be read to their end, and events that the log has lost.
    pub faults: Vec<Fault>,
    /// Where nothing was replayed: from when and up to when the archive holds published events.
    pub held: Option<ReplayRange>,
}

impl Job {
    /// Begins a new replay.
    ///
    /// # Errors
    /// [`ReplayError`]: nothing was replayed.
    pub async fn begin(
        settings: &Settings,
        blueprint: &Blueprint,
        mut plan: ReplayPlan,
        options: Options,
    ) -> Result<Self, ReplayError> {
        if plan.source == Source::Files {
            plan.files = files::absolute(&plan.files)?;
            // Before anything is made: a pattern may match nothing.
            files::find(settings, &plan.files).await?;
        }
        for rule in blueprint.processors.iter().filter(|rule| plan.has(rule)) {
            check_keyed(rule)?;
        }
        let archive = wiring::open_archive(settings).await?;
        let tables = tables(blueprint, &plan);
        if plan.source == Source::Archive && !options.as_import {
            let warehouse = wiring::open_warehouse(settings, Arc::clone(&archive)).await?;
            imports::check(&*archive, plan.range(), &*warehouse, &tables).await?;
        }
        let staging = open_staging(settings, &plan).await?;
        if let Some(staging) = &staging {
            make_room(&**staging, &tables, options.replace).await?;
        }
        let journal = Journal::begin(Arc::clone(&archive), &plan).await?;
        let id = journal.id().to_owned();
        let resumed = Resumed { journal, plan, done: HashSet::new() };
        let stores = (Arc::clone(&archive), staging.clone());
        match Self::start(settings, blueprint, resumed, stores, options).await {
            Ok(job) => Ok(Self { fresh: true, ..job }),
            Err(error) => {
                undo(archive, staging, &tables, &id).await;
                Err(error)
            }
        }
    }

    /// Goes on with the replay of this id.
    ///
    /// # Errors
    /// [`ReplayError`].
    pub async fn resume(
        settings: &Settings,
        blueprint: &Blueprint,
        id: &str,
        options: Options,
    ) -> Result<Self, ReplayError> {
        let archive = wiring::open_archive(settings).await?;
        let resumed = Journal::resume::<ReplayPlan>(Arc::clone(&archive), id).await?;
        resumed.plan.check_unchanged(blueprint)?;
        let staging = open_staging(settings, &resumed.plan).await?;
        Self::start(settings, blueprint, resumed, (archive, staging), options).await
    }

    async fn start(
        settings: &Settings,
        blueprint: &Blueprint,
        Resumed { mut journal, plan, done }: Resumed<ReplayPlan>,
        (archive, staging): (Arc<dyn ArchiveStore>, Option<Arc<dyn Reprocessing>>),
        options: Options,
    ) -> Result<Self, ReplayError> {
        let id = journal.id().to_owned();
        let tables = tables(blueprint, &plan);
        let mut warehouse = wiring::open_warehouse(settings, Arc::clone(&archive)).await?;
        if let Some(staging) = &staging {
            let revision = |table: &str| blueprint.revision(table);
            let tables = (&tables[..], revision);
            let staged = StagedWarehouse::stage(warehouse, &**staging, tables, &id).await?;
            warehouse = Arc::new(staged);
        }
        let history = match plan.source {
            Source::Archive => {
                let envelope = Arc::clone(&blueprint.envelope);
                History::archive(Arc::clone(&archive), plan.range(), envelope, done, options.rate)
            }
            Source::Files => {
                let found = files::find(settings, &plan.files).await?;
                History::files(found, plan.range(), &blueprint.envelope, done, options.rate)
            }
            Source::DeadLetters => {
                let store = wiring::open_dead_letters(settings).await?;
                History::letters(store, plan.range(), options.rate).await?
            }
            Source::Log => {
                let own = OwnLog::open(settings, &id, plan.from, done.contains(SOUGHT)).await?;
                // Not before: a new subscription without a seek begins at the log's end.
                journal.note(vec![SOUGHT.to_owned()]).await?;
                History::of_log(own, plan.range(), options.rate)
            }
        };
        let held_in = Arc::clone(&archive);
        let ports = wiring::with_faults(settings, Ports { log: history.log(), warehouse, archive });
        let board = Board::new();
        board.set_instance(&format!("replay {id}"));
        let status =
            StatusOptions { ingest: false, ..StatusOptions::of(settings).on_a_free_port() };
        let (address, others) = status_branch(settings, status, &board, &ports.log).await?;
        let files = Files::of(&ports);
        let mut pipeline_plan = pipeline_plan(settings, blueprint, &plan, &id);
        pipeline_plan.event_time = plan.event_range();
        pipeline_plan.requeued = history.open_letters();
        let pipeline =
            Pipeline::start(pipeline_plan, ports, Arc::clone(&board), Intake::ToTheEnd, others)
                .await?;
        Ok(Self {
            id,
            plan,
            options,
            pipeline,
            board,
            address,
            history,
            journal,
            archive: held_in,
            staging,
            tables,
            drain_timeout: settings.drain_timeout,
            files,
            fresh: false,
            reached_the_end: false,
        })
    }

    /// By which it can be resumed.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns its plan.
    #[must_use]
    pub fn plan(&self) -> &ReplayPlan {
        &self.plan
    }

    /// Where its status is served.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How far it is.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.history.progress()
    }

    /// Works to the end of history; `tick` hears each second how many events are done. Cancelling
    /// loses nothing: end it then.
    ///
    /// # Errors
    /// [`ReplayError::Failed`], [`ReplayError::Gone`] or [`JournalError::Shared`]: end it.
    pub async fn run(&mut self, mut tick: impl FnMut(&Progress, u64)) -> Result<(), ReplayError> {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for count in 1.. {
            tokio::select! {
                idle = self.pipeline.idle() => {
                    idle?;
                    break;
                }
                _ = ticks.tick() => {}
            }
            tick(&self.history.progress(), self.board.counters().acked.get());
            if count % TICKS_A_NOTE == 0 {
                self.check_history().await?;
                self.note().await?;
            }
        }
        self.check_history().await?;
        tracing::info!("nothing is left to do: stopping");
        self.reached_the_end = true;
        Ok(())
    }

    async fn check_history(&self) -> Result<(), ReplayError> {
        match timeout(NOTE_PATIENCE, self.history.is_gone()).await {
            Ok(true) => Err(ReplayError::Gone(self.id.clone())),
            Ok(false) | Err(_) => Ok(()),
        }
    }

    /// Records the finished part. If the store does not answer, the next note repeats it.
    async fn note(&mut self) -> Result<(), JournalError> {
        let done = self.history.take_done();
        match timeout(NOTE_PATIENCE, self.journal.note(done)).await {
            Ok(Err(error @ JournalError::Shared(_))) => Err(error),
            Ok(Err(error)) => {
                tracing::warn!(%error, "the replay's journal cannot be written at present");
                Ok(())
            }
            Ok(Ok(())) | Err(_) => Ok(()),
        }
    }

    /// Ends it: settles the events in flight, records the finished part, and, if that is the whole range, marks its
    /// staging tables as complete.
    ///
    /// # Errors
    /// [`ReplayError`]: durable rows stay; resume it.
    pub async fn end(mut self) -> Result<Ended, ReplayError> {
        let missing = self.files.held_up().await?;
        let stopped = self.pipeline.stop(self.drain_timeout).await;
        let mut faults = self.history.progress().faults;
        let fault = |reason| Fault { object: self.plan.source.to_string(), line: 0, reason };
        faults.extend(missing.into_iter().map(fault));
        let whole = faults.is_empty() || self.options.skip_damaged;
        let complete = self.reached_the_end && stopped.given_back == 0 && whole;
        let counters = self.board.counters();
        let events = counters.acked.get().saturating_sub(counters.left_out.get());
        self.journal.note(self.history.take_done()).await?;
        let held = match self.plan.source {
            Source::Archive if events == 0 => held(&*self.archive).await,
            _ => None,
        };
        if complete {
            if let Some(staging) = &self.staging {
                // An empty replay has nothing to merge, and must not block the next one.
                let nothing = self.fresh && events == 0;
                for table in &self.tables {
                    staging.complete(&table.name, &self.id).await?;
                    if nothing {
                        staging.drop_staging(&table.name).await?;
                    }
                }
            }
            self.journal.finish().await?;
            self.history.remove().await;
        }
        self.files.close().await;
        let mut rows = counters.rows_by_table();
        rows.retain(|name, _| self.tables.iter().any(|table| table.name == *name));
        let dead_letters = counters.dead_lettered();
        Ok(Ended { id: self.id, complete, events, rows, dead_letters, faults, held })
    }
}

/// From when and up to when the archive holds published events, by whole windows. `None` if
/// it holds none or cannot be listed now.
async fn held(archive: &dyn ArchiveStore) -> Option<ReplayRange> {
    let [first, last] = [i64::MIN / 2, i64::MAX / 2].map(Timestamp::from_micros);
    let objects = objects_between(archive, first, last).await.ok()?;
    let starts = || objects.iter().map(|object| object.window.start());
    Some(ReplayRange { from: starts().min()?, to: starts().max()?.after(WINDOW) })
}

/// The pipeline's plan: the chosen processors, and in staging the witness.
fn pipeline_plan(settings: &Settings, blueprint: &Blueprint, plan: &ReplayPlan, id: &str) -> Plan {
    let mut live = blueprint.plan(settings);
    let reader = &mut live.actors.reader;
    reader.max_outstanding_messages = reader.max_outstanding_messages.min(MAX_OUTSTANDING);
    // History is old: the age of its rows has no meaning.
    live.processors.iter_mut().for_each(|spec| spec.freshness = None);
    let (here, elsewhere): (Vec<_>, Vec<_>) = live
        .processors
        .into_iter()
        .partition(|spec| plan.rules.contains_key(spec.processor.name()));
    live.processors = here;
    if plan.into == Target::Staging {
        let witness = Witness::of(id);
        let writer = settings.actors.writer.of(&witness.table().name).clone();
        live.processors.push(ProcessorSpec {
            processor: Arc::new(witness),
            observes: true,
            restart: settings.actors.processor.of(Witness::NAME).restart.clone(),
            writer,
            freshness: None,
        });
    }
    let patterns = elsewhere.iter().map(|spec| spec.processor.patterns().to_vec());
    let staging_replay = (plan.into == Target::Staging).then(|| id.to_owned());
    Plan { elsewhere: patterns.collect(), archive: None, staging_replay, ..live }
}

fn tables(blueprint: &Blueprint, plan: &ReplayPlan) -> Vec<Arc<TableSpec>> {
    let rules = blueprint.processors.iter().filter(|rule| plan.has(rule));
    rules.map(|rule| Arc::clone(rule.plan.table())).collect()
}

async fn open_staging(
    settings: &Settings,
    plan: &ReplayPlan,
) -> anyhow::Result<Option<Arc<dyn Reprocessing>>> {
    match plan.into {
        Target::Staging => Ok(Some(wiring::open_staging(settings).await?)),
        Target::Live => Ok(None),
    }
}

/// Without a key every replayed row would be added to those that are there.
fn check_keyed(rule: &Rule) -> Result<(), ReplayError> {
    let (name, table) = (rule.plan.name(), rule.plan.table());
    if !table.key.is_empty() {
        return Ok(());
    }
    Err(ReplayError::refused(
        format!("table {} has no key: a replay would add all its rows again", table.name),
        format!("give processors.{name} a key, or name the others with --processors"),
    ))
}
