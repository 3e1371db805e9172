//! `kappa dead-letters requeue`

use std::io::Write;
use std::sync::Arc;

use anyhow::anyhow;
use kappa_actors::port::DeadLetterStore;

use crate::cli::Failure;
use crate::cli::output::{count, tell};
use crate::cli::process::Signals;
use crate::replay::{Requeue, Requeued};
use crate::settings::Settings;
use crate::wiring::{Blueprint, RuleBook};

/// Requeues the letters with these ids, the ones that are requeued already too if `again`.
pub(super) async fn requeue(
    settings: &Settings,
    blueprint: &Blueprint,
    (store, ids): (Arc<dyn DeadLetterStore>, Vec<String>),
    again: bool,
    out: &mut (impl Write + Send),
) -> Result<(), Failure> {
    let mut signals = Signals::listen()?;
    let book = RuleBook::refuse_changed(settings, &blueprint.processors).await?;
    book.note(&blueprint.processors).await?;
    let mut requeue = tokio::select! {
        started = Requeue::start(settings, blueprint, (store, ids), again) => {
            started.map_err(anyhow::Error::from)?
        }
        _ = signals.next() => return Err(anyhow!("stopped before anything was requeued").into()),
    };
    let worked = tokio::select! {
        worked = requeue.run() => worked,
        signal = signals.next() => {
            tell("note", &format!("{signal}: stopping"));
            Ok(())
        }
    };
    let done = requeue.end().await;
    report(&done, out)?;
    worked.map_err(anyhow::Error::from)?;
    outcome(&done)
}

/// Writes the number of requeued events and of rows in each table, a line each.
fn report(done: &Requeued, out: &mut impl Write) -> Result<(), Failure> {
    writeln!(out, "requeued {}", count(done.events, "event"))?;
    for (table, rows) in &done.rows {
        writeln!(out, "rows {table}\t{rows}")?;
    }
    Ok(out.flush()?)
}

/// An error where letters are still open.
fn outcome(done: &Requeued) -> Result<(), Failure> {
    if done.unfinished > 0 {
        let what = count(done.unfinished, "event");
        return Err(Failure::with_hint(
            anyhow!("stopped with {what} under way"),
            "their letters are still open: the same command goes on with them",
        ));
    }
    if done.failed_again > 0 {
        let what = count(done.failed_again, "duty of an event");
        let what = what.replace("duty of an events", "duties of events");
        return Err(Failure::with_hint(
            anyhow!("{what} failed again; the letters are open again"),
            "`kappa dead-letters list` shows the reasons, `requeue --try` tries a mended rule",
        ));
    }
    Ok(())
}
