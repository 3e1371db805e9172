//! Stores the events of one five-minute window, part by part, and composes them at its close.
//!
//! Receives claims from the keeper, and reminders from itself. Owns the lines not yet stored and
//! their claims. If it crashes, those claims come round again, to the archive alone; its next life
//! writes under another incarnation, and closes what this one left.

use std::sync::Arc;
use std::time::Duration;

use super::directory::Incarnations;
use super::keeper::KeeperMessage;
use crate::archive::{
    Compression, EncodedPart, Incarnation, Limits, LineFormat, Part, StorePartError, Window, close,
    store_part,
};
use crate::delivery::{Claim, Ledger};
use crate::port::ArchiveStore;
use crate::settings::ArchiveWindowSettings;
use crate::supervision::{Address, Backoff, Me, Role, RoleError};
use crate::vitals::Board;

/// Below this many bytes compressing costs less than moving to a blocking thread.
const INLINE_ENCODE_BYTES: usize = 64 * 1024;

/// A window's mailbox.
#[derive(Debug)]
pub enum WindowMessage {
    /// Events of this window.
    Archive(Vec<Claim>),
    /// Permits are short, or nothing more is coming: store what waits.
    Flush,
    /// The part with this number is due, unless it is stored already.
    Due(u32),
    /// The pause after a failure is over.
    Retry,
    /// Store what waits, compose it all, and tell the keeper.
    Close,
    /// The keeper has struck the window off: what came after its close comes round again.
    End,
}

/// What a window's actor works with.
#[derive(Clone)]
pub struct WindowPorts {
    /// Where parts go.
    pub store: Arc<dyn ArchiveStore>,
    /// What is on loan.
    pub ledger: Arc<Ledger>,
    /// Where archived events are counted.
    pub board: Arc<Board>,
    /// Told of the close.
    pub keeper: Address<KeeperMessage>,
    /// What a line holds.
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
    /// A store stands in the mailbox already, behind all that it is to take.
    store_queued: bool,
    /// Not known to be stored: the same bytes go out again under the same name.
    unstored: Option<Unstored>,
    /// To be closed as soon as everything is stored.
    closing: bool,
    /// A retry is on its way.
    retrying: bool,
}

struct Unstored {
    part: EncodedPart,
    number: u32,
    claims: Vec<Claim>,
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
            store_queued: false,
            unstored: None,
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
            WindowMessage::Due(number) if number == self.number => self.store(me).await?,
            WindowMessage::Due(_) => {}
            WindowMessage::Retry => {
                self.retrying = false;
                self.store(me).await?;
                self.close_if_asked(me).await;
            }
            WindowMessage::Close => {
                self.closing = true;
                self.store(me).await?;
                self.close_if_asked(me).await;
            }
            WindowMessage::End => me.end(),
        }
        Ok(())
    }
}

impl WindowActor {
    fn add(&mut self, claims: Vec<Claim>, me: &Me<WindowMessage>) {
        if self.claims.is_empty() {
            let number = self.number;
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

    /// Stores what is not stored: the part that failed, if one did, then the open one.
    async fn store(&mut self, me: &Me<WindowMessage>) -> Result<(), RoleError> {
        if self.retrying {
            return Ok(());
        }
        if let Some(unstored) = self.unstored.take() {
            self.put(unstored, me).await;
        }
        if self.unstored.is_some() || self.claims.is_empty() {
            return Ok(());
        }
        // The next is likely to become as large.
        let next = Part::new(self.ports.format, self.ports.compression);
        let next = next.with_room(self.part.bytes() + self.part.bytes() / 8);
        let part = std::mem::replace(&mut self.part, next);
        let claims = std::mem::take(&mut self.claims);
        let part = encode(part).await?;
        let number = self.next_number();
        self.put(Unstored { part, number, claims }, me).await;
        Ok(())
    }

    /// Stores a suspect in a part of its own, before what waits: a crash over others must not
    /// strike it. While the store cannot be reached, its claim is dropped, and comes round again.
    async fn store_alone(
        &mut self,
        suspect: Vec<Claim>,
        me: &Me<WindowMessage>,
    ) -> Result<(), RoleError> {
        if self.retrying {
            return Ok(());
        }
        let mut part = Part::new(self.ports.format, self.ports.compression);
        suspect.iter().for_each(|claim| part.append(claim.message()));
        let part = encode(part).await?;
        let number = self.next_number();
        self.put(Unstored { part, number, claims: suspect }, me).await;
        // The open part has another number now, for which no reminder is on its way.
        self.store(me).await
    }

    fn next_number(&mut self) -> u32 {
        self.store_queued = false;
        self.number += 1;
        self.number - 1
    }

    /// Puts one part; once it is durable, settles its claims.
    async fn put(&mut self, mut unstored: Unstored, me: &Me<WindowMessage>) {
        let Unstored { part, number, .. } = &unstored;
        let store = &*self.ports.store;
        match store_part(store, self.window, &self.incarnation, *number, part).await {
            Ok(_) => {
                self.recovered(me);
                let events = unstored.claims.len() as u64;
                unstored.claims.into_iter().for_each(Claim::settle);
                self.ports.board.counters().archived.add(events);
                me.vitals().handled(events);
            }
            Err(error) => {
                if let StorePartError::Taken(_) = error {
                    self.incarnation = self.incarnations.begin();
                    unstored.number = self.next_number();
                }
                me.vitals().trouble(error.to_string(), unstored.claims.len() as u64);
                self.unstored = Some(unstored);
                self.retry_later(me);
            }
        }
    }

    /// Composes everything this process wrote of the window, once all of it is stored.
    async fn close_if_asked(&mut self, me: &Me<WindowMessage>) {
        if !self.closing || self.retrying || self.unstored.is_some() || !self.claims.is_empty() {
            return;
        }
        for incarnation in self.incarnations.all() {
            let closed =
                close(&*self.ports.store, self.window, &incarnation, Limits::DEFAULT).await;
            if let Err(error) = closed {
                me.vitals().trouble(error.to_string(), 0);
                self.retry_later(me);
                return;
            }
        }
        self.recovered(me);
        self.closing = false;
        // A dead keeper asks again in its next life.
        let _ = self.ports.keeper.send(KeeperMessage::Closed(self.window));
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

/// Compresses a part, away from the actors where that takes time.
async fn encode(part: Part) -> Result<EncodedPart, RoleError> {
    if part.bytes() <= INLINE_ENCODE_BYTES {
        return Ok(part.encode()?);
    }
    Ok(tokio::task::spawn_blocking(move || part.encode()).await??)
}
