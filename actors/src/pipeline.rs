//! A pipeline: the tree of actors over three ports, from its start to its end.
//!
//! Stopping loses nothing. The reader takes no more; sinks flush, windows close; what could not be
//! settled in time is given back to the log. Whoever kills a pipeline instead only causes
//! deliveries to come again.

mod housekeeping;
mod tree;

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use ractor::{Actor, ActorRef};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

use crate::actor::archive::{Recovery, Sweep};
pub use crate::actor::processor::EventFaults;
pub use crate::actor::reader::{Idle, Intake};
use crate::archive::{Compression, LineFormat};
use crate::dead_letter_table;
use crate::delivery::{Account, Duty, Ledger};
use crate::envelope::EnvelopePlan;
use crate::port::{
    ArchiveStore, EnsureError, Ensured, EventLog, LogError, StoreError, Warehouse, watched_log,
};
use crate::processor::Processor;
use crate::replay::{OpenLetters, ReplayRange};
use crate::settings::{ActorSettings, RestartPolicy, WriterSettings};
use crate::supervision::{Child, Order, Supervisor};
use crate::vitals::{Board, OnLoan, Phase};
use tree::Tree;

/// How long a stop waits for the last give-backs and acknowledgements, behind all else.
const FAREWELL: Duration = Duration::from_secs(2);

/// The plan of a pipeline at its start.
#[derive(Clone)]
pub struct Plan {
    /// Where an event keeps its identity.
    pub envelope: Arc<EnvelopePlan>,
    /// The processors, each with its table's writer.
    pub processors: Vec<ProcessorSpec>,
    /// The patterns of processors that are configured and not run here: their event types are not left over for `*`.
    pub elsewhere: Vec<Vec<String>>,
    /// The archive branch; history that is replayed is not archived again.
    pub archive: Option<ArchivePlan>,
    /// Limits and restart policies.
    pub actors: ActorSettings,
    /// Events that processors fail at: fault injection.
    pub faults: EventFaults,
    /// The id of the staging replay, if this is one: its dead letters are its own.
    pub staging_replay: Option<String>,
    /// Only events of this time of their own are processed.
    pub event_time: Option<ReplayRange>,
    /// The dead letters that are being requeued, if the log is one of letters.
    pub requeued: Option<Arc<OpenLetters>>,
}

/// One processor of a pipeline.
#[derive(Clone)]
pub struct ProcessorSpec {
    /// The rule that makes the rows.
    pub processor: Arc<dyn Processor>,
    /// It sees every valid event, besides the processors that take it; its patterns do not count.
    pub observes: bool,
    /// How its actor is restarted.
    pub restart: RestartPolicy,
    /// How its table's writer works.
    pub writer: WriterSettings,
    /// How far the table's rows may be behind: only watched.
    pub freshness: Option<Duration>,
}

/// The form of the archive.
#[derive(Clone, Copy, Debug)]
pub struct ArchivePlan {
    /// The format of a line.
    pub format: LineFormat,
    /// How a part is compressed.
    pub compression: Compression,
    /// This process is the only writer of the archive: windows that are unfinished at the start are finished at once.
    pub exclusive: bool,
}

/// The world behind the actors.
#[derive(Clone)]
pub struct Ports {
    /// Where events come from.
    pub log: Arc<dyn EventLog>,
    /// Where rows go.
    pub warehouse: Arc<dyn Warehouse>,
    /// Where lines go.
    pub archive: Arc<dyn ArchiveStore>,
}

impl fmt::Debug for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ports").finish_non_exhaustive()
    }
}

/// Why a pipeline did not start. Nothing was taken from the log.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A table cannot be made ready.
    #[error("table {table}: {reason}")]
    Table {
        /// The table.
        table: String,
        /// Why.
        reason: EnsureError,
    },
    /// The archive cannot be listed.
    #[error(transparent)]
    Archive(#[from] StoreError),
    /// The tree did not come up.
    #[error("the actors did not start: {0}")]
    Tree(#[from] ractor::SpawnErr),
}

/// The tree failed for good: restarts did not help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Failed(String);

/// How a pipeline ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// Deliveries that were not acknowledged, and so come again.
    pub given_back: usize,
    /// Every window is composed.
    pub archive_closed: bool,
}

/// A running pipeline. Dropping it kills it.
#[derive(Debug)]
pub struct Pipeline {
    tree: Arc<Tree>,
    root: ActorRef<Order>,
    root_ended: JoinHandle<()>,
    intake: watch::Sender<Intake>,
    idle: watch::Receiver<Option<Idle>>,
    acknowledger: JoinHandle<()>,
    watch: JoinHandle<bool>,
    inquiry: JoinHandle<()>,
}

/// Further children of the root, such as the status endpoint; made again for each life of the root.
pub type OtherGroups = Arc<dyn Fn() -> Vec<Child> + Send + Sync>;

impl Pipeline {
    /// Makes the tables ready and starts the tree; events flow when this returns.
    ///
    /// # Errors
    /// [`StartError`]: at start, what would be waited for later is an error.
    pub async fn start(
        plan: Plan,
        ports: Ports,
        board: Arc<Board>,
        intake: Intake,
        others: OtherGroups,
    ) -> Result<Self, StartError> {
        ready(&plan, &ports).await?;
        let account = Account::new(
            plan.actors.reader.max_outstanding_messages as u64,
            plan.actors.reader.max_outstanding_bytes,
        );
        let names = plan.processors.iter().map(|spec| spec.processor.name().to_owned());
        let ledger = Ledger::new(account, names, Arc::clone(&board));
        let tables = plan.processors.iter().map(|spec| spec.processor.table().name.clone());
        show_on_loan(&board, &ledger, tables.collect());
        let (intake, asked) = watch::channel(intake);
        let (idle_now, idle) = watch::channel(None);
        let tree = Tree::plant(plan, ports, ledger, board, (asked, idle_now), others);
        let arguments = (Arc::clone(tree.root_vitals()), tree.groups());
        let (root, root_ended) = Actor::spawn(None, Supervisor, arguments).await?;
        tree.board().set_phase(Phase::Running);
        let acknowledger = tokio::spawn(acknowledge(Arc::clone(&tree)));
        let watch = tokio::spawn(housekeeping::keep_watch(Arc::clone(&tree), root.clone()));
        let inquiry = tokio::spawn(housekeeping::inquire(Arc::clone(&tree)));
        Ok(Self { tree, root, root_ended, intake, idle, acknowledger, watch, inquiry })
    }

    /// Waits until the log has nothing more and nothing is unacknowledged, or the pipeline fails.
    ///
    /// # Errors
    /// [`Failed`]: see [`Self::failed`].
    pub async fn idle(&mut self) -> Result<Idle, Failed> {
        tokio::select! {
            biased;
            () = end_of_either(&mut self.root_ended, &mut self.acknowledger) => {}
            idle = self.idle.wait_for(Option::is_some) => {
                if let Some(idle) = idle.ok().and_then(|idle| *idle) { return Ok(idle) }
            }
        }
        Err(self.failure())
    }

    /// Waits until the root has spent its budget, or the log's acknowledgements panicked. Stop the
    /// pipeline then, and end the process with an error.
    pub async fn failed(&mut self) -> Failed {
        end_of_either(&mut self.root_ended, &mut self.acknowledger).await;
        self.failure()
    }

    fn failure(&self) -> Failed {
        if self.acknowledger.is_finished() {
            return Failed("the event log's acknowledgements panicked".to_owned());
        }
        Failed(self.tree.root_vitals().last_error().unwrap_or_else(|| "the root ended".to_owned()))
    }

    /// Stops: settles the events in flight within `drain_timeout`, and returns the rest to the log.
    pub async fn stop(mut self, drain_timeout: Duration) -> Stopped {
        self.tree.board().set_phase(Phase::Draining);
        self.intake.send_replace(Intake::Closed);
        let deadline = Instant::now() + drain_timeout;
        let archive_closed = timeout_at(deadline, self.drain()).await.unwrap_or(false);
        self.tree.board().announce();
        self.root.kill();
        let log = Arc::clone(&self.tree.ports().log);
        let warehouse = Arc::clone(&self.tree.ports().warehouse);
        let ledger = self.tree.ledger();
        let is_endless = self.watch.is_finished() && (&mut self.watch).await.unwrap_or(false);
        let _ = timeout(FAREWELL, async {
            ledger.close(&*log).await;
            end_of(&mut self.acknowledger).await;
            // Side by side: neither waits for the other's service.
            let close_log = async {
                // An event may be the cause: unclosed, the log takes this end for a kill, and tries
                // the events in flight alone.
                if !is_endless {
                    log.close().await;
                }
            };
            futures::join!(close_log, warehouse.close());
        })
        .await;
        // Settled messages that could not be acknowledged in time come again too.
        let given_back = usize::try_from(ledger.account().messages()).unwrap_or(usize::MAX);
        Stopped { given_back, archive_closed }
    }

    /// Settles everything and closes the archive. False when that cannot be, or the tree is gone.
    async fn drain(&mut self) -> bool {
        tokio::select! {
            biased;
            () = end_of_either(&mut self.root_ended, &mut self.acknowledger) => false,
            archive_closed = settle_and_close(&self.tree) => archive_closed,
        }
    }
}

/// Waits for the end of a task; at once when it has ended before.
async fn end_of(task: &mut JoinHandle<()>) {
    if !task.is_finished() {
        let _ = task.await;
    }
}

async fn end_of_either(one: &mut JoinHandle<()>, other: &mut JoinHandle<()>) {
    tokio::select! {
        () = end_of(one) => {}
        () = end_of(other) => {}
    }
}

async fn settle_and_close(tree: &Tree) -> bool {
    tree.ledger().settled().await;
    let Some(archive) = tree.archive() else { return true };
    archive.close_all().await;
    let sweep: Sweep = archive.sweep();
    match Recovery::new(sweep).look(Instant::now()).await {
        Ok(_) => true,
        Err(error) => {
            tracing::warn!(%error, "unfinished windows are left for the next start");
            false
        }
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        self.root.kill();
        self.acknowledger.abort();
        self.watch.abort();
        self.inquiry.abort();
        self.tree.ledger().abandon();
    }
}

/// Makes sure that every port answers, and every table is as configured.
async fn ready(plan: &Plan, ports: &Ports) -> Result<(), StartError> {
    ports.log.backlog().await?;
    let mut tables: Vec<_> =
        plan.processors.iter().map(|spec| (**spec.processor.table()).clone()).collect();
    tables.push(dead_letter_table::spec());
    for table in &tables {
        let ensured = ports
            .warehouse
            .ensure_table(table)
            .await
            .map_err(|reason| StartError::Table { table: table.name.clone(), reason })?;
        tell(&table.name, &ensured);
    }
    if plan.archive.is_some() {
        // Any listing shows whether the store answers; this one is short.
        ports.archive.list("manifests/").await?;
    }
    Ok(())
}

fn tell(table: &str, ensured: &Ensured) {
    if ensured.created {
        tracing::info!(table, "table created");
    }
    for column in &ensured.added {
        tracing::info!(table, column, "column added");
    }
    for column in &ensured.idle {
        tracing::warn!(
            table,
            column,
            "column is not configured any more: it stays, NULL from now on"
        );
    }
}

/// Registers the messages on loan with the board, for the processors of these tables.
fn show_on_loan(board: &Board, ledger: &Arc<Ledger>, tables: Vec<String>) {
    // The board must not keep the ledger alive, which holds the board.
    let ledger: Weak<Ledger> = Arc::downgrade(ledger);
    board.set_on_loan(Box::new(move || {
        let Some(ledger) = ledger.upgrade() else { return OnLoan::default() };
        // In the order of an event's way: one that moves on meanwhile is seen in either place.
        let unrouted = ledger.oldest(Duty::Route);
        let oldest =
            |(index, table): (usize, &String)| (table.clone(), ledger.oldest(Duty::Process(index)));
        let tables = tables.iter().enumerate().map(oldest).collect();
        OnLoan { holdings: ledger.holdings(), unrouted, tables }
    }));
}

async fn acknowledge(tree: Arc<Tree>) {
    let log = watched_log(&tree.ports().log, &tree.board().calls("event log (acknowledge)"));
    tree.ledger().acknowledge_finished(&*log).await;
}
