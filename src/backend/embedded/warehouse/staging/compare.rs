//! Staging against live, by key, in as few passes as SQLite can make.
//!
//! SQLite finds the rows that differ, and they are counted here; equal rows never leave SQLite.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use kappa_actors::port::{ColumnDiff, Comparison, Diff, Example, Scope, Shown, StagingTables};
use kappa_actors::row::{ColumnType, TableSpec};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row};

use super::{Error, join};
use crate::backend::embedded::warehouse::removals::{self, POSITION};
use crate::backend::embedded::warehouse::table::{self, list, quoted};

/// One comparison, within the caller's transaction.
pub(super) struct Compare<'a> {
    connection: &'a Connection,
    table: &'a TableSpec,
    how: &'a Comparison,
    version: usize,
    staging: String,
    events: String,
    /// Whether there is a live table, and what of it.
    live: Option<table::Fit>,
    /// Indexes of the compared columns.
    compared: Vec<usize>,
    /// Whether rows were ever removed from the live table.
    removals: bool,
    /// Compares with the live table as it is without its missing rows.
    removing: bool,
}

impl<'a> Compare<'a> {
    /// Checks that the tables can be compared.
    pub(super) fn new(
        connection: &'a Connection,
        table: &'a TableSpec,
        replay: &str,
        how: &'a Comparison,
        removing: bool,
    ) -> Result<Self, Error> {
        let version = join::check_keyed(table)?;
        let StagingTables { rows: staging, events } = StagingTables::of(table, replay);
        join::check_staging(connection, &staging)?;
        let live = table::fit(connection, "live", table)?;
        let compared = (0..table.columns.len())
            .filter(|at| !table.key.contains(at) && *at != version)
            .filter(|&at| !how.passed_over.contains(&table.columns[at].name))
            .collect();
        let [staging, events] = [staging, events].map(|it| format!("main.{}", quoted(&it.name)));
        let removals = live.is_some() && removals::exist(connection, "live", table)?;
        Ok(Self {
            connection,
            table,
            how,
            version,
            staging,
            events,
            live,
            compared,
            removals,
            removing,
        })
    }

    /// Counts and shows every difference.
    pub(super) fn diff(&self) -> Result<Diff, Error> {
        let mut diff = Diff {
            columns: self.compared.iter().map(|&at| self.no_diff(at)).collect(),
            ..Diff::default()
        };
        let mut statement = self.connection.prepare(&self.differing())?;
        let mut rows = statement.query(())?;
        while let Some(row) = rows.next()? {
            self.count(row, &mut diff)?;
        }
        diff.columns.retain(|column| column.rows > 0);
        let staged = format!("SELECT count(*) FROM {}", self.staging);
        let staged: i64 = self.connection.query_row(&staged, (), |row| row.get(0))?;
        diff.same = staged.unsigned_abs() - diff.added - diff.changed - diff.older;
        self.missing(&mut diff)?;
        Ok(diff)
    }

    /// Puts every staged row into the live table that has no row as new, and from which it was not
    /// removed.
    pub(super) fn put(&self) -> Result<(), Error> {
        let all = list(self.table.columns.iter().map(|column| quoted(&column.name)));
        let key = list(self.table.key.iter().map(|&at| self.name(at)));
        let idle = self.live.iter().flat_map(|live| &live.idle);
        let replaced = (0..self.table.columns.len())
            .filter(|at| !self.table.key.contains(at))
            .map(|at| format!("{0} = excluded.{0}", self.name(at)))
            .chain(idle.map(|column| format!("{} = NULL", quoted(column))));
        let version = self.name(self.version);
        let sql = format!(
            "INSERT INTO live.{} AS l({all}) SELECT {all} FROM {} AS s WHERE NOT {} ORDER BY {key} \
             ON CONFLICT({key}) DO UPDATE SET {} \
             WHERE (l.{version} >= excluded.{version}) IS NOT TRUE",
            quoted(&self.table.name),
            self.staging,
            self.was_removed(),
            list(replaced),
        );
        self.connection.execute_batch(&sql)?;
        Ok(())
    }

    /// Removes the live rows that [`Compare::diff`] counts as missing.
    pub(super) fn remove_missing(&self) -> Result<(), Error> {
        if let (Some(scope), Some(_)) = (self.how.scope, &self.live) {
            let condition = self.is_missing(scope);
            removals::record(self.connection, "live", self.table, &condition)?;
            let live = quoted(&self.table.name);
            let sql = format!("DELETE FROM live.{live} AS l WHERE {condition}");
            self.connection.execute_batch(&sql)?;
        }
        Ok(())
    }

    fn name(&self, at: usize) -> String {
        quoted(&self.table.columns[at].name)
    }

    fn no_diff(&self, at: usize) -> ColumnDiff {
        let name = self.table.columns[at].name.clone();
        ColumnDiff { name, rows: 0, examples: Vec::new() }
    }

    /// The live value of a column; a column that the live table lacks is NULL in every row.
    fn live_value(&self, at: usize) -> String {
        let column = &self.table.columns[at].name;
        match &self.live {
            Some(live) if !live.lacking.contains(column) => format!("l.{}", quoted(column)),
            _ => "NULL".to_owned(),
        }
    }

    /// Selects the rows that only staging has, that are older, or that differ: whether it is older,
    /// whether it is added, whether live is newer, the key, and of each compared column whether it
    /// differs, the live and the staged value.
    fn differing(&self) -> String {
        let key = |of: &str| {
            self.table.key.iter().map(|&at| format!("{of}.{}", self.name(at))).collect::<Vec<_>>()
        };
        let differs: Vec<_> = self
            .compared
            .iter()
            .map(|&at| format!("s.{} IS NOT {}", self.name(at), self.live_value(at)))
            .collect();
        let added = format!("l.{} IS NULL", self.name(self.table.key[0]));
        let (live_version, version) =
            (self.live_value(self.version), format!("s.{}", self.name(self.version)));
        let newer = format!("({live_version} > {version}) IS TRUE");
        let older = format!(
            "({} OR ({newer} AND substr({live_version}, {POSITION}) IS NOT \
             substr({version}, {POSITION})))",
            self.was_removed()
        );
        let cells = self.compared.iter().zip(&differs).map(|(&at, differs)| {
            format!("{differs}, {}, s.{}", self.live_value(at), self.name(at))
        });
        let selected =
            [older.clone(), added.clone(), newer].into_iter().chain(key("s")).chain(cells);
        let live = match self.live {
            Some(_) => format!("live.{}", quoted(&self.table.name)),
            None => {
                let columns = self.table.key.iter();
                let columns = columns.map(|&at| format!("NULL AS {}", self.name(at)));
                format!("(SELECT {} WHERE false)", list(columns))
            }
        };
        let mut joined: Vec<_> = key("l")
            .iter()
            .zip(key("s"))
            .map(|(live, staged)| format!("{live} = {staged}"))
            .collect();
        if let (true, Some(scope)) = (self.removing, self.how.scope) {
            let gone = format!(
                "{live_version} > {version} AND substr({live_version}, {POSITION}) <> \
                 substr({version}, {POSITION}) AND {}",
                self.is_replayed(scope)
            );
            joined.push(format!("({gone}) IS NOT TRUE"));
        }
        let differs = match differs.is_empty() {
            true => "FALSE".to_owned(),
            false => format!("{live_version} IS NOT {version} AND ({})", differs.join(" OR ")),
        };
        format!(
            "SELECT {} FROM {} AS s LEFT JOIN {live} AS l ON {} WHERE {added} OR {older} OR {differs}",
            list(selected),
            self.staging,
            joined.join(" AND "),
        )
    }

    fn count(&self, row: &Row<'_>, diff: &mut Diff) -> Result<(), Error> {
        let first_cell = 3 + self.table.key.len();
        if row.get(0)? {
            diff.older += 1;
            return Ok(());
        }
        if row.get(1)? {
            diff.added += 1;
            if diff.added_examples.len() < self.how.examples {
                diff.added_examples.push(self.key(row, 3)?);
            }
            return Ok(());
        }
        diff.changed += 1;
        diff.live_newer += u64::from(row.get::<_, bool>(2)?);
        for (nth, &at) in self.compared.iter().enumerate() {
            let cell = first_cell + 3 * nth;
            if row.get(cell)? {
                let column = &mut diff.columns[nth];
                column.rows += 1;
                if column.examples.len() < self.how.examples {
                    let kind = self.table.columns[at].kind;
                    let [live, staged] = [cell + 1, cell + 2].map(|at| row.get_ref(at));
                    let (live, staged) = (shown(kind, live?), shown(kind, staged?));
                    column.examples.push(Example { key: self.key(row, 3)?, live, staged });
                }
            }
        }
        Ok(())
    }

    /// Returns the key's values, which are in `row` from index `from` on.
    fn key(&self, row: &Row<'_>, from: usize) -> rusqlite::Result<Vec<Shown>> {
        let columns = self.table.key.iter().enumerate();
        columns
            .map(|(nth, &at)| Ok(shown(self.table.columns[at].kind, row.get_ref(from + nth)?)))
            .collect()
    }

    /// Whether a staged row `s` was removed from the live table under a revision as high.
    fn was_removed(&self) -> String {
        if !self.removals {
            return "FALSE".to_owned();
        }
        removals::holds("live", self.table, |at| format!("s.{}", self.name(at)))
    }

    /// Whether the message of a live row `l` was replayed, and no higher revision made the row.
    fn is_replayed(&self, scope: Scope) -> String {
        let version = self.live_value(self.version);
        format!(
            "substr({version}, {POSITION}) IN (SELECT position FROM {}) \
             AND substr({version}, -4, 2) <= X'{:04X}'",
            self.events, scope.revision
        )
    }

    /// Whether staging has a row of the key of a live row `l` that fulfils `and`.
    fn is_staged(&self, and: &str) -> String {
        let same_key: Vec<_> =
            self.table.key.iter().map(|&at| format!("s.{0} = l.{0}", self.name(at))).collect();
        format!(
            "EXISTS (SELECT 1 FROM {} AS s WHERE {}{and})",
            self.staging,
            same_key.join(" AND ")
        )
    }

    /// Whether a live row `l` is missing from staging, as [`Scope`] defines it.
    fn is_missing(&self, scope: Scope) -> String {
        let version = self.live_value(self.version);
        let staged = format!("s.{}", self.name(self.version));
        let as_new = self.is_staged(&format!(
            " AND ({staged} >= {version} OR substr({staged}, {POSITION}) = \
             substr({version}, {POSITION}))"
        ));
        format!("{} AND NOT {as_new}", self.is_replayed(scope))
    }

    fn missing(&self, diff: &mut Diff) -> Result<(), Error> {
        let Some(scope) = self.how.scope else { return Ok(()) };
        diff.missing = Some(0);
        if self.live.is_none() {
            return Ok(());
        }
        let key = list(self.table.key.iter().map(|&at| format!("l.{}", self.name(at))));
        let sql = format!(
            "SELECT {}, {key} FROM live.{} AS l WHERE {}",
            self.is_staged(""),
            quoted(&self.table.name),
            self.is_missing(scope)
        );
        let mut statement = self.connection.prepare(&sql)?;
        let mut rows = statement.query(())?;
        let mut count = 0;
        while let Some(row) = rows.next()? {
            count += 1;
            diff.may_hide += u64::from(!row.get::<_, bool>(0)?);
            if diff.missing_examples.len() < self.how.examples {
                diff.missing_examples.push(self.key(row, 1)?);
            }
        }
        diff.missing = Some(count);
        Ok(())
    }
}

/// A value as people read it.
fn shown(kind: ColumnType, value: ValueRef<'_>) -> Shown {
    Some(match value {
        ValueRef::Null => return None,
        ValueRef::Integer(integer) if kind == ColumnType::Boolean => (integer != 0).to_string(),
        ValueRef::Integer(integer) => integer.to_string(),
        ValueRef::Real(real) => real.to_string(),
        ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
        ValueRef::Blob(bytes) => BASE64_STANDARD.encode(bytes),
    })
}
