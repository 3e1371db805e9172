//! `kappa check`

#[cfg(feature = "gcp")]
mod connect;
mod data;
mod render;
mod warnings;

use std::collections::BTreeMap;
use std::io::Write;

use super::Failure;
use super::output::{self, Format};
use super::process::runtime;
use crate::settings::Settings;
use crate::wiring::{Blueprint, RuleBook, RuleChange};

/// Validate the configuration and print what would run
///
/// Starts and creates nothing. All mistakes are reported together, each with its place and a hint;
/// the exit code is then 2. Warnings do not change it.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kappa check --config prod.toml
  kappa check --config config/gcp.toml --connect
  kappa check --set processors.orders.columns.currency.default=EUR
  kappa check --data
  kappa check --json | jq '.processors[].table'")]
pub struct Args {
    /// One JSON object
    #[arg(long)]
    pub json: bool,
    /// Ask the services too, for missing resources, differences and missing permissions
    ///
    /// Changes nothing. The exit code is 1 if a resource or a permission is missing, or a service is out of reach.
    #[cfg(feature = "gcp")]
    #[arg(long, conflicts_with = "json")]
    pub connect: bool,
    /// Verify the files of the data folder instead: damage, holes, versions, a log and
    /// subscriptions that do not belong together
    ///
    /// Only reads, also while a daemon runs. In a pipe, one line a file or fault with tabs between:
    /// `ok` or `fault`, the file, its content or the problem, and a way out. The exit code is 1 if
    /// there is a fault.
    #[arg(long, conflicts_with = "json")]
    pub data: bool,
}

/// The rules that changed under their revision, as far as it may be looked.
async fn changed_rules(
    args: &Args,
    settings: &Settings,
    blueprint: &Blueprint,
) -> anyhow::Result<Vec<RuleChange>> {
    let changed = async { RuleBook::of(settings).await?.changed(&blueprint.processors).await };
    match (settings.keeps_files(), args.asks_services()) {
        (true, _) => changed.await,
        // A bucket that is missing or out of reach is reported with the other resources.
        (false, true) => Ok(changed.await.unwrap_or_default()),
        (false, false) => Ok(Vec::new()),
    }
}

impl Args {
    fn asks_services(&self) -> bool {
        #[cfg(feature = "gcp")]
        let asks = self.connect;
        #[cfg(not(feature = "gcp"))]
        let asks = false;
        asks
    }
}

/// Writes to `out` what would run.
pub(super) fn main(args: &Args, settings: &Settings, out: &mut impl Write) -> Result<(), Failure> {
    if args.data {
        return data::main(settings, out);
    }
    let blueprint = Blueprint::of(settings)?;
    let mut warnings = warnings::of(settings, &blueprint);
    let changed = runtime()?.block_on(changed_rules(args, settings, &blueprint))?;
    warnings.extend(changed.iter().map(ToString::to_string));
    let report = Report { settings, blueprint: &blueprint, warnings };
    match output::format(args.json) {
        Format::Json => writeln!(out, "{}", report.json())?,
        Format::Plain => report.plain(out)?,
        Format::Table { colour } => report.tables(colour, out)?,
    }
    #[cfg(feature = "gcp")]
    if args.connect {
        connect::main(settings, &blueprint, out)?;
    }
    Ok(out.flush()?)
}

/// What would run.
struct Report<'a> {
    settings: &'a Settings,
    blueprint: &'a Blueprint,
    warnings: Vec<String>,
}

/// Each actor's limits, by the actor's section and the limit's key. Pauses are left out.
type Limits = BTreeMap<String, BTreeMap<String, toml::Value>>;

impl Report<'_> {
    fn limits(&self) -> Limits {
        let mut limits = Limits::new();
        for setting in self.settings.provenance.iter() {
            let Some(key) = setting.key.strip_prefix("actors.") else { continue };
            if key.contains("backoff") {
                continue;
            }
            // Overrides for one of several are a section of their own: writer.each.orders.
            let segments = if key.split('.').nth(1) == Some("each") { 3 } else { 1 };
            if let Some((end, _)) = key.match_indices('.').nth(segments - 1) {
                let (actor, limit) = (key[..end].to_owned(), key[end + 1..].to_owned());
                limits.entry(actor).or_default().insert(limit, setting.value.clone());
            }
        }
        limits
    }
}
