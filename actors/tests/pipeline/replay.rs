//! History through the same actors: a bounded job over an archive.

use std::collections::HashSet;
use std::num::NonZeroU32;
use std::sync::Arc;

use kappa_actors::pipeline::{Intake, Pipeline, Plan, Ports};
use kappa_actors::replay::{ArchiveLog, Paced, ReplayRange};
use kappa_actors::time::Timestamp;
use kappa_actors::vitals::Board;

use super::rig::*;
use super::world::World;

/// A world whose archive holds these orders, and nothing else.
async fn archived(orders: usize) -> World {
    let world = World::default();
    let rig = Rig::until_idle(&world, plan()).await;
    world.log.append((1..=orders).map(order));
    rig.finish().await;
    let mut fresh = World::default();
    fresh.archive = world.archive;
    fresh
}

fn history(world: &World, done: HashSet<String>) -> ArchiveLog {
    let range = ReplayRange { from: Timestamp::from_micros(0), to: Timestamp::now().after(HOUR) };
    ArchiveLog::open(Arc::new(world.archive.clone()), range, None, done)
}

// On the real clock: files are read on threads of their own, which hold a paused one.
#[tokio::test]
async fn a_replay_goes_to_the_end_of_history_however_quiet_it_is_in_between() {
    within(async {
        let world = archived(8).await;
        // Slower than the pipeline by far: between two events nothing is left to do.
        let log = Arc::new(Paced::new(history(&world, HashSet::new()), NonZeroU32::new(5)));
        let ports = Ports { log: log.clone(), ..world.ports() };
        let plan = Plan { archive: None, staging_replay: Some("r1".to_owned()), ..plan() };
        let (board, others) = (Board::new(), Arc::new(Vec::new));
        let mut pipeline =
            Pipeline::start(plan, ports, board, Intake::ToTheEnd, others).await.unwrap();
        pipeline.idle().await.unwrap();
        assert_eq!(world.warehouse.rows("orders").len(), 8);
        let before = world.archive.names();
        let stopped = pipeline.stop(HOUR).await;
        assert_eq!((stopped.given_back, world.archive.names()), (0, before));
        assert_eq!(log.inner().take_done().len(), 1, "the archive's only file is done");
    })
    .await;
}
