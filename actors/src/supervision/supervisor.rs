//! Starts its children, and restarts the one that died.
//!
//! Receives [`Order`]s, and from ractor the deaths of its children. Owns their restart history. If it
//! crashes, its children are stopped and its own supervisor restarts the whole group.

use std::collections::HashMap;
use std::sync::Arc;

use ractor::{Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, SpawnErr, SupervisionEvent};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::child::Child;
use super::restart::Restarts;
use super::role::{RoleFailure, fault, span};
use crate::vitals::{ActorState, Vitals};

/// An order to a supervisor.
#[derive(Debug)]
pub enum Order {
    /// Take over and start this child.
    Start {
        /// The child.
        child: Child,
        /// Told when it takes messages.
        started: oneshot::Sender<()>,
    },
    /// Forget a child: it ends itself, and that is no fault.
    Forget {
        /// The child's path.
        path: String,
        /// Told when it is forgotten: only then may it end.
        forgotten: oneshot::Sender<()>,
    },
    /// The pause of the child with this path is over.
    Restart(String),
}

/// A child's restart budget is spent.
#[derive(Debug, thiserror::Error)]
#[error("{child} was restarted {budget} times within {window}, and died again: {reason}")]
pub struct Spent {
    child: String,
    budget: u32,
    window: humantime::FormattedDuration,
    reason: String,
}

/// The ractor actor; see the module.
#[derive(Debug)]
pub struct Supervisor;

/// The state of a supervisor.
#[derive(Debug)]
pub struct Children {
    vitals: Arc<Vitals>,
    by_path: HashMap<String, Supervised>,
}

#[derive(Debug)]
struct Supervised {
    child: Child,
    restarts: Restarts,
    /// Its present life; none while it waits for the next.
    life: Option<ActorId>,
}

impl Actor for Supervisor {
    type Msg = Order;
    type State = Children;
    type Arguments = (Arc<Vitals>, Vec<Child>);

    async fn pre_start(
        &self,
        this: ActorRef<Order>,
        (vitals, table): Self::Arguments,
    ) -> Result<Children, ActorProcessingErr> {
        let cell = this.get_cell();
        vitals.begin_life(move || cell.kill());
        let mut children = Children { vitals, by_path: HashMap::new() };
        for child in table {
            children.adopt(child, &this).await?;
        }
        children.vitals.set_state(ActorState::Running);
        Ok(children)
    }

    async fn handle(
        &self,
        this: ActorRef<Order>,
        order: Order,
        children: &mut Children,
    ) -> Result<(), ActorProcessingErr> {
        if !matches!(order, Order::Restart(_)) {
            // It came by an address, which counts it; a restart is this supervisor's own.
            children.vitals.dequeued();
        }
        children.die_if_ordered();
        match order {
            Order::Start { child, started } => {
                children.adopt(child, &this).await?;
                // Who asked may have died meanwhile.
                let _ = started.send(());
                Ok(())
            }
            Order::Restart(path) => children.start(&path, &this).await,
            Order::Forget { path, forgotten } => {
                children.by_path.remove(&path);
                let _ = forgotten.send(());
                Ok(())
            }
        }
    }

    async fn handle_supervisor_evt(
        &self,
        this: ActorRef<Order>,
        event: SupervisionEvent,
        children: &mut Children,
    ) -> Result<(), ActorProcessingErr> {
        children.die_if_ordered();
        match event {
            SupervisionEvent::ActorFailed(who, error) => {
                children.died(&who, &RoleFailure::of(error), &this)
            }
            SupervisionEvent::ActorTerminated(who, _, reason) => {
                let reason = reason.unwrap_or_else(|| "it ended".to_owned());
                children.died(&who, &RoleFailure::Gave(reason), &this)
            }
            _ => Ok(()),
        }
    }
}

impl Children {
    fn die_if_ordered(&self) {
        if self.vitals.take_kill() {
            let _entered = span(&self.vitals).entered();
            fault();
        }
    }

    async fn adopt(
        &mut self,
        child: Child,
        this: &ActorRef<Order>,
    ) -> Result<(), ActorProcessingErr> {
        let path = child.vitals.path().to_owned();
        let adopted = Supervised { child, restarts: Restarts::default(), life: None };
        self.by_path.insert(path.clone(), adopted);
        self.start(&path, this).await
    }

    async fn start(
        &mut self,
        path: &str,
        this: &ActorRef<Order>,
    ) -> Result<(), ActorProcessingErr> {
        let Some(supervised) = self.by_path.get_mut(path) else { return Ok(()) };
        if supervised.life.is_some() {
            // The pause of a namesake, forgotten meanwhile, is over: two lives would share a path.
            return Ok(());
        }
        match (supervised.child.start)(this.get_cell()).await {
            Ok(cell) => {
                supervised.life = Some(cell.get_id());
                Ok(())
            }
            Err(SpawnErr::StartupFailed(error)) => {
                self.restart(path, &RoleFailure::of(error), this)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn died(
        &mut self,
        who: &ActorCell,
        failure: &RoleFailure,
        this: &ActorRef<Order>,
    ) -> Result<(), ActorProcessingErr> {
        // A child that was forgotten has no life here, though a namesake may.
        let of_this_life = |one: &&mut Supervised| one.life == Some(who.get_id());
        let Some(supervised) = self.by_path.values_mut().find(of_this_life) else { return Ok(()) };
        supervised.life = None;
        let vitals = Arc::clone(&supervised.child.vitals);
        // An actor that was ended in time by itself, or by a panic, has its own reason.
        let ended = vitals.take_end().filter(|_| failure.crash().is_none());
        let failure = match &ended {
            Some(reason) => &RoleFailure::Gave(reason.clone()),
            None => failure,
        };
        self.restart(vitals.path(), failure, this)
    }

    /// Schedules a child's next life, or ends this supervisor when that child has had too many.
    fn restart(
        &mut self,
        path: &str,
        failure: &RoleFailure,
        this: &ActorRef<Order>,
    ) -> Result<(), ActorProcessingErr> {
        let Some(Supervised { child, restarts, .. }) = self.by_path.get_mut(path) else {
            return Ok(());
        };
        child.vitals.crashed(failure.to_string());
        let again = Order::Restart(path.to_owned());
        if failure.is_isolated() {
            tracing::warn!(actor = path, reason = %failure, "actor died of one event, and starts again");
            return Ok(this.cast(again)?);
        }
        let Some(pause) = restarts.charge(&child.policy, Instant::now(), failure.crash()) else {
            child.vitals.set_state(ActorState::Stopped);
            let spent = Spent {
                child: path.to_owned(),
                budget: child.policy.budget,
                window: humantime::format_duration(child.policy.window),
                reason: failure.to_string(),
            };
            self.vitals.failed(spent.to_string());
            return Err(Box::new(spent));
        };
        tracing::warn!(actor = path, reason = %failure, ?pause, "actor died, and starts again");
        this.send_after(pause, || again);
        Ok(())
    }
}
