//! Groups rows for one table and commits them.
//!
//! Receives rows from the processor, and reminders from itself. Owns the open batch, those that are
//! on their way to the warehouse, and the claims of their rows. If it crashes, those claims come
//! round again, to their processor alone; no other sink notices. The dead-letter actor is a writer
//! too, of the table `dead_letters`.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::dead_letter::DeadLetters;
use crate::dead_letter_table::Stage;
use crate::delivery::{Claim, Ledger, Posting, Salvaged, Verdict};
use crate::fault_class::FaultClass;
use crate::port::{Refusal, Warehouse, WriteError, Written};
use crate::row::{Row, TableSpec};
use crate::settings::WriterSettings;
use crate::supervision::{Backoff, Errand, Me, Role, RoleError};
use crate::time::Timestamp;
use crate::vitals::{Board, Counter, Outcome, Step, TableMeter, Tally, micros};

/// The writer's mailbox.
#[derive(Debug)]
pub enum WriterMessage {
    /// Rows to be committed with others.
    Write(Rows),
    /// The memory budget is under pressure, or the log is empty: commit the waiting rows.
    Flush,
    /// The batch with this number is due, unless it was sent already.
    Due(u64),
    /// The warehouse has answered for the batch with this number, unless that is known already.
    Answered(u64),
    /// The pause after a failed commit is over.
    Retry,
}

/// Rows, and the claims that are settled when they are written.
#[derive(Debug, Default)]
pub struct Rows {
    /// The rows of all claims, in the claims' order.
    pub rows: Vec<Row>,
    /// Each claim with the number of its rows; at least 1.
    pub claims: Vec<(Claim, usize)>,
}

impl Rows {
    /// Whether this is one suspect, to be written alone.
    fn is_isolated(&self) -> bool {
        self.claims.iter().any(|(claim, _)| claim.is_isolated())
    }
}

/// The treatment of an event with a row that the warehouse refuses.
#[derive(Clone, Debug)]
pub enum OnRefusal {
    /// It becomes a dead letter of this processor.
    Condemn {
        /// Where it goes.
        dead_letters: DeadLetters,
        /// Whose row it was.
        processor: String,
    },
    /// It is a dead letter already, and there is nowhere else for it to go: it comes round again.
    Again,
}

/// Ports and shared state of a writer.
#[derive(Clone)]
pub struct WriterPorts {
    /// Where the rows go.
    pub warehouse: Arc<dyn Warehouse>,
    /// The table.
    pub table: Arc<TableSpec>,
    /// The ledger of the messages on loan.
    pub ledger: Arc<Ledger>,
    /// The treatment of refused rows.
    pub on_refusal: OnRefusal,
    /// Receives how many more rows are committed.
    pub count_written: Arc<dyn Fn(u64) + Send + Sync>,
    /// Counts the rows that a newer version kept out.
    pub superseded: Arc<Counter>,
    /// Measures the commits, and how old their events are.
    pub meter: Arc<TableMeter>,
    /// Where attempts are counted, as which step.
    pub board: Arc<Board>,
    /// [`Step::Commit`] or [`Step::DeadLetter`].
    pub step: Step,
}

impl WriterPorts {
    fn count_attempt(&self, answer: &Result<Written, WriteError>) {
        let outcome = match answer {
            Ok(Written { refusals, .. }) if refusals.is_empty() => Outcome::Done,
            Ok(_) => Outcome::Refused,
            Err(WriteError::Gone(_)) => Outcome::Gone,
            Err(WriteError::Unavailable(_)) => Outcome::Unavailable,
        };
        self.board.counters().attempts.add(self.step, outcome, 1);
    }
}

/// The ages of the events of one commit, entered in the table's histograms when it is dropped.
struct Ages<'a> {
    meter: &'a TableMeter,
    now: Timestamp,
    since_publishing: Tally,
    since_event: Tally,
}

impl<'a> Ages<'a> {
    fn new(meter: &'a TableMeter) -> Self {
        let (since_publishing, since_event) =
            (meter.publish_to_row.tally(), meter.event_to_row.tally());
        Self { meter, now: Timestamp::now(), since_publishing, since_event }
    }

    /// Notes that an event has so many rows now.
    fn observe(&mut self, claim: &Claim, rows: usize) {
        let delivery = claim.delivery();
        let note = |tally: &mut Tally, time: Timestamp| {
            tally.observe(micros(time.age_at(self.now)), rows as u64);
        };
        note(&mut self.since_publishing, delivery.publish_time());
        if let Some(time) = delivery.event_time() {
            note(&mut self.since_event, time);
        }
    }
}

impl Drop for Ages<'_> {
    fn drop(&mut self) {
        self.meter.publish_to_row.add(&self.since_publishing);
        self.meter.event_to_row.add(&self.since_event);
    }
}

/// The role.
pub struct Writer {
    ports: WriterPorts,
    settings: WriterSettings,
    backoff: Backoff,
    open: Batch,
    /// Number of the open batch, so that a reminder for an earlier one is known as late.
    number: u64,
    /// The mailbox has a `Commit` message already, after all rows that it is for.
    commit_queued: bool,
    /// Sent and not known to be committed, in that order.
    on_their_way: VecDeque<Sent>,
    /// A commit failed, and its retry is on the way: until then rows only gather.
    retrying: bool,
    /// The batch with the rows of a failed one. Batches before and after it may succeed meanwhile: only its own
    /// success ends the trouble.
    in_trouble: Option<u64>,
}

/// The warehouse's answer to rows, with the time that it took.
type Answer = (Result<Written, WriteError>, Duration);

struct Sent {
    number: u64,
    rows: Arc<Vec<Row>>,
    claims: Vec<(Claim, usize)>,
    answer: Errand<Answer>,
}

#[derive(Debug, Default)]
struct Batch {
    rows: Rows,
    bytes: u64,
}

impl Writer {
    /// A writer with an empty batch.
    #[must_use]
    pub fn new(ports: WriterPorts, settings: &WriterSettings) -> Self {
        Self {
            ports,
            settings: settings.clone(),
            backoff: Backoff::new(settings.retry_backoff, settings.max_retry_backoff),
            open: Batch::default(),
            number: 0,
            commit_queued: false,
            on_their_way: VecDeque::new(),
            retrying: false,
            in_trouble: None,
        }
    }
}

impl Role for Writer {
    type Message = WriterMessage;

    async fn handle(
        &mut self,
        message: WriterMessage,
        me: &Me<WriterMessage>,
    ) -> Result<(), RoleError> {
        match message {
            WriterMessage::Write(rows) if rows.is_isolated() => self.write_alone(rows, me).await,
            WriterMessage::Write(rows) => self.add(rows, me),
            WriterMessage::Flush => self.queue_commit(me),
            WriterMessage::Due(number) if number == self.number => self.commit(me).await?,
            WriterMessage::Due(_) => {}
            WriterMessage::Answered(number) => {
                let at = self.on_their_way.iter().position(|sent| sent.number == number);
                if let Some(sent) = at.and_then(|at| self.on_their_way.remove(at)) {
                    self.take_answer(sent, me).await?;
                }
            }
            WriterMessage::Retry => {
                self.retrying = false;
                self.commit(me).await?;
            }
        }
        Ok(())
    }
}

impl Writer {
    fn add(&mut self, mut more: Rows, me: &Me<WriterMessage>) {
        if self.open.rows.rows.is_empty() {
            let number = self.number;
            me.remind_after(self.settings.max_delay, move || WriterMessage::Due(number));
        }
        self.open.bytes += more.rows.iter().map(Row::cost_bytes).sum::<u64>();
        self.open.rows.rows.append(&mut more.rows);
        self.open.rows.claims.append(&mut more.claims);
        let full = self.open.rows.rows.len() >= self.settings.max_batch_rows
            || self.open.bytes >= self.settings.max_batch_bytes;
        if full || self.ports.ledger.account().is_pressing() {
            self.queue_commit(me);
        }
    }

    /// Has the open batch committed together with all that waits in the mailbox.
    fn queue_commit(&mut self, me: &Me<WriterMessage>) {
        if !self.commit_queued && !self.open.rows.rows.is_empty() {
            self.commit_queued = true;
            me.remind(WriterMessage::Due(self.number));
        }
    }

    /// Sends the open batch. When the maximum number is in flight, waits for the oldest; meanwhile the mailbox
    /// collects the rows of the next batch.
    async fn commit(&mut self, me: &Me<WriterMessage>) -> Result<(), RoleError> {
        if self.retrying || self.open.rows.rows.is_empty() {
            return Ok(());
        }
        self.commit_queued = false;
        let number = self.number;
        self.number += 1;
        let Rows { rows, claims } = std::mem::take(&mut self.open).rows;
        let rows = Arc::new(rows);
        let answer = Errand::start(me, self.write(&rows), move || WriterMessage::Answered(number));
        self.on_their_way.push_back(Sent { number, rows, claims, answer });
        while self.on_their_way.len() >= self.settings.max_in_flight
            && let Some(oldest) = self.on_their_way.pop_front()
        {
            self.take_answer(oldest, me).await?;
        }
        Ok(())
    }

    /// Waits for the result of a batch. The batch is in hand meanwhile, so a panic of the warehouse makes its events
    /// suspect. After a failure its rows join the open batch.
    async fn take_answer(&mut self, sent: Sent, me: &Me<WriterMessage>) -> Result<(), RoleError> {
        let Sent { number, rows, claims, answer } = sent;
        let answer = answer.outcome().await?;
        self.in_trouble.take_if(|troubled| *troubled == number && answer.0.is_ok());
        let Err(mut again) = self.conclude(answer, rows, claims, me).await else { return Ok(()) };
        self.open.bytes += again.rows.iter().map(Row::cost_bytes).sum::<u64>();
        again.rows.append(&mut self.open.rows.rows);
        again.claims.append(&mut self.open.rows.claims);
        self.open.rows = again;
        self.in_trouble = Some(self.number);
        if !self.retrying {
            self.retrying = true;
            me.remind_after(self.backoff.failed(), || WriterMessage::Retry);
        }
        Ok(())
    }

    /// Writes a suspect by itself, before the waiting rows: a crash caused by others must not count against it. If the
    /// warehouse cannot take it now, its claim is dropped and delivered again alone.
    async fn write_alone(&mut self, Rows { rows, claims }: Rows, me: &Me<WriterMessage>) {
        let rows = Arc::new(rows);
        let answer = self.write(&rows).await;
        drop(self.conclude(answer, rows, claims, me).await);
    }

    /// Writes rows, once.
    fn write(&self, rows: &Arc<Vec<Row>>) -> impl Future<Output = Answer> + use<> {
        let (warehouse, table) = (Arc::clone(&self.ports.warehouse), Arc::clone(&self.ports.table));
        let rows = Arc::clone(rows);
        async move {
            let began = Instant::now();
            let answer = warehouse.write(&table, rows).await;
            (answer, began.elapsed())
        }
    }

    /// Settles the claims of rows that were written, or hands them back.
    async fn conclude(
        &mut self,
        (answer, took): Answer,
        rows: Arc<Vec<Row>>,
        claims: Vec<(Claim, usize)>,
        me: &Me<WriterMessage>,
    ) -> Result<(), Rows> {
        self.ports.count_attempt(&answer);
        match answer {
            Ok(Written { refusals, superseded }) => {
                if self.in_trouble.is_none() {
                    me.vitals().recovered();
                    self.backoff.succeeded();
                }
                me.vitals().handled(claims.len() as u64);
                (self.ports.count_written)((rows.len() - refusals.len()) as u64);
                self.ports.superseded.add(superseded);
                self.ports.meter.commit_time.observe(micros(took));
                self.ports.meter.commit_rows.observe(rows.len() as u64);
                self.settle(claims, refusals, me);
                Ok(())
            }
            Err(error) => {
                me.vitals().trouble(error.to_string(), claims.len() as u64);
                if let WriteError::Gone(_) = error {
                    self.ensure(me, claims.len() as u64).await;
                }
                Err(Rows { rows: Arc::unwrap_or_clone(rows), claims })
            }
        }
    }

    /// Makes the table again after it was removed. A failure is reported as trouble and retried with the rows.
    async fn ensure(&self, me: &Me<WriterMessage>, waiting: u64) {
        match self.ports.warehouse.ensure_table(&self.ports.table).await {
            Ok(ensured) => {
                tracing::warn!(
                    table = self.ports.table.name,
                    ?ensured,
                    "table was not as configured"
                );
            }
            Err(error) => me.vitals().trouble(error.to_string(), waiting),
        }
    }

    /// Settles every claim whose rows were all taken.
    fn settle(&self, claims: Vec<(Claim, usize)>, refusals: Vec<Refusal>, me: &Me<WriterMessage>) {
        let mut refusals = refusals.into_iter().peekable();
        let mut condemned = Vec::new();
        let mut posting = Posting::default();
        let mut ages = Ages::new(&self.ports.meter);
        let mut end = 0;
        for (claim, count) in claims {
            end += count;
            let mut first = None;
            while let Some(refusal) = refusals.next_if(|refusal| refusal.row < end) {
                first.get_or_insert(refusal);
            }
            match (first, &self.ports.on_refusal) {
                (None, _) => {
                    ages.observe(&claim, count);
                    posting.settle(claim);
                }
                (Some(refusal), OnRefusal::Condemn { processor, .. }) => {
                    condemned.push(claim.condemn(Verdict {
                        stage: Stage::Write,
                        class: FaultClass::refused(processor, &self.ports.table, &refusal),
                        actor: me.path().to_owned(),
                        processor: Some(processor.clone()),
                        reason: refusal.reason,
                        salvaged: Salvaged::default(),
                        attempts: 1,
                    }));
                }
                (Some(Refusal { reason, .. }), OnRefusal::Again) => {
                    me.vitals().trouble(format!("a dead letter was refused: {reason}"), 1);
                    drop(claim);
                }
            }
        }
        if let OnRefusal::Condemn { dead_letters, .. } = &self.ports.on_refusal {
            dead_letters.store(condemned);
        }
    }
}
