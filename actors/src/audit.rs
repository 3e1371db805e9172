//! Compares the tables with the archive: runs its events through the present rules and asks the
//! warehouse for the current row of each key.
//!
//! Nothing is written. A row at least as new as the expected one is right. A row that the same
//! message made under a lower revision is reported, and is no fault. A row of an older message is
//! stale. An open dead letter of the same message and processor accounts for a missing or stale row;
//! an event of which the present rules make no row must be a dead letter, unless a row of its key is
//! at least as new. Everything else is a [`Finding`]. Values are compared on request, at equal
//! versions only. Rows of tables without keys are counted by the id of their event or message.
//!
//! A line of an archive of payloads has no message id and no publish time. There a row of the key
//! counts as right, whichever log wrote it, unless its `order_by` value is lower; only an imported row
//! can be older, by its event time. A dead letter is found by its payload.
//!
//! The indexes of the archive's finals show lost files, and lost and edited lines.
//!
//! Only complete windows are audited: sealed, acknowledged, and older than the staleness of their
//! tables. The windows left out are reported first. A repeated line is counted and is no fault: the
//! archive is at least once.
//!
//! Events are compared in batches, for any range: one batch is collected while the warehouse
//! answers for the previous one. For the window being read a hash of each line is kept, to notice
//! repetitions, and a hash of each missing row, to name it once.

mod account;
mod batch;
mod expect;
mod reader;
mod report;
mod run;
mod scope;
#[cfg(test)]
mod tests;
mod values;

use std::collections::HashSet;
use std::sync::Arc;

use self::expect::Rules;
use self::reader::Reader;
use self::run::Run;
use self::scope::{Listing, Table};
use crate::archive::SealError;
use crate::dead_letter_table;
use crate::envelope::EnvelopePlan;
use crate::port::{Acknowledged, ArchiveStore, AuditError, Auditable, LogError, StoreError};
use crate::processor::{Processor, Trace};
use crate::replay::ReplayRange;

pub use report::{
    Difference, Finding, LeftOut, Reason, Standing, Summary, TableTally, Tally, Told, What,
};

/// Why an audit did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum AuditFailure {
    /// The archive cannot be listed.
    #[error(transparent)]
    List(#[from] SealError),
    /// The archive cannot be read on.
    #[error(transparent)]
    Read(#[from] StoreError),
    /// The log cannot report which messages are acknowledged.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The warehouse has no answer.
    #[error(transparent)]
    Warehouse(#[from] AuditError),
    /// The comparison panicked.
    #[error("the comparison broke off: {0}")]
    Broken(String),
}

/// The archive, rules and tables of an audit.
pub struct Audit {
    /// The archive.
    pub archive: Arc<dyn ArchiveStore>,
    /// The warehouse.
    pub warehouse: Arc<dyn Auditable>,
    /// Where an event keeps its identity.
    pub envelope: Arc<EnvelopePlan>,
    /// The present rules, in their order.
    pub processors: Vec<Arc<dyn Processor>>,
    /// Compares the values of rows, but for these columns, each with its processor's name: they
    /// differ from run to run. `None`: compares no values.
    pub values: Option<HashSet<(String, String)>>,
}

/// Which events are audited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Selection {
    /// Only events that were published in this range.
    pub published: ReplayRange,
    /// Only events whose own time is in this range, if it is given. An event without a readable time
    /// is audited too.
    pub event_time: Option<ReplayRange>,
}

impl Audit {
    /// Audits the events of `selection`; passes each result to the callback until it returns
    /// `false`. `acknowledged` is awaited after the archive was listed, not before.
    ///
    /// # Errors
    /// [`AuditFailure`]: the results passed until then are true, but incomplete.
    pub async fn run(
        &self,
        Selection { published: range, event_time }: Selection,
        acknowledged: impl Future<Output = Result<Acknowledged, LogError>>,
        tell: &mut dyn FnMut(Told) -> bool,
    ) -> Result<Summary, AuditFailure> {
        let listing = Listing::of(&*self.archive, range).await?;
        let acknowledged = acknowledged.await?;
        let processors = self.processors.iter().cloned();
        let rules = Arc::new(Rules::new(
            Arc::clone(&self.envelope),
            processors,
            event_time,
            self.values.as_ref(),
        ));
        let letters = self.warehouse.staleness(&dead_letter_table::spec());
        let tables = rules.processors.iter().map(|rule| Table {
            name: &rule.processor.table().name,
            staleness: self.warehouse.staleness(rule.processor.table()).max(letters),
            lost: match rule.trace {
                Trace::Lost(why) => Some(why),
                Trace::Key | Trace::Event(_) => None,
            },
        });
        let tables: Vec<_> = tables.collect();
        let (windows, left_out, indexes) = listing.divide(acknowledged, &tables);
        let is_empty = windows.is_empty() && left_out.is_empty();
        for left_out in left_out {
            if !tell(Told::LeftOut(left_out)) {
                break;
            }
        }
        let warehouse = Arc::clone(&self.warehouse);
        let mut run = Run::new(Arc::clone(&rules), warehouse, &windows, tell);
        let store = Arc::clone(&self.archive);
        let reader = Reader { store, range, rules, indexes: Arc::new(indexes) };
        run.read(&reader, windows).await?;
        let mut summary = run.summary();
        if is_empty {
            summary.archived = scope::extent(&*self.archive).await?;
        }
        Ok(summary)
    }
}
