//! Dataset and tables, described, compared and created.
//!
//! Existing resources are not changed. The daemon adds missing columns when it starts; here they are only
//! reported.

use kappa_actors::row::TableSpec;
use serde_json::Value;

use super::rest::RestError;
use super::{BigQueryWarehouse, WriteMode, schema, tables};
use crate::backend::setup::{Difference, Lacking, SetupError, State, Thing};

/// The daemon's permissions on a table, and the role that has them:
/// <https://cloud.google.com/bigquery/docs/access-control#bigquery.dataEditor>
const ON_TABLE: [(&str, &str); 4] = [
    ("bigquery.tables.get", "roles/bigquery.dataEditor"),
    ("bigquery.tables.getData", "roles/bigquery.dataEditor"),
    ("bigquery.tables.update", "roles/bigquery.dataEditor"),
    ("bigquery.tables.updateData", "roles/bigquery.dataEditor"),
];

impl BigQueryWarehouse {
    /// The permissions that writing to those of the tables that exist needs and the caller lacks.
    ///
    /// # Errors
    /// [`SetupError`] when they could not be asked for.
    pub async fn lacking(&self, specs: &[TableSpec]) -> Result<Vec<Lacking>, SetupError> {
        let names = ON_TABLE.map(|(name, _)| name);
        let mut all = Vec::new();
        for spec in specs {
            match self.rest.permitted(&spec.name, &names).await {
                Ok(held) => {
                    all.extend(Lacking::of(&self.rest.full_name(&spec.name), &ON_TABLE, &held));
                }
                Err(RestError::NotFound(_)) => {}
                Err(error) => return Err(SetupError(error.to_string())),
            }
        }
        Ok(all)
    }

    /// Creates the missing ones of the dataset and these tables, unless this is a `dry_run`.
    ///
    /// # Errors
    /// [`SetupError`] for resources that could not be read or created.
    pub async fn set_up(
        &self,
        specs: &[TableSpec],
        dry_run: bool,
    ) -> Result<Vec<Thing>, SetupError> {
        let mut things = vec![self.set_up_dataset(dry_run).await?];
        for spec in specs {
            things.push(self.set_up_table(spec, dry_run).await?);
            if tables::has_view(spec, self.mode(spec)) {
                things.push(self.set_up_view(spec, dry_run).await?);
            }
        }
        Ok(things)
    }

    async fn set_up_dataset(&self, dry_run: bool) -> Result<Thing, SetupError> {
        let state = match self.rest.dataset().await {
            Ok(found) => {
                let mut all = Vec::new();
                let is = text(&found["location"]);
                Difference::note(&mut all, "location", is, self.options.location.clone());
                State::of(all)
            }
            Err(RestError::NotFound(_)) if dry_run => State::Missing,
            Err(RestError::NotFound(_)) => match self.rest.create_dataset().await {
                Ok(_) => State::Created,
                Err(RestError::Conflict(_)) => State::Kept,
                Err(error) => return Err(SetupError(error.to_string())),
            },
            Err(error) => return Err(SetupError(error.to_string())),
        };
        let (name, warnings) = (self.rest.dataset_name(), Vec::new());
        Ok(Thing { kind: "dataset", name, state, warnings })
    }

    async fn set_up_table(&self, spec: &TableSpec, dry_run: bool) -> Result<Thing, SetupError> {
        let (mode, options) = (self.mode(spec), self.table_options(&spec.name));
        let state = match self.rest.table(&spec.name).await {
            Ok(found) => {
                let wanted = schema::resource(spec, mode, &options).map_err(SetupError)?;
                State::of(differences(spec, mode, &found, &wanted))
            }
            Err(RestError::NotFound(_)) if dry_run => State::Missing,
            Err(RestError::NotFound(_)) => {
                let made = tables::ensure_table(&self.rest, spec, mode, &options).await;
                made.map_err(|error| SetupError(error.to_string()))?;
                State::Created
            }
            Err(error) => return Err(SetupError(error.to_string())),
        };
        let (name, warnings) = (self.rest.full_name(&spec.name), Vec::new());
        Ok(Thing { kind: "table", name, state, warnings })
    }

    /// Creates the view of the newest rows of an appended table, which exists by now unless this is a dry run.
    async fn set_up_view(&self, spec: &TableSpec, dry_run: bool) -> Result<Thing, SetupError> {
        let view = format!("{}{}", spec.name, tables::VIEW_SUFFIX);
        let idle = match self.rest.table(&spec.name).await {
            // A table in contradiction reports it itself.
            Ok(found) => schema::compare(spec, self.mode(spec), &found).unwrap_or_default().idle,
            Err(RestError::NotFound(_)) => Vec::new(),
            Err(error) => return Err(failed(error)),
        };
        let state = match self.rest.table(&view).await {
            Ok(found) => {
                let wanted = schema::deduplicated(spec, &idle, &self.rest.sql_name(&spec.name));
                let mut all = Vec::new();
                Difference::note(&mut all, "query", shown(&found["view"]["query"]), wanted);
                State::of(all)
            }
            Err(RestError::NotFound(_)) if dry_run => State::Missing,
            Err(RestError::NotFound(_)) => {
                tables::ensure_view(&self.rest, spec, &idle).await.map_err(failed)?;
                State::Created
            }
            Err(error) => return Err(failed(error)),
        };
        let (name, warnings) = (self.rest.full_name(&view), Vec::new());
        Ok(Thing { kind: "view", name, state, warnings })
    }
}

fn failed(error: impl std::fmt::Display) -> SetupError {
    SetupError(error.to_string())
}

fn differences(
    spec: &TableSpec,
    mode: WriteMode,
    found: &Value,
    wanted: &Value,
) -> Vec<Difference> {
    let mut all = Vec::new();
    match schema::compare(spec, mode, found) {
        Err(contradiction) => {
            let wanted = "as configured".to_owned();
            all.push(Difference { what: "schema", is: contradiction, wanted });
        }
        Ok(gap) => {
            let lacks = gap.missing.iter().filter_map(|&at| spec.columns.get(at));
            let lacks: Vec<_> = lacks.map(|column| column.name.as_str()).collect();
            if !lacks.is_empty() {
                let is = format!("without {}", lacks.join(", "));
                let wanted = "with them: `kappa run` adds them".to_owned();
                all.push(Difference { what: "columns", is, wanted });
            }
        }
    }
    let mut compare = |what, is: &Value, wanted: &Value| {
        Difference::note(&mut all, what, shown(is), shown(wanted));
    };
    let partitioned = |table: &Value| table["timePartitioning"]["field"].clone();
    compare("partitioned by", &partitioned(found), &partitioned(wanted));
    let clustered = |table: &Value| table["clustering"]["fields"].clone();
    compare("clustered by", &clustered(found), &clustered(wanted));
    compare("max_staleness", &found["maxStaleness"], &wanted["maxStaleness"]);
    compare("labels", &found["labels"], &wanted["labels"]);
    all
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
