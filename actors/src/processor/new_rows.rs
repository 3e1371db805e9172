//! Rows of one event while they are made, within a limit of bytes.

use super::BadRow;
use crate::row::{Row, Value};

/// Collects the rows of one event. It refuses the first value that exceeds the event's limit, so an
/// event that explodes holds no more memory than the limit and one value, however large its rows
/// would be together.
#[derive(Debug)]
pub struct NewRows<'a> {
    rows: &'a mut Vec<Row>,
    before: usize,
    left: u64,
    max: u64,
}

impl<'a> NewRows<'a> {
    /// Appends to `rows`, at most `max` bytes.
    #[must_use]
    pub fn new(rows: &'a mut Vec<Row>, max: u64) -> Self {
        Self { before: rows.len(), rows, left: max, max }
    }

    /// Makes one row out of its values, each of which is charged before the next is made.
    ///
    /// # Errors
    /// The first error of `values`, or [`BadRow::TooManyBytes`].
    pub fn collect(
        &mut self,
        columns: usize,
        values: impl FnOnce(&mut NewRow<'_>) -> Result<(), BadRow>,
    ) -> Result<(), BadRow> {
        let mut row = NewRow { values: Vec::new(), left: &mut self.left, max: self.max };
        row.take(Row::fixed_bytes(columns))?;
        row.values.reserve_exact(columns);
        values(&mut row)?;
        let row = Row(row.values.into_boxed_slice());
        self.rows.push(row);
        Ok(())
    }

    /// Appends a row.
    ///
    /// # Errors
    /// [`BadRow::TooManyBytes`]
    pub fn push(&mut self, row: Row) -> Result<(), BadRow> {
        let columns = row.0.len();
        self.collect(columns, |new| row.0.into_iter().try_for_each(|value| new.push(value)))
    }

    /// Room for so many rows more, but no more than the limit has room for.
    pub(super) fn reserve(&mut self, rows: usize, columns: usize) {
        let most = self.left / Row::fixed_bytes(columns);
        self.rows.reserve(rows.min(usize::try_from(most).unwrap_or(usize::MAX)));
    }

    /// The rows made so far.
    pub(super) fn made(&self) -> &[Row] {
        &self.rows[self.before..]
    }

    /// Removes the rows made so far.
    pub(super) fn clear(&mut self) {
        self.rows.truncate(self.before);
    }
}

/// One row while it is made.
#[derive(Debug)]
pub struct NewRow<'a> {
    values: Vec<Value>,
    left: &'a mut u64,
    max: u64,
}

impl NewRow<'_> {
    /// Appends the value of the next column.
    ///
    /// # Errors
    /// [`BadRow::TooManyBytes`]
    pub fn push(&mut self, value: Value) -> Result<(), BadRow> {
        self.take(value.heap_bytes())?;
        self.values.push(value);
        Ok(())
    }

    /// The values so far.
    pub(super) fn values(&self) -> &[Value] {
        &self.values
    }

    fn take(&mut self, bytes: u64) -> Result<(), BadRow> {
        match self.left.checked_sub(bytes) {
            Some(left) => *self.left = left,
            None => return Err(BadRow::TooManyBytes { max: self.max }),
        }
        Ok(())
    }
}
