//! The removals from a table that takes upserts, in a table that queries read.
//!
//! BigQuery keeps the number of a removal, and drops a row of a lower number without an answer. So
//! the key and version of each removed row are noted before it goes. A merge then writes a row of an
//! older message under the number of the removal, and leaves out a late copy of the removed row.
//! A merge that is killed leaves notes of rows that are still live. They do no harm: such a row is newer
//! than all rows that its removal would keep out.

use kappa_actors::port::ReprocessError;
use kappa_actors::row::{Column, ColumnType, TableSpec};
use serde_json::Value;

use super::sides::{Sides, exists};
use super::{BigQueryStaging, keyless, unready};
use crate::backend::bigquery::rest::{Rest, RestError};
use crate::backend::bigquery::{WriteMode, tables};

/// The column with the time at which the live table was created: removals from a table that was
/// dropped since then do not count.
const CREATED: &str = "kappa_table_created";

/// The table of the removals from one live table.
#[derive(Clone, Debug)]
pub(super) struct Removals {
    spec: TableSpec,
    /// The table in SQL.
    name: String,
    /// When the live table was created, in milliseconds since 1970.
    created: i64,
    pub(super) exist: bool,
}

impl Removals {
    /// Looks at the removals from `table`, which REST knows as `found`.
    pub(super) async fn look(
        rest: &Rest,
        table: &TableSpec,
        found: &Value,
    ) -> Result<Self, RestError> {
        let created = found["creationTime"].as_str().and_then(|it| it.parse().ok());
        let spec = spec(table);
        Ok(Self {
            name: rest.sql_name(&spec.name),
            exist: exists(rest, &spec.name).await?,
            created: created.unwrap_or_default(),
            spec,
        })
    }

    /// Names the removals: `r` is all, `m` the newest of each key, `o` the newest of each key and
    /// message.
    pub(super) fn with(&self, sides: &Sides<'_>) -> String {
        let key = sides.table.key.iter().map(|&at| sides.column("r", at));
        let key = key.collect::<Vec<_>>().join(", ");
        let (version, created) = (sides.version("r"), self.created);
        let newest = format!(
            "SELECT {key}, MAX({version}) AS `{}` FROM r GROUP BY {key}",
            sides.table.columns[sides.version].name
        );
        format!(
            "r AS (SELECT {key}, {version} FROM {} AS r WHERE r.`{CREATED}` = {created}), \
             m AS ({newest}), o AS ({newest}, {})",
            self.name,
            super::sides::position(&version),
        )
    }
}

impl Sides<'_> {
    /// Notes the missing rows as removed.
    pub(super) async fn note_removals(
        &mut self,
        of: &BigQueryStaging,
    ) -> Result<(), ReprocessError> {
        let Some(Removals { spec, name, created, .. }) = &self.removals else { return Ok(()) };
        let options = of.live.table_options(&self.table.name);
        let ensured = tables::ensure(&of.live.rest, spec, WriteMode::Append, &options);
        ensured.await.map_err(unready)?;
        let columns = spec.columns.iter().map(|column| format!("`{}`", column.name));
        let key = self.table.key.iter().map(|&at| self.column("g", at));
        let version = self.version("g");
        // As `Version::removed` does.
        let sql = format!(
            "INSERT INTO {name}({}) {} SELECT {}, \
             CONCAT(SUBSTR({version}, 1, LENGTH({version}) - 1), b'\\x01'), {created} FROM g",
            columns.collect::<Vec<_>>().join(", "),
            self.with(false),
            key.collect::<Vec<_>>().join(", "),
        );
        of.live.rest.query(&sql, &[]).await?;
        if let Some(removals) = &mut self.removals {
            removals.exist = true;
        }
        Ok(())
    }
}

fn spec(table: &TableSpec) -> TableSpec {
    let picked = table.key.iter().chain(&table.version).filter_map(|&at| table.columns.get(at));
    let created = Column { name: CREATED.to_owned(), kind: ColumnType::Integer, description: None };
    keyless(&TableSpec {
        name: format!("kappa_removed_{}", table.name),
        columns: picked.cloned().chain([created]).collect(),
        version: None,
        order_by: None,
        partition_by: None,
        cluster_by: Vec::new(),
        ..table.clone()
    })
}
