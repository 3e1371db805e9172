//! The practical limit: one thread that parses with borrowed types, writes the same rows to SQLite
//! without a key, and the archive lines through a buffered file. It keeps no promise.

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::time::Duration;

use kappa::generate::Ids;
use kappa_actors::time::Timestamp;
use rusqlite::{Connection, Statement, params};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::load::{generator, million};
use crate::report::Report;

/// Rows in one transaction.
const COMMIT: u64 = 5_000;

/// The loop must be tight, or a ratio to it means nothing: greatest processor seconds for a million events.
const HONEST_CPU_SECONDS: f64 = 2.5;

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow)]
    event_id: Cow<'a, str>,
    #[serde(borrow)]
    event_type: Cow<'a, str>,
    #[serde(borrow)]
    timestamp: Cow<'a, str>,
    #[serde(borrow, default)]
    entity_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    data: &'a RawValue,
    #[serde(borrow)]
    metadata: &'a RawValue,
}

#[derive(Deserialize)]
struct Order<'a> {
    #[serde(borrow, default)]
    customer_id: Cow<'a, str>,
    #[serde(borrow, default)]
    items: Vec<&'a RawValue>,
    #[serde(default)]
    total: f64,
    #[serde(borrow, default)]
    currency: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Metadata<'a> {
    #[serde(borrow, default)]
    source: Cow<'a, str>,
}

/// The cost of the loop.
pub struct Loop {
    /// Wall time, the events being in memory already.
    pub wall: Duration,
    /// Processor seconds for as many events.
    pub cpu_seconds: f64,
}

/// Shows the loop alone, and that it is tight.
pub fn honest(report: &mut Report) {
    let events = million();
    println!("the loop, {events} events");
    // The best of three: a busy neighbour makes any of them slower, and none faster.
    let runs = (0..3).map(|_| run(events, Ids::Ordered));
    let run = runs.min_by(|a, b| a.cpu_seconds.total_cmp(&b.cpu_seconds)).unwrap();
    report.show("rate", events as f64 / run.wall.as_secs_f64() / 1e3, "k events/s");
    let cpu = run.cpu_seconds * 1e6 / events as f64;
    report.at_most("processor seconds a million", cpu, HONEST_CPU_SECONDS, "s");
}

/// Runs the loop over `count` events.
pub fn run(count: u64, ids: Ids) -> Loop {
    let dir = tempfile::tempdir().unwrap();
    let mut events = generator(ids);
    let payloads: Vec<Vec<u8>> = (0..count)
        .map(|_| {
            let mut payload = Vec::new();
            events.write_next(&mut payload);
            payload
        })
        .collect();
    let (started, spent) = (std::time::Instant::now(), cpu_seconds());
    pour(&payloads, dir.path());
    Loop { wall: started.elapsed(), cpu_seconds: cpu_seconds() - spent }
}

/// Processor seconds of this thread.
fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn pour(payloads: &[Vec<u8>], dir: &Path) {
    let db = Connection::open(dir.join("rows.db")).unwrap();
    db.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;
         CREATE TABLE orders (event_id TEXT, event_type TEXT, order_id TEXT, customer_id TEXT,
             total_amount REAL, item_count INTEGER, currency TEXT, source TEXT,
             event_timestamp TEXT, processed_at TEXT, _version INTEGER);
         CREATE TABLE others (event_id TEXT, event_type TEXT, entity_id TEXT, source TEXT,
             event_timestamp TEXT, processed_at TEXT, data TEXT, metadata TEXT, _version INTEGER);",
    )
    .unwrap();
    let mut archive =
        BufWriter::with_capacity(1 << 20, File::create(dir.join("events.jsonl")).unwrap());
    let mut order = db.prepare("INSERT INTO orders VALUES (?,?,?,?,?,?,?,?,?,?,?)").unwrap();
    let mut other = db.prepare("INSERT INTO others VALUES (?,?,?,?,?,?,?,?,?)").unwrap();
    for (payloads, number) in payloads.chunks(COMMIT as usize).zip(0_i64..) {
        let transaction = db.unchecked_transaction().unwrap();
        for payload in payloads {
            if let Ok(event) = serde_json::from_slice::<Event<'_>>(payload) {
                archive.write_all(payload).unwrap();
                archive.write_all(b"\n").unwrap();
                write(&event, number, &mut order, &mut other);
            }
        }
        transaction.commit().unwrap();
    }
    archive.flush().unwrap();
}

fn write(event: &Event<'_>, version: i64, order: &mut Statement<'_>, other: &mut Statement<'_>) {
    let Ok(time) = Timestamp::parse_rfc3339(&event.timestamp) else { return };
    let (time, now) = (time.to_string(), Timestamp::now().to_string());
    let Ok(metadata) = serde_json::from_str::<Metadata<'_>>(event.metadata.get()) else { return };
    if event.event_type.starts_with("order.") {
        let Ok(data) = serde_json::from_str::<Order<'_>>(event.data.get()) else { return };
        let currency = data.currency.as_deref().unwrap_or("USD");
        order
            .execute(params![
                event.event_id,
                event.event_type,
                event.entity_id,
                data.customer_id,
                data.total,
                data.items.len() as i64,
                currency,
                metadata.source,
                time,
                now,
                version
            ])
            .unwrap();
    } else {
        other
            .execute(params![
                event.event_id,
                event.event_type,
                event.entity_id,
                metadata.source,
                time,
                now,
                event.data.get(),
                event.metadata.get(),
                version
            ])
            .unwrap();
    }
}
