//! Rows of a request that was refused as invalid although the table has every column.
//!
//! - The service named no row, so halves are sent, and halves of those that are refused too. The
//!   good rows are written at once.
//! - Rows whose partition cannot be streamed into are refused together, where the service's words name
//!   its bounds. A row that is refused alone for its partition or its size waits for nothing.
//! - A connection that others share may end because of their rows. So the halves go over one of their own.
//! - A change of a table's columns takes minutes to reach the Storage Write API, and until then
//!   every row is refused so. A row that is refused alone therefore waits at first; once that long
//!   has passed, its refusal is final.

use std::sync::Arc;
use std::time::Duration;

use kappa_actors::port::{Refusal, RefusalKind};
use kappa_actors::row::{Row, TableSpec};
use tokio::time::Instant;

use super::WriteMode;
use super::append::{AppendLog, Mark};
use super::bounds::{self, Bounds};
use super::encode::Change;
use super::fault::Fault;
use super::table_writer::TableWriter;

/// A refusal that comes so long after the last one has another cause. Longer than any retry's pause.
const CALM: Duration = Duration::from_secs(3600);

/// Since when requests of one table are refused without a row being named.
#[derive(Debug)]
pub(super) struct Unexplained {
    spread: Duration,
    first: Option<Instant>,
    last: Option<Instant>,
}

impl Unexplained {
    /// `spread` is how long a change of the columns may take to reach the service.
    pub(super) const fn new(spread: Duration) -> Self {
        Self { spread, first: None, last: None }
    }

    /// Notes a refusal, and returns how long a change of the columns may still explain it.
    pub(super) fn note(&mut self) -> Duration {
        let now = Instant::now();
        if self.last.is_some_and(|last| now.duration_since(last) > self.spread + CALM) {
            self.first = None;
        }
        self.last = Some(now);
        let since = now.duration_since(*self.first.get_or_insert(now));
        self.spread.saturating_sub(since)
    }

    /// Starts over after the table changed: the change may explain a new refusal.
    pub(super) fn forget(&mut self) {
        (self.first, self.last) = (None, None);
    }
}

/// What became of the rows that were sent in halves.
#[derive(Default)]
struct Isolated {
    /// Whether any row is written.
    taken: bool,
    /// The rows that an [`AppendLog`] remembers as stored.
    stored: Vec<Mark>,
    refusals: Vec<Refusal>,
    /// The service's words for rows that are not written and still wait.
    waiting: Option<String>,
    /// Requests that were refused.
    refused: usize,
}

impl TableWriter {
    /// Sends the rows of a refused request in halves. `left` is how long a single row may still
    /// wait; `why` are the service's words.
    pub(super) async fn isolate(
        &self,
        rows: &Arc<Vec<Row>>,
        change: Change,
        mut log: Option<&mut AppendLog>,
        left: Duration,
        why: String,
    ) -> Result<Vec<Refusal>, Fault> {
        let mut done = Isolated::default();
        let apart = self.apart();
        let to = apart.as_ref().unwrap_or(self);
        let sent = to.send_halves(rows, change, log.as_deref_mut(), left, why, &mut done).await;
        let waiting = match (sent, done.waiting) {
            (Ok(()), None) => {
                if let Some(log) = log {
                    log.forget(&done.stored);
                }
                return Ok(done.refusals);
            }
            (Err(fault), _) => return Err(fault),
            (Ok(()), Some(why)) => why,
        };
        let left = humantime::format_duration(Duration::from_secs(left.as_secs() + 1));
        Err(Fault::Later(format!(
            "the service refuses rows as invalid, and the table has every column: perhaps its new \
             schema still spreads; what is refused alone in {left} becomes a dead letter: {waiting}"
        )))
    }

    async fn send_halves(
        &self,
        rows: &Arc<Vec<Row>>,
        change: Change,
        mut log: Option<&mut AppendLog>,
        left: Duration,
        why: String,
        done: &mut Isolated,
    ) -> Result<(), Fault> {
        let mut open = Vec::new();
        let mut last = why.clone();
        match done.refuse_outside(&self.table, rows, &why) {
            Some(inside) => open.push(inside),
            // The refusal may have been another write's on the same connection.
            None if self.mode == WriteMode::Upsert => open.push((0..rows.len()).collect()),
            None => done.split((0..rows.len()).collect(), left, why, &mut open),
        }
        while let Some(piece) = open.pop() {
            if piece.is_empty() {
                continue;
            }
            // Where nothing at all is taken a single row is not at fault: enough was tried.
            let enough = 2 * usize::try_from(rows.len().ilog2()).unwrap_or_default() + 2;
            if !left.is_zero() && !done.taken && done.refused > enough {
                done.waiting.get_or_insert(last);
                return Ok(());
            }
            match self.send(rows, &piece, change, log.as_deref_mut()).await {
                Ok(refusals) => {
                    let refused = |at: &usize| refusals.iter().any(|refusal| refusal.row == *at);
                    let taken: Vec<_> = piece.into_iter().filter(|at| !refused(at)).collect();
                    done.taken |= !taken.is_empty();
                    if let Some(log) = log.as_deref_mut() {
                        let taken = taken.iter().filter_map(|&at| rows.get(at));
                        done.stored.extend(log.remember(self, taken));
                    }
                    done.refusals.extend(refusals);
                }
                Err(Fault::Unnamed(why)) => {
                    last.clone_from(&why);
                    done.split(piece, left, why, &mut open);
                }
                Err(fault) => return Err(fault),
            }
        }
        Ok(())
    }
}

impl Isolated {
    /// Refuses the rows that are outside the bounds that the service names, and returns the others; `None`
    /// where that explains nothing.
    fn refuse_outside(&mut self, table: &TableSpec, rows: &[Row], why: &str) -> Option<Vec<usize>> {
        let bounds = Bounds::read(why)?;
        let mut inside = Vec::new();
        for (at, row) in rows.iter().enumerate() {
            match bounds.refusal(table, row) {
                Some(reason) => {
                    let kind = RefusalKind::Partition;
                    self.refusals.push(Refusal { row: at, kind, reason });
                }
                None => inside.push(at),
            }
        }
        (inside.len() < rows.len()).then_some(inside)
    }

    /// Puts the halves of a refused piece on the stack, or settles the row that it consists of.
    fn split(
        &mut self,
        mut piece: Vec<usize>,
        left: Duration,
        why: String,
        open: &mut Vec<Vec<usize>>,
    ) {
        let explained = bounds::explained(&why);
        self.refused += usize::from(explained.is_none());
        match piece[..] {
            [row] if explained.is_some() || left.is_zero() => {
                let kind = explained.unwrap_or(RefusalKind::Unexplained);
                self.refusals.push(Refusal { row, kind, reason: why });
            }
            [_] => self.waiting = Some(why),
            _ => {
                let half = piece.split_off(piece.len() / 2);
                open.extend([half, piece]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_final_after_the_time_that_a_new_schema_spreads_in() {
        let minute = Duration::from_secs(60);
        let mut unexplained = Unexplained::new(5 * minute);
        assert_eq!(unexplained.note(), 5 * minute);
        tokio::time::advance(4 * minute).await;
        assert_eq!(unexplained.note(), minute);
        tokio::time::advance(4 * minute).await;
        assert_eq!(unexplained.note(), Duration::ZERO);
        // A later one is another matter, and so is one after the table changed.
        tokio::time::advance(60 * minute).await;
        assert_eq!(unexplained.note(), Duration::ZERO);
        tokio::time::advance(66 * minute).await;
        assert_eq!(unexplained.note(), 5 * minute);
        tokio::time::advance(5 * minute).await;
        unexplained.forget();
        assert_eq!(unexplained.note(), 5 * minute);
    }
}
