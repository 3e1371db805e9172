//! Staged rows into the live table: by one statement, or row by row where BigQuery takes none.

use std::sync::Arc;

use kappa_actors::port::{
    Comparison, MergeOptions, Merged, Refusal, ReprocessError, Scope, Warehouse, WriteError,
    Written,
};
use kappa_actors::row::{Row, TableSpec, Value};
use kappa_actors::version::Version;

use super::diff::unreadable;
use super::sides::{Sides, sql_type};
use super::{BigQueryStaging, unready};
use crate::backend::bigquery::WriteMode;
use crate::backend::bigquery::cell::value;
use crate::backend::bigquery::query::Cells;

/// Counts what there is to do and, unless this is a dry run, does it. What a daemon writes between
/// the two is not in the counts; which row stands is decided by versions all the same.
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
        // As a daemon does when it starts. What cannot be merged has left the table as it is.
        of.live.ensure_table(table).await.map_err(unready)?;
        sides = Sides::look(of, table, &how).await?;
    }
    let diff = sides.diff(&of.live.rest).await?;
    let scope = sides.scope.filter(|_| options.remove_missing);
    if options.remove_missing && how.scope.is_some() && scope.is_none() {
        let says = format!(
            "which events were replayed into {} is known no more: merge without removing, or drop \
             the staging table and replay again",
            table.name
        );
        return Err(ReprocessError::Mismatch(says));
    }
    let merged = Merged {
        inserted: diff.added,
        replaced: diff.changed - diff.live_newer,
        unchanged: diff.same,
        kept: diff.live_newer,
        removed: scope.and(diff.missing).unwrap_or(0),
    };
    if options.dry_run {
        return Ok(merged);
    }
    match sides.mode {
        WriteMode::Append => {
            of.live.rest.query(&sides.statement(scope), &[]).await?;
        }
        WriteMode::Upsert => {
            let rows = Rows { of, table: &Arc::new(table.clone()) };
            // Rows come before rows go, so that none is away that is only to be replaced.
            rows.put(&sides).await?;
            if let Some(scope) = scope {
                rows.remove(&sides, scope).await?;
            }
        }
    }
    Ok(merged)
}

impl Sides<'_> {
    /// The MERGE of a table that is appended to.
    ///
    /// A key may have several rows there, and its newest is the one that counts. So each source row
    /// brings the version of the live row that stands: only that one is replaced, and only by what
    /// is as new; older rows of the key stay below it. A key that is made no more goes with all its
    /// rows, or an older one would stand again.
    fn statement(&self, scope: Option<&Scope>) -> String {
        let columns = || 0..self.table.columns.len();
        let own = |at: usize| format!("`{}`", self.table.columns[at].name);
        let staged: Vec<_> = columns().map(|at| self.column("s", at)).collect();
        let mut source = format!(
            "{} SELECT {}, {} AS _live_version, FALSE AS _gone FROM s LEFT JOIN l ON {}",
            self.with(),
            staged.join(", "),
            self.version("l"),
            self.same_key("s", "l"),
        );
        if let Some(scope) = scope {
            let keys = columns().map(|at| match self.table.key.contains(&at) {
                true => self.column("l", at),
                false => {
                    format!(
                        "CAST(NULL AS {}) AS {}",
                        sql_type(self.table.columns[at].kind),
                        own(at)
                    )
                }
            });
            source += &format!(
                " UNION ALL SELECT {}, CAST(NULL AS BYTES) AS _live_version, TRUE AS _gone {}",
                keys.collect::<Vec<_>>().join(", "),
                self.missing(scope),
            );
        }
        let set = columns()
            .filter(|at| !self.table.key.contains(at))
            .map(|at| format!("{} = {}", own(at), self.column("s", at)))
            .chain(self.idle().iter().map(|idle| format!("`{idle}` = NULL")));
        format!(
            "MERGE INTO {} AS l USING ({source}) AS s ON {} \
             WHEN MATCHED AND s._gone THEN DELETE \
             WHEN MATCHED AND IFNULL(s._live_version < {}, TRUE) \
             AND {} IS NOT DISTINCT FROM s._live_version THEN UPDATE SET {} \
             WHEN NOT MATCHED AND NOT s._gone THEN INSERT ({}) VALUES ({})",
            self.live,
            self.same_key("l", "s"),
            self.version("s"),
            self.version("l"),
            set.collect::<Vec<_>>().join(", "),
            columns().map(own).collect::<Vec<_>>().join(", "),
            staged.join(", "),
        )
    }

    /// Where the live rows of replayed events come from that staging does not have.
    fn missing(&self, scope: &Scope) -> String {
        format!(
            "FROM l {} LEFT JOIN s ON {} WHERE {} IS NULL AND {}",
            self.joined_events(),
            self.same_key("s", "l"),
            self.mark("s"),
            self.is_replayed(scope),
        )
    }

    /// The staged rows that the live table does not have, and has nothing newer than.
    fn unmerged(&self) -> String {
        let columns = 0..self.table.columns.len();
        let staged: Vec<_> = columns.clone().map(|at| self.column("s", at)).collect();
        let (live, version) = (self.version("l"), self.version("s"));
        let others = columns.filter(|at| !self.table.key.contains(at));
        let differs: Vec<_> = others.map(|at| self.differs(at)).collect();
        format!(
            "{} SELECT {} FROM s LEFT JOIN l ON {} \
             WHERE {} IS NULL OR (IFNULL({live} < {version}, TRUE) AND ({}))",
            self.with(),
            staged.join(", "),
            self.same_key("s", "l"),
            self.mark("l"),
            differs.join(" OR "),
        )
    }
}

/// Rows on their way into a table that takes upserts.
struct Rows<'a> {
    of: &'a BigQueryStaging,
    table: &'a Arc<TableSpec>,
}

impl Rows<'_> {
    /// Writes what is not there yet, in the order in which BigQuery gives it: what a query found
    /// stays as it is, and sorting it would be one worker's work.
    async fn put(&self, sides: &Sides<'_>) -> Result<(), ReprocessError> {
        let all: Vec<_> = (0..self.table.columns.len()).collect();
        let mut pages = self.of.live.rest.pages(&sides.unmerged(), &[]).await?;
        while let Some(page) = pages.next().await? {
            let rows = page.iter().map(|cells| self.row(&all, cells)).collect::<Result<_, _>>()?;
            check(self.of.live.write(self.table, Arc::new(rows)).await)?;
        }
        Ok(())
    }

    /// Removes what staging does not have, each row under the version that it was seen with: a
    /// newer one, written meanwhile, stays.
    async fn remove(&self, sides: &Sides<'_>, scope: &Scope) -> Result<(), ReprocessError> {
        let picked: Vec<_> = self.table.key.iter().copied().chain([sides.version]).collect();
        let columns: Vec<_> = picked.iter().map(|&at| sides.column("l", at)).collect();
        let sql =
            format!("{} SELECT {} {}", sides.with(), columns.join(", "), sides.missing(scope));
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
            "{error}; what is merged so far stands: merge again for the rest"
        ))),
    }
}
