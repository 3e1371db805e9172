//! A writer and three sealers on one incarnation, in any order a store allows.

use std::pin::Pin;
use std::task::Context;

use futures::task::noop_waker;
use proptest::prelude::*;

use super::*;

/// What happens next.
#[derive(Clone, Debug)]
enum Action {
    /// The writer stores its next part.
    Put,
    /// The writer stores a part again, since its answer was lost.
    PutAgain(u32),
    /// A sealer goes on for some calls to the store; after its end it starts again.
    Step { sealer: usize, calls: usize },
    /// A sealer is killed between two calls.
    Kill(usize),
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        4 => Just(Action::Put),
        1 => (0..12_u32).prop_map(Action::PutAgain),
        8 => (0..3_usize, 1..12_usize).prop_map(|(sealer, calls)| Action::Step { sealer, calls }),
        2 => (0..3_usize, 12..60_usize).prop_map(|(sealer, calls)| Action::Step { sealer, calls }),
        1 => (0..3_usize).prop_map(Action::Kill),
    ]
}

type Sealer = Pin<Box<dyn Future<Output = Result<Vec<Final>, SealError>>>>;

/// Up to three parts a final, and five a manifest.
const TINY: Limits = Limits { final_bytes: 30, parts: 5 };

fn sealer(archive: &MemoryArchive, incarnation: &Incarnation) -> Sealer {
    let (client, incarnation) = (archive.client(), incarnation.clone());
    client.one_call_a_poll();
    Box::pin(async move { close(&client, window(), &incarnation, TINY).await })
}

/// The archive, and the lines that it must hold.
struct World {
    archive: MemoryArchive,
    incarnation: Incarnation,
    sealers: Vec<Sealer>,
    /// How often each part was put.
    puts: Vec<usize>,
}

impl World {
    fn new() -> Self {
        let (archive, incarnation) = (MemoryArchive::new(), Incarnation::random());
        let sealers = (0..3).map(|_| sealer(&archive, &incarnation)).collect();
        Self { archive, incarnation, sealers, puts: Vec::new() }
    }

    fn put(&mut self, number: u32) {
        let part = part(&line(number));
        let stored = store_part(&self.archive, window(), &self.incarnation, number, &part);
        stored.now_or_never().unwrap().unwrap();
    }

    fn take(&mut self, action: &Action) {
        match *action {
            Action::Put => {
                self.put(u32::try_from(self.puts.len()).unwrap());
                self.puts.push(1);
            }
            Action::PutAgain(number) => {
                if let Some(puts) = self.puts.get_mut(number as usize) {
                    *puts += 1;
                    self.put(number);
                }
            }
            Action::Step { sealer, calls } => self.step(sealer, calls),
            Action::Kill(number) => self.restart(number),
        }
    }

    fn step(&mut self, number: usize, calls: usize) {
        for _ in 0..calls {
            let polled =
                self.sealers[number].as_mut().poll(&mut Context::from_waker(&noop_waker()));
            if polled.map(|closed| closed.unwrap()).is_ready() {
                self.restart(number);
            }
        }
    }

    fn restart(&mut self, number: usize) {
        self.sealers[number] = sealer(&self.archive, &self.incarnation);
    }

    /// Checks that a reader misses no line, and finds none more often than it was stored.
    fn check(&self, finished: bool) {
        let seen = seen(&self.archive).now_or_never().unwrap();
        for (number, puts) in (0..).zip(&self.puts) {
            let times = seen.get(&line(number)).copied().unwrap_or(0);
            assert!(times >= 1, "line {number} is lost");
            assert!(
                times <= *puts,
                "line {number} was put {puts} times and is there {times} times"
            );
        }
        let indexed = indexed(&self.archive).now_or_never().unwrap();
        if finished {
            assert_eq!(indexed, seen.values().sum::<usize>() as u64);
            assert!(only_finals(&self.archive), "{:?}", self.archive.names());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// After every action a reader sees each line, and no more often than it was put; and after a
    /// recovery only finals are left.
    #[test]
    fn whatever_sealers_do_at_once_no_line_is_lost_or_composed_twice(
        actions in prop::collection::vec(action(), 1..60)
    ) {
        let mut world = World::new();
        for action in &actions {
            world.take(action);
            world.check(false);
        }
        world.sealers.clear();
        recover(&world.archive, TINY).now_or_never().unwrap();
        world.check(true);
    }
}

/// A finisher pauses after any call, another is killed after any call of its own, and the first goes on.
#[tokio::test]
async fn a_finisher_that_resumes_after_a_killed_one_neither_loses_nor_repeats_a_line() {
    for slept_after in 0..32 {
        for killed_after in 0..24 {
            let mut world = World::new();
            (0..4).for_each(|_| world.take(&Action::Put));
            world.step(0, slept_after);
            let mortal = world.archive.client();
            mortal.die_after(killed_after);
            let _ = close(&mortal, window(), &world.incarnation, TINY).await;
            world.step(0, 60);
            world.check(false);
            recover(&world.archive, TINY).await;
            world.check(true);
        }
    }
}
