//! Staged rows into the live table: by one statement, or row by row where BigQuery takes none.

use std::sync::Arc;

use kappa_actors::port::{
    Comparison, MergeOptions, Merged, Refusal, ReprocessError, Warehouse, WriteError, Written,
};
use kappa_actors::row::{ColumnType, Row, TableSpec, Value};
use kappa_actors::version::Version;
use serde_json::Value as Json;

use super::diff::unreadable;
use super::sides::{Sides, sql_type};
use super::{BigQueryStaging, unready};
use crate::backend::bigquery::WriteMode;
use crate::backend::bigquery::cell::value;
use crate::backend::bigquery::query::Cells;

/// Counts the changes and, unless this is a dry run, makes them. Rows that a daemon writes between
/// the two are not in the counts; the versions still decide which row is current.
pub(super) async fn merge(
    of: &BigQueryStaging,
    table: &TableSpec,
    how: &Comparison,
    options: MergeOptions,
) -> Result<Merged, ReprocessError> {
    let (_, note) = of.standing(&table.name).await?;
    note.check_complete(&table.name)?;
    let how = Comparison { examples: 0, ..how.clone() };
    let mut sides = Sides::look(of, table, &how).await?;
    if !options.dry_run {
        // As a daemon does when it starts. A refused merge has left the table as it is.
        of.live.ensure_table(table).await.map_err(unready)?;
        sides = Sides::look(of, table, &how).await?;
    }
    let scope = sides.scope.filter(|_| options.remove_missing);
    if options.remove_missing && how.scope.is_some() && scope.is_none() {
        let says = format!(
            "the list of events replayed into {} is gone: merge without --remove-missing, or drop \
             the staging table and replay again",
            table.name
        );
        return Err(ReprocessError::Mismatch(says));
    }
    let removing = scope.is_some();
    let diff = sides.diff(&of.live.rest, removing).await?;
    let mut merged = Merged {
        inserted: diff.added,
        replaced: diff.changed - diff.live_newer,
        unchanged: diff.same,
        kept: diff.live_newer + diff.older,
        ..Merged::default()
    };
    if removing {
        let missing = sides.diff(&of.live.rest, false).await?;
        (merged.removed, merged.may_hide) = (missing.missing.unwrap_or(0), missing.may_hide);
    }
    if options.dry_run {
        return Ok(merged);
    }
    match sides.mode {
        WriteMode::Append => {
            of.live.rest.query(&sides.statement(removing), &[]).await?;
        }
        WriteMode::Upsert => {
            let rows = Rows { of, table: &Arc::new(table.clone()) };
            // Rows come before rows go, so that none is away that is only to be replaced.
            rows.put(&sides).await?;
            if merged.removed > 0 {
                sides.note_removals(of).await?;
                rows.uncover(&sides).await?;
                rows.remove(&sides).await?;
            }
        }
    }
    Ok(merged)
}

impl Sides<'_> {
    /// The MERGE of a table that is appended to.
    ///
    /// A key may have several rows there, and its newest is current. So each source row names by its
    /// version the one live row that it is about: a staged row replaces the current row if that is
    /// older, and a missing row is deleted. Older rows of the key stay below the new one.
    fn statement(&self, removing: bool) -> String {
        let columns = || 0..self.table.columns.len();
        let own = |at: usize| format!("`{}`", self.table.columns[at].name);
        let staged: Vec<_> = columns().map(|at| self.column("s", at)).collect();
        let mut source = format!(
            "{} SELECT {}, {} IS NULL AS _new, {} AS _live_version, FALSE AS _gone \
             FROM s LEFT JOIN l ON {}",
            self.with(removing),
            staged.join(", "),
            self.mark("l"),
            self.version("l"),
            self.same_key("s", "l"),
        );
        if removing {
            let keys = columns().map(|at| match self.table.key.contains(&at) {
                true => self.column("g", at),
                false => {
                    format!(
                        "CAST(NULL AS {}) AS {}",
                        sql_type(self.table.columns[at].kind),
                        own(at)
                    )
                }
            });
            source += &format!(
                " UNION ALL SELECT {}, FALSE AS _new, {} AS _live_version, TRUE AS _gone FROM g",
                keys.collect::<Vec<_>>().join(", "),
                self.version("g"),
            );
        }
        let set = columns()
            .filter(|at| !self.table.key.contains(at))
            .map(|at| format!("{} = {}", own(at), self.column("s", at)))
            .chain(self.idle().iter().map(|idle| format!("`{idle}` = NULL")));
        format!(
            "MERGE INTO {} AS l USING ({source}) AS s ON {} AND NOT s._new \
             AND {} IS NOT DISTINCT FROM s._live_version \
             WHEN MATCHED AND s._gone THEN DELETE \
             WHEN MATCHED AND IFNULL(s._live_version < {}, TRUE) THEN UPDATE SET {} \
             WHEN NOT MATCHED AND s._new THEN INSERT ({}) VALUES ({})",
            self.live,
            self.same_key("l", "s"),
            self.version("l"),
            self.version("s"),
            set.collect::<Vec<_>>().join(", "),
            columns().map(own).collect::<Vec<_>>().join(", "),
            staged.join(", "),
        )
    }

    /// The staged rows that the live table does not have, and has nothing as new as; each with the
    /// newest removal of its key that is newer, or NULL.
    fn unmerged(&self) -> String {
        let columns = 0..self.table.columns.len();
        let staged: Vec<_> = columns.clone().map(|at| self.column("s", at)).collect();
        let (live, version) = (self.version("l"), self.version("s"));
        let others = columns.filter(|at| !self.table.key.contains(at));
        let differs: Vec<_> = others.map(|at| self.differs(at)).collect();
        let (removal, join) = match self.noted() {
            None => ("NULL".to_owned(), String::new()),
            Some(_) => {
                let removal = self.version("m");
                let same = self.same_key("m", "s");
                let join = format!(" LEFT JOIN m ON {same} AND {removal} > {version}");
                (removal, join)
            }
        };
        format!(
            "{} SELECT {}, {removal} AS _removal FROM s LEFT JOIN l ON {}{join} \
             WHERE {} IS NULL OR (IFNULL({live} < {version}, TRUE) AND ({}))",
            self.with(false),
            staged.join(", "),
            self.same_key("s", "l"),
            self.mark("l"),
            differs.join(" OR "),
        )
    }

    /// The missing rows whose removal is noted, joined with the newest removal of their key.
    fn removed(&self) -> String {
        format!("g JOIN o ON {} JOIN m ON {}", self.is_removal("o", "g"), self.same_key("m", "g"))
    }
}

/// Rows on their way into a table that takes upserts.
struct Rows<'a> {
    of: &'a BigQueryStaging,
    table: &'a Arc<TableSpec>,
}

impl Rows<'_> {
    /// Writes the missing and changed rows, in the order in which BigQuery returns them: a query's result is fixed, and one
    /// worker would have to sort it.
    async fn put(&self, sides: &Sides<'_>) -> Result<(), ReprocessError> {
        let all: Vec<_> = (0..self.table.columns.len()).collect();
        let mut pages = self.of.live.rest.pages(&sides.unmerged(), &[]).await?;
        while let Some(page) = pages.next().await? {
            let (new, hidden): (Vec<_>, Vec<_>) =
                page.iter().partition(|cells| cells.last().is_none_or(Json::is_null));
            let rows =
                new.into_iter().map(|cells| self.row(&all, cells)).collect::<Result<_, _>>()?;
            check(self.of.live.write(self.table, Arc::new(rows)).await)?;
            self.put_in_place(hidden).await?;
        }
        Ok(())
    }

    /// Writes rows that have the version of a removal behind their columns.
    async fn put_in_place(&self, page: Vec<&Cells>) -> Result<(), ReprocessError> {
        let all: Vec<_> = (0..self.table.columns.len()).collect();
        let mut rows = Vec::new();
        for cells in page {
            let Row(values) = self.row(&all, cells)?;
            let removal = cells.last().and_then(|cell| value(ColumnType::Bytes, cell));
            let removal = removal.ok_or_else(|| unreadable("a version"))?;
            rows.push(Row(values.into_iter().chain([removal]).collect()));
        }
        if rows.is_empty() {
            return Ok(());
        }
        check(self.of.live.put_in_place(self.table, rows).await)
    }

    /// Removes the missing rows of keys that staging does not have, each under the version that it
    /// was seen with, or under the newest removal of its key: a newer row, written meanwhile, stays.
    async fn remove(&self, sides: &Sides<'_>) -> Result<(), ReprocessError> {
        let picked: Vec<_> = self.table.key.iter().copied().chain([sides.version]).collect();
        let key = self.table.key.iter().map(|&at| sides.column("g", at));
        let columns: Vec<_> = key.chain([sides.version("m")]).collect();
        let sql = format!(
            "{} SELECT {} FROM {} LEFT JOIN s ON {} WHERE {} IS NULL",
            sides.with(false),
            columns.join(", "),
            sides.removed(),
            sides.same_key("s", "g"),
            sides.mark("s"),
        );
        let mut pages = self.of.live.rest.pages(&sql, &[]).await?;
        while let Some(page) = pages.next().await? {
            let rows = page.iter().map(|cells| self.row(&picked, cells));
            let rows: Vec<_> = rows.collect::<Result<_, _>>()?;
            if !rows.is_empty() {
                check(self.of.live.remove(self.table, rows).await)?;
            }
        }
        Ok(())
    }

    /// Puts older staged rows in the place of missing ones.
    async fn uncover(&self, sides: &Sides<'_>) -> Result<(), ReprocessError> {
        let columns = (0..self.table.columns.len()).map(|at| sides.column("s", at));
        let sql = format!(
            "{} SELECT {}, {} AS _removal FROM {} JOIN s ON {}",
            sides.with(false),
            columns.collect::<Vec<_>>().join(", "),
            sides.version("m"),
            sides.removed(),
            sides.same_key("s", "g"),
        );
        let mut pages = self.of.live.rest.pages(&sql, &[]).await?;
        while let Some(page) = pages.next().await? {
            self.put_in_place(page.iter().collect()).await?;
        }
        Ok(())
    }

    /// A row that has these columns only.
    fn row(&self, picked: &[usize], cells: &Cells) -> Result<Row, ReprocessError> {
        let mut values = vec![Value::Null; self.table.columns.len()];
        for (&at, cell) in picked.iter().zip(cells) {
            let column = &self.table.columns[at];
            values[at] = value(column.kind, cell)
                .ok_or_else(|| unreadable(&format!("a value of column {}", column.name)))?;
        }
        // Upserts are numbered by the version itself, not by its bytes.
        if let Some(at) = self.table.version
            && let Value::Bytes(bytes) = &values[at]
        {
            let version = Version::from_bytes(bytes).ok_or_else(|| unreadable("a version"))?;
            values[at] = Value::Version(Box::new(version));
        }
        Ok(Row(values.into()))
    }
}

/// A staged row has been taken once, so it is taken again.
fn check(written: Result<Written, WriteError>) -> Result<(), ReprocessError> {
    match written {
        Ok(Written { refusals, .. }) => match refusals.first() {
            None => Ok(()),
            Some(Refusal { reason, .. }) => Err(ReprocessError::Mismatch(format!(
                "BigQuery refuses {} of the staged rows, the first with: {reason}",
                refusals.len()
            ))),
        },
        Err(error) => Err(ReprocessError::Unavailable(format!(
            "{error}; the rows merged so far are kept: merge again for the rest"
        ))),
    }
}
