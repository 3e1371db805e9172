//! A table of the configuration, and the staged rows of a replay.

use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use kappa_actors::port::{Comparison, ReprocessError, Reprocessing, Scope, Staged};
use kappa_actors::processor::Processor as _;
use kappa_actors::row::TableSpec;

use super::Failure;
use super::output::tell;
use crate::settings::Settings;
use crate::wiring::{Blueprint, Rule, find_staging};

/// Differences of each kind that are shown.
const EXAMPLES: usize = 3;

/// One table's staging.
pub(super) struct StagedTable {
    pub(super) store: Arc<dyn Reprocessing>,
    pub(super) table: Arc<TableSpec>,
    pub(super) how: Comparison,
    /// A merge writes row after row.
    pub(super) in_steps: bool,
}

impl StagedTable {
    /// Finds the staging of the table with this name. Prints the replay's id on stderr.
    pub(super) async fn open(settings: &Settings, name: &str) -> Result<Self, Failure> {
        let blueprint = Blueprint::of(settings)?;
        let rule = find_rule(&blueprint, name)?;
        let nothing = || not_staged(&anyhow!("{name} has no staging table"));
        let store = find_staging(settings).await?.ok_or_else(nothing)?;
        let staged = store.staged(name).await?.ok_or_else(nothing)?;
        tell("note", &said(name, &staged));
        let table = Arc::clone(rule.plan.table());
        let manner = store.manner(&table).await?;
        if !manner.staleness.is_zero() {
            tell("note", &lags(name, manner.staleness));
        }
        let present = rule.plan.revision();
        if staged.revision != present {
            tell("note", &by_revision(name, staged.revision, present));
        }
        let how = comparison(rule, &staged);
        Ok(Self { store, table, how, in_steps: manner.in_steps })
    }
}

/// Which replay it is, so that one left from long ago is noticed.
fn said(name: &str, Staged { replay, began, completed, rows, .. }: &Staged) -> String {
    match completed {
        Some(at) => format!("{name}_reprocessed: {rows} rows of the replay {replay}, ended {at}"),
        None => format!(
            "{name}_reprocessed: {rows} rows of the replay {replay}, begun {began} and not ended"
        ),
    }
}

/// The rows have the version of the rule that made them, not of the present one.
fn by_revision(name: &str, staged: u16, present: u16) -> String {
    format!(
        "{name}_reprocessed was made under revision {staged}, which decides; the present rule has \
         revision {present}"
    )
}

/// Written rows show late if staleness is allowed; no query can ask for newer ones.
fn lags(name: &str, staleness: Duration) -> String {
    format!(
        "{name} is compared as it stood up to {} ago, its max_staleness",
        humantime::format_duration(staleness)
    )
}

/// The rule that fills the table with this name.
pub(super) fn find_rule<'a>(blueprint: &'a Blueprint, name: &str) -> Result<&'a Rule, Failure> {
    let tables = || blueprint.processors.iter().map(|rule| rule.plan.table().name.as_str());
    let found = blueprint.processors.iter().find(|it| it.plan.table().name == name);
    found.ok_or_else(|| {
        let hint = format!("choose from {}", tables().collect::<Vec<_>>().join(", "));
        Failure::with_hint(anyhow!("no processor fills a table {name:?}"), hint)
    })
}

fn comparison(rule: &Rule, staged: &Staged) -> Comparison {
    let now = rule.config.columns.iter().filter(|(_, column)| column.now);
    Comparison {
        passed_over: now.map(|(name, _)| name.clone()).collect(),
        scope: staged.completed.map(|_| Scope { revision: staged.revision }),
        examples: EXAMPLES,
    }
}

fn not_staged(error: &anyhow::Error) -> Failure {
    Failure::with_hint(anyhow!("{error}"), "fill it with `kappa replay --into staging`")
}

impl From<ReprocessError> for Failure {
    fn from(error: ReprocessError) -> Self {
        match &error {
            ReprocessError::NotStaged(_) => not_staged(&error.into()),
            ReprocessError::Taken(_) => {
                Self::with_hint(error, "go on with it: `kappa replay --resume ID`")
            }
            ReprocessError::Unavailable(_) | ReprocessError::Mismatch(_) => {
                anyhow::Error::from(error).into()
            }
        }
    }
}
