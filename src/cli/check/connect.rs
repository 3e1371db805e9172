//! `kappa check --connect`: compares the configuration with the services.

use std::io::Write;

use anyhow::anyhow;

use crate::backend::setup::State;
use crate::cli::Failure;
use crate::cli::process::runtime;
use crate::cli::setup::write_thing;
use crate::settings::Settings;
use crate::wiring::{Blueprint, lacking, set_up};

/// Writes the state of each resource and the missing permissions.
pub(super) fn main(
    settings: &Settings,
    blueprint: &Blueprint,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let (things, lacking) = runtime()?.block_on(async {
        let things = set_up(settings, blueprint, true).await;
        (things, lacking(settings, blueprint).await)
    });
    writeln!(out)?;
    if things.is_empty() {
        writeln!(out, "all backends are embedded: there is no service to ask")?;
    }
    let (mut missing, mut lacked) = (0, 0);
    let mut failures = Vec::new();
    for thing in things {
        match thing {
            Ok(thing) => {
                missing += usize::from(thing.state == State::Missing);
                write_thing(&thing, out)?;
            }
            Err(error) => failures.push(error.0),
        }
    }
    for service in lacking {
        match service {
            Ok(all) => {
                lacked += all.len();
                for one in all {
                    writeln!(out, "lacking\t{}\t{}\tgrant {}", one.permission, one.on, one.role)?;
                }
            }
            Err(error) => failures.push(error.0),
        }
    }
    out.flush()?;
    // A service out of reach reports the same failure for its resources and for its permissions.
    failures.dedup();
    if !failures.is_empty() {
        return Err(Failure::from(anyhow!(failures.join("; "))));
    }
    match (missing, lacked) {
        (0, 0) => Ok(()),
        (0, lacked) => Err(Failure::with_hint(
            anyhow!("{lacked} permissions are lacking"),
            "grant the roles named above to the account kappa runs as",
        )),
        (missing, _) => Err(Failure::with_hint(
            anyhow!("{missing} things are missing"),
            "run `kappa setup` with the same configuration",
        )),
    }
}
