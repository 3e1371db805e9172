//! History proven: the archive's events, run through the present rules, against what stands.
//!
//! Nothing is written. For every event the rows are made that its processors make of it, and the
//! warehouse is asked whether each stands, once. What does not stand is accounted for by a dead letter
//! of the same event and processor; an event of which the present rules make no row is expected to
//! be one, unless rows of an earlier rule stand. Everything else is a [`Finding`].
//!
//! Only what must be whole is audited: windows that are sealed, acknowledged, and no fresher than
//! their tables may be stale. What is left out is told before all else. A line that repeats another
//! is counted and is no fault: the archive is at-least-once.
//!
//! Events are compared batch by batch, whatever the range: one batch is collected while the one
//! before is asked for. Of a window that is being read a hash of each line is kept, so that
//! repetitions show, and one of each missing row, so that it is named once.

mod account;
mod batch;
mod expect;
mod reader;
mod report;
mod run;
mod scope;
#[cfg(test)]
mod tests;

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

pub use report::{Finding, LeftOut, Reason, Standing, Summary, TableTally, Tally, Told, What};

/// Why an audit did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum AuditFailure {
    /// The archive cannot be listed.
    #[error(transparent)]
    List(#[from] SealError),
    /// The archive cannot be read on.
    #[error(transparent)]
    Read(#[from] StoreError),
    /// The log does not tell what is acknowledged.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The warehouse has no answer.
    #[error(transparent)]
    Warehouse(#[from] AuditError),
    /// The comparison panicked.
    #[error("the comparison broke off: {0}")]
    Broken(String),
}

/// What is compared with what.
pub struct Audit {
    /// The archive.
    pub archive: Arc<dyn ArchiveStore>,
    /// The warehouse.
    pub warehouse: Arc<dyn Auditable>,
    /// Where an event keeps its identity.
    pub envelope: Arc<EnvelopePlan>,
    /// The present rules, in their order.
    pub processors: Vec<Arc<dyn Processor>>,
}

impl Audit {
    /// Audits the events of `range`, and tells `tell` what it finds until that answers that nobody
    /// listens any more. `acknowledged` is asked once the archive is listed, not before.
    ///
    /// # Errors
    /// [`AuditFailure`]: what was told until then is true, and not all there is.
    pub async fn run(
        &self,
        range: ReplayRange,
        acknowledged: impl Future<Output = Result<Acknowledged, LogError>>,
        tell: &mut dyn FnMut(Told) -> bool,
    ) -> Result<Summary, AuditFailure> {
        let listing = Listing::of(&*self.archive, range).await?;
        let acknowledged = acknowledged.await?;
        let processors = self.processors.iter().cloned();
        let rules = Arc::new(Rules::new(Arc::clone(&self.envelope), processors));
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
        let (windows, left_out) = listing.divide(acknowledged, &tables);
        for left_out in left_out {
            if !tell(Told::LeftOut(left_out)) {
                break;
            }
        }
        let warehouse = Arc::clone(&self.warehouse);
        let mut run = Run::new(Arc::clone(&rules), warehouse, &windows, tell);
        let reader = Reader { store: Arc::clone(&self.archive), range, rules };
        run.read(&reader, windows).await?;
        Ok(run.summary())
    }
}
