//! A child in the table of its supervisor: its path, its policy and its start.

use std::sync::Arc;

use futures::future::BoxFuture;
use ractor::{Actor, ActorCell, SpawnErr};

use super::address::Address;
use super::role::{Role, Shell};
use super::supervisor::{Order, Supervisor};
use crate::settings::RestartPolicy;
use crate::vitals::Vitals;

type Start = dyn Fn(ActorCell) -> BoxFuture<'static, Result<ActorCell, SpawnErr>> + Send + Sync;

/// One line of a children table.
pub struct Child {
    pub(super) vitals: Arc<Vitals>,
    pub(super) policy: RestartPolicy,
    pub(super) start: Box<Start>,
}

impl std::fmt::Debug for Child {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Child").field(&self.vitals.path()).finish()
    }
}

/// A child that plays a role; `make` makes the role again for each life.
pub fn worker<R: Role>(
    address: &Address<R::Message>,
    policy: &RestartPolicy,
    make: impl Fn() -> R + Send + Sync + 'static,
) -> Child {
    let address = address.clone();
    let vitals = Arc::clone(address.vitals());
    let start = {
        let vitals = Arc::clone(&vitals);
        move |supervisor: ActorCell| -> BoxFuture<'static, Result<ActorCell, SpawnErr>> {
            let (address, role, vitals) = (address.clone(), make(), Arc::clone(&vitals));
            Box::pin(async move {
                let (actor, _) =
                    Actor::spawn_linked(None, Shell::new(), (role, vitals), supervisor).await?;
                address.point_to(actor.clone());
                Ok(actor.get_cell())
            })
        }
    };
    Child { vitals, policy: policy.clone(), start: Box::new(start) }
}

/// A child that supervises children of its own; `children` makes their table for each life.
pub fn group(
    address: &Address<Order>,
    policy: &RestartPolicy,
    children: impl Fn() -> Vec<Child> + Send + Sync + 'static,
) -> Child {
    let address = address.clone();
    let vitals = Arc::clone(address.vitals());
    let start = {
        let vitals = Arc::clone(&vitals);
        move |supervisor: ActorCell| -> BoxFuture<'static, Result<ActorCell, SpawnErr>> {
            let (address, vitals) = (address.clone(), Arc::clone(&vitals));
            let arguments = (vitals, children());
            Box::pin(async move {
                let (actor, _) =
                    Actor::spawn_linked(None, Supervisor, arguments, supervisor).await?;
                address.point_to(actor.clone());
                Ok(actor.get_cell())
            })
        }
    };
    Child { vitals, policy: policy.clone(), start: Box::new(start) }
}
