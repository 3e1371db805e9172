//! Tables made ready for rows: created, widened, compared.

use kappa_actors::port::{EnsureError, Ensured};
use kappa_actors::row::TableSpec;
use serde_json::{Value, json};

use super::rest::{Rest, RestError, text};
use super::schema::{self, Gap};
use super::{TableOptions, WriteMode};

/// Attempts to read and change a table that other processes change at the same time.
const ATTEMPTS: usize = 5;

/// The view of an appended table has the table's name with this suffix.
pub(super) const VIEW_SUFFIX: &str = "_deduplicated";

impl From<RestError> for EnsureError {
    fn from(error: RestError) -> Self {
        match error {
            RestError::Invalid(message) => Self::Mismatch(format!("BigQuery refuses: {message}")),
            other => Self::Unavailable(other.to_string()),
        }
    }
}

/// Makes the table, and its view where it has one, as the configuration wants them.
pub(super) async fn ensure(
    rest: &Rest,
    table: &TableSpec,
    mode: WriteMode,
    options: &TableOptions,
) -> Result<Ensured, EnsureError> {
    let ensured = ensure_table(rest, table, mode, options).await?;
    if has_view(table, mode) {
        ensure_view(rest, table, &ensured.idle).await?;
    }
    Ok(ensured)
}

/// Whether the newest rows of the table are shown by a view.
pub(super) fn has_view(table: &TableSpec, mode: WriteMode) -> bool {
    mode == WriteMode::Append && !table.key.is_empty()
}

/// Returns whether the table exists and has every column of `table`.
pub(super) async fn fits(
    rest: &Rest,
    table: &TableSpec,
    mode: WriteMode,
) -> Result<bool, RestError> {
    match rest.table(&table.name).await {
        Ok(found) => {
            Ok(schema::compare(table, mode, &found).is_ok_and(|gap| gap.missing.is_empty()))
        }
        Err(RestError::NotFound(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether the table has no row, or does not exist. Rows that no query sees yet, within
/// `max_staleness`, are in the streaming buffer.
pub(super) async fn is_empty(rest: &Rest, table: &TableSpec) -> Result<bool, RestError> {
    match rest.table(&table.name).await {
        Ok(found) if !found["streamingBuffer"].is_null() => return Ok(false),
        Ok(_) => {}
        Err(RestError::NotFound(_)) => return Ok(true),
        Err(error) => return Err(error),
    }
    let one = format!("SELECT 1 AS one FROM {} LIMIT 1", rest.sql_name(&table.name));
    match rest.query(&one, &[]).await {
        Ok(rows) => Ok(rows.is_empty()),
        Err(RestError::NotFound(_)) => Ok(true),
        Err(error) => Err(error),
    }
}

/// Makes the table alone.
pub(super) async fn ensure_table(
    rest: &Rest,
    table: &TableSpec,
    mode: WriteMode,
    options: &TableOptions,
) -> Result<Ensured, EnsureError> {
    for _ in 0..ATTEMPTS {
        match rest.table(&table.name).await {
            Ok(found) => {
                let gap = schema::compare(table, mode, &found).map_err(EnsureError::Mismatch)?;
                if let Some(ensured) = widen(rest, table, &found, gap).await? {
                    return Ok(ensured);
                }
            }
            Err(RestError::NotFound(_)) => {
                if create(rest, table, mode, options).await? {
                    return Ok(Ensured { created: true, ..Ensured::default() });
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(EnsureError::Unavailable(format!("{} is being changed by others", table.name)))
}

/// Makes the table, in a dataset that is made if it has to be; `false` where another was faster.
async fn create(
    rest: &Rest,
    table: &TableSpec,
    mode: WriteMode,
    options: &TableOptions,
) -> Result<bool, EnsureError> {
    let body = schema::resource(table, mode, options).map_err(EnsureError::Mismatch)?;
    match rest.create_table(&table.name, body).await {
        Ok(_) => Ok(true),
        Err(RestError::Conflict(_)) => Ok(false),
        Err(RestError::NotFound(_)) => match rest.create_dataset().await {
            Ok(_) | Err(RestError::Conflict(_)) => Ok(false),
            Err(error) => Err(error.into()),
        },
        Err(error) => Err(error.into()),
    }
}

/// Adds the columns that `found` lacks; `None` where it was changed meanwhile.
async fn widen(
    rest: &Rest,
    table: &TableSpec,
    found: &Value,
    gap: Gap,
) -> Result<Option<Ensured>, EnsureError> {
    let missing: Vec<_> = gap.missing.iter().filter_map(|&at| schema::field(table, at)).collect();
    let added: Vec<_> = missing.iter().map(|field| text(&field["name"])).collect();
    let ensured = Ensured { created: false, added, idle: gap.idle };
    if missing.is_empty() {
        return Ok(Some(ensured));
    }
    let mut fields = found["schema"]["fields"].as_array().cloned().unwrap_or_default();
    fields.extend(missing);
    let body = json!({ "schema": { "fields": fields } });
    match rest.patch_table(&table.name, &body, found["etag"].as_str()).await {
        Ok(_) => Ok(Some(ensured)),
        Err(RestError::Conflict(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Makes the view, or lets it show the columns that were added.
pub(super) async fn ensure_view(
    rest: &Rest,
    table: &TableSpec,
    idle: &[String],
) -> Result<(), EnsureError> {
    let name = format!("{}{VIEW_SUFFIX}", table.name);
    let query = schema::deduplicated(table, idle, &rest.sql_name(&table.name));
    let view = json!({ "view": { "query": query, "useLegacySql": false } });
    for _ in 0..ATTEMPTS {
        let found = match rest.table(&name).await {
            Ok(found) => found,
            Err(RestError::NotFound(_)) => match rest.create_table(&name, view.clone()).await {
                Ok(_) => return Ok(()),
                Err(RestError::Conflict(_)) => continue,
                Err(error) => return Err(error.into()),
            },
            Err(error) => return Err(error.into()),
        };
        let stands = found["view"]["query"].as_str().unwrap_or_default();
        if stands == query {
            return Ok(());
        }
        let partition = schema::partition(table);
        if !stands.contains(&format!("{partition} ")) && !stands.contains(&format!("{partition})"))
        {
            return Err(EnsureError::Mismatch(format!(
                "{name} is no view of the newest rows by the configured key: change the \
                 configuration, or drop the view"
            )));
        }
        match rest.patch_table(&name, &view, found["etag"].as_str()).await {
            Ok(_) => return Ok(()),
            Err(RestError::Conflict(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(EnsureError::Unavailable(format!("{name} is being changed by others")))
}
