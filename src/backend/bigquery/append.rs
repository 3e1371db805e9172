//! The committed stream of a table that rows are appended to.
//!
//! - A request that was sent at an offset keeps its rows and offset until its outcome is known; only
//!   then another request may take the offset. Equal rows have equal encodings, so the rows are kept,
//!   not their bytes.
//! - A row that is stored although its caller got an error is remembered: when it comes again it
//!   counts as written.
//! - If the outcome at an offset can no longer be learned, and other requests need the offset, the
//!   stream is given up for a new one.
//! - The service reports a missing stream in an answer or as the status of the whole call. Both have
//!   one effect here: no row waits for a stream that never answers again.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use kappa_actors::port::Refusal;
use kappa_actors::row::Row;
use tonic::Code;

use super::connection::Connection;
use super::encode::{Change, encode};
use super::fault::{Fault, ended};
use super::table_writer::{Outcome, TableWriter, refuse};

/// Rows remembered as stored unbeknown to their callers, at most. Callers that never come again
/// would fill the memory.
const MAX_UNTOLD: usize = 100_000;

/// How often rows go to another stream at once before their caller hears of it.
const MAX_FRUITLESS: usize = 3;

/// The known state of the stream.
#[derive(Default)]
pub(super) struct AppendLog {
    stream: Option<String>,
    /// The offset behind all that was sent.
    next: i64,
    /// Requests of unknown outcome, in the order of their offsets.
    unresolved: VecDeque<Sent>,
    /// Encoded rows that are stored and were not reported as such, with their number.
    untold: HashMap<Mark, usize>,
    marks: Marks,
}

/// Identifies an encoded row without keeping its bytes: its length and 128 bits of a hash.
pub(super) type Mark = (usize, u64, u64);

#[derive(Default)]
struct Marks(RandomState, RandomState);

impl Marks {
    fn of(&self, row: &[u8]) -> Mark {
        (row.len(), self.0.hash_one(row), self.1.hash_one(row))
    }
}

/// A request with its place in the stream.
#[derive(Clone)]
struct Sent {
    offset: i64,
    rows: Arc<Vec<Row>>,
    picked: Vec<usize>,
    /// Whether it went out more than once: a refusal answers the last sending only, and an earlier
    /// one may be stored.
    repeated: bool,
    sent: bool,
}

/// What became of the unresolved requests.
#[derive(Default)]
struct Driven {
    stored: Vec<Sent>,
    /// Rows that were not stored and may be sent again, by their index.
    again: Vec<usize>,
    refusals: Vec<Refusal>,
    fault: Option<Fault>,
}

impl AppendLog {
    /// Writes those of `rows` that are `picked`, which count as written when this returns `Ok`.
    pub(super) async fn write(
        &mut self,
        to: &TableWriter,
        rows: &Arc<Vec<Row>>,
        picked: &[usize],
    ) -> Result<Vec<Refusal>, Fault> {
        self.resolve(to).await?;
        let (mut open, mut known) = self.known(to, rows, picked);
        let mut refusals = Vec::new();
        let mut fruitless = 0;
        while !open.is_empty() {
            let requests = to.requests(rows, &open, Change::Arrival, &mut refusals);
            for request in requests {
                let sent = Sent {
                    offset: self.next,
                    rows: Arc::clone(rows),
                    picked: request.picked,
                    repeated: false,
                    sent: false,
                };
                self.next = sent.end();
                self.unresolved.push_back(sent);
            }
            let mut driven = self.drive(to).await;
            if driven.stored.is_empty() && driven.refusals.is_empty() {
                fruitless += 1;
            }
            if fruitless > MAX_FRUITLESS {
                let told = format!("{fruitless} streams took none of the rows");
                driven.fault.get_or_insert(Fault::StreamEnded(told));
            }
            if driven.fault.is_some() || !driven.again.is_empty() {
                known.extend(self.remember(to, driven.stored.iter().flat_map(Sent::rows)));
            }
            refusals.append(&mut driven.refusals);
            if let Some(fault) = driven.fault {
                return Err(fault);
            }
            open = driven.again;
        }
        self.forget(&known);
        Ok(refusals)
    }

    /// Ends the stream for good.
    pub(super) async fn close(&mut self, to: &TableWriter) {
        let Some(stream) = self.stream.take() else { return };
        if let Ok(connection) = to.connection(&stream).await
            && let Err(status) = connection.finalize_stream(&stream).await
        {
            tracing::warn!(stream, %status, "a stream could not be finalized");
        }
    }

    /// Learns what became of the requests that earlier calls left behind.
    async fn resolve(&mut self, to: &TableWriter) -> Result<(), Fault> {
        while !self.unresolved.is_empty() {
            let driven = self.drive(to).await;
            drop(self.remember(to, driven.stored.iter().flat_map(Sent::rows)));
            if let Some(fault) = driven.fault {
                return Err(fault);
            }
        }
        Ok(())
    }

    /// Divides the picked rows into those to send, and the marks of those that are stored already,
    /// unbeknown to the caller.
    fn known(&self, to: &TableWriter, rows: &[Row], picked: &[usize]) -> (Vec<usize>, Vec<Mark>) {
        if self.untold.is_empty() {
            return (picked.to_vec(), Vec::new());
        }
        let (mut open, mut known) = (Vec::new(), Vec::new());
        let mut used: HashMap<Mark, usize> = HashMap::new();
        for &at in picked {
            let Some(row) = rows.get(at) else { continue };
            let mark = self.marks.of(&encode(&to.table, to.mode, row, Change::Arrival));
            let used = used.entry(mark).or_default();
            if self.untold.get(&mark).is_some_and(|count| count > used) {
                *used += 1;
                known.push(mark);
            } else {
                open.push(at);
            }
        }
        (open, known)
    }

    /// Remembers rows as stored unbeknown to their caller.
    pub(super) fn remember<'a>(
        &mut self,
        to: &TableWriter,
        stored: impl Iterator<Item = &'a Row>,
    ) -> Vec<Mark> {
        if self.untold.len() > MAX_UNTOLD {
            self.untold.clear();
        }
        let encoded = stored.map(|row| encode(&to.table, to.mode, row, Change::Arrival));
        let marks: Vec<_> = encoded.map(|row| self.marks.of(&row)).collect();
        for mark in &marks {
            *self.untold.entry(*mark).or_default() += 1;
        }
        marks
    }

    /// The caller learns that these rows are stored.
    pub(super) fn forget(&mut self, known: &[Mark]) {
        for mark in known {
            let Some(count) = self.untold.get_mut(mark) else { continue };
            *count -= 1;
            if *count == 0 {
                self.untold.remove(mark);
            }
        }
    }

    /// Sends the unresolved requests, and waits for every answer; a second time if the first
    /// connection broke. If some are still unresolved, the result has a fault.
    async fn drive(&mut self, to: &TableWriter) -> Driven {
        let mut driven = Driven::default();
        for last in [false, true] {
            let fault = match self.connect(to).await {
                Ok((connection, stream)) => {
                    self.send_all(to, &connection, &stream, &mut driven).await
                }
                Err(fault) => Some(fault),
            };
            let Some(fault) = fault else { break };
            to.disconnect().await;
            if last || !matches!(fault, Fault::Broken(_)) {
                driven.fault = Some(fault);
                break;
            }
        }
        driven
    }

    /// The connection, and the stream, which is made if it has to be.
    async fn connect(&mut self, to: &TableWriter) -> Result<(Arc<Connection>, String), Fault> {
        if let Some(stream) = self.stream.clone() {
            return Ok((to.connection(&stream).await?, stream));
        }
        let connection = to.connection(&to.path).await?;
        let created = connection.create_stream(&to.path).await;
        let stream = created.map_err(|status| ended(&to.table.name, &status))?;
        // The connection is routed by the stream's name.
        to.disconnect().await;
        self.stream = Some(stream.clone());
        self.renumber(0);
        Ok((to.connection(&stream).await?, stream))
    }

    /// Sends all unresolved requests, and removes those that the answers resolve.
    async fn send_all(
        &mut self,
        to: &TableWriter,
        connection: &Connection,
        stream: &str,
        driven: &mut Driven,
    ) -> Option<Fault> {
        let mut tickets = Vec::new();
        for sent in &mut self.unresolved {
            sent.repeated = sent.sent;
            sent.sent = true;
            let sent = &*sent;
            let rows = sent.rows();
            let rows = rows.map(|row| encode(&to.table, to.mode, row, Change::Arrival)).collect();
            tickets.push(connection.send(to.request(stream, Some(sent.offset), rows)).await);
        }
        let mut outcomes = VecDeque::new();
        for ticket in tickets {
            outcomes.push_back(to.outcome(ticket).await);
        }
        self.take_stored(&mut outcomes, driven);
        let first = outcomes.pop_front()?;
        // Behind a request that is not stored none can be: their offsets are past the end. But
        // one that was not answered may still be on its way, and must not find its offset free.
        let all_known = outcomes.iter().all(|outcome| matches!(outcome, Outcome::Refused(_)));
        let (fault, refused) = match first {
            Outcome::Stored => return None,
            Outcome::Refused(fault) => (fault, true),
            Outcome::Lost(fault) => (fault, false),
        };
        let once = refused && self.unresolved.front().is_some_and(|first| !first.repeated);
        let in_doubt = match &fault {
            Fault::Rows(_) => false,
            // Nothing of a request that went out once, and was refused, is stored.
            Fault::Unnamed(_) => !once,
            fault if fault.may_end_the_stream() => true,
            // An earlier sending may have been stored unanswered: sending it again later shows it.
            _ => return Some(fault),
        };
        if in_doubt && let Err(unknown) = self.settle_by_count(to, connection, stream, driven).await
        {
            return Some(unknown);
        }
        let fault = self.take_refused(fault, driven);
        if in_doubt || !all_known {
            self.leave(to, connection, stream).await;
        }
        fault
    }

    fn take_stored(&mut self, outcomes: &mut VecDeque<Outcome>, driven: &mut Driven) {
        while let Some(Outcome::Stored | Outcome::Refused(Fault::AlreadyThere)) = outcomes.front() {
            outcomes.pop_front();
            driven.stored.extend(self.unresolved.pop_front());
        }
    }

    /// No unresolved row is stored, because the first request was refused: its good rows and all
    /// later ones may be sent again. The answer keeps them from being sent here.
    fn take_refused(&mut self, fault: Fault, driven: &mut Driven) -> Option<Fault> {
        let mut behind = std::mem::take(&mut self.unresolved).into_iter();
        let first = behind.next()?;
        self.next = first.offset;
        let fault = match fault {
            Fault::Rows(errors) => match refuse(&first.picked, errors, &mut driven.refusals) {
                Ok(good) => {
                    driven.again.extend(good);
                    None
                }
                Err(fault) => Some(fault),
            },
            // A new stream takes them at once.
            Fault::StreamEnded(_) | Fault::Gap(_) => {
                driven.again.extend(&first.picked);
                None
            }
            fault => Some(fault),
        };
        driven.again.extend(behind.flat_map(|sent| sent.picked));
        fault
    }

    /// A stream that takes no more rows reports its length, which shows the stored requests. Without a
    /// report all stay in doubt: sent to another stream they might be stored twice.
    async fn settle_by_count(
        &mut self,
        to: &TableWriter,
        connection: &Connection,
        stream: &str,
        driven: &mut Driven,
    ) -> Result<(), Fault> {
        let table = &to.table.name;
        match connection.finalize_stream(stream).await {
            Ok(count) => {
                while self.unresolved.front().is_some_and(|sent| sent.end() <= count) {
                    driven.stored.extend(self.unresolved.pop_front());
                }
                Ok(())
            }
            Err(status) if status.code() == Code::NotFound => {
                tracing::warn!(table, stream, %status, "a stream is gone; rows in doubt go again");
                Ok(())
            }
            // With the table went its rows: nothing can be stored twice.
            Err(_) if to.table_is_gone().await => Ok(()),
            Err(status) => Err(match ended(table, &status) {
                fault @ (Fault::Later(_) | Fault::Quota(_) | Fault::Denied(_)) => fault,
                _ => Fault::Broken(format!("{stream} does not report its length: {status}")),
            }),
        }
    }

    /// Gives the stream up, so that nothing still on its way to it can be stored there.
    async fn leave(&mut self, to: &TableWriter, connection: &Connection, stream: &str) {
        // Whoever cancels this must not have others write on.
        self.stream = None;
        // It may be finalized or gone already.
        drop(connection.finalize_stream(stream).await);
        to.disconnect().await;
    }

    /// Gives the unresolved requests offsets in a new stream; the old one has stored no row of them.
    fn renumber(&mut self, from: i64) {
        self.next = from;
        for sent in &mut self.unresolved {
            sent.offset = self.next;
            sent.sent = false;
            self.next = sent.end();
        }
    }
}

impl Sent {
    fn end(&self) -> i64 {
        self.offset.saturating_add(i64::try_from(self.picked.len()).unwrap_or(i64::MAX))
    }

    fn rows(&self) -> impl Iterator<Item = &Row> {
        self.picked.iter().filter_map(|&at| self.rows.get(at))
    }
}
