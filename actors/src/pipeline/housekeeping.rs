//! The tasks beside the actors: one watches them, one asks the log how it fares.

use std::sync::Arc;
use std::time::Duration;

use ractor::ActorRef;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::Ports;
use super::tree::Tree;
use crate::port::{LogFault, watched_log};
use crate::supervision::Order;
use crate::vitals::{Board, Fatal, Watchdog};

/// How often rates are sampled, the backlog is asked for, and the watchdog looks.
const SAMPLE: Duration = Duration::from_secs(1);

/// The longest time between two looks of the watchdog that counts. A longer one is a suspended machine
/// or a stopped process.
const LONGEST_STEP: Duration = Duration::from_secs(2);

/// Samples rates, looks for what hangs, and logs faults, each second. It calls no backend: one that
/// hangs must not keep its own fault from being logged. Ends the root when something hangs for good;
/// whether that is an actor that computes without an end.
pub(super) async fn keep_watch(tree: Arc<Tree>, root: ActorRef<Order>) -> bool {
    let mut tick = interval(SAMPLE);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut watchdog = Watchdog::new(tree.watchdog());
    let mut last = Instant::now();
    loop {
        tick.tick().await;
        let step = last.elapsed().min(LONGEST_STEP);
        last = Instant::now();
        let board = tree.board();
        board.sample();
        let looked = watchdog.look(board, step).and_then(|()| find_ended(board, tree.ports()));
        board.announce();
        if let Err(Fatal { reason, is_endless }) = looked {
            tracing::error!(reason, "ending: restarts cannot help");
            tree.root_vitals().failed(reason);
            root.kill();
            return is_endless;
        }
    }
}

/// Looks for a backend that has ended by itself.
fn find_ended(board: &Board, ports: &Ports) -> Result<(), Fatal> {
    let ended = [("event log", ports.log.ended()), ("warehouse", ports.warehouse.ended())];
    let found = ended.into_iter().find_map(|(what, reason)| Some((what, reason?)));
    let Some((what, reason)) = found else { return Ok(()) };
    board.trouble(what, reason.clone(), board.counters().in_flight_messages.get());
    Err(Fatal { reason: format!("the {what} has ended: {reason}"), is_endless: false })
}

/// Asks the log for its faults, its lost acknowledgements and its backlog, each second.
pub(super) async fn inquire(tree: Arc<Tree>) {
    let log = watched_log(&tree.ports().log, &tree.board().calls("event log (backlog)"));
    let mut tick = interval(SAMPLE);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut faulty = Vec::new();
    loop {
        tick.tick().await;
        if let Ok(faults) = log.faults().await {
            show_faults(tree.board(), &mut faulty, faults);
        }
        tree.board().counters().lost_acknowledgements.set(log.lost_acknowledgements());
        // A log that does not answer is reported as trouble by the reader.
        if let Ok(backlog) = log.backlog().await {
            tree.board().counters().set_backlog(backlog);
        }
    }
}

/// Shows the faults of the log, and that those of last time are over.
fn show_faults(board: &Board, shown: &mut Vec<&'static str>, faults: Vec<LogFault>) {
    shown.retain(|what| {
        let lasts = faults.iter().any(|fault| fault.what == *what);
        if !lasts {
            board.recovered(what);
        }
        lasts
    });
    for LogFault { what, reason, waiting } in faults {
        board.trouble(what, reason, waiting);
        if !shown.contains(&what) {
            shown.push(what);
        }
    }
}
