//! Lives and deaths of actors, and their order.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use ractor::Actor;
use tokio::sync::{mpsc, oneshot};

use super::*;
use crate::settings::RestartPolicy;
use crate::vitals::Board;

const PATH: &str = "kappa/child";

/// A message to a child.
#[derive(Debug)]
enum Told {
    Answer(oneshot::Sender<usize>),
    End,
    Die,
}

/// Knows which life it is.
struct Mortal {
    life: usize,
    ended: mpsc::UnboundedSender<usize>,
}

impl Drop for Mortal {
    fn drop(&mut self) {
        let _ = self.ended.send(self.life);
    }
}

impl Role for Mortal {
    type Message = Told;

    async fn handle(&mut self, told: Told, me: &Me<Told>) -> Result<(), RoleError> {
        match told {
            Told::Answer(to) => {
                let _ = to.send(self.life);
            }
            Told::End => me.end(),
            Told::Die => return Err("told to".into()),
        }
        Ok(())
    }
}

/// A supervisor, and one path for children of one name.
struct Family {
    orders: Address<Order>,
    board: Arc<Board>,
    lives: Arc<AtomicUsize>,
    ended: mpsc::UnboundedReceiver<usize>,
    end: mpsc::UnboundedSender<usize>,
}

impl Family {
    async fn new() -> Self {
        let board = Board::new();
        let arguments = (board.actor("kappa", "supervisor"), Vec::new());
        let orders = Address::new(Arc::clone(&arguments.0));
        let (supervisor, _) = Actor::spawn(None, Supervisor, arguments).await.unwrap();
        orders.point_to(supervisor);
        let (end, ended) = mpsc::unbounded_channel();
        Self { orders, board, lives: Arc::default(), ended, end }
    }

    /// Adopts another child of this path.
    async fn adopt(&self) -> Address<Told> {
        let address = Address::new(self.board.actor(PATH, "mortal"));
        let policy = RestartPolicy {
            budget: 9,
            window: Duration::from_secs(60),
            backoff: Duration::from_millis(10),
            max_backoff: Duration::from_millis(10),
        };
        let (lives, end) = (Arc::clone(&self.lives), self.end.clone());
        let child = worker(&address, &policy, move || Mortal {
            life: lives.fetch_add(1, SeqCst) + 1,
            ended: end.clone(),
        });
        let (started, has_started) = oneshot::channel();
        self.orders.send(Order::Start { child, started }).unwrap();
        has_started.await.unwrap();
        address
    }

    fn forget(&self) {
        let (forgotten, _) = oneshot::channel();
        self.orders.send(Order::Forget { path: PATH.to_owned(), forgotten }).unwrap();
    }
}

async fn life_of(address: &Address<Told>) -> usize {
    let (to, answer) = oneshot::channel();
    address.send(Told::Answer(to)).unwrap();
    answer.await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_address_leads_to_the_next_life_of_its_actor() {
    let mut family = Family::new().await;
    let address = family.adopt().await;
    for life in 1..=3 {
        assert_eq!(life_of(&address).await, life);
        address.send(Told::Die).unwrap();
        assert_eq!(family.ended.recv().await, Some(life));
        assert!(address.send(Told::End).is_err(), "the dead give messages back");
        tokio::time::sleep(Duration::from_millis(11)).await;
    }
    assert_eq!(life_of(&address).await, 4);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_forgotten_child_starts_no_second_life_of_its_namesake() {
    let mut family = Family::new().await;
    let old = family.adopt().await;
    family.forget();
    let new = family.adopt().await;
    old.send(Told::End).unwrap();
    assert_eq!(family.ended.recv().await, Some(1));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(life_of(&new).await, 2);
    assert_eq!(family.lives.load(SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn the_pending_restart_of_a_forgotten_child_starts_no_second_life_of_its_namesake() {
    let mut family = Family::new().await;
    let old = family.adopt().await;
    old.send(Told::Die).unwrap();
    assert_eq!(family.ended.recv().await, Some(1));
    family.forget();
    let new = family.adopt().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(life_of(&new).await, 2);
    assert_eq!(family.lives.load(SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn an_order_that_is_carried_out_waits_no_longer() {
    let family = Family::new().await;
    family.adopt().await;
    family.forget();
    family.adopt().await;
    assert_eq!(family.orders.vitals().mailbox(), 0);
}
