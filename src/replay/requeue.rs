//! Requeues dead letters: a replay of letters into the live tables.
//!
//! Each letter goes to the duty that failed, with its old position, so nothing that is stored is
//! stored again. An event that never was valid has all duties open and is archived too. It works
//! beside a daemon of the same data folder, as a replay does. It has no journal: the marks on the
//! letters show which are done, and a line of a requeue that was killed is found in the archive.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kappa_actors::pipeline::{ArchivePlan, Intake, Pipeline, Plan, Ports};
use kappa_actors::port::{DeadLetterStore, EventLog};
use kappa_actors::replay::{LetterLog, Selection};
use kappa_actors::vitals::Board;

use super::{MAX_OUTSTANDING, ReplayError};
use crate::daemon::Files;
use crate::settings::Settings;
use crate::wiring::{self, Blueprint};

/// A running requeue.
pub struct Requeue {
    pipeline: Pipeline,
    board: Arc<Board>,
    files: Files,
    drain_timeout: Duration,
}

/// The result of a requeue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requeued {
    /// Messages whose rows, or letters of a new failure, are durable.
    pub events: u64,
    /// Rows written, by table.
    pub rows: BTreeMap<String, u64>,
    /// Letters written: they are open again.
    pub failed_again: u64,
    /// Messages that were under way when it was stopped; their letters are still open.
    pub unfinished: u64,
}

impl Requeue {
    /// Starts to requeue the letters with these ids.
    ///
    /// # Errors
    /// [`ReplayError`]: nothing was requeued.
    pub async fn start(
        settings: &Settings,
        blueprint: &Blueprint,
        (store, ids): (Arc<dyn DeadLetterStore>, Vec<String>),
        requeued_too: bool,
    ) -> Result<Self, ReplayError> {
        let archive = wiring::open_archive(settings).await?;
        let warehouse = wiring::open_warehouse(settings, Arc::clone(&archive)).await?;
        let selection = Selection { requeued_too, marks: true, range: None };
        let log = LetterLog::new(store, ids, selection).archived_in(Arc::clone(&archive));
        let log = Arc::new(log);
        let plan = plan(settings, blueprint, &log);
        let log = log as Arc<dyn EventLog>;
        let ports = wiring::with_faults(settings, Ports { log, warehouse, archive });
        let (board, files) = (Board::new(), Files::of(&ports));
        let others = Arc::new(Vec::new);
        let pipeline =
            Pipeline::start(plan, ports, Arc::clone(&board), Intake::ToTheEnd, others).await?;
        Ok(Self { pipeline, board, files, drain_timeout: settings.drain_timeout })
    }

    /// Works until no letter is left. Cancelling loses nothing: end it then.
    ///
    /// # Errors
    /// [`ReplayError::Failed`]: end it.
    pub async fn run(&mut self) -> Result<(), ReplayError> {
        self.pipeline.idle().await?;
        Ok(())
    }

    /// Messages done so far.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.board.counters().acked.get()
    }

    /// Settles the messages in flight, and ends.
    pub async fn end(self) -> Requeued {
        let stopped = self.pipeline.stop(self.drain_timeout).await;
        self.files.close().await;
        let counters = self.board.counters();
        let mut rows = counters.rows_by_table();
        rows.retain(|_, count| *count > 0);
        Requeued {
            events: counters.acked.get(),
            rows,
            failed_again: counters.dead_lettered(),
            unfinished: stopped.given_back as u64,
        }
    }
}

fn plan(settings: &Settings, blueprint: &Blueprint, log: &LetterLog) -> Plan {
    let mut plan = blueprint.plan(settings);
    let reader = &mut plan.actors.reader;
    reader.max_outstanding_messages = reader.max_outstanding_messages.min(MAX_OUTSTANDING);
    // A daemon may be writing the same archive.
    plan.archive = plan.archive.map(|archive| ArchivePlan { exclusive: false, ..archive });
    plan.requeued = Some(log.open_letters());
    plan
}
