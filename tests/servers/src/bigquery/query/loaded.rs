//! The rows that queries read, in one database that is kept between them.
//!
//! Only rows that changed since the last query are loaded.

use std::collections::HashMap;

use rusqlite::types::Value as Sql;
use rusqlite::{Connection, Result, params_from_iter};

use super::super::dialect::translate;
use super::super::table::{Column, Table};
use super::functions;

/// The tables of SQLite.
pub(in crate::bigquery) struct Loaded {
    pub(super) db: Connection,
    tables: HashMap<String, Content>,
}

/// The rows of a table that are loaded.
struct Content {
    /// [`Table::epoch`] at that time.
    epoch: u64,
    /// [`Table::changes`] at that time.
    changes: usize,
}

impl Loaded {
    pub(super) fn open() -> Result<Self> {
        let db = Connection::open_in_memory()?;
        functions::register(&db)?;
        Ok(Self { db, tables: HashMap::new() })
    }

    /// Removes a table that is gone, or has changed in another way than by appended rows.
    pub(in crate::bigquery) fn forget(&mut self, name: &str) -> Result<()> {
        match self.tables.remove(name) {
            Some(_) => self.db.execute_batch(&format!("DROP TABLE `{name}`")),
            None => Ok(()),
        }
    }

    /// Lets rows come in another order than before, where a query wants none.
    pub(super) fn reorder(&self) -> Result<()> {
        self.db.pragma_update(None, "reverse_unordered_selects", rand::random::<bool>())
    }

    /// Loads the rows of a table that are not there yet.
    pub(super) fn load(&mut self, name: &str, table: &Table) -> Result<()> {
        if table.columns.is_empty() {
            return Ok(());
        }
        let known = self.tables.get(name).filter(|content| content.epoch == table.epoch);
        let known = known.map(|content| content.changes);
        if known.is_none() {
            self.forget(name)?;
        }
        let names = |columns: &mut dyn Iterator<Item = &Column>| {
            columns.map(|column| format!("`{}`", column.name)).collect::<Vec<_>>().join(",")
        };
        let all = names(&mut table.columns.iter());
        let changes = self.db.unchecked_transaction()?;
        if known.is_none() {
            changes.execute_batch(&format!("CREATE TABLE `{name}` ({all})"))?;
            if !table.key.is_empty() {
                let key = names(&mut table.key.iter().map(|&at| &table.columns[at]));
                changes
                    .execute_batch(&format!("CREATE INDEX `key of {name}` ON `{name}`({key})"))?;
            }
        }
        let marks = vec!["?"; table.columns.len() + 1].join(",");
        let insert = format!("INSERT INTO `{name}`(rowid, {all}) VALUES ({marks})");
        let mut insert = changes.prepare(&insert)?;
        let mut delete = changes.prepare(&format!("DELETE FROM `{name}` WHERE rowid = ?"))?;
        for (number, row) in table.queried(known) {
            let number = Sql::Integer(scattered(number));
            match row {
                None => delete.execute([number])?,
                Some(row) => {
                    let values = row.values(&table.columns);
                    insert.execute(params_from_iter(std::iter::once(number).chain(values)))?
                }
            };
        }
        drop((insert, delete));
        changes.commit()?;
        let content = Content { epoch: table.epoch, changes: table.changes() };
        self.tables.insert(name.to_owned(), content);
        Ok(())
    }
}

/// A number of SQLite for a row. Nothing but ORDER BY gives rows an order, so these have none:
/// <https://cloud.google.com/bigquery/docs/reference/standard-sql/query-syntax#order_by_clause>.
fn scattered(number: usize) -> i64 {
    // Odd, so that no two numbers have the same product.
    (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).cast_signed()
}

/// Makes a view, if the resource of the table describes one.
pub(super) fn make_view(db: &Connection, name: &str, table: &Table) -> Result<()> {
    let Some(view) = table.view() else { return Ok(()) };
    let view = translate(view).map_err(|error| {
        let failure = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_ERROR);
        rusqlite::Error::SqliteFailure(failure, Some(error))
    })?;
    db.execute_batch(&format!("CREATE VIEW `{name}` AS {}", view.statement))
}
