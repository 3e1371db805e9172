//! `kappa setup`

use std::io::Write;

use super::process::runtime;
use super::{Failure, costs};
use crate::backend::setup::{State, Thing};
use crate::settings::Settings;
use crate::wiring::{Blueprint, set_up};

/// Create the resources of the configuration on Google Cloud
///
/// Creates the missing ones of topic, subscription, dataset, tables and bucket. Existing resources
/// are not changed; if one differs from the configuration, the difference is printed and the exit code is 1.
/// Costly settings are warnings. Embedded backends need no resources.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kappa setup --config config/gcp.toml --dry-run
  kappa setup --config config/gcp.toml --set gcp.project=acme --set archive.gcs.bucket=acme-events")]
pub struct Args {
    /// Make nothing, only print the missing resources
    #[arg(long)]
    pub dry_run: bool,
}

/// Writes the state of each resource to `out`.
pub(super) fn main(args: &Args, settings: &Settings, out: &mut impl Write) -> Result<(), Failure> {
    let blueprint = Blueprint::of(settings)?;
    let mut things = runtime()?.block_on(set_up(settings, &blueprint, args.dry_run));
    let failed = things.iter_mut().find_map(|thing| thing.as_mut().err().map(std::mem::take));
    let mut differs = false;
    for thing in things.iter().flatten() {
        differs |= matches!(thing.state, State::Differs(_));
        write_thing(thing, out)?;
    }
    for warning in costs::warnings(settings, &blueprint) {
        writeln!(out, "warning\t{warning}")?;
    }
    if things.is_empty() {
        writeln!(out, "all backends are embedded: there is nothing to set up")?;
    }
    out.flush()?;
    match failed {
        Some(error) => Err(Failure::from(anyhow::anyhow!(error.0))),
        None if differs => Err(Failure::Differs),
        None => Ok(()),
    }
}

/// One line for the thing, and one for each difference and each warning.
pub(super) fn write_thing(thing: &Thing, out: &mut impl Write) -> std::io::Result<()> {
    writeln!(out, "{}\t{}\t{}", thing.state, thing.kind, thing.name)?;
    if let State::Differs(differences) = &thing.state {
        for difference in differences {
            let (what, is, wanted) = (difference.what, &difference.is, &difference.wanted);
            writeln!(out, "\t{what}\tis {is}\tconfigured {wanted}")?;
        }
    }
    thing.warnings.iter().try_for_each(|warning| writeln!(out, "warning\t{warning}"))
}
