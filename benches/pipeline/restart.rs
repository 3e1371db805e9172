//! How fast things come up: a killed actor, and the daemon itself.

use std::time::{Duration, Instant};

use bytes::Bytes;
use kappa::daemon;
use kappa::generate::Generator;
use kappa::generate::Ids;
use kappa::settings::{Settings, Sources};
use kappa::wiring::Blueprint;
use kappa_actors::message::NewMessage;
use kappa_actors::pipeline::Intake;
use kappa_actors::port::EventLog;
use kappa_actors::vitals::{ActorState, Vitals};
use rusqlite::{Connection, OpenFlags};
use tokio::runtime::Runtime;

use super::log::{log_in, publish};
use crate::daemon::Daemon;
use crate::load::generator;
use crate::report::Report;

/// Kills measured.
const KILLS: usize = 20;

/// The pause before a restart, which is not the restart's own.
const BACKOFF: Duration = Duration::from_millis(1);

/// Both.
pub fn start_and_restart(report: &mut Report) {
    println!("start and restart");
    report.at_most("start to first row, with a backlog", ms(first_row()), 300.0, "ms");
    report.at_most(
        "restart of a killed actor, the backoff aside, longest of 20",
        ms(restart()),
        5.0,
        "ms",
    );
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// From the start of the process to the first row, with a backlog waiting.
fn first_row() -> Duration {
    let dir = tempfile::tempdir().unwrap();
    publish(dir.path(), 100_000, Ids::Ordered);
    let started = Instant::now();
    let daemon = Daemon::start::<&str>(dir.path(), &[]);
    let file = dir.path().join("warehouse.db");
    loop {
        let found = Connection::open_with_flags(&file, OpenFlags::SQLITE_OPEN_READ_ONLY)
            .and_then(|db| db.query_row("SELECT 1 FROM orders LIMIT 1", (), |_| Ok(())));
        if found.is_ok() {
            drop(daemon);
            return started.elapsed();
        }
        assert!(started.elapsed() < Duration::from_secs(30), "no row within 30 s");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// From a killed writer's death to its next life.
fn restart() -> Duration {
    let dir = tempfile::tempdir().unwrap();
    let set = ["restart.backoff=1ms", "restart.max_backoff=1ms", "restart.budget=1000"];
    let mut set: Vec<String> = set.iter().map(|set| format!("actors.writer.{set}")).collect();
    set.push("status.listen=127.0.0.1:0".to_owned());
    let sources = Sources { set, data_dir: Some(dir.path().to_path_buf()), ..Sources::default() };
    let settings = Settings::load(&sources).unwrap();
    let blueprint = Blueprint::of(&settings).unwrap();
    let runtime = Runtime::new().unwrap();
    let daemon =
        runtime.block_on(daemon::Daemon::start(settings, &blueprint, Intake::Open)).unwrap();
    let writer = daemon.board().find("kappa/warehouse/writer.orders").unwrap();
    let log = log_in(dir.path());
    let mut events = generator(Ids::Ordered);
    let longest = (0..KILLS).map(|_| restart_once(&runtime, &log, &mut events, &writer)).max();
    runtime.block_on(daemon.stop());
    longest.unwrap()
}

fn restart_once(
    runtime: &Runtime,
    log: &impl EventLog,
    events: &mut Generator,
    writer: &Vitals,
) -> Duration {
    let restarts = writer.restarts();
    writer.kill();
    let messages = (0..20).map(|_| {
        let mut payload = Vec::new();
        events.write_next(&mut payload);
        NewMessage::from_payload(Bytes::from(payload))
    });
    runtime.block_on(log.publish(messages.collect()));
    while writer.restarts() == restarts {
        std::hint::spin_loop();
    }
    let died = Instant::now();
    while writer.state() != ActorState::Running {
        std::hint::spin_loop();
    }
    died.elapsed().saturating_sub(BACKOFF)
}
