//! Which windows are open, and who writes them. It outlives the keeper, whose restart must not
//! orphan the windows.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::window::WindowMessage;
use crate::archive::{Incarnation, Window};
use crate::supervision::Address;

/// The open windows.
#[derive(Debug)]
pub struct Directory {
    inner: Mutex<Inner>,
    /// True when draining was asked for and no window is open any more.
    drained: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Inner {
    windows: BTreeMap<Window, OpenWindow>,
    draining: bool,
}

/// One open window.
#[derive(Clone, Debug)]
pub(super) struct OpenWindow {
    pub(super) address: Address<WindowMessage>,
    pub(super) incarnations: Incarnations,
}

/// The incarnations of one window's actor in this process, from its first life on.
#[derive(Clone, Debug, Default)]
pub(super) struct Incarnations {
    all: Arc<Mutex<Vec<Incarnation>>>,
    of_requeue: bool,
}

impl Incarnations {
    /// None so far.
    pub(super) fn new(of_requeue: bool) -> Self {
        Self { all: Arc::default(), of_requeue }
    }

    /// Begins another.
    pub(super) fn begin(&self) -> Incarnation {
        let incarnation =
            if self.of_requeue { Incarnation::of_requeue() } else { Incarnation::random() };
        lock(&self.all).push(incarnation.clone());
        incarnation
    }

    pub(super) fn all(&self) -> Vec<Incarnation> {
        lock(&self.all).clone()
    }
}

impl Directory {
    /// No window is open.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self { inner: Mutex::default(), drained: watch::Sender::new(false) })
    }

    pub(super) fn find(&self, window: Window) -> Option<OpenWindow> {
        lock(&self.inner).windows.get(&window).cloned()
    }

    pub(super) fn open(&self) -> Vec<(Window, OpenWindow)> {
        let inner = lock(&self.inner);
        inner.windows.iter().map(|(window, open)| (*window, open.clone())).collect()
    }

    pub(super) fn add(&self, window: Window, open: OpenWindow) {
        lock(&self.inner).windows.insert(window, open);
    }

    pub(super) fn remove(&self, window: Window) -> Option<OpenWindow> {
        let mut inner = lock(&self.inner);
        let removed = inner.windows.remove(&window);
        self.tell(&inner);
        removed
    }

    /// Forgets all windows: their actors died with their supervisor.
    pub(crate) fn forget_all(&self) {
        let mut inner = lock(&self.inner);
        inner.windows.clear();
        self.tell(&inner);
    }

    /// Incarnations that may still write.
    pub(super) fn alive(&self) -> HashSet<Incarnation> {
        lock(&self.inner).windows.values().flat_map(|open| open.incarnations.all()).collect()
    }

    pub(super) fn is_draining(&self) -> bool {
        lock(&self.inner).draining
    }

    /// Asks for all windows to be closed; the keeper sees to it.
    pub fn drain(&self) {
        let mut inner = lock(&self.inner);
        inner.draining = true;
        self.tell(&inner);
    }

    /// Waits until draining was asked for and all windows are closed.
    pub async fn drained(&self) {
        // The sender is `self`.
        let _ = self.drained.subscribe().wait_for(|drained| *drained).await;
    }

    fn tell(&self, inner: &Inner) {
        self.drained.send_replace(inner.draining && inner.windows.is_empty());
    }
}

/// Every critical section here is one plain insertion, removal or look.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
