//! A pipeline to be tested: its settings, its events, and how to wait for it.

use std::future::Future;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use kappa_actors::archive::{Compression, LineFormat};
use kappa_actors::envelope::{EnvelopeConfig, EnvelopePlan};
use kappa_actors::message::NewMessage;
use kappa_actors::pipeline::{ArchivePlan, Intake, Pipeline, Plan, ProcessorSpec, Stopped};
use kappa_actors::processor::{EventLimits, Processor, ProcessorPlan};
use kappa_actors::settings::{
    ActorSettings, ArchiveWindowSettings, ParserSettings, ReaderSettings, RestartPolicy,
    RouterSettings, SupervisorSettings, WatchdogSettings, WriterSettings,
};
use kappa_actors::vitals::{Board, DaemonState};

use super::world::{AT, Times, World};

/// How long nothing comes before a log that does not know its backlog is idle.
pub(crate) const QUIET_PERIOD: Duration = Duration::from_secs(10);

/// How long an event that panics a sink, and comes alone, is tried.
pub(crate) const PANIC_GRACE: Duration = Duration::from_secs(60);

/// Longer than any test may take: a timer of an hour never fires.
pub(crate) const HOUR: Duration = Duration::from_secs(3600);

/// Bounds on the rows of one event.
pub(crate) const LIMITS: EventLimits = EventLimits { max_rows: 100, max_bytes: 16 << 10 };

const PROCESSORS: [(&str, &str); 3] = [
    (
        "orders",
        r#"
        match = ["order."]
        table = "orders"
        key = ["event_id"]
        [columns]
        event_id = { type = "STRING", from = "/event_id" }
        amount = { type = "INTEGER", from = "/amount", default = 0 }
        "#,
    ),
    (
        "users",
        r#"
        match = ["user."]
        table = "users"
        key = ["event_id"]
        [columns]
        event_id = { type = "STRING", from = "/event_id" }
        "#,
    ),
    (
        "items",
        r#"
        match = ["cart."]
        table = "items"
        key = ["event_id", "number"]
        explode = "/items"
        [columns]
        event_id = { type = "STRING", root = "/event_id" }
        number = { type = "INTEGER", index = true }
        sku = { type = "STRING", from = "/sku" }
        "#,
    ),
];

/// A plan in which nothing is flushed by time, and restarts are never short.
pub(crate) fn plan() -> Plan {
    let pointers = ["/event_id", "/event_type", "/timestamp"].map(str::to_owned);
    let [id, r#type, time] = pointers;
    let envelope = EnvelopePlan::compile(&EnvelopeConfig { id, r#type, time }, 1 << 20).unwrap();
    let processors = PROCESSORS.map(|(name, config)| {
        let config = toml::from_str(config).unwrap();
        spec(Arc::new(ProcessorPlan::compile(name, &config, &envelope, LIMITS).unwrap()))
    });
    Plan {
        envelope: Arc::new(envelope),
        processors: processors.into(),
        archive: Some(ArchivePlan {
            format: LineFormat::Annotated,
            compression: Compression::None,
            exclusive: true,
        }),
        actors: actors(),
        elsewhere: Vec::new(),
        faults: Default::default(),
        staging_replay: None,
        requeued: None,
        event_time: None,
    }
}

pub(crate) fn spec(processor: Arc<dyn Processor>) -> ProcessorSpec {
    ProcessorSpec {
        processor,
        observes: false,
        restart: restart(1_000),
        writer: writer(),
        freshness: None,
    }
}

pub(crate) fn restart(budget: u32) -> RestartPolicy {
    RestartPolicy {
        budget,
        window: HOUR,
        backoff: Duration::from_millis(10),
        max_backoff: Duration::from_millis(100),
    }
}

fn writer() -> WriterSettings {
    WriterSettings {
        max_batch_rows: 1_000,
        max_batch_bytes: 1 << 20,
        max_in_flight: 1,
        max_delay: HOUR,
        retry_backoff: Duration::from_millis(50),
        max_retry_backoff: Duration::from_secs(1),
        restart: restart(1_000),
    }
}

fn actors() -> ActorSettings {
    ActorSettings {
        reader: ReaderSettings {
            max_outstanding_messages: 10_000,
            max_outstanding_bytes: 64 << 20,
            max_batch_events: 100,
            redelivery_backoff: Duration::from_millis(1),
            max_redelivery_backoff: Duration::from_secs(1),
            quiet_period: QUIET_PERIOD,
            max_attempts: 3,
            panic_grace: PANIC_GRACE,
            restart: restart(1_000),
        },
        parser: ParserSettings { pool_size: 2, restart: restart(1_000) },
        router: RouterSettings { restart: restart(1_000) },
        archive_window: ArchiveWindowSettings {
            flush_bytes: 1 << 20,
            flush_interval: HOUR,
            grace: 24 * HOUR,
            max_open: 64,
            retry_backoff: Duration::from_millis(50),
            max_retry_backoff: Duration::from_secs(1),
            restart: restart(1_000),
        },
        dead_letter: writer(),
        supervisor: SupervisorSettings { restart: restart(3) },
        watchdog: WatchdogSettings {
            degraded_after: HOUR,
            restart_after: 2 * HOUR,
            exit_after: 3 * HOUR,
        },
    }
}

/// A running pipeline.
pub(crate) struct Rig {
    pub(crate) pipeline: Pipeline,
    pub(crate) board: Arc<Board>,
}

impl Rig {
    /// Takes events as they come: nothing is flushed until permits are short.
    pub(crate) async fn open(world: &World, plan: Plan) -> Self {
        Self::start(world, plan, Intake::Open).await
    }

    /// Flushes whenever the log is quiet.
    pub(crate) async fn until_idle(world: &World, plan: Plan) -> Self {
        Self::start(world, plan, Intake::UntilIdle).await
    }

    async fn start(world: &World, plan: Plan, intake: Intake) -> Self {
        let board = Board::new();
        let others = Arc::new(Vec::new);
        let started =
            Pipeline::start(plan, world.ports(), Arc::clone(&board), intake, others).await;
        Self { pipeline: started.unwrap(), board }
    }

    /// Has the actor panic at its next message.
    pub(crate) fn kill(&self, path: &str) {
        self.board.find(path).unwrap().kill();
    }

    pub(crate) fn restarts(&self, path: &str) -> u64 {
        self.board.find(path).map_or(0, |vitals| vitals.restarts())
    }

    /// Waits until the actor was started again for the `count`th time.
    pub(crate) async fn restarted(&self, path: &str, count: u64) {
        until(|| self.restarts(path) >= count).await;
    }

    /// Waits until the daemon is degraded by `source`; how many events wait for it.
    pub(crate) async fn degraded_by(&self, source: &str) -> u64 {
        loop {
            let snapshot = self.board.snapshot();
            let reason = snapshot.reasons.iter().find(|reason| reason.source.starts_with(source));
            if let Some(reason) = reason {
                assert_eq!(snapshot.state, DaemonState::Degraded);
                return reason.waiting_events;
            }
            tokio::time::sleep(STEP).await;
        }
    }

    /// Stops with all the time in the world, which loses nothing and leaves nothing.
    pub(crate) async fn stop(self) -> Arc<Board> {
        let stopped = self.pipeline.stop(HOUR).await;
        assert_eq!(stopped, Stopped { given_back: 0, archive_closed: true });
        let counters = self.board.counters();
        assert_eq!(counters.in_flight_messages.get(), 0);
        assert_eq!(counters.in_flight_bytes.get(), 0);
        assert!(self.board.snapshot().holdings.is_empty());
        self.board
    }

    /// Waits until everything is done, then stops.
    pub(crate) async fn finish(mut self) -> Arc<Board> {
        self.pipeline.idle().await.unwrap();
        self.stop().await
    }
}

/// A moment of the paused clock.
const STEP: Duration = Duration::from_millis(1);

/// Waits until `seen`. The clock is paused: only the actors' own waits take time.
pub(crate) async fn until(mut seen: impl FnMut() -> bool) {
    while !seen() {
        tokio::time::sleep(STEP).await;
    }
}

/// Runs a test within ten minutes of the paused clock.
pub(crate) async fn within<T>(test: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(600), test).await.expect("the pipeline hangs")
}

pub(crate) fn event(kind: &str, id: &str, rest: &str) -> NewMessage {
    let time = "2026-02-17T14:30:00Z";
    NewMessage::from_payload(format!(
        r#"{{"event_id":"{id}","event_type":"{kind}","timestamp":"{time}"{rest}}}"#
    ))
}

/// The order `o1` and so on, with that amount.
pub(crate) fn order(number: usize) -> NewMessage {
    event("order.placed", &format!("o{number}"), &format!(r#","amount":{number}"#))
}

/// The user `u1` and so on.
pub(crate) fn user(number: usize) -> NewMessage {
    event("user.created", &format!("u{number}"), "")
}

/// A cart `c1` and so on, of two items.
pub(crate) fn cart(number: usize) -> NewMessage {
    let items = r#","items":[{"sku":"good"},{"sku":"bad"}]"#;
    event("cart.filled", &format!("c{number}"), items)
}

/// No event.
pub(crate) fn invalid() -> NewMessage {
    NewMessage::from_payload("no event")
}

/// Returns `message` as if the log had received it `before` now.
pub(crate) fn published(mut message: NewMessage, before: Duration) -> NewMessage {
    let now = kappa_actors::time::Timestamp::now().micros();
    let at = now - i64::try_from(before.as_micros()).unwrap();
    message.attributes.insert(AT.to_owned(), at.to_string());
    message
}

pub(crate) fn orders(numbers: RangeInclusive<usize>) -> Vec<NewMessage> {
    numbers.map(order).collect()
}

/// Each of these events as often.
pub(crate) fn each(kind: &str, numbers: RangeInclusive<usize>, times: usize) -> Times {
    numbers.map(|number| (format!("{kind}{number}"), times)).collect()
}
