//! Full joins whose time does not grow with the product of both sides.
//!
//! SQLite makes no index of its own for the right side of a FULL JOIN. Where that is a query with a
//! name, it becomes a temporary table here, with an index of the columns that it is joined by.

use std::ops::ControlFlow;

use rusqlite::Connection;
use sqlparser::ast::{
    BinaryOperator, Expr, JoinConstraint, JoinOperator, Query, SetExpr, Statement, TableFactor,
    Visit, Visitor,
};

use super::super::dialect::plain;

/// Puts such tables in the place of named queries.
pub(super) fn index_full_joins(db: &Connection, statement: &mut Statement) -> rusqlite::Result<()> {
    let mut joins = FullJoins(Vec::new());
    let _ = Visit::visit(statement, &mut joins);
    let Statement::Query(query) = statement else { return Ok(()) };
    for (name, columns) in joins.0 {
        let Some(with) = &mut query.with else { return Ok(()) };
        let named = |it: &sqlparser::ast::Cte| it.alias.name.value == name;
        let Some(at) = with.cte_tables.iter().position(named) else { continue };
        let mut before = with.clone();
        before.cte_tables.truncate(at);
        let before = if at == 0 { String::new() } else { before.to_string() };
        let right = with.cte_tables.remove(at).query;
        if with.cte_tables.is_empty() {
            query.with = None;
        }
        let columns = columns.iter().map(|column| format!("`{column}`")).collect::<Vec<_>>();
        db.execute_batch(&format!(
            "CREATE TEMP TABLE `{name}` AS {before} {right}; \
             CREATE INDEX temp.`by_key_of_{name}` ON `{name}`({})",
            columns.join(", ")
        ))?;
    }
    Ok(())
}

/// The right sides of full joins, each with the columns that are compared.
struct FullJoins(Vec<(String, Vec<String>)>);

impl Visitor for FullJoins {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let SetExpr::Select(select) = query.body.as_ref() else { return ControlFlow::Continue(()) };
        for join in select.from.iter().flat_map(|from| &from.joins) {
            if let JoinOperator::FullOuter(JoinConstraint::On(on)) = &join.join_operator
                && let TableFactor::Table { name, alias: None, .. } = &join.relation
            {
                let (name, mut columns) = (plain(name), Vec::new());
                compared(on, &name, &mut columns);
                if !columns.is_empty() {
                    self.0.push((name, columns));
                }
            }
        }
        ControlFlow::Continue(())
    }
}

/// The columns of a table that a condition compares with others.
fn compared(on: &Expr, table: &str, columns: &mut Vec<String>) {
    match on {
        Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
            compared(left, table, columns);
            compared(right, table, columns);
        }
        Expr::BinaryOp { left, op: BinaryOperator::Eq, right } => {
            for side in [left, right] {
                if let Expr::CompoundIdentifier(names) = side.as_ref()
                    && let [of, column] = &names[..]
                    && of.value == table
                {
                    columns.push(column.value.clone());
                }
            }
        }
        _ => {}
    }
}
