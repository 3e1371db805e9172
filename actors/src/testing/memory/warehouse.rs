//! A warehouse in memory: tables as maps by key, and handles for a test to break it by.
//!
//! It keeps every promise of the port except durability, and passes the port's conformance suite.
//! Tests await [`MemoryWarehouse::holds`] and [`Gate::reached`] instead of sleeping.

mod audit;
mod gate;
mod table;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;

use self::gate::Post;
use self::table::Table;
use crate::port::{EnsureError, Ensured, Refusal, RefusalKind, Warehouse, WriteError, Written};
use crate::row::{Row, TableSpec};
use crate::testing::warehouse::ReadBack;

pub use gate::{Gate, Moment};

/// How a table's writes fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Writes answer [`WriteError::Unavailable`], and so does ensuring the table.
    Unavailable,
    /// Writes answer [`WriteError::Gone`], though the table can be ensured.
    Gone,
}

/// Says why a row is refused, or nothing.
type Refuses = Box<dyn Fn(&Row) -> Option<String> + Send>;

/// Tables in memory.
#[derive(Default)]
pub struct MemoryWarehouse {
    state: Mutex<State>,
    changed: watch::Sender<()>,
}

#[derive(Default)]
struct State {
    tables: BTreeMap<String, Table>,
    faults: HashMap<String, Fault>,
    refusals: HashMap<String, Refuses>,
    gates: HashMap<String, Post>,
    calls: HashMap<String, u64>,
    staleness: HashMap<String, Duration>,
}

impl MemoryWarehouse {
    /// An empty warehouse in which nothing is broken.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes every write to `table` fail until [`MemoryWarehouse::mend`].
    pub fn fail(&self, table: &str, fault: Fault) {
        self.state().faults.insert(table.to_owned(), fault);
    }

    /// Ends the table's fault.
    pub fn mend(&self, table: &str) {
        self.state().faults.remove(table);
    }

    /// From now on refuses the rows of `table` for which `reason` gives one.
    pub fn refuse(&self, table: &str, reason: impl Fn(&Row) -> Option<String> + Send + 'static) {
        self.state().refusals.insert(table.to_owned(), Box::new(reason));
    }

    /// Holds every write to `table` at `moment`, until the gate is dropped.
    #[must_use]
    pub fn hold(&self, table: &str, moment: Moment) -> Gate {
        let gate = Gate::new(moment);
        self.state().gates.insert(table.to_owned(), gate.post());
        gate
    }

    /// Drops the table with all it holds: writes answer [`WriteError::Gone`] until it is ensured.
    pub fn drop_table(&self, table: &str) {
        self.state().tables.remove(table);
        self.changed.send_replace(());
    }

    /// Removes the rows of `table` that `gone` accepts, as an operator would by hand.
    pub fn remove(&self, table: &str, gone: impl Fn(&Row) -> bool) {
        if let Some(table) = self.state().tables.get_mut(table) {
            table.remove(gone);
        }
        self.changed.send_replace(());
    }

    /// Sets the time for which rows of `table` may be hidden.
    pub fn set_staleness(&self, table: &str, staleness: Duration) {
        self.state().staleness.insert(table.to_owned(), staleness);
    }

    /// Calls of [`Warehouse::write`] for `table` so far, failed ones included.
    #[must_use]
    pub fn writes(&self, table: &str) -> u64 {
        self.state().calls.get(table).copied().unwrap_or(0)
    }

    /// The rows of `table`, in the order of their keys, each in the table's column order; none
    /// where there is no such table.
    #[must_use]
    pub fn rows(&self, table: &str) -> Vec<Row> {
        self.state().tables.get(table).map_or_else(Vec::new, Table::rows)
    }

    /// Waits until `table` holds exactly `count` rows, and gives them.
    pub async fn holds(&self, table: &str, count: usize) -> Vec<Row> {
        let mut changes = self.changed.subscribe();
        loop {
            changes.mark_unchanged();
            let rows = self.rows(table);
            // An error would mean that the sender is gone, and it is ours.
            if rows.len() == count || changes.changed().await.is_err() {
                return rows;
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is made whole before the lock is given back.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn pass(&self, table: &str, moment: Moment) {
        let post = self.state().gates.get(table).cloned();
        if let Some(post) = post {
            post.pass(moment).await;
        }
    }
}

impl State {
    fn ensure(&mut self, spec: &TableSpec) -> Result<Ensured, EnsureError> {
        if self.faults.get(&spec.name) == Some(&Fault::Unavailable) {
            return Err(EnsureError::Unavailable("told to be".to_owned()));
        }
        let Some(table) = self.tables.get_mut(&spec.name) else {
            self.tables.insert(spec.name.clone(), Table::new(spec.clone()));
            return Ok(Ensured { created: true, ..Ensured::default() });
        };
        table.ensure(spec).map_err(EnsureError::Mismatch)
    }

    fn write(&mut self, spec: &TableSpec, rows: &[Row]) -> Result<Written, WriteError> {
        *self.calls.entry(spec.name.clone()).or_default() += 1;
        match self.faults.get(&spec.name) {
            Some(Fault::Unavailable) => {
                return Err(WriteError::Unavailable("told to be".to_owned()));
            }
            Some(Fault::Gone) => return Err(WriteError::Gone("told to be".to_owned())),
            None => {}
        }
        let gone = || WriteError::Gone(format!("no table {}", spec.name));
        let table = self.tables.get_mut(&spec.name).ok_or_else(gone)?;
        let places = table.places(spec).map_err(WriteError::Gone)?;
        let mut written = Written::default();
        for (index, row) in rows.iter().enumerate() {
            match self.refusals.get(&spec.name).and_then(|refuses| refuses(row)) {
                Some(reason) => {
                    let kind = RefusalKind::Constraint;
                    written.refusals.push(Refusal { row: index, kind, reason });
                }
                None => written.superseded += u64::from(table.put(spec, &places, row)),
            }
        }
        Ok(written)
    }
}

#[async_trait]
impl Warehouse for MemoryWarehouse {
    async fn ensure_table(&self, table: &TableSpec) -> Result<Ensured, EnsureError> {
        let ensured = self.state().ensure(table);
        self.changed.send_replace(());
        ensured
    }

    async fn is_empty(&self, table: &TableSpec) -> Result<bool, EnsureError> {
        Ok(self.state().tables.get(&table.name).is_none_or(|held| held.rows().is_empty()))
    }

    async fn write(
        &self,
        table: &Arc<TableSpec>,
        rows: Arc<Vec<Row>>,
    ) -> Result<Written, WriteError> {
        self.pass(&table.name, Moment::BeforeCommit).await;
        let outcome = self.state().write(table, &rows);
        self.changed.send_replace(());
        self.pass(&table.name, Moment::AfterCommit).await;
        outcome
    }
}

#[async_trait]
impl ReadBack for MemoryWarehouse {
    async fn read_back(&self, table: &TableSpec) -> Vec<Row> {
        self.state().tables.get(&table.name).map_or_else(Vec::new, |held| held.rows_as(table))
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::row::{ColumnType, Value};
    use crate::testing::auditable;
    use crate::testing::warehouse::{conforms, row, table, text};

    fn ids(count: usize) -> Arc<Vec<Row>> {
        Arc::new((0..count).map(|id| row([text(&id.to_string())])).collect())
    }

    #[tokio::test]
    async fn it_passes_the_suite() {
        conforms(&MemoryWarehouse::new()).await;
    }

    #[tokio::test]
    async fn it_answers_an_audit() {
        let warehouse = MemoryWarehouse::new();
        auditable::conforms(&warehouse, &warehouse).await;
    }

    #[tokio::test]
    async fn a_fault_lasts_until_it_is_mended_and_spares_other_tables() {
        let warehouse = MemoryWarehouse::new();
        let [broken, sound] =
            ["broken", "sound"].map(|name| table(name, &[("id", ColumnType::String)], 1));
        for spec in [&broken, &sound] {
            warehouse.ensure_table(spec).await.unwrap();
        }
        for fault in [Fault::Unavailable, Fault::Gone] {
            warehouse.fail("broken", fault);
            assert!(warehouse.write(&broken, ids(1)).await.is_err());
            assert!(warehouse.write(&sound, ids(1)).await.is_ok());
        }
        warehouse.mend("broken");
        warehouse.write(&broken, ids(1)).await.unwrap();
        assert_eq!((warehouse.writes("broken"), warehouse.rows("broken").len()), (3, 1));
    }

    #[tokio::test]
    async fn only_the_refused_rows_are_missing() {
        let warehouse = MemoryWarehouse::new();
        let spec = table("t", &[("id", ColumnType::String)], 1);
        warehouse.ensure_table(&spec).await.unwrap();
        warehouse.refuse("t", |row| (row.0[0] == text("1")).then(|| "a one".to_owned()));
        let refused = warehouse.write(&spec, ids(3)).await.unwrap();
        assert_eq!(
            refused.refusals,
            [Refusal { row: 1, kind: RefusalKind::Constraint, reason: "a one".to_owned() }]
        );
        assert_eq!(warehouse.rows("t"), [row([text("0")]), row([text("2")])]);
    }

    #[tokio::test]
    async fn a_held_write_goes_on_when_the_gate_is_dropped() {
        let warehouse = Arc::new(MemoryWarehouse::new());
        let spec = table("t", &[("id", ColumnType::Integer)], 1);
        warehouse.ensure_table(&spec).await.unwrap();
        for (moment, id, before) in [(Moment::BeforeCommit, 1, 0), (Moment::AfterCommit, 2, 2)] {
            let gate = warehouse.hold("t", moment);
            let rows = Arc::new(vec![row([Value::Integer(id)])]);
            let mut write = warehouse.write(&spec, rows);
            assert!((&mut write).now_or_never().is_none(), "{moment:?}");
            gate.reached().await;
            assert_eq!(warehouse.rows("t").len(), before);
            drop(gate);
            assert_eq!(write.await.unwrap(), Written::default());
        }
        warehouse.holds("t", 2).await;
    }
}
