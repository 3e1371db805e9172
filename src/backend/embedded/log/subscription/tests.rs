//! Failures of the file.

use std::path::Path;

use kappa_actors::message::NewMessage;

use super::state::MOST_NOTES;
use super::*;
use crate::backend::embedded::log::tests::options;
use std::sync::Arc;

const ROOM: Room = Room { messages: 10, bytes: 1_000 };

fn with_three_events(dir: &Path) -> (Events, Subscription) {
    let events = Events::open(&dir.join("log.db")).unwrap();
    let transaction = events.lock().unwrap();
    let mut head = events.head().unwrap();
    for payload in ["one", "two", "three"] {
        let message = NewMessage::from_payload(payload);
        events.append(&mut head, Timestamp::now(), &message).unwrap();
    }
    events.set_head(&head).unwrap();
    transaction.commit().unwrap();
    let connection = open(&dir.join("subscriptions.db")).unwrap();
    (events, Subscription::new(connection, &options(), Arc::new(Timestamp::now)))
}

fn leases(messages: &[Message]) -> Vec<Lease> {
    messages.iter().map(|message| message.lease).collect()
}

#[test]
fn an_acknowledgement_that_failed_is_made_again_with_the_same_leases() {
    let dir = tempfile::tempdir().unwrap();
    let (events, mut subscription) = with_three_events(dir.path());
    let messages = subscription.take(&events, ROOM).unwrap();
    subscription.connection.pragma_update(None, "query_only", true).unwrap();
    assert!(subscription.acknowledge(&events, &leases(&messages[..2]), true).is_err());
    assert_eq!(subscription.backlog(&events).unwrap().0, 3, "none is acknowledged");
    assert!(subscription.take(&events, ROOM).unwrap().is_empty(), "all are still on loan");
    subscription.connection.pragma_update(None, "query_only", false).unwrap();
    subscription.acknowledge(&events, &leases(&messages[..2]), true).unwrap();
    assert_eq!(subscription.backlog(&events).unwrap().0, 1);
}

#[test]
fn a_seek_that_failed_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (events, mut subscription) = with_three_events(dir.path());
    let messages = subscription.take(&events, ROOM).unwrap();
    subscription.acknowledge(&events, &leases(&messages[..1]), true).unwrap();
    subscription.connection.pragma_update(None, "query_only", true).unwrap();
    assert!(subscription.seek(&events, i64::MAX).is_err());
    subscription.connection.pragma_update(None, "query_only", false).unwrap();
    subscription.give_back(&leases(&messages));
    assert_eq!(leases(&subscription.take(&events, ROOM).unwrap()), leases(&messages[1..]));
}

#[test]
fn notes_of_the_archive_stay_bounded_and_dropped_ones_only_repeat_lines() {
    let dir = tempfile::tempdir().unwrap();
    let (events, mut subscription) = with_three_events(dir.path());
    subscription.take(&events, ROOM).unwrap();
    let many = i64::try_from(MOST_NOTES).unwrap() * 2;
    // Every other event has no line.
    for offset in 1..=many {
        let one = Range { first: 2 * offset, last: 2 * offset };
        subscription
            .change(|state, transaction, name| {
                state.note_unarchived(transaction, name, &[one].into_iter().collect())
            })
            .unwrap();
    }
    let noted = "SELECT count(*) FROM lines";
    let rows: i64 = subscription.connection.query_row(noted, (), |row| row.get(0)).unwrap();
    assert!(rows <= i64::try_from(MOST_NOTES).unwrap(), "{rows} ranges in the file");
    assert!(subscription.state.unarchived.count() <= MOST_NOTES);
    // None of them is taken for archived, now or when the file is read again.
    subscription.seen = None;
    subscription.take(&events, ROOM).unwrap();
    assert!((1..=many).all(|offset| subscription.state.unarchived.contains(2 * offset)));
}
