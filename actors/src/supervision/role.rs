//! A role: a state that handles messages, which is all that the author of an actor writes. The shell around it has
//! the functions that every actor needs: it counts, knows the claims in hand at a panic, and can be made to fail.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef, Message};
use tracing::{Instrument, Span};

use crate::delivery::{Crash, in_hand};
use crate::vitals::{ActorState, Vitals};

/// The reason why an actor ends itself, so that its supervisor restarts it.
pub type RoleError = Box<dyn std::error::Error + Send + Sync>;

/// The part that an actor plays. A new value plays it after each restart.
pub trait Role: Send + Sync + Sized + 'static {
    /// The messages of the mailbox.
    type Message: Message;

    /// Called once, before the first message.
    ///
    /// # Errors
    /// Any error ends this life; the supervisor starts another.
    fn start(
        &mut self,
        me: &Me<Self::Message>,
    ) -> impl Future<Output = Result<(), RoleError>> + Send {
        let _ = me;
        async { Ok(()) }
    }

    /// Handles one message. The claims that it holds when it panics are suspect; those that it has
    /// put into `self` are not.
    ///
    /// # Errors
    /// Any error ends this life; the supervisor starts another.
    fn handle(
        &mut self,
        message: Self::Message,
        me: &Me<Self::Message>,
    ) -> impl Future<Output = Result<(), RoleError>> + Send;
}

/// An actor's view of itself, in its present life.
#[derive(Debug)]
pub struct Me<M> {
    this: ActorRef<M>,
    vitals: Arc<Vitals>,
}

impl<M: Message> Me<M> {
    /// Returns this actor's entry on the board.
    #[must_use]
    pub fn vitals(&self) -> &Vitals {
        &self.vitals
    }

    /// The actor's path.
    #[must_use]
    pub fn path(&self) -> &str {
        self.vitals.path()
    }

    /// Puts a message behind all that waits in this actor's mailbox.
    pub fn remind(&self, message: M) {
        remind(&self.this, &self.vitals, message);
    }

    /// Sends `message` after `pause`.
    pub fn remind_after(&self, pause: Duration, message: impl FnOnce() -> M + Send + 'static) {
        let reminder = self.reminder(message);
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            reminder();
        });
    }

    /// Returns a closure that sends a message whenever it is called.
    pub(super) fn reminder(
        &self,
        message: impl FnOnce() -> M + Send + 'static,
    ) -> impl FnOnce() + Send + 'static {
        let this = self.this.clone();
        let vitals = Arc::clone(&self.vitals);
        move || remind(&this, &vitals, message())
    }

    /// Ends this life once the present message is handled. Unless its supervisor has forgotten it,
    /// another life follows.
    pub fn end(&self) {
        self.this.stop(None);
    }
}

/// It is refused only when this life is over, and the reminder with it.
fn remind<M: Message>(this: &ActorRef<M>, vitals: &Vitals, message: M) {
    vitals.enqueued();
    if this.cast(message).is_err() {
        vitals.dequeued();
    }
}

/// The ractor actor that a role runs in.
pub(super) struct Shell<R>(std::marker::PhantomData<fn() -> R>);

impl<R> Shell<R> {
    pub(super) const fn new() -> Self {
        Self(std::marker::PhantomData)
    }
}

pub(super) struct Life<R: Role> {
    role: R,
    me: Me<R::Message>,
    span: Span,
}

/// Makes the span that names the actor in log lines: a panic does not know its actor.
pub(super) fn span(vitals: &Vitals) -> Span {
    tracing::error_span!(parent: None, "life", actor = vitals.path())
}

impl<R: Role> Actor for Shell<R> {
    type Msg = R::Message;
    type State = Life<R>;
    type Arguments = (R, Arc<Vitals>);

    async fn pre_start(
        &self,
        this: ActorRef<R::Message>,
        (mut role, vitals): Self::Arguments,
    ) -> Result<Life<R>, ActorProcessingErr> {
        vitals.set_state(ActorState::Starting);
        let cell = this.get_cell();
        vitals.begin_life(move || cell.kill());
        let me = Me { this, vitals };
        let span = span(me.vitals());
        in_hand(me.vitals(), role.start(&me)).instrument(span.clone()).await??;
        me.vitals.set_state(ActorState::Running);
        Ok(Life { role, me, span })
    }

    async fn handle(
        &self,
        _: ActorRef<R::Message>,
        message: R::Message,
        life: &mut Life<R>,
    ) -> Result<(), ActorProcessingErr> {
        let Life { role, me, span } = life;
        me.vitals.dequeued();
        in_hand(&me.vitals, async {
            if me.vitals.take_kill() {
                fault();
            }
            role.handle(message, me).await
        })
        .instrument(span.clone())
        .await?
    }
}

/// The panic that was ordered by [`Vitals::kill`].
#[expect(clippy::panic, reason = "fault injection")]
pub(super) fn fault() {
    panic!("killed by fault injection");
}

/// How a life ended, as its supervisor sees it.
#[derive(Debug)]
pub(super) enum RoleFailure {
    /// By a panic.
    Panicked(Arc<Crash>),
    /// By an error of its own.
    Gave(String),
}

impl RoleFailure {
    /// Reads what ractor reports.
    pub(super) fn of(error: ActorProcessingErr) -> Self {
        match error.downcast::<Arc<Crash>>() {
            Ok(crash) => Self::Panicked(*crash),
            Err(error) => Self::Gave(error.to_string()),
        }
    }

    /// The crash, if it was one.
    pub(super) fn crash(&self) -> Option<&Arc<Crash>> {
        match self {
            Self::Panicked(crash) => Some(crash),
            Self::Gave(_) => None,
        }
    }

    /// Whether the event is to blame, and not the actor.
    pub(super) fn is_isolated(&self) -> bool {
        matches!(self, Self::Panicked(crash) if crash.isolated)
    }
}

impl std::fmt::Display for RoleFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Panicked(crash) => f.write_str(&crash.reason),
            Self::Gave(error) => f.write_str(error),
        }
    }
}
