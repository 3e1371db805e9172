//! Bounds the connections, so that a flood of them never keeps a new one out.
//!
//! A connection either waits for its client (for a request, or until an answer is read) or is held
//! by a request that the daemon works on. When all places are taken, the connection that has waited
//! longest for its client is closed, and the new one gets its place. A held connection is never
//! closed for another; the requests that hold one have a bound of their own.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

/// The places for connections.
#[derive(Debug)]
pub(super) struct Places {
    most: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    next: u64,
    /// Connections that wait for their client, the longest first.
    waiting: BTreeMap<u64, CancellationToken>,
    held: usize,
}

impl Taken {
    fn wait(&mut self, evicted: &CancellationToken) -> u64 {
        self.next += 1;
        self.waiting.insert(self.next, evicted.clone());
        self.next
    }
}

impl Places {
    /// Places for `most` connections.
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, taken: Mutex::default() })
    }

    /// A place for a new connection; `None` where requests hold all of them.
    pub(super) fn enter(self: &Arc<Self>) -> Option<Arc<Place>> {
        let evicted = CancellationToken::new();
        let mut taken = self.taken();
        if taken.waiting.len() + taken.held >= self.most {
            taken.waiting.pop_first()?.1.cancel();
        }
        let turn = Mutex::new(taken.wait(&evicted));
        drop(taken);
        Some(Arc::new(Place { places: Arc::clone(self), turn, evicted }))
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection's place, free again when dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    turn: Mutex<u64>,
    evicted: CancellationToken,
}

impl Place {
    /// Waits until another connection gets this place.
    pub(super) async fn evicted(&self) {
        self.evicted.cancelled().await;
    }

    /// Keeps the place as long as the result exists; `None` if it is lost already.
    pub(super) fn hold(self: &Arc<Self>) -> Option<Hold> {
        let mut taken = self.places.taken();
        taken.waiting.remove(&self.turn())?;
        taken.held += 1;
        drop(taken);
        Some(Hold(Arc::clone(self)))
    }

    fn turn(&self) -> MutexGuard<'_, u64> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let turn = *self.turn();
        self.places.taken().waiting.remove(&turn);
    }
}

/// A place that no other connection can get.
#[derive(Debug)]
pub(super) struct Hold(Arc<Place>);

impl Drop for Hold {
    fn drop(&mut self) {
        let mut taken = self.0.places.taken();
        taken.held -= 1;
        *self.0.turn() = taken.wait(&self.0.evicted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_evicted(place: &Place) -> bool {
        place.evicted.is_cancelled()
    }

    #[test]
    fn the_connection_that_waits_longest_makes_way() {
        let places = Places::new(2);
        let [first, second] = [(); 2].map(|()| places.enter().unwrap());
        let third = places.enter().unwrap();
        assert_eq!([&first, &second, &third].map(|place| is_evicted(place)), [true, false, false]);
        assert!(first.hold().is_none(), "an evicted connection begins no request");
        drop(first);
        let fourth = places.enter().unwrap();
        assert_eq!([&second, &third, &fourth].map(|p| is_evicted(p)), [true, false, false]);
    }

    #[test]
    fn a_held_place_is_kept_and_waits_again_afterwards() {
        let places = Places::new(2);
        let [first, second] = [(); 2].map(|()| places.enter().unwrap());
        let hold = first.hold().unwrap();
        let third = places.enter().unwrap();
        assert_eq!([&first, &second].map(|place| is_evicted(place)), [false, true]);
        drop(hold);
        let _fourth = places.enter().unwrap();
        assert_eq!([&first, &third].map(|place| is_evicted(place)), [false, true]);
    }

    #[test]
    fn a_place_is_free_again_when_its_connection_ends() {
        let places = Places::new(1);
        let hold = places.enter().unwrap().hold().unwrap();
        assert!(places.enter().is_none(), "a request holds the only place");
        drop(hold);
        let second = places.enter().unwrap();
        assert!(!is_evicted(&second));
        assert_eq!(places.taken().waiting.len(), 1);
    }
}
