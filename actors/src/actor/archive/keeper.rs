//! Keeps the windows: opens one when its first event comes, and closes it after its end.
//!
//! Receives claims from the router, sends each to its window's actor. Owns only the claims of
//! windows that wait for a place, when too many are open. If it crashes, those and the batches in
//! its mailbox come round again; the open windows go on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::directory::{Directory, Incarnations, OpenWindow};
use super::window::{WindowActor, WindowMessage, WindowPorts};
use crate::archive::Window;
use crate::delivery::Claim;
use crate::port::watched_archive;
use crate::settings::ArchiveWindowSettings;
use crate::supervision::{Address, Me, Order, Role, RoleError, worker};
use crate::time::Timestamp;

/// How often the keeper looks for windows that are over.
const TICK: Duration = Duration::from_secs(1);

/// The keeper's mailbox.
#[derive(Debug)]
pub enum KeeperMessage {
    /// Events of any window.
    Archive(Vec<Claim>),
    /// The memory budget is under pressure, or the log is empty: every window stores its waiting lines.
    Flush,
    /// Look which windows are to be closed.
    Tick,
    /// This window stored and composed all it had.
    Closed(Window),
}

/// Ports and shared state of the keeper.
#[derive(Clone)]
pub struct KeeperPorts {
    /// The open windows.
    pub directory: Arc<Directory>,
    /// Who supervises them.
    pub supervisor: Address<Order>,
    /// The supervisor's path; a window's begins with it.
    pub path: String,
    /// Whether the events come from dead letters that are requeued.
    pub of_requeue: bool,
    /// Ports and shared state of a window's actor.
    pub window: WindowPorts,
}

/// The role.
pub struct Keeper {
    ports: KeeperPorts,
    settings: ArchiveWindowSettings,
    /// Events of windows that wait for a place.
    waiting: BTreeMap<Window, Vec<Claim>>,
    /// Windows asked to close for others, since the last tick.
    giving_place: BTreeSet<Window>,
}

impl Keeper {
    /// Makes a keeper of the windows in the directory.
    #[must_use]
    pub fn new(ports: KeeperPorts, settings: &ArchiveWindowSettings) -> Self {
        Self {
            ports,
            settings: settings.clone(),
            waiting: BTreeMap::new(),
            giving_place: BTreeSet::new(),
        }
    }
}

impl Role for Keeper {
    type Message = KeeperMessage;

    async fn start(&mut self, me: &Me<KeeperMessage>) -> Result<(), RoleError> {
        me.remind(KeeperMessage::Tick);
        if self.ports.window.ledger.account().is_pressing() {
            // The word to flush may have died with the life before.
            me.remind(KeeperMessage::Flush);
        }
        Ok(())
    }

    async fn handle(
        &mut self,
        message: KeeperMessage,
        me: &Me<KeeperMessage>,
    ) -> Result<(), RoleError> {
        match message {
            KeeperMessage::Archive(claims) => {
                me.vitals().handled(claims.len() as u64);
                self.archive(claims).await?;
            }
            KeeperMessage::Flush => self.tell_all(|| WindowMessage::Flush),
            KeeperMessage::Tick => {
                self.close_due(Timestamp::now());
                // A window whose actor died in between has forgotten that it was asked.
                self.giving_place.clear();
                self.make_place();
                me.remind_after(TICK, || KeeperMessage::Tick);
            }
            KeeperMessage::Closed(window) => {
                self.strike_off(window).await?;
                self.open_waiting().await?;
                self.make_place();
            }
        }
        Ok(())
    }
}

impl Keeper {
    async fn archive(&mut self, claims: Vec<Claim>) -> Result<(), RoleError> {
        for (window, claims) in by_window(claims) {
            match self.ports.directory.find(window) {
                Some(open) => send(&open, claims),
                None if self.has_place() => send(&self.open(window).await?, claims),
                None => self.waiting.entry(window).or_default().extend(claims),
            }
        }
        self.make_place();
        Ok(())
    }

    fn has_place(&self) -> bool {
        self.ports.directory.open().len() < self.settings.max_open
    }

    /// Has the oldest windows closed, as many as wait for a place.
    fn make_place(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        for (window, oldest) in self.ports.directory.open().iter().take(self.waiting.len()) {
            if self.giving_place.insert(*window) {
                let _ = oldest.address.send(WindowMessage::Close);
            }
        }
    }

    async fn open_waiting(&mut self) -> Result<(), RoleError> {
        while self.has_place() {
            let Some((window, claims)) = self.waiting.pop_first() else { return Ok(()) };
            send(&self.open(window).await?, claims);
        }
        Ok(())
    }

    /// Starts a window's actor, and waits until it takes messages.
    async fn open(&self, window: Window) -> Result<OpenWindow, RoleError> {
        let path = format!("{}/window.{window}", self.ports.path);
        let vitals = self.ports.window.board.actor(&path, "window");
        let store = watched_archive(&self.ports.window.store, vitals.calls());
        let incarnations = Incarnations::new(self.ports.of_requeue);
        let open = OpenWindow { address: Address::new(vitals), incarnations };
        // Listed before it writes anything: recovery treats an incarnation that is not listed as abandoned.
        self.ports.directory.add(window, open.clone());
        let child = {
            let ports = WindowPorts { store, ..self.ports.window.clone() };
            let settings = self.settings.clone();
            let incarnations = open.incarnations.clone();
            worker(&open.address, &self.settings.restart, move || {
                WindowActor::new(window, ports.clone(), &settings, incarnations.clone())
            })
        };
        let (started, has_started) = oneshot::channel();
        self.order(Order::Start { child, started })?;
        has_started.await?;
        Ok(open)
    }

    /// Closes the windows whose time is over, and all windows while the pipeline drains. Repeated at every tick, because
    /// an actor that was restarted in between does not know of the first request.
    fn close_due(&self, now: Timestamp) {
        let draining = self.ports.directory.is_draining();
        for (window, open) in self.ports.directory.open() {
            if draining || now >= window.end().after(self.settings.grace) {
                let _ = open.address.send(WindowMessage::Close);
            }
        }
    }

    async fn strike_off(&mut self, window: Window) -> Result<(), RoleError> {
        self.giving_place.remove(&window);
        let Some(open) = self.ports.directory.remove(window) else { return Ok(()) };
        let path = open.address.vitals().path().to_owned();
        self.ports.window.board.remove(&path);
        let (forgotten, is_forgotten) = oneshot::channel();
        self.order(Order::Forget { path, forgotten })?;
        is_forgotten.await?;
        let _ = open.address.send(WindowMessage::End);
        Ok(())
    }

    fn order(&self, order: Order) -> Result<(), RoleError> {
        self.ports.supervisor.send(order).map_err(|_| "the archive's supervisor is gone".into())
    }

    fn tell_all(&self, message: impl Fn() -> WindowMessage) {
        for (_, open) in self.ports.directory.open() {
            let _ = open.address.send(message());
        }
    }
}

/// Suspects go one by one, though they may have waited together. A send that fails drops the
/// claims: they come round again.
fn send(open: &OpenWindow, claims: Vec<Claim>) {
    let (suspects, others): (Vec<_>, Vec<_>) =
        claims.into_iter().partition(|claim| claim.is_isolated());
    for batch in suspects.into_iter().map(|suspect| vec![suspect]).chain([others]) {
        if !batch.is_empty() {
            let _ = open.address.send(WindowMessage::Archive(batch));
        }
    }
}

/// Sorts claims by the window of their publish time; nearly always there is one.
fn by_window(claims: Vec<Claim>) -> BTreeMap<Window, Vec<Claim>> {
    let mut sorted: BTreeMap<Window, Vec<Claim>> = BTreeMap::new();
    for claim in claims {
        let window = Window::of(claim.message().publish_time);
        sorted.entry(window).or_default().push(claim);
    }
    sorted
}
