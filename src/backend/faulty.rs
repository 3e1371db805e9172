//! Sinks that misbehave on purpose for a while after the start: `faults.fail`, `faults.slow` and
//! `faults.hang`.
//!
//! Only writes are affected: the queries of the start are answered correctly, because a fault there would end the
//! daemon instead of being waited out. A backend without a configured fault is returned unwrapped.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use kappa_actors::dead_letter_table;
use kappa_actors::port::{
    ArchiveStore, ByteStream, EnsureError, Ensured, ObjectInfo, ObjectRef, Put, StoreError,
    Warehouse, WriteError, Written,
};
use kappa_actors::row::{Row, TableSpec};
use kappa_actors::settings::duration;
use serde::{Deserialize, Deserializer};
use tokio::time::{Instant, sleep_until};

/// Where a fault is aimed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sink {
    /// `writer.TABLE`
    Writer(String),
    /// `archive`
    Archive,
    /// `dead-letter`
    DeadLetter,
}

impl Sink {
    fn of_table(&self, table: &str) -> bool {
        match self {
            Self::Writer(name) => name == table,
            Self::DeadLetter => table == dead_letter_table::NAME,
            Self::Archive => false,
        }
    }
}

impl fmt::Display for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Writer(table) => write!(f, "writer.{table}"),
            Self::Archive => f.write_str("archive"),
            Self::DeadLetter => f.write_str("dead-letter"),
        }
    }
}

/// The text names no sink.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no sink: use \"writer.TABLE\", \"archive\" or \"dead-letter\"")]
pub struct NoSink(String);

impl FromStr for Sink {
    type Err = NoSink;

    fn from_str(text: &str) -> Result<Self, NoSink> {
        match (text, text.strip_prefix("writer.")) {
            ("archive", _) => Ok(Self::Archive),
            ("dead-letter", _) => Ok(Self::DeadLetter),
            (_, Some(table)) if !table.is_empty() => Ok(Self::Writer(table.to_owned())),
            _ => Err(NoSink(text.to_owned())),
        }
    }
}

impl<'de> Deserialize<'de> for Sink {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

/// One fault, as in `{ sink = "writer.orders", for = "5s" }`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SinkFault {
    /// Where.
    pub sink: Sink,
    /// How long after the start.
    #[serde(rename = "for", deserialize_with = "duration")]
    pub lasting: Duration,
}

/// The faults of one run. Their time counts from [`Faults::armed`].
#[derive(Clone, Debug, Default)]
pub struct Faults {
    fail: Option<Fault>,
    slow: Option<Fault>,
    hang: Option<Fault>,
}

#[derive(Clone, Debug)]
struct Fault {
    sink: Sink,
    until: Instant,
}

impl Fault {
    fn meets(&self, aimed: impl Fn(&Sink) -> bool) -> bool {
        aimed(&self.sink) && Instant::now() < self.until
    }
}

impl Faults {
    /// Starts the clock: writes to `fail`'s sink are answered *unavailable* until its time is
    /// over, those to `slow`'s wait for that, and those to `hang`'s are never answered, not even
    /// afterwards.
    #[must_use]
    pub fn armed(
        fail: Option<&SinkFault>,
        slow: Option<&SinkFault>,
        hang: Option<&SinkFault>,
    ) -> Self {
        let now = Instant::now();
        let arm =
            |fault: &SinkFault| Fault { sink: fault.sink.clone(), until: now + fault.lasting };
        Self { fail: fail.map(arm), slow: slow.map(arm), hang: hang.map(arm) }
    }

    /// `inner` with the faults aimed at its tables.
    #[must_use]
    pub fn warehouse(&self, inner: Arc<dyn Warehouse>) -> Arc<dyn Warehouse> {
        if self.aim(|sink| *sink != Sink::Archive) {
            Arc::new(Faulty { inner, faults: self.clone() })
        } else {
            inner
        }
    }

    /// `inner` with the faults aimed at the archive.
    #[must_use]
    pub fn archive(&self, inner: Arc<dyn ArchiveStore>) -> Arc<dyn ArchiveStore> {
        if self.aim(|sink| *sink == Sink::Archive) {
            Arc::new(Faulty { inner, faults: self.clone() })
        } else {
            inner
        }
    }

    fn aim(&self, at: impl Fn(&Sink) -> bool) -> bool {
        self.fail.iter().chain(&self.slow).chain(&self.hang).any(|fault| at(&fault.sink))
    }

    /// Waits, and fails, as a write to the sink that is `aimed` at should.
    async fn meet(&self, aimed: impl Fn(&Sink) -> bool) -> Result<(), String> {
        if self.hang.as_ref().is_some_and(|hang| hang.meets(&aimed)) {
            return std::future::pending().await;
        }
        if let Some(slow) = self.slow.as_ref().filter(|slow| slow.meets(&aimed)) {
            sleep_until(slow.until).await;
        }
        match self.fail.as_ref().filter(|fail| fail.meets(&aimed)) {
            Some(fail) => Err(format!("faults.fail is aimed at {}", fail.sink)),
            None => Ok(()),
        }
    }
}

/// A port that misbehaves in front of one that does not.
struct Faulty<Port: ?Sized> {
    inner: Arc<Port>,
    faults: Faults,
}

#[async_trait]
impl Warehouse for Faulty<dyn Warehouse> {
    async fn ensure_table(&self, table: &TableSpec) -> Result<Ensured, EnsureError> {
        self.inner.ensure_table(table).await
    }

    async fn is_empty(&self, table: &TableSpec) -> Result<bool, EnsureError> {
        self.inner.is_empty(table).await
    }

    async fn write(
        &self,
        table: &Arc<TableSpec>,
        rows: Arc<Vec<Row>>,
    ) -> Result<Written, WriteError> {
        let met = self.faults.meet(|sink| sink.of_table(&table.name)).await;
        met.map_err(WriteError::Unavailable)?;
        self.inner.write(table, rows).await
    }

    fn ended(&self) -> Option<String> {
        self.inner.ended()
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}

impl Faulty<dyn ArchiveStore> {
    async fn meet(&self) -> Result<(), StoreError> {
        let met = self.faults.meet(|sink| *sink == Sink::Archive).await;
        met.map_err(StoreError::Unavailable)
    }
}

#[async_trait]
impl ArchiveStore for Faulty<dyn ArchiveStore> {
    async fn put_if_absent(&self, name: &str, body: Bytes) -> Result<Put, StoreError> {
        self.meet().await?;
        self.inner.put_if_absent(name, body).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        self.inner.list(prefix).await
    }

    async fn info(&self, name: &str) -> Result<ObjectInfo, StoreError> {
        self.inner.info(name).await
    }

    async fn read(&self, name: &str) -> Result<ByteStream, StoreError> {
        self.inner.read(name).await
    }

    async fn compose(&self, name: &str, sources: &[ObjectRef]) -> Result<Put, StoreError> {
        self.meet().await?;
        self.inner.compose(name, sources).await
    }

    async fn delete(&self, object: &ObjectRef) -> Result<(), StoreError> {
        self.meet().await?;
        self.inner.delete(object).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;

    /// Takes everything, and counts.
    #[derive(Default)]
    struct Willing(AtomicUsize);

    #[async_trait]
    impl Warehouse for Willing {
        async fn ensure_table(&self, _: &TableSpec) -> Result<Ensured, EnsureError> {
            Ok(Ensured::default())
        }
        async fn is_empty(&self, _: &TableSpec) -> Result<bool, EnsureError> {
            Ok(true)
        }
        async fn write(&self, _: &Arc<TableSpec>, _: Arc<Vec<Row>>) -> Result<Written, WriteError> {
            self.0.fetch_add(1, Relaxed);
            Ok(Written::default())
        }
    }

    fn fault(text: &str) -> SinkFault {
        toml::from_str(text).unwrap()
    }

    fn table(name: &str) -> Arc<TableSpec> {
        Arc::new(TableSpec {
            name: name.into(),
            columns: Vec::new(),
            key: Vec::new(),
            version: None,
            order_by: None,
            partition_by: None,
            cluster_by: Vec::new(),
            keeps_events: true,
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_failing_sink_fails_alone_and_only_for_its_time() {
        let inner = Arc::new(Willing::default());
        let fail = fault("sink = 'writer.orders'\nfor = '5s'");
        let warehouse = Faults::armed(Some(&fail), None, None).warehouse(inner.clone());
        let rows = Arc::new(Vec::new());

        let error = warehouse.write(&table("orders"), rows.clone()).await.unwrap_err();
        assert!(matches!(error, WriteError::Unavailable(_)), "{error}");
        assert_eq!(inner.0.load(Relaxed), 0);
        warehouse.write(&table("users"), rows.clone()).await.unwrap();
        warehouse.ensure_table(&table("orders")).await.unwrap();

        tokio::time::advance(Duration::from_secs(5)).await;
        warehouse.write(&table("orders"), rows).await.unwrap();
        assert_eq!(inner.0.load(Relaxed), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_sink_waits_until_its_time_is_over() {
        let slow = fault("sink = 'dead-letter'\nfor = '5s'");
        let faults = Faults::armed(None, Some(&slow), None);
        let warehouse = faults.warehouse(Arc::new(Willing::default()));
        let start = Instant::now();
        let rows = Arc::new(Vec::new());
        warehouse.write(&table("orders"), rows.clone()).await.unwrap();
        assert_eq!(start.elapsed(), Duration::ZERO);
        warehouse.write(&table("dead_letters"), rows.clone()).await.unwrap();
        assert!(start.elapsed() >= Duration::from_secs(5));
        let after = Instant::now();
        warehouse.write(&table("dead_letters"), rows).await.unwrap();
        assert_eq!(after.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_hanging_sink_never_answers_the_calls_of_its_time_and_answers_later_ones() {
        let inner = Arc::new(Willing::default());
        let hang = fault("sink = 'writer.orders'\nfor = '5s'");
        let warehouse = Faults::armed(None, None, Some(&hang)).warehouse(inner.clone());
        let (orders, rows) = (table("orders"), Arc::new(Vec::new()));
        let within = Duration::from_secs(3600);
        let hanging = tokio::time::timeout(within, warehouse.write(&orders, rows.clone()));
        assert!(hanging.await.is_err());
        assert_eq!(inner.0.load(Relaxed), 0);
        warehouse.write(&orders, rows).await.unwrap();
    }

    #[tokio::test]
    async fn a_backend_that_no_fault_is_aimed_at_stays_as_it_is() {
        let inner: Arc<dyn Warehouse> = Arc::new(Willing::default());
        let fail = fault("sink = 'archive'\nfor = '5s'");
        let faults = Faults::armed(Some(&fail), None, None);
        assert!(Arc::ptr_eq(&faults.warehouse(inner.clone()), &inner));
        assert!(Arc::ptr_eq(&Faults::default().warehouse(inner.clone()), &inner));
    }

    #[test]
    fn a_sink_that_cannot_be_is_refused() {
        for name in ["writer.", "writer", "reader", "", "Archive"] {
            let error = toml::from_str::<SinkFault>(&format!("sink = '{name}'\nfor = '5s'"));
            assert!(error.unwrap_err().to_string().contains("is no sink"), "{name}");
        }
        for name in ["writer.orders", "archive", "dead-letter"] {
            assert_eq!(name.parse::<Sink>().unwrap().to_string(), name);
        }
    }
}
