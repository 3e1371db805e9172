//! Names that every warehouse takes for a table or a column.

use super::VERSION_COLUMN;

/// BigQuery's limit for a column's name.
const MAX_NAME_CHARS: usize = 300;

/// Tables of the daemon's own.
const RESERVED_TABLES: [&str; 1] = ["dead_letters"];

/// Beginnings that BigQuery keeps for columns of its own, in lower case.
const RESERVED_COLUMN_PREFIXES: [&str; 7] =
    ["_table_", "_file_", "_partition", "_row_timestamp", "__root__", "_colidentifier", "_change_"];

/// Columns of the warehouses' views.
const VIEW_COLUMNS: [&str; 1] = ["_place"];

/// A fault of a name, and a hint.
type Fault = (&'static str, &'static str);

pub(super) fn check_table(name: &str) -> Result<(), Fault> {
    check(name)?;
    let lower = name.to_ascii_lowercase();
    if RESERVED_TABLES.contains(&lower.as_str()) || lower.starts_with("sqlite_") {
        return Err(("is reserved", "choose another name"));
    }
    Ok(())
}

pub(super) fn check_column(name: &str) -> Result<(), Fault> {
    check(name)?;
    let lower = name.to_ascii_lowercase();
    if lower == VERSION_COLUMN {
        return Err(("is reserved", "leave it out: every table with a key has it"));
    }
    if VIEW_COLUMNS.contains(&lower.as_str()) {
        return Err(("is reserved", "choose another name"));
    }
    if RESERVED_COLUMN_PREFIXES.iter().any(|prefix| lower.starts_with(prefix)) {
        return Err(("begins as only BigQuery's own columns may", "choose another name"));
    }
    Ok(())
}

fn check(name: &str) -> Result<(), Fault> {
    let mut bytes = name.bytes();
    let plain = bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if plain && name.len() <= MAX_NAME_CHARS {
        Ok(())
    } else {
        Err((
            "is no name that warehouses take",
            "use letters, digits and underscores, no digit first, at most 300",
        ))
    }
}
