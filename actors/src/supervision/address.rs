//! How others reach an actor, across its restarts.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use ractor::{ActorRef, Message};

use crate::vitals::Vitals;

/// Where to send to an actor, whichever of its lives is the present one.
pub struct Address<M> {
    shared: Arc<Shared<M>>,
}

struct Shared<M> {
    present: RwLock<Option<ActorRef<M>>>,
    vitals: Arc<Vitals>,
}

impl<M: Message> Address<M> {
    /// The address of an actor that has yet to start.
    #[must_use]
    pub fn new(vitals: Arc<Vitals>) -> Self {
        Self { shared: Arc::new(Shared { present: RwLock::new(None), vitals }) }
    }

    /// Puts `message` into the actor's mailbox.
    ///
    /// # Errors
    /// The message itself, when the actor is dead. Drop it, and the claims in it come round again.
    pub fn send(&self, message: M) -> Result<(), M> {
        let present = self.shared.present.read().unwrap_or_else(PoisonError::into_inner);
        let Some(actor) = present.as_ref() else { return Err(message) };
        self.shared.vitals.enqueued();
        actor.cast(message).map_err(|refused| {
            self.shared.vitals.dequeued();
            match refused {
                ractor::MessagingErr::SendErr(message) => message,
                other => unreachable!("a local actor takes its own message type: {other}"),
            }
        })
    }

    /// Returns the actor's entry on the board.
    #[must_use]
    pub fn vitals(&self) -> &Arc<Vitals> {
        &self.shared.vitals
    }

    /// Points to the actor's new life.
    pub(super) fn point_to(&self, actor: ActorRef<M>) {
        *self.shared.present.write().unwrap_or_else(PoisonError::into_inner) = Some(actor);
    }
}

impl<M> Clone for Address<M> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<M> fmt::Debug for Address<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Address").field(&self.shared.vitals.path()).finish()
    }
}
