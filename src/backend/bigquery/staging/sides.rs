//! The two tables as queries name them: each with one row a key, and every configured column.

use kappa_actors::port::{Comparison, ReprocessError, Scope, StagingTables, staging_name};
use kappa_actors::row::{ColumnType, TableSpec};
use serde_json::Value;

use super::removals::Removals;
use super::{BigQueryStaging, keyless};
use crate::backend::bigquery::WriteMode;
use crate::backend::bigquery::compact::is_compacted;
use crate::backend::bigquery::rest::{Rest, RestError};
use crate::backend::bigquery::schema::{self, Gap};

/// Staging and live table of one comparison.
pub(super) struct Sides<'a> {
    pub(super) table: &'a TableSpec,
    pub(super) how: &'a Comparison,
    /// How the live table is written.
    pub(super) mode: WriteMode,
    /// The positions of the replay, if they are known.
    pub(super) scope: Option<&'a Scope>,
    /// The column with the version.
    pub(super) version: usize,
    /// The compared columns.
    pub(super) compared: Vec<usize>,
    /// The live table in SQL.
    pub(super) live: String,
    staging: String,
    /// The positions of the replayed events.
    events: String,
    /// The live table compared with the configuration; `None`: there is no table.
    gap: Option<Gap>,
    /// Whether older rows of a live key may be gone.
    pub(super) compacted: bool,
    /// The removals from the live table, if there may be any.
    pub(super) removals: Option<Removals>,
}

/// Refuses a table without key and version: its rows cannot be matched, nor ordered.
pub(super) fn check_keyed(table: &TableSpec) -> Result<usize, ReprocessError> {
    match table.version {
        Some(version) if !table.key.is_empty() => Ok(version),
        _ => Err(ReprocessError::Mismatch(format!(
            "table {} has no key, so its rows cannot be compared: replay it into another table",
            table.name
        ))),
    }
}

/// The staging table was made from the configuration; it must still be as configured.
pub(super) fn check_staging(staging: &TableSpec, found: &Value) -> Result<(), ReprocessError> {
    let gap = schema::compare(&keyless(staging), WriteMode::Append, found);
    let gap = gap.map_err(ReprocessError::Mismatch)?;
    let missing = gap.missing.iter().map(|&at| staging.columns[at].name.as_str());
    let how = match (missing.collect::<Vec<_>>().join(", "), gap.idle.join(", ")) {
        (lacks, has) if lacks.is_empty() && has.is_empty() => return Ok(()),
        (lacks, has) if lacks.is_empty() => format!("has {has}"),
        (lacks, _) => format!("lacks {lacks}"),
    };
    Err(ReprocessError::Mismatch(format!(
        "{} {how}: the configuration has changed since it was made; drop it and replay again",
        staging.name
    )))
}

impl<'a> Sides<'a> {
    /// Looks at both tables, and whether they can be compared.
    pub(super) async fn look(
        of: &BigQueryStaging,
        table: &'a TableSpec,
        how: &'a Comparison,
    ) -> Result<Self, ReprocessError> {
        let version = check_keyed(table)?;
        let (found, note) = of.standing(&table.name).await?;
        let StagingTables { rows, events } = StagingTables::of(table, &note.replay);
        check_staging(&rows, &found)?;
        let (rest, mode) = (&of.live.rest, of.live.mode(table));
        let (mut gap, mut removals, mut compacted) = (None, None, false);
        match rest.table(&table.name).await {
            Ok(found) => {
                compacted = is_compacted(&found);
                let compared = schema::compare(table, mode, &found);
                gap = Some(compared.map_err(ReprocessError::Mismatch)?);
                if mode == WriteMode::Upsert {
                    removals = Some(Removals::look(rest, table, &found).await?);
                }
            }
            Err(RestError::NotFound(_)) => {}
            Err(error) => return Err(error.into()),
        }
        if let Some(&at) = table.key.iter().find(|at| lacks(gap.as_ref(), **at)) {
            let column = &table.columns[at].name;
            let says = format!("table {} has no column {column}, which is its key", table.name);
            return Err(ReprocessError::Mismatch(says));
        }
        // In half a replay, rows that are yet to come look like rows that are gone.
        let mut scope = how.scope.as_ref().filter(|_| note.completed.is_some());
        if scope.is_some() && !exists(rest, &events.name).await? {
            // An earlier drop of the replay's tables was interrupted.
            scope = None;
        }
        let mut positions = String::new();
        if scope.is_some() {
            positions = format!("SELECT DISTINCT position FROM {}", rest.sql_name(&events.name));
        }
        let compared = (0..table.columns.len())
            .filter(|at| !table.key.contains(at) && *at != version)
            .filter(|&at| !how.passed_over.contains(&table.columns[at].name))
            .collect();
        Ok(Self {
            table,
            how,
            mode,
            scope,
            version,
            compared,
            live: rest.sql_name(&table.name),
            staging: rest.sql_name(&staging_name(&table.name)),
            events: positions,
            gap,
            compacted,
            removals,
        })
    }

    /// Names the sides for the query behind it: `s` is staging, `b` all live rows, `l` the current
    /// ones, and, where there is a scope, `g` the key and version of the missing rows of `b`. With
    /// `removing`, `l` holds the rows that are current without these. Where rows were removed, `a` is
    /// all of staging, and [`Removals::with`] names the removals; `s` lacks the rows that were removed.
    pub(super) fn with(&self, removing: bool) -> String {
        let staged = schema::deduplicated(self.table, &[], &self.staging);
        let mut with = match self.noted() {
            None => format!("WITH s AS ({staged})"),
            Some(removals) => {
                let all = (0..self.table.columns.len()).map(|at| self.column("a", at));
                format!(
                    "WITH {}, a AS ({staged}), s AS (SELECT {} FROM a LEFT JOIN o ON {} \
                     WHERE {} IS NULL)",
                    removals.with(self),
                    all.collect::<Vec<_>>().join(", "),
                    self.is_removal("o", "a"),
                    self.mark("o"),
                )
            }
        };
        with += &format!(", b AS ({})", self.live_rows());
        let mut rows = "b".to_owned();
        if let Some(scope) = self.scope {
            with += &format!(", e AS ({}), g AS ({})", self.events, self.missing(scope));
            if removing {
                let all = (0..self.table.columns.len()).map(|at| self.column("b", at));
                with += &format!(
                    ", k AS (SELECT {} FROM b LEFT JOIN g ON {} WHERE {} IS NULL)",
                    all.collect::<Vec<_>>().join(", "),
                    self.same_row("g", "b"),
                    self.mark("g"),
                );
                "k".clone_into(&mut rows);
            }
        }
        let current = match self.mode {
            WriteMode::Upsert => format!("SELECT * FROM {rows}"),
            WriteMode::Append => schema::deduplicated(self.table, &[], &rows),
        };
        with + &format!(", l AS ({current})")
    }

    /// The table of removals, if it exists.
    pub(super) fn noted(&self) -> Option<&Removals> {
        self.removals.as_ref().filter(|removals| removals.exist)
    }

    /// Whether a row of `removal` removes the row of the other side: one of the same key and message
    /// and of no higher revision.
    pub(super) fn is_removal(&self, removal: &str, of: &str) -> String {
        let (one, other) = (self.version(removal), self.version(of));
        format!(
            "{} AND {} = {} AND {one} > {other}",
            self.same_key(removal, of),
            position(&one),
            position(&other),
        )
    }

    /// Selects key and version of the live rows whose message was replayed, that no higher revision
    /// made, and of whose key staging has no row that is as new.
    fn missing(&self, scope: &Scope) -> String {
        let picked = self.table.key.iter().chain([&self.version]);
        let picked: Vec<_> = picked.map(|&at| self.column("b", at)).collect();
        let (live, staged) = (self.version("b"), self.version("s"));
        format!(
            "SELECT DISTINCT {} FROM b JOIN e ON e.position = {} LEFT JOIN s ON {} \
             WHERE SUBSTR({live}, -4, 2) <= FROM_HEX('{:04x}') \
             AND ({} IS NULL OR ({staged} < {live} AND {} != {}))",
            picked.join(", "),
            position(&live),
            self.same_key("s", "b"),
            scope.revision,
            self.mark("s"),
            position(&staged),
            position(&live),
        )
    }

    /// A column of one side: `` s.`id` ``.
    pub(super) fn column(&self, side: &str, at: usize) -> String {
        format!("{side}.`{}`", self.table.columns[at].name)
    }

    /// The version of one side's row.
    pub(super) fn version(&self, side: &str) -> String {
        self.column(side, self.version)
    }

    /// A column of the key, which is NULL where the side has no row.
    pub(super) fn mark(&self, side: &str) -> String {
        self.column(side, self.table.key[0])
    }

    /// That two sides have the same key.
    pub(super) fn same_key(&self, one: &str, other: &str) -> String {
        let columns = self.table.key.iter();
        let pairs: Vec<_> = columns
            .map(|&at| format!("{} = {}", self.column(one, at), self.column(other, at)))
            .collect();
        pairs.join(" AND ")
    }

    /// Whether two sides have the same key and version.
    pub(super) fn same_row(&self, one: &str, other: &str) -> String {
        let (a, b) = (self.version(one), self.version(other));
        format!("{} AND {a} = {b}", self.same_key(one, other))
    }

    /// That the sides differ in a column. JSON has no equality; its text has, but NULL is a text
    /// there too.
    pub(super) fn differs(&self, at: usize) -> String {
        let [s, l] = ["s", "l"].map(|side| self.column(side, at));
        match self.table.columns[at].kind {
            ColumnType::Json => format!(
                "(TO_JSON_STRING({s}) != TO_JSON_STRING({l}) OR ({s} IS NULL) != ({l} IS NULL))"
            ),
            _ => format!("{s} IS DISTINCT FROM {l}"),
        }
    }

    /// Columns of the live table that are configured no more.
    pub(super) fn idle(&self) -> &[String] {
        self.gap.as_ref().map_or(&[], |gap| &gap.idle)
    }

    /// The query of all live rows.
    fn live_rows(&self) -> String {
        let all = self.table.columns.iter().map(|column| format!("`{}`", column.name));
        let Some(gap) = &self.gap else {
            let all = all.collect::<Vec<_>>().join(", ");
            return format!("SELECT {all} FROM {} WHERE FALSE", self.staging);
        };
        let names = all.enumerate().map(|(at, name)| match gap.missing.contains(&at) {
            true => format!("CAST(NULL AS {}) AS {name}", sql_type(self.table.columns[at].kind)),
            false => name,
        });
        let names = names.collect::<Vec<_>>().join(", ");
        format!("SELECT {names} FROM {}", self.live)
    }
}

/// The position in a version.
pub(super) fn position(version: &str) -> String {
    format!("SUBSTR({version}, -24, 20)")
}

pub(super) async fn exists(rest: &Rest, table: &str) -> Result<bool, RestError> {
    match rest.table(table).await {
        Ok(_) => Ok(true),
        Err(RestError::NotFound(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

fn lacks(gap: Option<&Gap>, at: usize) -> bool {
    gap.is_some_and(|gap| gap.missing.contains(&at))
}

/// A type as SQL names it.
pub(super) const fn sql_type(kind: ColumnType) -> &'static str {
    match kind {
        ColumnType::Integer => "INT64",
        ColumnType::Float => "FLOAT64",
        ColumnType::Boolean => "BOOL",
        other => other.name(),
    }
}
