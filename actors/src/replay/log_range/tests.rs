use super::*;
use crate::testing::event_log::{Abilities, conforms};
use crate::testing::memory::event_log::MemoryLog;
use crate::testing::memory::yielding::Yielding;

const ROOM: Room = Room { messages: 2, bytes: 1 << 20 };
const ENDING: Ending = Ending {
    quiet: Duration::from_secs(30),
    straggling: Duration::ZERO,
    ask_every: Duration::ZERO,
    later_ends: true,
    refuted: Duration::ZERO,
};

fn at(second: i64) -> Timestamp {
    Timestamp::from_micros(second * 1_000_000)
}

/// Events of these seconds, and their range from the 10th to the 20th.
fn range_of(seconds: &[i64], ending: Ending) -> (MemoryLog, LogRange) {
    let log = MemoryLog::default();
    for &second in seconds {
        log.append_at([NewMessage::from_payload(second.to_string())], at(second));
    }
    let range = ReplayRange { from: at(10), to: at(20) };
    (log.clone(), LogRange::new(Arc::new(log), range, ending))
}

/// The payloads up to the end, all acknowledged.
async fn all(range: &LogRange) -> Vec<String> {
    let mut all = Vec::new();
    loop {
        match range.pull(ROOM, Duration::from_millis(50)).await.unwrap() {
            Pulled::Messages(messages) => {
                let leases: Vec<_> = messages.iter().map(|message| message.lease).collect();
                range.acknowledge(&leases).await.unwrap();
                let text = |it: &Message| String::from_utf8(it.payload.to_vec()).unwrap();
                all.extend(messages.iter().map(text));
            }
            Pulled::Quiet => {}
            Pulled::End => return all,
        }
    }
}

/// Each message of the range is between two that lie outside, so that every pull has messages
/// to pass over.
#[tokio::test]
async fn it_keeps_the_promises_of_an_event_log_among_events_outside_its_range() {
    let fresh = |messages: Vec<NewMessage>| async {
        let log = MemoryLog::default();
        for message in messages {
            log.append_at([NewMessage::from_payload("before")], at(1));
            log.append_at([message], at(10));
            log.append_at([NewMessage::from_payload("before")], at(2));
        }
        let range = ReplayRange { from: at(10), to: Timestamp::now().after(ENDING.quiet) };
        LogRange::new(Arc::new(Yielding(log)), range, ENDING)
    };
    let abilities = Abilities { seek: false, backlog: false, ..Abilities::ALL };
    conforms(fresh, abilities).await;
}

/// Like `range_of`, but the log answers `acknowledged` with `answer`; an error for `None`.
fn answering(
    seconds: &[i64],
    ending: Ending,
    answer: Option<Acknowledged>,
) -> (MemoryLog, LogRange) {
    let (log, LogRange { range, .. }) = range_of(seconds, ending);
    (log.clone(), LogRange::new(Arc::new(Answering(log, answer)), range, ending))
}

struct Answering(MemoryLog, Option<Acknowledged>);

#[async_trait]
impl EventLog for Answering {
    async fn pull(&self, room: Room, patience: Duration) -> Result<Pulled, LogError> {
        self.0.pull(room, patience).await
    }

    async fn acknowledge(&self, leases: &[Lease]) -> Result<(), LogError> {
        self.0.acknowledge(leases).await
    }

    async fn give_back(&self, leases: &[Lease]) -> Result<(), LogError> {
        self.0.give_back(leases).await
    }

    async fn seek(&self, to: Timestamp) -> Result<Sought, LogError> {
        self.0.seek(to).await
    }

    async fn publish(&self, messages: Vec<NewMessage>) -> Vec<Result<String, PublishError>> {
        self.0.publish(messages).await
    }

    async fn backlog(&self) -> Result<Backlog, LogError> {
        self.0.backlog().await
    }

    async fn acknowledged(&self) -> Result<Acknowledged, LogError> {
        self.1.ok_or_else(|| LogError::Refused("it does not know".to_owned()))
    }
}

#[tokio::test(start_paused = true)]
async fn the_logs_own_answer_proves_the_end_and_what_lies_outside_is_passed_over() {
    let (_, range) = range_of(&[8, 9, 10, 11, 19, 20, 21], ENDING);
    let begun = Instant::now();
    assert_eq!(all(&range).await, ["10", "11", "19"]);
    assert_eq!(range.progress().ended_by, Some(EndedBy::Proof));
    assert_eq!((range.progress().events, range.progress().latest), (3, Some(at(19))));
    assert!(begun.elapsed() < ENDING.quiet);
}

#[tokio::test(start_paused = true)]
async fn an_event_of_the_range_behind_later_ones_is_not_left_out() {
    let ending = Ending { later_ends: false, ..ENDING };
    let later = (20..60).chain([11]).collect::<Vec<_>>();
    for answer in [Some(Acknowledged::Before(at(11))), None] {
        let (_, range) = answering(&later, ending, answer);
        assert_eq!(all(&range).await, ["11"]);
        assert_eq!(range.progress().ended_by, Some(EndedBy::Quiet));
    }
    let (_, range) = range_of(&later, ending);
    assert_eq!(all(&range).await, ["11"]);
    assert_eq!(range.progress().ended_by, Some(EndedBy::Proof));
}

#[tokio::test(start_paused = true)]
async fn without_the_logs_answer_a_later_event_or_a_quiet_log_is_the_end() {
    let (_, range) = answering(&[10, 11, 20, 21], ENDING, None);
    let begun = Instant::now();
    assert_eq!(all(&range).await, ["10", "11"]);
    assert_eq!(range.progress().ended_by, Some(EndedBy::LaterEvent));
    assert!(begun.elapsed() < ENDING.quiet);
    let (_, range) = answering(&[10, 11], ENDING, None);
    let begun = Instant::now();
    assert_eq!(all(&range).await, ["10", "11"]);
    assert_eq!(range.progress().ended_by, Some(EndedBy::Quiet));
    assert!(begun.elapsed() >= ENDING.quiet);
}

#[tokio::test(start_paused = true)]
async fn while_the_log_holds_events_of_the_range_it_is_read_on_for_a_while() {
    let ending = Ending { refuted: Duration::from_secs(300), ..ENDING };
    let (log, range) = answering(&[10, 21], ending, Some(Acknowledged::Before(at(12))));
    let late = async {
        tokio::time::sleep(Duration::from_secs(200)).await;
        log.append_at([NewMessage::from_payload("12")], at(12));
    };
    let begun = Instant::now();
    let (all, ()) = futures::join!(all(&range), late);
    assert_eq!(all, ["10", "12"]);
    assert_eq!(range.progress().ended_by, Some(EndedBy::LaterEvent), "the wait has an end");
    assert!(begun.elapsed() >= Duration::from_secs(500));
}

#[tokio::test(start_paused = true)]
async fn where_events_come_out_of_order_stragglers_are_waited_for() {
    let ending = Ending { straggling: Duration::from_secs(5), ..ENDING };
    // The proof does not save the time either: a seek may not have reached the whole log yet.
    for answer in [None, Some(Acknowledged::All)] {
        let (log, range) = answering(&[10, 21, 22, 11], ending, answer);
        let late = async {
            tokio::time::sleep(Duration::from_secs(4)).await;
            log.append_at([NewMessage::from_payload("12")], at(12));
        };
        let begun = Instant::now();
        let (all, ()) = futures::join!(all(&range), late);
        assert_eq!(all, ["10", "11", "12"]);
        assert!(begun.elapsed() >= Duration::from_secs(9));
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_given_back_after_the_end_is_handed_out_again() {
    let (_, range) = range_of(&[10, 30], ENDING);
    let pulled = range.pull(ROOM, Duration::ZERO).await.unwrap();
    let Pulled::Messages(messages) = pulled else { panic!("{pulled:?}") };
    assert!(matches!(range.pull(ROOM, Duration::ZERO).await.unwrap(), Pulled::End));
    range.give_back(&[messages[0].lease]).await.unwrap();
    assert_eq!(all(&range).await, ["10"]);
}
