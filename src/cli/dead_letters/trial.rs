//! `kappa dead-letters requeue --try`: tries the letters with the present rules, writes nothing.

use std::collections::BTreeMap;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};

use kappa_actors::dead_letter_table::{ARCHIVE, DeadLetter, ROUTE, Stage};
use kappa_actors::message::{Lease, Message};
use kappa_actors::processor::{EventView, Matcher, Processor as _, ProcessorPlan, make_rows};
use kappa_actors::time::Timestamp;

use super::shelf::Shelf;
use crate::cli::Failure;
use crate::cli::output::{one_line, tell};
use crate::wiring::Blueprint;

/// The outcome of one letter in a requeue.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Succeeds,
    /// No processor takes the event any more for the duty that failed: it makes no row.
    NoLongerTaken,
    Fails(String),
}

/// Tries the letters with these ids, and writes to `out` how many would succeed, by the reason of
/// the letter. Writes nothing else.
pub(super) async fn run(
    shelf: &Shelf,
    blueprint: &Blueprint,
    ids: &[String],
    out: &mut impl Write,
) -> Result<(), Failure> {
    let matcher = Matcher::new(blueprint.processors.iter().map(|rule| rule.plan.patterns()));
    let mut counts: BTreeMap<(String, Outcome), u64> = BTreeMap::new();
    let mut refused = false;
    for id in ids {
        let Some(letter) = shelf.get(id).await? else { continue };
        let outcome = outcome_of(&letter, blueprint, &matcher);
        refused |= letter.stage == Stage::Write && outcome == Outcome::Succeeds;
        *counts.entry((letter.reason, outcome)).or_default() += 1;
    }
    let succeed = |outcome: &Outcome| !matches!(outcome, Outcome::Fails(_));
    let sum = |good: bool| -> u64 {
        counts.iter().filter(|((_, it), _)| succeed(it) == good).map(|(_, count)| count).sum()
    };
    writeln!(out, "would succeed\t{}\nwould fail\t{}", sum(true), sum(false))?;
    for ((reason, outcome), count) in &counts {
        let reason = one_line(reason);
        match outcome {
            Outcome::Succeeds => writeln!(out, "succeeds\t{count}\t{reason}")?,
            Outcome::NoLongerTaken => writeln!(out, "no longer taken\t{count}\t{reason}")?,
            Outcome::Fails(now) => writeln!(out, "fails\t{count}\t{reason}\t{}", one_line(now))?,
        }
    }
    if refused {
        tell(
            "note",
            "rows that the warehouse refused are made; only a requeue shows if it takes them",
        );
    }
    Ok(out.flush()?)
}

fn outcome_of(letter: &DeadLetter, blueprint: &Blueprint, matcher: &Matcher) -> Outcome {
    let envelope = match blueprint.envelope.read(&letter.payload) {
        Ok(envelope) => envelope,
        Err(why) => return Outcome::Fails(why.reason.into_owned()),
    };
    if letter.duty == ARCHIVE {
        return Outcome::Succeeds;
    }
    let all = letter.duty == ROUTE || letter.duty.is_empty();
    let mut ways = Vec::new();
    matcher.ways(&envelope.kind, &mut ways);
    let plans = ways.iter().map(|&way| &blueprint.processors[way].plan);
    let plans: Vec<_> = plans.filter(|plan| all || plan.name() == letter.duty).collect();
    if plans.is_empty() && !all {
        return Outcome::NoLongerTaken;
    }
    let message = Message {
        id: letter.message_id.clone(),
        payload: letter.payload.clone(),
        publish_time: letter.publish_time,
        attributes: letter.attributes.clone(),
        ordering_key: letter.ordering_key.clone(),
        attempt: None,
        archived: false,
        suspect: None,
        lease: Lease(0),
    };
    let event = EventView { message: &message, envelope: &envelope };
    let faults = plans.into_iter().filter_map(|plan| fault(plan, &event));
    faults.map(Outcome::Fails).next().unwrap_or(Outcome::Succeeds)
}

/// Why the processor makes no rows of the event.
fn fault(plan: &ProcessorPlan, event: &EventView<'_>) -> Option<String> {
    let rows = AssertUnwindSafe(|| make_rows(plan, event, Timestamp::now(), &mut Vec::new()));
    match catch_unwind(rows) {
        Ok(made) => made.err().map(|bad| bad.to_string()),
        Err(_) => Some(format!("panics processor {}", plan.name())),
    }
}
