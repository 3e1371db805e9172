//! The board in the text format of Prometheus.
//!
//! All series come from the snapshot that status shows and from the board's histograms, so there is one
//! place where figures are counted. No label grows: windows of the archive share one, and reasons are
//! classes.

mod text;

use std::collections::BTreeMap;

use kappa_actors::vitals::{
    Board, ClassReport, CounterReport, DaemonState, Histogram, Outcome, Snapshot, Step, TableMeter,
    series_of,
};

use text::{Kind, MICROS, ONE, Text};

/// The media type of the text format.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Renders `snapshot`, and what only `board` has.
pub(super) fn render(snapshot: &Snapshot, board: &Board) -> String {
    let mut text = Text::default();
    daemon(&mut text, snapshot);
    freshness(&mut text, snapshot);
    log(&mut text, &snapshot.counters);
    events(&mut text, &snapshot.counters);
    tables(&mut text, &board.tables());
    archive(&mut text, board);
    attempts(&mut text, board);
    holdings(&mut text, snapshot);
    troubles(&mut text, snapshot);
    actors(&mut text, board);
    text.into()
}

fn daemon(text: &mut Text, snapshot: &Snapshot) {
    let Snapshot { version, instance, .. } = snapshot;
    let about = "1, labelled with version and instance";
    let mut info = text.family("kappa_info", Kind::Gauge, about);
    info.sample(&[("version", version), ("instance", instance)], 1.0);
    let about = "1 for the state the daemon is in, 0 for the others";
    let mut states = text.family("kappa_state", Kind::Gauge, about);
    for state in
        [DaemonState::Starting, DaemonState::Running, DaemonState::Degraded, DaemonState::Draining]
    {
        states.sample(&[("state", &state.to_string())], is(state == snapshot.state));
    }
    text.gauge("kappa_uptime_seconds", "Time since the start", snapshot.uptime_seconds);
}

fn freshness(text: &mut Text, snapshot: &Snapshot) {
    let mut family = |name, kind, about, value: fn(&kappa_actors::vitals::Freshness) -> _| {
        let known = snapshot.freshness.iter().filter_map(|one| Some((&*one.table, value(one)?)));
        text.by("table", name, kind, about, known);
    };
    family(
        "kappa_behind_seconds",
        Kind::Gauge,
        "Age of the oldest event that may still become a row of the table; 0 if none waits",
        |table| table.behind_seconds,
    );
    family(
        "kappa_freshness_objective_seconds",
        Kind::Gauge,
        "How far the table may be behind, where that is configured",
        |table| table.objective_seconds,
    );
    family(
        "kappa_freshness_missed_seconds_total",
        Kind::Counter,
        "Time for which the table was further behind than that",
        |table| table.objective_seconds.map(|_| table.missed_seconds_total),
    );
}

fn log(text: &mut Text, counters: &CounterReport) {
    for (name, about, value) in [
        ("kappa_received_messages_total", "Messages taken from the log", counters.received),
        ("kappa_acked_messages_total", "Messages acknowledged to the log", counters.acked),
        (
            "kappa_given_back_messages_total",
            "Messages given back to the log unacknowledged",
            counters.given_back,
        ),
        (
            "kappa_lost_acknowledgements_total",
            "Acknowledgements that the log did not take: their messages come again",
            counters.lost_acknowledgements,
        ),
        (
            "kappa_redelivered_claims_total",
            "Claims delivered again because their actor died",
            counters.redelivered,
        ),
    ] {
        text.counter(name, about, value);
    }
    for (name, about, value) in [
        (
            "kappa_in_flight_messages",
            "Messages not yet acknowledged",
            Some(counters.in_flight_messages as f64),
        ),
        (
            "kappa_in_flight_bytes",
            "Bytes charged for them, rows included",
            Some(counters.in_flight_bytes as f64),
        ),
        // An unknown backlog is left out: 0 would mean that no event waits.
        (
            "kappa_backlog_messages",
            "Messages not acknowledged in the log",
            counters.backlog.map(|n| n as f64),
        ),
        (
            "kappa_oldest_unacknowledged_seconds",
            "Age of the oldest of them",
            counters.oldest_unacknowledged_seconds,
        ),
        (
            "kappa_backlog_age_seconds",
            "How long ago the log gave these two",
            counters.backlog_age_seconds,
        ),
    ] {
        if let Some(value) = value {
            text.gauge(name, about, value);
        }
    }
}

fn events(text: &mut Text, counters: &CounterReport) {
    for (name, about, value) in [
        ("kappa_invalid_events_total", "Events that the parser found invalid", counters.invalid),
        (
            "kappa_unrouted_events_total",
            "Events that no processor takes, archived only",
            counters.unrouted,
        ),
        ("kappa_archived_events_total", "Events stored in the archive", counters.archived),
    ] {
        text.counter(name, about, value);
    }
    let about = "Dead letters stored, by stage and class of the fault";
    let mut family = text.family("kappa_dead_letters_total", Kind::Counter, about);
    for ClassReport { stage, class, letters } in &counters.dead_letters {
        family.sample(&[("stage", stage), ("class", class)], *letters as f64);
    }
    text.counter(
        "kappa_dead_letters_purged_total",
        "Dead letters purged because of their age",
        counters.letters_purged,
    );
    for (name, about, rows) in [
        ("kappa_rows_total", "Rows committed, by table", &counters.rows),
        (
            "kappa_rows_superseded_total",
            "Rows that a newer version kept out, by table",
            &counters.rows_superseded,
        ),
    ] {
        let samples = rows.iter().map(|(table, rows)| (&**table, *rows as f64));
        text.by("table", name, Kind::Counter, about, samples);
    }
}

/// A histogram of a table: its name, help text and unit, and where it is.
type OfTable = (&'static str, &'static str, f64, fn(&TableMeter) -> &Histogram);

fn tables(text: &mut Text, tables: &BTreeMap<String, std::sync::Arc<TableMeter>>) {
    let all: [OfTable; 4] = [
        (
            "kappa_publish_to_row_seconds",
            "Time from the publishing of an event until its row was durable",
            MICROS,
            |meter| &meter.publish_to_row,
        ),
        (
            "kappa_event_to_row_seconds",
            "Time from the event's own time until its row was durable",
            MICROS,
            |meter| &meter.event_to_row,
        ),
        ("kappa_commit_seconds", "Time of a commit that succeeded", MICROS, |meter| {
            &meter.commit_time
        }),
        ("kappa_commit_rows", "Rows of a commit that succeeded", ONE, |meter| &meter.commit_rows),
    ];
    for (name, about, unit, histogram) in all {
        let mut family = text.family(name, Kind::Histogram, about);
        for (table, meter) in tables {
            family.histogram(&[("table", table)], histogram(meter), unit);
        }
    }
}

fn archive(text: &mut Text, board: &Board) {
    let counters = board.counters();
    for (name, about, histogram) in [
        (
            "kappa_archive_part_seconds",
            "Time from the first event of an archive part until the part was stored",
            &counters.part_time,
        ),
        (
            "kappa_archive_upload_seconds",
            "Time of an upload of a part that succeeded",
            &counters.upload_time,
        ),
    ] {
        text.family(name, Kind::Histogram, about).histogram(&[], histogram, MICROS);
    }
}

fn attempts(text: &mut Text, board: &Board) {
    let about = "Attempts by stage and outcome: at an event in parse and process, else a call";
    let mut family = text.family("kappa_attempts_total", Kind::Counter, about);
    for (step, stage) in Step::ALL {
        for (outcome, name) in Outcome::ALL {
            if outcome.ends(step) {
                let attempts = board.counters().attempts.get(step, outcome);
                family.sample(&[("stage", stage), ("outcome", name)], attempts as f64);
            }
        }
    }
}

fn holdings(text: &mut Text, snapshot: &Snapshot) {
    let messages = snapshot.holdings.iter().map(|it| (&*it.duty, it.messages as f64));
    text.by("duty", "kappa_held_messages", Kind::Gauge, "Messages that wait for a duty", messages);
    let bytes = snapshot.holdings.iter().map(|it| (&*it.duty, it.bytes as f64));
    text.by("duty", "kappa_held_bytes", Kind::Gauge, "Bytes that wait for a duty", bytes);
}

/// Returns the longest trouble and all waiting events of the sources that share a label.
fn troubles(text: &mut Text, snapshot: &Snapshot) {
    let mut troubles: BTreeMap<&str, (f64, u64)> = BTreeMap::new();
    for reason in &snapshot.reasons {
        let (seconds, waiting) = troubles.entry(series_of(&reason.source)).or_default();
        *seconds = seconds.max(reason.for_seconds);
        *waiting += reason.waiting_events;
    }
    let seconds = troubles.iter().map(|(source, (seconds, _))| (*source, *seconds));
    let about = "How long an actor has been waiting out a fault";
    text.by("actor", "kappa_trouble_seconds", Kind::Gauge, about, seconds);
    let waiting = troubles.iter().map(|(source, (_, waiting))| (*source, *waiting as f64));
    let about = "Events that wait for it to pass";
    text.by("actor", "kappa_trouble_waiting_events", Kind::Gauge, about, waiting);
}

fn actors(text: &mut Text, board: &Board) {
    let all = board.actor_series();
    let mut family = |name, kind, about, value: fn(&kappa_actors::vitals::ActorSeries) -> u64| {
        let mut family = text.family(name, kind, about);
        for (path, series) in &all {
            family.sample(&[("actor", path), ("kind", series.kind)], value(series) as f64);
        }
    };
    family(
        "kappa_actor_events_total",
        Kind::Counter,
        "Events handled by an actor, over all its lives",
        |series| series.events,
    );
    family("kappa_actor_restarts_total", Kind::Counter, "Restarts of an actor", |series| {
        series.restarts
    });
    family(
        "kappa_actor_mailbox_messages",
        Kind::Gauge,
        "Messages that wait in an actor's mailbox",
        |series| series.mailbox,
    );
    family("kappa_actor_running", Kind::Gauge, "Actors of this path that run", |series| {
        series.running
    });
}

fn is(so: bool) -> f64 {
    f64::from(u8::from(so))
}
