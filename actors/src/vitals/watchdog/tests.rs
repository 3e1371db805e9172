//! Time here is the steps that the watchdog counts: no clock runs.

use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use futures::FutureExt as _;

use super::*;
use crate::vitals::{DaemonState, Phase};

const SECOND: Duration = Duration::from_secs(1);
const WRITER: &str = "kappa/warehouse/writer.orders";
const LOG: &str = "event log (acknowledge)";

struct Scene {
    board: Arc<Board>,
    watchdog: Watchdog,
    writer: Arc<Vitals>,
    ends: Arc<AtomicUsize>,
}

type Call = Pin<Box<dyn Future<Output = ()>>>;

impl Scene {
    /// Degraded after 10 s, restarted after 30 s, ended after 100 s.
    fn new() -> Self {
        let board = Board::new();
        board.set_phase(Phase::Running);
        let settings = WatchdogSettings {
            degraded_after: 10 * SECOND,
            restart_after: 30 * SECOND,
            exit_after: 100 * SECOND,
        };
        let (writer, ends) = (board.actor(WRITER, "writer"), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&ends);
        writer.begin_life(move || _ = count.fetch_add(1, SeqCst));
        Self { board, watchdog: Watchdog::new(&settings), writer, ends }
    }

    /// Looks once a second.
    fn pass(&mut self, seconds: u64) -> Result<(), String> {
        let mut look = || self.watchdog.look(&self.board, SECOND).map_err(|fatal| fatal.reason);
        (0..seconds).try_for_each(|_| look())
    }

    /// A call of the writer that is never answered, until it is dropped.
    fn hang(&self) -> Call {
        let calls = Arc::clone(self.writer.calls());
        let mut call: Call = Box::pin(async move { calls.watch("write", pending()).await });
        assert!(call.as_mut().now_or_never().is_none());
        call
    }

    fn answer(&self) {
        self.writer.calls().watch("write", async {}).now_or_never().unwrap();
    }

    fn reason(&self) -> Option<String> {
        let snapshot = self.board.snapshot();
        let [reason] = &snapshot.reasons[..] else { return None };
        assert_eq!(snapshot.state, DaemonState::Degraded);
        Some(format!("{}: {}", reason.source, reason.reason))
    }

    fn ends(&self) -> usize {
        self.ends.load(SeqCst)
    }
}

#[test]
fn a_call_without_an_answer_degrades_then_restarts_then_ends_the_process() {
    let mut scene = Scene::new();
    let first = scene.hang();
    scene.pass(9).unwrap();
    assert_eq!(scene.reason(), None);
    scene.pass(1).unwrap();
    assert_eq!(scene.reason().unwrap(), format!("{WRITER}: write has no answer for 10s"));
    let reason = &scene.board.snapshot().reasons[0];
    assert!((10.0..12.0).contains(&reason.for_seconds), "{reason:?}");

    scene.pass(19).unwrap();
    assert_eq!(scene.ends(), 0);
    scene.pass(1).unwrap();
    assert_eq!(scene.ends(), 1);
    assert_eq!(scene.writer.take_end().unwrap(), "write has no answer for 30s");
    drop(first);
    scene.writer.crashed("it hung");
    assert!(scene.reason().is_some(), "the crash of the actor ends no hang");

    // The next life, and the next, call again and hang too.
    let _second = scene.hang();
    scene.pass(30).unwrap();
    assert_eq!(scene.ends(), 2);
    let end = scene.pass(60).unwrap_err();
    assert_eq!(end, format!("{WRITER} hangs for 1m 40s: write has no answer for 1m 40s"));
}

#[test]
fn an_answer_after_the_restart_ends_the_hang() {
    let mut scene = Scene::new();
    let hanging = scene.hang();
    scene.pass(30).unwrap();
    drop(hanging);
    assert_eq!(scene.ends(), 1);
    scene.answer();
    scene.pass(1).unwrap();
    assert_eq!(scene.reason(), None);
    let _hanging = scene.hang();
    scene.pass(99).unwrap();
    assert_eq!(scene.ends(), 1 + 3, "the time of the first hang does not count any more");
}

#[test]
fn answers_that_come_late_are_no_hang() {
    let mut scene = Scene::new();
    for _ in 0..100 {
        let calls = Arc::clone(scene.writer.calls());
        let (answer, answered) = tokio::sync::oneshot::channel::<()>();
        let mut call: Call = Box::pin(async move { _ = calls.watch("write", answered).await });
        assert!(call.as_mut().now_or_never().is_none());
        scene.pass(9).unwrap();
        answer.send(()).unwrap();
        call.now_or_never().unwrap();
        assert_eq!(scene.reason(), None);
    }
    assert_eq!(scene.ends(), 0);
}

#[test]
fn a_sink_that_fails_for_an_hour_is_no_hang() {
    let mut scene = Scene::new();
    for _ in 0..360 {
        scene.answer();
        scene.writer.trouble("connection refused", 7);
        scene.writer.enqueued();
        scene.pass(10).unwrap();
        scene.writer.dequeued();
    }
    assert_eq!(scene.ends(), 0);
    assert_eq!(scene.reason().unwrap(), format!("{WRITER}: connection refused"));
}

#[test]
fn an_actor_that_takes_none_of_its_messages_hangs() {
    let mut scene = Scene::new();
    scene.writer.enqueued();
    scene.writer.enqueued();
    scene.writer.dequeued();
    scene.pass(11).unwrap();
    let reason = format!("{WRITER}: no message was taken for 10s, and 1 wait");
    assert_eq!(scene.reason().unwrap(), reason);
    scene.pass(20).unwrap();
    assert_eq!(scene.ends(), 1);
    assert_eq!(
        scene.pass(100).unwrap_err(),
        format!("{WRITER} hangs for 1m 40s: no message was taken for 1m 40s, and 1 wait")
    );
}

#[test]
fn an_actor_that_takes_messages_slowly_or_has_none_does_not_hang() {
    let mut scene = Scene::new();
    for _ in 0..50 {
        scene.writer.enqueued();
        scene.writer.enqueued();
        scene.writer.dequeued();
        scene.pass(9).unwrap();
        assert_eq!(scene.reason(), None);
    }
    for _ in 0..50 {
        scene.writer.dequeued();
    }
    scene.pass(1_000).unwrap();
    assert_eq!((scene.ends(), scene.reason()), (0, None));
}

#[test]
fn a_wait_for_memory_is_no_hang() {
    let mut scene = Scene::new();
    scene.writer.enqueued();
    let writer = Arc::clone(&scene.writer);
    let waits = writer.waits();
    scene.pass(1_000).unwrap();
    assert_eq!((scene.ends(), scene.reason()), (0, None));
    drop(waits);
    scene.pass(11).unwrap();
    assert!(scene.reason().is_some());
}

#[test]
fn a_hang_outlasts_the_successes_and_troubles_that_its_actor_reports_meanwhile() {
    let mut scene = Scene::new();
    let _hanging = scene.hang();
    scene.pass(10).unwrap();
    scene.writer.recovered();
    assert!(scene.reason().is_some());
    scene.writer.trouble("connection refused", 7);
    assert!(scene.reason().unwrap().contains("has no answer"));
}

#[test]
fn a_caller_that_is_no_actor_degrades_and_ends_the_process() {
    let mut scene = Scene::new();
    let calls = scene.board.calls(LOG);
    let mut call = Box::pin(calls.watch("acknowledge", pending::<()>()));
    assert!(call.as_mut().now_or_never().is_none());
    scene.pass(10).unwrap();
    assert_eq!(scene.reason().unwrap(), format!("{LOG}: acknowledge has no answer for 10s"));
    scene.board.recovered(LOG);
    assert!(scene.reason().is_some());
    let end = scene.pass(90).unwrap_err();
    assert_eq!(end, format!("{LOG} hangs for 1m 40s: acknowledge has no answer for 1m 40s"));
    drop(call);
    calls.watch("acknowledge", async {}).now_or_never().unwrap();
    scene.pass(1).unwrap();
    assert_eq!(scene.reason(), None);
}

#[test]
fn only_an_actor_that_cannot_be_ended_outside_of_a_call_is_endless() {
    let fatal = |mut scene: Scene, carried_out: bool| loop {
        if carried_out {
            let _ = scene.writer.take_end();
        }
        if let Err(fatal) = scene.watchdog.look(&scene.board, SECOND) {
            break fatal;
        }
    };
    let computing = Scene::new();
    computing.writer.enqueued();
    assert!(fatal(computing, false).is_endless);

    let waiting = Scene::new();
    waiting.writer.enqueued();
    assert!(!fatal(waiting, true).is_endless, "each life was ended");

    let calling = Scene::new();
    let _hanging = calling.hang();
    assert!(!fatal(calling, false).is_endless);
}
