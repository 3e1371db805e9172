//! Stores the events of one five-minute window, part by part, and composes them at its close.
//!
//! Receives claims from the keeper, and reminders from itself. Owns the lines that are not yet stored, and
//! their claims. One part is uploaded while the next is filled. If it crashes, those claims are delivered again, to the
//! archive alone; its next life writes under another incarnation and composes the parts of this one.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::directory::Incarnations;
use super::keeper::KeeperMessage;
use crate::archive::{
    Compression, EncodedPart, Incarnation, Limits, LineFormat, Part, StorePartError, Window, close,
    store_part,
};
use crate::delivery::{Claim, Ledger, Posting};
use crate::port::{ArchiveStore, ObjectInfo};
use crate::settings::ArchiveWindowSettings;
use crate::supervision::{Address, Backoff, Errand, Me, Role, RoleError};
use crate::vitals::{Board, Outcome, Step, micros};

/// Below this many bytes compressing costs less than moving to a blocking thread.
const INLINE_ENCODE_BYTES: usize = 64 * 1024;

/// A window's mailbox.
#[derive(Debug)]
pub enum WindowMessage {
    /// Events of this window.
    Archive(Vec<Claim>),
    /// The memory budget is under pressure, or the log is empty: store the waiting lines.
    Flush,
    /// The part with this number is due, unless it is stored already.
    Due(u32),
    /// The store has answered for the part with this number, unless that is known already.
    Answered(u32),
    /// The pause after a failure is over.
    Retry,
    /// Store the waiting lines, compose all parts, and report to the keeper.
    Close,
    /// The keeper has removed the window: claims that came after its close are delivered again.
    End,
}

/// Ports and shared state of a window's actor.
#[derive(Clone)]
pub struct WindowPorts {
    /// Where parts go.
    pub store: Arc<dyn ArchiveStore>,
    /// The ledger of the messages on loan.
    pub ledger: Arc<Ledger>,
    /// Where archived events are counted.
    pub board: Arc<Board>,
    /// Told of the close.
    pub keeper: Address<KeeperMessage>,
    /// The format of a line.
    pub format: LineFormat,
    /// How a part is compressed.
    pub compression: Compression,
}

/// The role.
pub struct WindowActor {
    window: Window,
    ports: WindowPorts,
    settings: ArchiveWindowSettings,
    backoff: Backoff,
    incarnations: Incarnations,
    incarnation: Incarnation,
    /// Number of the open part; a reminder for an earlier one is late.
    number: u32,
    part: Part,
    claims: Vec<Claim>,
    /// When the first of them came.
    began: Instant,
    /// The mailbox has a `Store` message already, after all claims that it is for.
    store_queued: bool,
    /// To be stored as soon as the store has answered: until then it had better grow.
    due: bool,
    /// Not known to be stored, in their order; after a failure the same bytes go out again under the
    /// same name.
    unstored: VecDeque<Unstored>,
    /// The first of them, on its way; none while a retry is.
    on_its_way: Option<Errand<Answer>>,
    /// To be stored alone, as soon as nothing is on its way.
    suspect: Vec<Claim>,
    /// To be closed as soon as everything is stored.
    closing: bool,
    /// A retry is on its way.
    retrying: bool,
}

/// The store's answer to a part, with the time that it took.
type Answer = (Result<ObjectInfo, StorePartError>, Duration);

struct Unstored {
    part: EncodedPart,
    /// With the number its name, kept across retries: an unanswered put may have stored it.
    incarnation: Incarnation,
    number: u32,
    claims: Vec<Claim>,
    /// When its first event came.
    began: Instant,
}

impl WindowActor {
    pub(super) fn new(
        window: Window,
        ports: WindowPorts,
        settings: &ArchiveWindowSettings,
        incarnations: Incarnations,
    ) -> Self {
        Self {
            window,
            part: Part::new(ports.format, ports.compression),
            ports,
            backoff: Backoff::new(settings.retry_backoff, settings.max_retry_backoff),
            settings: settings.clone(),
            incarnation: incarnations.begin(),
            incarnations,
            number: 0,
            claims: Vec::new(),
            began: Instant::now(),
            store_queued: false,
            due: false,
            unstored: VecDeque::new(),
            on_its_way: None,
            suspect: Vec::new(),
            closing: false,
            retrying: false,
        }
    }
}

impl Role for WindowActor {
    type Message = WindowMessage;

    async fn handle(
        &mut self,
        message: WindowMessage,
        me: &Me<WindowMessage>,
    ) -> Result<(), RoleError> {
        match message {
            WindowMessage::Archive(claims) if claims.iter().any(Claim::is_isolated) => {
                self.store_alone(claims, me).await?;
            }
            WindowMessage::Archive(claims) => {
                self.add(claims, me);
                if self.is_full() {
                    self.store(me).await?;
                }
            }
            WindowMessage::Flush => self.queue_store(me),
            WindowMessage::Due(number) if number == self.number => {
                self.due = true;
                self.store_if_due(me).await?;
            }
            WindowMessage::Due(_) => {}
            WindowMessage::Answered(number) => {
                if self.unstored.front().is_some_and(|first| first.number == number) {
                    self.take_answer(me).await?;
                }
                self.store_if_due(me).await?;
            }
            WindowMessage::Retry => {
                self.retrying = false;
                self.put_until(0, me).await?;
                self.store(me).await?;
                self.close_if_asked(me).await?;
            }
            WindowMessage::Close => {
                self.closing = true;
                self.store(me).await?;
                self.close_if_asked(me).await?;
            }
            WindowMessage::End => {
                // Cancelled, it might be stored all the same, and its lines come round again.
                self.take_answer(me).await?;
                me.end();
            }
        }
        Ok(())
    }
}

impl WindowActor {
    fn add(&mut self, claims: Vec<Claim>, me: &Me<WindowMessage>) {
        if self.claims.is_empty() {
            let number = self.number;
            self.began = Instant::now();
            me.remind_after(self.settings.flush_interval, move || WindowMessage::Due(number));
        }
        for claim in &claims {
            self.part.append(claim.message());
        }
        self.claims.extend(claims);
        if self.ports.ledger.account().is_pressing() {
            self.queue_store(me);
        }
    }

    /// Whether the part is to be stored at once: its bytes are a copy that no permit is held for.
    fn is_full(&self) -> bool {
        self.part.bytes() as u64 >= self.settings.flush_bytes
    }

    /// Has the open part stored together with all that waits in the mailbox.
    fn queue_store(&mut self, me: &Me<WindowMessage>) {
        if !self.store_queued && !self.claims.is_empty() {
            self.store_queued = true;
            me.remind(WindowMessage::Due(self.number));
        }
    }

    async fn store_if_due(&mut self, me: &Me<WindowMessage>) -> Result<(), RoleError> {
        if self.due && self.on_its_way.is_none() {
            return self.store(me).await;
        }
        Ok(())
    }

    /// Sends the open part to the store, as soon as the one before is stored.
    async fn store(&mut self, me: &Me<WindowMessage>) -> Result<(), RoleError> {
        if self.retrying || self.claims.is_empty() {
            return Ok(());
        }
        // The next is likely to become as large.
        let next = Part::new(self.ports.format, self.ports.compression);
        let next = next.with_room(self.part.bytes() + self.part.bytes() / 8);
        let part = std::mem::replace(&mut self.part, next);
        let claims = std::mem::take(&mut self.claims);
        let unstored = self.encode(part, claims, self.began).await?;
        self.unstored.push_back(unstored);
        self.put_until(1, me).await
    }

    /// Stores a suspect in a part of its own, before the waiting lines: a crash caused by others must not count
    /// against it. While the store cannot be reached, its claim is dropped and delivered again.
    async fn store_alone(
        &mut self,
        suspect: Vec<Claim>,
        me: &Me<WindowMessage>,
    ) -> Result<(), RoleError> {
        // The other lines are not in hand meanwhile, and a panic over the suspect cancels no part.
        self.suspect = suspect;
        self.take_answer(me).await?;
        let suspect = std::mem::take(&mut self.suspect);
        if self.retrying {
            return Ok(());
        }
        let mut part = Part::new(self.ports.format, self.ports.compression);
        suspect.iter().for_each(|claim| part.append(claim.message()));
        let alone = self.encode(part, suspect, Instant::now()).await?;
        self.unstored.push_back(alone);
        self.put_until(0, me).await?;
        // The open part has another number now, for which no reminder is on its way.
        self.store(me).await
    }

    /// Compresses a part, away from the actors where that takes time.
    async fn encode(
        &mut self,
        part: Part,
        claims: Vec<Claim>,
        began: Instant,
    ) -> Result<Unstored, RoleError> {
        let part = if part.bytes() <= INLINE_ENCODE_BYTES {
            part.encode()?
        } else {
            tokio::task::spawn_blocking(move || part.encode()).await??
        };
        let incarnation = self.incarnation.clone();
        Ok(Unstored { part, incarnation, number: self.next_number(), claims, began })
    }

    fn next_number(&mut self) -> u32 {
        self.store_queued = false;
        self.due = false;
        self.number += 1;
        self.number - 1
    }

    /// Stores the unstored parts in their order, until at most `left` remain or one fails. The rest is being uploaded.
    async fn put_until(&mut self, left: usize, me: &Me<WindowMessage>) -> Result<(), RoleError> {
        while !self.retrying {
            if self.on_its_way.is_none()
                && let Some(first) = self.unstored.front()
            {
                let number = first.number;
                let put = self.put(first);
                self.on_its_way =
                    Some(Errand::start(me, put, move || WindowMessage::Answered(number)));
            }
            if self.unstored.len() <= left {
                break;
            }
            self.take_answer(me).await?;
        }
        Ok(())
    }

    /// Puts one part, once.
    fn put(&self, unstored: &Unstored) -> impl Future<Output = Answer> + use<> {
        let store = Arc::clone(&self.ports.store);
        let window = self.window;
        let Unstored { part, incarnation, number, .. } = unstored;
        let (part, incarnation, number) = (part.clone(), incarnation.clone(), *number);
        async move {
            let began = Instant::now();
            let answer = store_part(&*store, window, &incarnation, number, &part).await;
            (answer, began.elapsed())
        }
    }

    /// Waits for the result of the part that is being uploaded.
    async fn take_answer(&mut self, me: &Me<WindowMessage>) -> Result<(), RoleError> {
        let Some(on_its_way) = self.on_its_way.take() else { return Ok(()) };
        let Some(unstored) = self.unstored.pop_front() else { return Ok(()) };
        // In hand meanwhile: over a panic of the store its events are suspect.
        let (answer, took) = on_its_way.outcome().await?;
        let outcome = match &answer {
            Err(StorePartError::Taken(_)) => Outcome::Gone,
            answer => Outcome::of(answer),
        };
        self.ports.board.counters().attempts.add(Step::Upload, outcome, 1);
        match answer {
            Ok(_) => self.stored(unstored, took, me),
            Err(error) => self.failed(unstored, &error, me),
        }
        Ok(())
    }

    /// A part is durable: its claims are settled.
    fn stored(&mut self, part: Unstored, took: Duration, me: &Me<WindowMessage>) {
        self.recovered(me);
        let counters = self.ports.board.counters();
        counters.upload_time.observe(micros(took));
        counters.part_time.observe(micros(part.began.elapsed()));
        let events = part.claims.len() as u64;
        let mut posting = Posting::default();
        part.claims.into_iter().for_each(|claim| posting.settle(claim));
        drop(posting);
        counters.archived.add(events);
        me.vitals().handled(events);
    }

    /// A part is not known to be stored: it goes out again after a pause.
    fn failed(&mut self, mut part: Unstored, error: &StorePartError, me: &Me<WindowMessage>) {
        if let StorePartError::Taken(_) = error {
            self.incarnation = self.incarnations.begin();
            part.incarnation = self.incarnation.clone();
            part.number = self.next_number();
        }
        me.vitals().trouble(error.to_string(), part.claims.len() as u64);
        self.unstored.push_front(part);
        self.retry_later(me);
    }

    /// Composes everything this process wrote of the window, once all of it is stored.
    async fn close_if_asked(&mut self, me: &Me<WindowMessage>) -> Result<(), RoleError> {
        if !self.closing {
            return Ok(());
        }
        self.put_until(0, me).await?;
        if self.retrying {
            return Ok(());
        }
        for incarnation in self.incarnations.all() {
            let closed =
                close(&*self.ports.store, self.window, &incarnation, Limits::DEFAULT).await;
            let attempts = &self.ports.board.counters().attempts;
            attempts.add(Step::Compose, Outcome::of(&closed), 1);
            if let Err(error) = closed {
                me.vitals().trouble(error.to_string(), 0);
                self.retry_later(me);
                return Ok(());
            }
        }
        self.recovered(me);
        self.closing = false;
        // A dead keeper asks again in its next life.
        let _ = self.ports.keeper.send(KeeperMessage::Closed(self.window));
        Ok(())
    }

    fn recovered(&mut self, me: &Me<WindowMessage>) {
        self.backoff.succeeded();
        me.vitals().recovered();
    }

    fn retry_later(&mut self, me: &Me<WindowMessage>) {
        self.retrying = true;
        let pause: Duration = self.backoff.failed();
        me.remind_after(pause, || WindowMessage::Retry);
    }
}
