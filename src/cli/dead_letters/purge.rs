//! `kappa dead-letters purge`: removes the content of old letters.

use std::io::{IsTerminal as _, Write};
use std::sync::Arc;

use anyhow::anyhow;
use kappa_actors::port::{DeadLetterFilter, DeadLetterStore, LetterGroup};
use kappa_actors::time::Timestamp;

use super::PurgeArgs;
use crate::cli::Failure;
use crate::cli::output::{count, tell};

/// Purges the letters that `args` means, or counts them. Writes to `out` how many, and how many of
/// these were open.
pub(super) async fn run(
    args: &PurgeArgs,
    store: Option<Arc<dyn DeadLetterStore>>,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let now = Timestamp::now();
    let filter = DeadLetterFilter {
        reason: args.wanted.reason.clone(),
        class: args.wanted.class.clone(),
        requeued: args.requeued.then_some(true),
        failed_before: Some(now.before(args.older_than)),
        ..DeadLetterFilter::ALL
    };
    let groups = match &store {
        Some(store) => store.groups(&filter).await?,
        None => Vec::new(),
    };
    let (letters, open) = (sum(&groups, LetterGroup::letters), sum(&groups, |group| group.open));
    let Some(store) = store.filter(|_| letters > 0 && !args.dry_run) else {
        let what = if args.dry_run { "would purge" } else { "purged" };
        writeln!(out, "{what}\t{letters}\nopen\t{open}")?;
        return Ok(out.flush()?);
    };
    if !args.yes && !confirmed(letters, open)? {
        return Err(anyhow!("nothing was purged").into());
    }
    let purged = store.purge(&filter, now).await?;
    writeln!(out, "purged\t{purged}\nopen\t{open}")?;
    Ok(out.flush()?)
}

fn sum(groups: &[LetterGroup], of: impl Fn(&LetterGroup) -> u64) -> u64 {
    groups.iter().map(of).sum()
}

/// Asks the user, if there is a terminal.
fn confirmed(letters: u64, open: u64) -> Result<bool, Failure> {
    let what = count(letters, "letter");
    let what = format!("the content of {what} would be lost, of which {open} are open");
    let input = std::io::stdin();
    if !input.is_terminal() {
        let hint = "pass --yes to purge them, or --dry-run to count them";
        return Err(Failure::with_hint(anyhow!("{what}: nothing was purged"), hint));
    }
    tell("question", &format!("{what}; purge them? [y/N]"));
    let mut answer = String::new();
    input.read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
