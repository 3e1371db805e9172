//! The board as Prometheus reads it.
//!
//! A recorder of its own is filled from one snapshot at each scrape: nothing is installed
//! globally, and the series of a closed window end with it.

use kappa_actors::vitals::{ActorReport, ActorState, CounterReport, DaemonState, Snapshot};
use metrics::{Unit, counter, describe_counter, describe_gauge, gauge, with_local_recorder};
use metrics_exporter_prometheus::PrometheusBuilder;

/// The media type of the text format.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Renders `snapshot` in the text format.
pub(super) fn render(snapshot: &Snapshot) -> String {
    let recorder = PrometheusBuilder::new().build_recorder();
    with_local_recorder(&recorder, || {
        describe();
        daemon(snapshot);
        counters(&snapshot.counters);
        snapshot.actors.iter().for_each(actor);
    });
    recorder.handle().render()
}

fn describe() {
    for (name, text) in [
        ("kappa_received_messages_total", "Messages taken from the log"),
        ("kappa_acked_messages_total", "Messages acknowledged to the log"),
        ("kappa_given_back_messages_total", "Messages given back to the log unacknowledged"),
        ("kappa_redelivered_claims_total", "Claims delivered again because their actor died"),
        ("kappa_invalid_events_total", "Events that the parser found invalid"),
        ("kappa_unrouted_events_total", "Events that no processor takes, archived only"),
        ("kappa_archived_events_total", "Events stored in the archive"),
        ("kappa_dead_letters_total", "Dead letters stored"),
        ("kappa_rows_total", "Rows committed, by table"),
        ("kappa_rows_superseded_total", "Rows that a newer version kept out, by table"),
        ("kappa_actor_events_total", "Events handled by an actor, over all its lives"),
        ("kappa_actor_restarts_total", "Restarts of an actor"),
    ] {
        describe_counter!(name, Unit::Count, text);
    }
    for (name, unit, text) in [
        ("kappa_info", Unit::Count, "1, labelled with version and instance"),
        ("kappa_state", Unit::Count, "1 for the state the daemon is in, 0 for the others"),
        ("kappa_uptime_seconds", Unit::Seconds, "Time since the start"),
        ("kappa_in_flight_messages", Unit::Count, "Messages not yet acknowledged"),
        ("kappa_in_flight_bytes", Unit::Bytes, "Bytes charged for them, rows included"),
        ("kappa_backlog_messages", Unit::Count, "Messages not acknowledged in the log"),
        ("kappa_oldest_unacknowledged_seconds", Unit::Seconds, "Age of the oldest of them"),
        ("kappa_held_messages", Unit::Count, "Messages that wait for a duty"),
        ("kappa_held_bytes", Unit::Bytes, "Bytes that wait for a duty"),
        ("kappa_trouble_seconds", Unit::Seconds, "How long an actor has been waiting out a fault"),
        ("kappa_trouble_waiting_events", Unit::Count, "Events that wait for it to pass"),
        ("kappa_actor_mailbox_messages", Unit::Count, "Messages that wait in an actor's mailbox"),
        ("kappa_actor_running", Unit::Count, "1 while the actor runs, else 0"),
    ] {
        describe_gauge!(name, unit, text);
    }
}

fn daemon(snapshot: &Snapshot) {
    let Snapshot { version, instance, .. } = snapshot;
    gauge!("kappa_info", "version" => version.clone(), "instance" => instance.clone()).set(1);
    gauge!("kappa_uptime_seconds").set(snapshot.uptime_seconds);
    for state in
        [DaemonState::Starting, DaemonState::Running, DaemonState::Degraded, DaemonState::Draining]
    {
        let is = u8::from(state == snapshot.state);
        gauge!("kappa_state", "state" => state.to_string()).set(is);
    }
    for reason in &snapshot.reasons {
        let actor = reason.source.clone();
        gauge!("kappa_trouble_seconds", "actor" => actor.clone()).set(reason.for_seconds);
        gauge!("kappa_trouble_waiting_events", "actor" => actor).set(reason.waiting_events as f64);
    }
    for holding in &snapshot.holdings {
        let duty = holding.duty.clone();
        gauge!("kappa_held_messages", "duty" => duty.clone()).set(holding.messages as f64);
        gauge!("kappa_held_bytes", "duty" => duty).set(holding.bytes as f64);
    }
}

fn counters(counters: &CounterReport) {
    counter!("kappa_received_messages_total").absolute(counters.received);
    counter!("kappa_acked_messages_total").absolute(counters.acked);
    counter!("kappa_given_back_messages_total").absolute(counters.given_back);
    counter!("kappa_redelivered_claims_total").absolute(counters.redelivered);
    counter!("kappa_invalid_events_total").absolute(counters.invalid);
    counter!("kappa_unrouted_events_total").absolute(counters.unrouted);
    counter!("kappa_archived_events_total").absolute(counters.archived);
    counter!("kappa_dead_letters_total").absolute(counters.dead_lettered);
    for (table, rows) in &counters.rows {
        counter!("kappa_rows_total", "table" => table.clone()).absolute(*rows);
    }
    for (table, rows) in &counters.rows_superseded {
        counter!("kappa_rows_superseded_total", "table" => table.clone()).absolute(*rows);
    }
    gauge!("kappa_in_flight_messages").set(counters.in_flight_messages as f64);
    gauge!("kappa_in_flight_bytes").set(counters.in_flight_bytes as f64);
    // An unknown backlog is left out: 0 would mean that no event waits.
    if let Some(backlog) = counters.backlog {
        gauge!("kappa_backlog_messages").set(backlog as f64);
    }
    if let Some(age) = counters.oldest_unacknowledged_seconds {
        gauge!("kappa_oldest_unacknowledged_seconds").set(age);
    }
}

fn actor(actor: &ActorReport) {
    let labels = [("actor", actor.path.clone()), ("kind", actor.kind.clone())];
    counter!("kappa_actor_events_total", &labels).absolute(actor.events);
    counter!("kappa_actor_restarts_total", &labels).absolute(actor.restarts);
    gauge!("kappa_actor_mailbox_messages", &labels).set(actor.mailbox as f64);
    let running = u8::from(actor.state == ActorState::Running);
    gauge!("kappa_actor_running", &labels).set(running);
}
