//! Messages on loan from Pub/Sub: those that wait here, and the handlers of those handed out.
//!
//! A message is in exactly one place: waiting, handed out, or being confirmed. Each holds its share of the memory
//! budget, and releases it when it is dropped.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use google_cloud_pubsub::subscriber::handler::{ExactlyOnce, Handler};
use kappa_actors::message::{Lease, LeaseMap, Message};
use kappa_actors::port::{LogError, Pulled, Room};
use kappa_actors::time::Timestamp;
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::time::Instant;

/// Lease numbers, none used twice while the process lives.
#[derive(Clone, Default)]
pub(super) struct Numbers(Arc<AtomicU64>);

impl Numbers {
    fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

/// A message's share of the account: one message, and its bytes.
pub(super) struct Share {
    pub(super) messages: OwnedSemaphorePermit,
    pub(super) bytes: OwnedSemaphorePermit,
}

/// Shares of one account that go back together.
#[derive(Default)]
struct Shares(Option<Share>);

impl Shares {
    fn add(&mut self, share: Share) {
        match &mut self.0 {
            None => self.0 = Some(share),
            Some(all) => {
                all.messages.merge(share.messages);
                all.bytes.merge(share.bytes);
            }
        }
    }
}

/// The means to answer for one message.
struct Loan {
    handler: Handler,
    publish_time: Timestamp,
    since: Instant,
    warned: bool,
    share: Share,
}

#[derive(Default)]
struct Books {
    waiting: VecDeque<(Message, Box<Loan>)>,
    /// Boxed, so that the table stays small enough for a processor's cache.
    out: LeaseMap<Box<Loan>>,
    confirming: HashMap<Lease, Share>,
    /// The reason why a stream is broken, by its number; the probe's reason has the number [`PROBE`].
    broken: HashMap<usize, String>,
    /// Streams that have shown that they work, or that they do not.
    heard: HashSet<usize>,
    ended: bool,
}

/// The place of the probe among the streams' troubles.
pub(super) const PROBE: usize = usize::MAX;

/// Loans whose leases end soon.
pub(super) struct Ageing {
    pub(super) count: usize,
    pub(super) oldest: Duration,
}

/// All loans of one session.
pub(super) struct Loans {
    books: Mutex<Books>,
    /// Something can be pulled, or pulling makes no sense any more.
    changed: Notify,
    confirmed: Notify,
    numbers: Numbers,
    arrivals: AtomicU64,
}

impl Loans {
    pub(super) fn new(numbers: Numbers) -> Self {
        Self {
            books: Mutex::default(),
            changed: Notify::new(),
            confirmed: Notify::new(),
            numbers,
            arrivals: AtomicU64::new(0),
        }
    }

    /// A panic with the lock held leaves the books whole: each change is one insertion or removal.
    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in messages that came. After the end they go back at once, by being dropped.
    pub(super) fn arrive(&self, came: &mut Vec<(Message, Handler, Share)>) {
        let since = Instant::now();
        self.arrivals.fetch_add(came.len() as u64, Ordering::Relaxed);
        let loans = came.drain(..).map(|(mut message, handler, share)| {
            message.lease = Lease(self.numbers.next());
            let publish_time = message.publish_time;
            (message, Box::new(Loan { handler, publish_time, since, warned: false, share }))
        });
        let mut books = self.books();
        if !books.ended {
            books.waiting.extend(loans);
        }
        drop(books);
        self.changed.notify_waiters();
    }

    /// How many messages ever came.
    pub(super) fn arrivals(&self) -> u64 {
        self.arrivals.load(Ordering::Relaxed)
    }

    /// Returns messages that wait here, or come within `patience`. There is no await between taking messages out of
    /// `waiting` and returning them, so a cancelled pull takes none.
    pub(super) async fn pull(&self, room: Room, patience: Duration) -> Result<Pulled, LogError> {
        let deadline = Instant::now() + patience;
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            // From here on no arrival is missed.
            changed.as_mut().enable();
            {
                let mut books = self.books();
                let messages = hand_out(&mut books, room);
                if !messages.is_empty() {
                    return Ok(Pulled::Messages(messages));
                }
                if let Some(words) = books.broken.values().next() {
                    return Err(LogError::Unavailable(words.clone()));
                }
                if books.ended {
                    return Ok(Pulled::Quiet);
                }
            }
            if tokio::time::timeout_at(deadline, changed).await.is_err() {
                return Ok(Pulled::Quiet);
            }
        }
    }

    /// Acknowledges leases that need no confirmation, and returns those that need one.
    pub(super) fn acknowledge(&self, leases: &[Lease]) -> Vec<(Lease, ExactlyOnce)> {
        let mut to_confirm = Vec::new();
        let mut done = Shares::default();
        let mut books = self.books();
        for lease in leases {
            let Some(loan) = books.out.remove(lease) else { continue };
            let Loan { handler, share, .. } = *loan;
            match handler {
                Handler::ExactlyOnce(handler) => {
                    books.confirming.insert(*lease, share);
                    to_confirm.push((*lease, handler));
                }
                handler => {
                    handler.ack();
                    done.add(share);
                }
            }
        }
        to_confirm
    }

    /// A confirmation has come, or will not come any more.
    pub(super) fn confirmed(&self, lease: Lease) {
        self.books().confirming.remove(&lease);
        self.confirmed.notify_waiters();
    }

    /// Waits until none of `leases` waits for its confirmation.
    pub(super) async fn all_confirmed(&self, leases: &[Lease]) {
        loop {
            let mut confirmed = std::pin::pin!(self.confirmed.notified());
            confirmed.as_mut().enable();
            {
                let books = self.books();
                if books.confirming.is_empty()
                    || !leases.iter().any(|lease| books.confirming.contains_key(lease))
                {
                    return;
                }
            }
            confirmed.await;
        }
    }

    /// Gives back by name; unknown leases do nothing.
    pub(super) fn give_back(&self, leases: &[Lease]) {
        let loans: Vec<_> = {
            let mut books = self.books();
            leases.iter().filter_map(|lease| books.out.remove(lease)).collect()
        };
        for loan in loans {
            loan.handler.nack();
        }
    }

    /// Gives back everything and takes nothing any more: every lease is void from here on.
    pub(super) fn end(&self) {
        let (waiting, out) = {
            let mut books = self.books();
            books.ended = true;
            (std::mem::take(&mut books.waiting), std::mem::take(&mut books.out))
        };
        self.changed.notify_waiters();
        for (_, loan) in waiting {
            loan.handler.nack();
        }
        for loan in out.into_values() {
            loan.handler.nack();
        }
    }

    /// Notes why `stream` does not work. True if it is news.
    pub(super) fn broke(&self, stream: usize, words: String) -> bool {
        let news = {
            let mut books = self.books();
            books.heard.insert(stream);
            books.broken.insert(stream, words.clone()).as_ref() != Some(&words)
        };
        self.changed.notify_waiters();
        news
    }

    /// Notes that `stream` works. True if it did not before.
    pub(super) fn works(&self, stream: usize) -> bool {
        let recovered = {
            let mut books = self.books();
            books.heard.insert(stream);
            books.broken.remove(&stream).is_some()
        };
        self.changed.notify_waiters();
        recovered
    }

    /// Whether all `streams` have shown that they work, or that they do not; or all is over.
    pub(super) fn all_heard(&self, streams: usize) -> bool {
        let books = self.books();
        books.ended || (0..streams).all(|stream| books.heard.contains(&stream))
    }

    /// Waits until one stream is broken or all `streams` have shown that they work.
    pub(super) async fn first_word(&self, streams: usize) -> Result<(), LogError> {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            self.trouble()?;
            if self.all_heard(streams) {
                return Ok(());
            }
            changed.await;
        }
    }

    /// The trouble of any stream.
    pub(super) fn trouble(&self) -> Result<(), LogError> {
        match self.books().broken.values().next() {
            Some(words) => Err(LogError::Unavailable(words.clone())),
            None => Ok(()),
        }
    }

    /// Publish time of the oldest message in hand.
    pub(super) fn oldest(&self) -> Option<Timestamp> {
        let books = self.books();
        let waiting = books.waiting.iter().map(|(_, loan)| loan.publish_time);
        waiting.chain(books.out.values().map(|loan| loan.publish_time)).min()
    }

    /// Loans older than `age` that were not counted by an earlier call.
    pub(super) fn ageing(&self, age: Duration) -> Ageing {
        let mut found = Ageing { count: 0, oldest: Duration::ZERO };
        let mut books = self.books();
        let Books { waiting, out, .. } = &mut *books;
        for loan in waiting.iter_mut().map(|(_, loan)| loan).chain(out.values_mut()) {
            let held = loan.since.elapsed();
            if held >= age && !loan.warned {
                loan.warned = true;
                found.count += 1;
                found.oldest = found.oldest.max(held);
            }
        }
        found
    }
}

/// Takes what fits in `room` from the front; a first message may be larger than it.
fn hand_out(books: &mut Books, room: Room) -> Vec<Message> {
    let mut messages = Vec::new();
    let mut bytes = 0_u64;
    while messages.len() < room.messages.max(1) {
        let Some((message, _)) = books.waiting.front() else { break };
        bytes += message.payload.len() as u64;
        if !messages.is_empty() && bytes > room.bytes {
            break;
        }
        if let Some((message, loan)) = books.waiting.pop_front() {
            books.out.insert(message.lease, loan);
            messages.push(message);
        }
    }
    messages
}
