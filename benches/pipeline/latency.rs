//! How long it takes from publishing an event to its row, under a steady load.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kappa::generate::Ids;
use kappa_actors::message::NewMessage;
use kappa_actors::port::EventLog;
use rusqlite::{Connection, OpenFlags};
use tokio::runtime::Runtime;

use super::log::log_in;
use crate::daemon::Daemon;
use crate::load::{generator, million};
use crate::report::Report;

const TABLES: [&str; 4] = ["orders", "users", "products", "other"];

/// Events a second.
const RATE: u64 = 10_000;

/// Batches a second.
const BATCHES: u64 = 100;

/// 10,000 events a second for a minute.
pub fn sustained(report: &mut Report) {
    let seconds = (million() / 1_000_000 * 60).max(5);
    println!("{RATE} events/s for {seconds} s");
    let dir = tempfile::tempdir().unwrap();
    let log = log_in(dir.path());
    let mut daemon = Daemon::start::<&str>(dir.path(), &[]);
    daemon.wait_for("running");
    let (told, published) = std::sync::mpsc::channel();
    let publisher = std::thread::spawn(move || {
        let runtime = Runtime::new().unwrap();
        let mut events = generator(Ids::Ordered);
        let started = Instant::now();
        for batch in 0..seconds * BATCHES {
            let due = started + Duration::from_millis(batch * 1_000 / BATCHES);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let (mut messages, mut ids) = (Vec::new(), Vec::new());
            for _ in 0..RATE / BATCHES {
                let mut payload = Vec::new();
                let expected = events.write_next(&mut payload);
                messages.push(NewMessage::from_payload(Bytes::from(payload)));
                ids.extend(expected.defect.is_none().then(|| expected.id.to_string()));
            }
            let at = Instant::now();
            runtime.block_on(log.publish(messages)).into_iter().for_each(|one| drop(one.unwrap()));
            told.send((at, ids)).unwrap();
        }
    });
    let latencies = watch(&dir.path().join("warehouse.db"), &published);
    publisher.join().unwrap();
    report.latencies("publish to row", latencies, 100.0);
}

/// Looks for new rows until all that was published has one.
fn watch(
    warehouse: &std::path::Path,
    published: &std::sync::mpsc::Receiver<(Instant, Vec<String>)>,
) -> Vec<Duration> {
    let db = Connection::open_with_flags(warehouse, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let mut queries = TABLES.map(|table| {
        let sql = format!("SELECT rowid, event_id FROM {table} WHERE rowid > ? ORDER BY rowid");
        (db.prepare(&sql).unwrap(), 0_i64)
    });
    // Either may be seen first: the row, or that its event was published.
    let (mut waiting, mut early): (HashMap<String, Instant>, HashMap<String, Instant>) =
        Default::default();
    let mut latencies = Vec::new();
    let mut publishing = true;
    while publishing || !waiting.is_empty() {
        for (query, last) in &mut queries {
            let mut rows = query.query([*last]).unwrap();
            while let Some(row) = rows.next().unwrap() {
                *last = row.get(0).unwrap();
                early.insert(row.get(1).unwrap(), Instant::now());
            }
        }
        loop {
            match published.try_recv() {
                Ok((at, ids)) => waiting.extend(ids.into_iter().map(|id| (id, at))),
                Err(std::sync::mpsc::TryRecvError::Empty) => break,
                Err(std::sync::mpsc::TryRecvError::Disconnected) => {
                    publishing = false;
                    break;
                }
            }
        }
        early.retain(|id, seen| match waiting.remove(id) {
            Some(at) => {
                latencies.push(seen.saturating_duration_since(at));
                false
            }
            None => true,
        });
        std::thread::sleep(Duration::from_millis(2));
    }
    latencies
}
