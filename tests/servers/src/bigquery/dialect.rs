//! GoogleSQL in SQLite's words.
//!
//! A statement is parsed, and the parts that SQLite writes differently are replaced. Other parts are left to SQLite,
//! which refuses them or has the same effect. The service also takes statements that this server refuses as unknown,
//! and several statements at once.

use std::ops::ControlFlow;

use sqlparser::ast::{
    BinaryOperator, DataType, Expr, FromTable, Function, FunctionArgumentClause,
    FunctionArgumentList, FunctionArguments, Ident, NullTreatment, ObjectName, Query, SelectItem,
    SetExpr, Statement, TableFactor, TableObject, Value, Visit, VisitMut, Visitor, VisitorMut,
};
use sqlparser::dialect::{BigQueryDialect, GenericDialect};
use sqlparser::parser::Parser;

/// A statement that SQLite runs, but for MERGE.
pub(super) struct Translated {
    pub(super) statement: Statement,
    /// Of each result column, the most elements of the array that it holds; `None`: no array.
    pub(super) arrays: Vec<Option<usize>>,
}

/// Reads one statement.
pub(super) fn translate(text: &str) -> Result<Translated, String> {
    let statements = Parser::parse_sql(&BigQueryDialect {}, text);
    let mut statements = statements.map_err(|error| format!("Syntax error: {error}"))?;
    let (Some(mut statement), true) = (statements.pop(), statements.is_empty()) else {
        return Err("one statement at a time is run here".to_owned());
    };
    check_where(&statement)?;
    let arrays = arrays(&statement);
    match VisitMut::visit(&mut statement, &mut Words) {
        ControlFlow::Continue(()) => Ok(Translated { statement, arrays }),
        ControlFlow::Break(error) => Err(error),
    }
}

/// No row is changed or deleted without a condition:
/// <https://cloud.google.com/bigquery/docs/reference/standard-sql/dml-syntax>, whose words are those
/// of googlesql: docs/data-manipulation-language.md.
fn check_where(statement: &Statement) -> Result<(), String> {
    let (word, condition) = match statement {
        Statement::Update(update) => ("UPDATE", &update.selection),
        Statement::Delete(delete) => ("DELETE", &delete.selection),
        _ => return Ok(()),
    };
    if condition.is_none() {
        return Err(format!("{word} must have a WHERE clause"));
    }
    Ok(())
}

/// The table that a statement changes, by its full name.
pub(super) fn changed(statement: &Statement) -> Option<String> {
    let of = |table: &TableFactor| match table {
        TableFactor::Table { name, .. } => Some(plain(name)),
        _ => None,
    };
    match statement {
        Statement::Merge(merge) => of(&merge.table),
        Statement::Update(update) => of(&update.table.relation),
        Statement::Delete(delete) => {
            let (FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from)) = &delete.from;
            of(&from.first()?.relation)
        }
        Statement::Insert(insert) => match &insert.table {
            TableObject::TableName(name) => Some(plain(name)),
            _ => None,
        },
        _ => None,
    }
}

/// A name without its quotes.
pub(super) fn plain(name: &ObjectName) -> String {
    let parts = name.0.iter().filter_map(|part| part.as_ident());
    parts.map(|part| part.value.as_str()).collect::<Vec<_>>().join(".")
}

struct Words;

impl VisitorMut for Words {
    type Break = String;

    /// A table has its full name in SQLite, as one identifier.
    fn post_visit_relation(&mut self, relation: &mut ObjectName) -> ControlFlow<String> {
        *relation = Ident::with_quote('`', plain(relation)).into();
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<String> {
        let said = match expr {
            Expr::Function(function) => self::function(function),
            Expr::Cast { expr, data_type, .. } => cast(expr, data_type),
            Expr::BinaryOp { left, op, right } => Ok(operator(left, op, right)),
            Expr::Value(value) => Ok(bytes(&value.value)),
            Expr::Identifier(name) => no_row_id(name),
            Expr::CompoundIdentifier(names) => names.last().map_or(Ok(None), no_row_id),
            _ => Ok(None),
        };
        let parsed = said.and_then(|said| {
            said.map(|said| {
                let parser = Parser::new(&GenericDialect {}).try_with_sql(&said);
                let parsed = parser.and_then(|mut parser| parser.parse_expr());
                parsed.map_err(|error| format!("{said}: {error}"))
            })
            .transpose()
        });
        match parsed {
            Ok(None) => ControlFlow::Continue(()),
            Ok(Some(parsed)) => {
                *expr = parsed;
                ControlFlow::Continue(())
            }
            Err(error) => ControlFlow::Break(error),
        }
    }
}

/// Operators that SQLite takes for any types, or takes for others.
fn operator(left: &Expr, op: &BinaryOperator, right: &Expr) -> Option<String> {
    let function = match op {
        BinaryOperator::Lt | BinaryOperator::Gt => "bq_less",
        BinaryOperator::LtEq | BinaryOperator::GtEq => "bq_at_most",
        BinaryOperator::BitwiseAnd => "bq_and",
        BinaryOperator::BitwiseOr => "bq_or",
        BinaryOperator::BitwiseXor => "bq_xor",
        _ => return None,
    };
    let turned = matches!(op, BinaryOperator::Gt | BinaryOperator::GtEq);
    let (one, other) = if turned { (right, left) } else { (left, right) };
    Some(format!("{function}({one}, {other})"))
}

/// Translates a literal of bytes, with its escapes.
/// <https://cloud.google.com/bigquery/docs/reference/standard-sql/lexical#string_and_bytes_literals>.
/// Other escapes than these are left to SQLite, which refuses them.
fn bytes(value: &Value) -> Option<String> {
    let (Value::SingleQuotedByteStringLiteral(text) | Value::DoubleQuotedByteStringLiteral(text)) =
        value
    else {
        return None;
    };
    let mut hex = String::new();
    let mut rest = text.as_str();
    while let Some(first) = rest.chars().next() {
        let (byte, used) = match rest.strip_prefix('\\') {
            None => (format!("{:02x}", u32::from(first)), first.len_utf8()),
            Some(escape) => match escape.chars().next()? {
                'x' | 'X' => (escape.get(1..3)?.to_owned(), 4),
                same @ ('\\' | '\'' | '"') => (format!("{:02x}", u32::from(same)), 2),
                _ => return None,
            },
        };
        hex += &byte;
        rest = rest.get(used..)?;
    }
    Some(format!("X'{hex}'"))
}

/// Refuses SQLite's number of a row. The service has no such column: it cannot distinguish rows of
/// equal values.
fn no_row_id(name: &Ident) -> Result<Option<String>, String> {
    match name.value.to_ascii_lowercase().as_str() {
        "rowid" | "oid" | "_rowid_" => Err(format!("Unrecognized name: {name}")),
        _ => Ok(None),
    }
}

fn cast(expr: &Expr, to: &DataType) -> Result<Option<String>, String> {
    if expr.to_string().eq_ignore_ascii_case("NULL") {
        return Ok(Some("NULL".to_owned()));
    }
    let affinity = match to {
        DataType::String(_) => "TEXT",
        DataType::Int64 => "INTEGER",
        DataType::Float64 => "REAL",
        DataType::Bytes(_) => "BLOB",
        other => return Err(format!("CAST to {other} is not known to this server")),
    };
    Ok(Some(format!("CAST({expr} AS {affinity})")))
}

fn function(function: &Function) -> Result<Option<String>, String> {
    let FunctionArguments::List(list) = &function.args else { return Ok(None) };
    let args: Vec<String> = list.args.iter().map(ToString::to_string).collect();
    let name = function.name.to_string().to_ascii_uppercase();
    let said = match (name.as_str(), &args[..]) {
        ("IF", [condition, then, or]) => format!("iif({condition}, {then}, {or})"),
        ("COUNTIF", [condition]) => format!("count(CASE WHEN {condition} THEN 1 END)"),
        // NULL in SQL and null in JSON look the same in JSON.
        ("TO_JSON_STRING", [value]) => format!("coalesce(json({value}), 'null')"),
        ("GREATEST", args) => format!("max({})", args.join(", ")),
        ("LEAST", args) => format!("min({})", args.join(", ")),
        // Times are microseconds here, and dates are days.
        ("DATE", [micros]) => {
            let day = "86400000000";
            format!("(({micros}) - ((({micros}) % {day}) + {day}) % {day}) / {day}")
        }
        ("UNIX_DATE" | "DATE_FROM_UNIX_DATE" | "TIMESTAMP_MICROS", [value]) => format!("({value})"),
        ("FORMAT_DATE", [format, days]) if format == "'%F'" => {
            format!("date({days} * 86400, 'unixepoch')")
        }
        ("FORMAT_TIMESTAMP", [format, micros]) if format == "'%Y-%m-%dT%H:%M:%E6SZ'" => {
            let fraction = format!("(({micros}) % 1000000 + 1000000) % 1000000");
            format!(
                "strftime('%Y-%m-%dT%H:%M:%S', (({micros}) - {fraction}) / 1000000, 'unixepoch') \
                 || printf('.%06dZ', {fraction})"
            )
        }
        ("ARRAY_AGG", [value]) => array(value, list)?,
        (name @ ("FORMAT_DATE" | "FORMAT_TIMESTAMP" | "ARRAY_AGG"), args) => {
            return Err(format!("{name}({}) is not known to this server", args.join(", ")));
        }
        _ => return Ok(None),
    };
    Ok(Some(said))
}

/// An array as JSON, without NULL: BigQuery gives no array that holds one.
/// <https://cloud.google.com/bigquery/docs/reference/standard-sql/data-types#array_nulls>.
/// The service looks whether there is one; here an expression that may give one is refused.
fn array(value: &str, list: &FunctionArgumentList) -> Result<String, String> {
    let mut order = String::new();
    let mut ignores = false;
    for clause in &list.clauses {
        match clause {
            FunctionArgumentClause::IgnoreOrRespectNulls(NullTreatment::IgnoreNulls) => {
                ignores = true;
            }
            FunctionArgumentClause::OrderBy(_) => order = format!(" {clause}"),
            FunctionArgumentClause::Limit(_) => {}
            other => return Err(format!("ARRAY_AGG with {other} is not known to this server")),
        }
    }
    if !ignores {
        return Err("an array of a result cannot hold NULL: say IGNORE NULLS".to_owned());
    }
    Ok(format!("json_group_array({value}{order}) FILTER (WHERE {value} IS NOT NULL)"))
}

fn arrays(statement: &Statement) -> Vec<Option<usize>> {
    let Statement::Query(query) = statement else { return Vec::new() };
    let SetExpr::Select(select) = query.body.as_ref() else { return Vec::new() };
    let most = |item: &SelectItem| {
        let (SelectItem::UnnamedExpr(Expr::Function(function))
        | SelectItem::ExprWithAlias { expr: Expr::Function(function), .. }) = item
        else {
            return None;
        };
        let FunctionArguments::List(list) = &function.args else { return None };
        if !function.name.to_string().eq_ignore_ascii_case("ARRAY_AGG") {
            return None;
        }
        let limit = list.clauses.iter().find_map(|clause| match clause {
            FunctionArgumentClause::Limit(limit) => limit.to_string().parse().ok(),
            _ => None,
        });
        Some(limit.unwrap_or(usize::MAX))
    };
    select.projection.iter().map(most).collect()
}

/// Whether an expression asks another query.
pub(super) fn asks(expr: &Expr) -> bool {
    struct Queries;
    impl Visitor for Queries {
        type Break = ();
        fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
            ControlFlow::Break(())
        }
    }
    Visit::visit(expr, &mut Queries).is_break()
}
