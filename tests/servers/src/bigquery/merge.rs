//! MERGE, by the rules of
//! <https://cloud.google.com/bigquery/docs/reference/standard-sql/dml-syntax#merge_statement>.
//!
//! The change of each row is computed before any row is changed. The first clause that a row satisfies counts.

use rusqlite::Connection;
use sqlparser::ast::{
    AssignmentTarget, Merge, MergeAction, MergeClause, MergeClauseKind, MergeInsertKind,
    MergeUpdateKind, TableFactor,
};

use super::dialect::{asks, plain};

/// Rows that a statement changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Affected {
    pub(super) inserted: usize,
    pub(super) updated: usize,
    pub(super) deleted: usize,
}

/// Why it is refused, in words.
type Refused = String;

fn sqlite(error: rusqlite::Error) -> Refused {
    error.to_string()
}

/// Two tables as the clauses know them.
struct Tables<'a> {
    db: &'a Connection,
    /// The target's name in SQLite.
    name: String,
    /// The target with the alias that expressions use.
    target: String,
    target_alias: String,
    source_alias: String,
    clauses: &'a [MergeClause],
}

/// Runs a statement whose names and functions are SQLite's already.
pub(super) fn run(db: &Connection, merge: &Merge) -> Result<Affected, Refused> {
    let TableFactor::Table { name, alias, .. } = &merge.table else {
        return Err("the target of MERGE is no table".to_owned());
    };
    let alias_of = |table: &TableFactor| match table {
        TableFactor::Table { alias, name, .. } => {
            Some(alias.as_ref().map_or_else(|| plain(name), |alias| alias.name.value.clone()))
        }
        TableFactor::Derived { alias, .. } => Some(alias.as_ref()?.name.value.clone()),
        _ => None,
    };
    let (Some(target_alias), Some(source_alias)) =
        (alias_of(&merge.table), alias_of(&merge.source))
    else {
        return Err("the source of MERGE needs an alias here".to_owned());
    };
    let name = format!("`{}`", plain(name));
    let target = match alias {
        Some(_) => format!("{name} AS `{target_alias}`"),
        None => name.clone(),
    };
    let tables = Tables { db, name, target, target_alias, source_alias, clauses: &merge.clauses };
    tables.check()?;
    tables.decide(merge)?;
    tables.apply()
}

impl Tables<'_> {
    fn execute(&self, sql: &str) -> Result<usize, Refused> {
        self.db.execute(sql, ()).map_err(sqlite)
    }

    fn check(&self) -> Result<(), Refused> {
        for clause in self.clauses {
            // Only correlated ones are refused by the service; telling them apart is not done here.
            // https://cloud.google.com/bigquery/docs/data-manipulation-language#dml-limitations
            if clause.predicate.as_ref().is_some_and(asks) {
                return Err("Subqueries within a when_clause are not supported for MERGE".into());
            }
            let fits = match (&clause.clause_kind, &clause.action) {
                (MergeClauseKind::Matched | MergeClauseKind::NotMatchedBySource, action) => {
                    matches!(action, MergeAction::Update(_) | MergeAction::Delete { .. })
                }
                (_, action) => matches!(action, MergeAction::Insert(_)),
            };
            if !fits {
                return Err(format!("Syntax error: {clause}"));
            }
        }
        Ok(())
    }

    /// Fills `_plan`: which clause does what with which rows.
    fn decide(&self, merge: &Merge) -> Result<(), Refused> {
        let (target, to, from) = (&self.target, &self.target_alias, &self.source_alias);
        self.execute(&format!("CREATE TEMP TABLE _source AS SELECT * FROM {}", merge.source))?;
        let source = format!("temp._source AS `{from}`");
        let matched = self.choice(|kind| matches!(kind, MergeClauseKind::Matched));
        self.execute(&format!(
            "CREATE TEMP TABLE _plan AS SELECT `{to}`.rowid AS _t, `{from}`.rowid AS _s, \
             {matched} AS _clause FROM {target} JOIN {source} ON {}",
            merge.on
        ))?;
        let doubled = "SELECT count(*) FROM (SELECT _t FROM _plan GROUP BY _t \
                       HAVING count(*) > 1 AND count(_clause) > 0)";
        let doubled: i64 = self.db.query_row(doubled, (), |row| row.get(0)).map_err(sqlite)?;
        // "If there is at least one matched clause performing an UPDATE operation".
        let updates = self.clauses.iter().any(|clause| {
            matches!(clause.clause_kind, MergeClauseKind::Matched)
                && matches!(clause.action, MergeAction::Update(_))
        });
        if updates && doubled > 0 {
            let says = "UPDATE/MERGE must match at most one source row for each target row";
            return Err(says.to_owned());
        }
        let by_target = self.choice(|kind| {
            matches!(kind, MergeClauseKind::NotMatched | MergeClauseKind::NotMatchedByTarget)
        });
        let by_source = self.choice(|kind| matches!(kind, MergeClauseKind::NotMatchedBySource));
        self.execute(&format!(
            "INSERT INTO _plan SELECT * FROM (SELECT NULL AS _t, `{from}`.rowid, {by_target} \
             FROM {source} WHERE `{from}`.rowid NOT IN (SELECT _s FROM _plan) \
             UNION ALL SELECT `{to}`.rowid, NULL, {by_source} \
             FROM {target} WHERE `{to}`.rowid NOT IN (SELECT _t FROM _plan))"
        ))?;
        Ok(())
    }

    /// The first clause of a kind that a row satisfies, by its number.
    fn choice(&self, of: impl Fn(&MergeClauseKind) -> bool) -> String {
        let cases = self.clauses.iter().enumerate().filter(|(_, it)| of(&it.clause_kind));
        let cases: Vec<_> = cases
            .map(|(nth, clause)| {
                let predicate = clause.predicate.as_ref();
                let predicate = predicate.map_or_else(|| "TRUE".to_owned(), ToString::to_string);
                format!("WHEN {predicate} THEN {nth}")
            })
            .collect();
        if cases.is_empty() { "NULL".to_owned() } else { format!("CASE {} END", cases.join(" ")) }
    }

    fn apply(&self) -> Result<Affected, Refused> {
        let mut affected = Affected::default();
        for (nth, clause) in self.clauses.iter().enumerate() {
            if let MergeAction::Update(update) = &clause.action {
                let MergeUpdateKind::Set(assignments) = &update.kind else {
                    return Err(format!("Syntax error: {clause}"));
                };
                let values: Vec<_> = assignments.iter().map(|it| it.value.to_string()).collect();
                self.compute(nth, &values)?;
            } else if let MergeAction::Insert(insert) = &clause.action {
                let MergeInsertKind::Values(values) = &insert.kind else {
                    return Err("INSERT ROW is not known to this server".to_owned());
                };
                let row = values.rows.first().map(|row| &row.content);
                let values: Vec<_> = row.into_iter().flatten().map(ToString::to_string).collect();
                self.compute(nth, &values)?;
            }
        }
        for (nth, clause) in self.clauses.iter().enumerate() {
            match &clause.action {
                MergeAction::Update(update) => {
                    affected.updated += self.update(nth, &update.kind)?;
                }
                MergeAction::Delete { .. } => {
                    affected.deleted += self.execute(&format!(
                        "DELETE FROM {} WHERE rowid IN (SELECT _t FROM _plan WHERE _clause = {nth})",
                        self.name
                    ))?;
                }
                MergeAction::Insert(insert) => {
                    let columns: Vec<_> =
                        insert.columns.iter().map(|it| format!("`{}`", plain(it))).collect();
                    let values: Vec<_> = (0..columns.len()).map(|at| format!("_v{at}")).collect();
                    affected.inserted += self.execute(&format!(
                        "INSERT INTO {}({}) SELECT {} FROM _new{nth}",
                        self.name,
                        columns.join(", "),
                        values.join(", ")
                    ))?;
                }
                MergeAction::DoNothing { .. } => {}
            }
        }
        Ok(affected)
    }

    /// Computes the values that clause `nth` writes, into a table of their own.
    fn compute(&self, nth: usize, values: &[String]) -> Result<(), Refused> {
        let values: Vec<_> =
            values.iter().enumerate().map(|(at, value)| format!("{value} AS _v{at}")).collect();
        self.execute(&format!(
            "CREATE TEMP TABLE _new{nth} AS SELECT _plan._t AS _row, {} FROM _plan \
             LEFT JOIN {} ON `{to}`.rowid = _plan._t \
             LEFT JOIN temp._source AS `{from}` ON `{from}`.rowid = _plan._s \
             WHERE _plan._clause = {nth}",
            values.join(", "),
            self.target,
            to = self.target_alias,
            from = self.source_alias,
        ))?;
        Ok(())
    }

    fn update(&self, nth: usize, kind: &MergeUpdateKind) -> Result<usize, Refused> {
        let MergeUpdateKind::Set(assignments) = kind else { return Ok(0) };
        let set: Result<Vec<_>, Refused> = assignments
            .iter()
            .enumerate()
            .map(|(at, assignment)| match &assignment.target {
                AssignmentTarget::ColumnName(column) => Ok(format!("`{}` = _v{at}", plain(column))),
                AssignmentTarget::Tuple(_) => Err(format!("Syntax error: {assignment}")),
            })
            .collect();
        let (name, set) = (&self.name, set?.join(", "));
        self.execute(&format!(
            "UPDATE {name} SET {set} FROM _new{nth} WHERE {name}.rowid = _new{nth}._row"
        ))
    }
}
