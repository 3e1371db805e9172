//! The table: its columns, its key, and what orders and lays out its rows.

use std::time::Duration;

use super::Compiler;
use crate::envelope::EnvelopePlan;
use crate::json::Pointer;
use crate::processor::config::{ColumnConfig, MessageField};
use crate::processor::{PlanError, Trace, VERSION_COLUMN};
use crate::row::{Column, ColumnType, TableSpec};

/// BigQuery takes no more columns in a primary key.
const MAX_KEY_COLUMNS: usize = 16;
/// BigQuery takes no more columns to cluster by.
const MAX_CLUSTER_COLUMNS: usize = 4;

impl Compiler<'_> {
    pub(super) fn table(&self, envelope: &EnvelopePlan) -> Result<TableSpec, PlanError> {
        let config = self.config;
        let mut columns: Vec<Column> = config
            .columns
            .iter()
            .map(|(name, column)| Column {
                name: name.clone(),
                kind: column.r#type,
                description: column.description.clone(),
            })
            .collect();
        let days = [ColumnType::Timestamp, ColumnType::Date];
        let partition_by = config.partition_by.as_deref();
        let partition_by =
            partition_by.map(|name| self.column("partition_by", name, &days)).transpose()?;
        let key = self.columns("key", &config.key, MAX_KEY_COLUMNS)?;
        let mut cluster_by = self.columns("cluster_by", &config.cluster_by, MAX_CLUSTER_COLUMNS)?;
        let keeps_events = self.key_columns(&key).any(|column| self.holds_id(column, envelope));
        if cluster_by.is_empty() && !keeps_events {
            // Each row is looked up by its key when a newer one replaces it.
            cluster_by.extend(key.iter().take(MAX_CLUSTER_COLUMNS));
        }
        let version = (!key.is_empty()).then_some(columns.len());
        if version.is_some() {
            columns.push(Column {
                name: VERSION_COLUMN.to_owned(),
                kind: ColumnType::Bytes,
                description: Some(
                    "the row with the greatest version of a key is current".to_owned(),
                ),
            });
        }
        Ok(TableSpec {
            name: config.table.clone(),
            columns,
            key,
            version,
            order_by: self.order_by_definition(),
            partition_by,
            cluster_by,
            keeps_events,
        })
    }

    /// The columns of this list, of types that warehouses can sort and compare exactly.
    fn columns(&self, key: &str, names: &[String], max: usize) -> Result<Vec<usize>, PlanError> {
        const SORTABLE: [ColumnType; 6] = [
            ColumnType::String,
            ColumnType::Integer,
            ColumnType::Numeric,
            ColumnType::Boolean,
            ColumnType::Timestamp,
            ColumnType::Date,
        ];
        if names.len() > max {
            let reason = format!("has {} columns", names.len());
            return Err(self.error(key, reason, format!("use {max} at most")));
        }
        let mut found = Vec::with_capacity(names.len());
        for name in names {
            let index = self.column(key, name, &SORTABLE)?;
            if found.contains(&index) {
                return Err(self.error(key, format!("has {name:?} twice"), "name it once"));
            }
            found.push(index);
        }
        Ok(found)
    }

    /// The index of a column of one of these types.
    fn column(&self, key: &str, name: &str, kinds: &[ColumnType]) -> Result<usize, PlanError> {
        let Some((index, _, column)) = self.config.columns.get_full(name) else {
            let all: Vec<&str> = self.config.columns.keys().map(String::as_str).collect();
            let hint = format!("the columns are {}", all.join(", "));
            return Err(self.error(key, format!("has {name:?}, which is no column"), hint));
        };
        if kinds.contains(&column.r#type) {
            return Ok(index);
        }
        let kinds: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
        let reason = format!("has {name:?}, which is {}", column.r#type.name());
        Err(self.error(key, reason, format!("use a column of type {}", kinds.join(", "))))
    }

    /// Checks that rows of one event have different keys, that rows of two events do too (unless
    /// `order_by` decides which row is current), and that a replay makes the same key.
    pub(super) fn check_key(&self, table: &TableSpec) -> Result<(), PlanError> {
        if table.key.is_empty() {
            return Ok(());
        }
        let columns: Vec<&ColumnConfig> = self.key_columns(&table.key).collect();
        let exploded = self.explode.is_some();
        if exploded && !columns.iter().any(|column| column.index || column.from.is_some()) {
            let hint = "add a column with index = true, or one from the element, to the key";
            return Err(self.error("key", "is the same for all rows of one event", hint));
        }
        if columns.iter().any(|column| column.now) {
            return Err(self.now_decides("key"));
        }
        if table.keeps_events || self.config.order_by.is_some() {
            return Ok(());
        }
        let hint = "add the column with the event's id to the key, or name with order_by the column \
                    that decides between two events, as in order_by = \"event_timestamp\"";
        Err(self.error("key", "does not hold the event's id", hint))
    }

    fn key_columns(&self, key: &[usize]) -> impl Iterator<Item = &ColumnConfig> {
        key.iter().filter_map(|&index| Some(self.config.columns.get_index(index)?.1))
    }

    /// The error for a table that would depend on the time of processing.
    fn now_decides(&self, key: &str) -> PlanError {
        let hint = "use a time of the event or message = \"publish_time\": a replay would make \
                    other rows of the same event";
        self.error(key, "has a column with now = true", hint)
    }

    /// Whether the column holds the id of the event or of its message.
    fn holds_id(&self, column: &ColumnConfig, envelope: &EnvelopePlan) -> bool {
        let pointer = if self.explode.is_some() { &column.root } else { &column.from };
        column.message == Some(MessageField::Id)
            || pointer
                .as_deref()
                .and_then(|text| Pointer::parse(text).ok())
                .is_some_and(|pointer| envelope.is_id(&pointer))
    }

    /// How the rows of an event are found again.
    pub(super) fn trace(&self, table: &TableSpec, envelope: &EnvelopePlan) -> Trace {
        let columns = &self.config.columns;
        if table.key.is_empty() {
            let holds_id = |column: &ColumnConfig| {
                matches!(column.r#type, ColumnType::String | ColumnType::Integer)
                    && self.holds_id(column, envelope)
            };
            let found = columns.values().position(holds_id);
            return found.map_or(Trace::Lost("it has no key, and no event's id"), Trace::Event);
        }
        Trace::Key
    }

    pub(super) fn order_by(&self, table: &TableSpec) -> Result<Option<usize>, PlanError> {
        let Some(name) = &self.config.order_by else { return Ok(None) };
        if table.key.is_empty() {
            let hint = "add a key, or leave order_by out";
            return Err(self.error("order_by", "means nothing without a key", hint));
        }
        if self.config.columns.get(name).is_some_and(|column| column.now) {
            return Err(self.now_decides("order_by"));
        }
        let kinds = [ColumnType::Timestamp, ColumnType::Date, ColumnType::Integer];
        self.column("order_by", name, &kinds).map(Some)
    }

    /// The column of `order_by` with its type and source: a change of one of them would make
    /// versions that cannot be compared with the table's.
    fn order_by_definition(&self) -> Option<String> {
        let name = self.config.order_by.as_ref()?;
        let column = self.config.columns.get(name)?;
        let mut source = serde_json::to_value(column).ok()?;
        let source = source.as_object_mut()?;
        for described_elsewhere in ["type", "description", "required"] {
            source.remove(described_elsewhere);
        }
        source.retain(|_, value| !value.is_null() && *value != false);
        if let Some(explode) = &self.config.explode {
            source.insert("explode".to_owned(), explode.as_str().into());
        }
        let source = serde_json::Value::from(std::mem::take(source));
        Some(format!("{name} {} {source}", column.r#type.name()))
    }

    pub(super) fn max_future(
        &self,
        order_by: Option<usize>,
    ) -> Result<Option<Duration>, PlanError> {
        let Some(text) = &self.config.max_future else { return Ok(None) };
        let column = order_by.and_then(|at| self.config.columns.get_index(at));
        match column.map(|(_, column)| column.r#type) {
            Some(ColumnType::Timestamp | ColumnType::Date) => {}
            _ => {
                let reason = "needs an order_by column of type TIMESTAMP or DATE";
                return Err(self.error(
                    "max_future",
                    reason,
                    "set order_by, or leave max_future out",
                ));
            }
        }
        let parsed = humantime::parse_duration(text).map(Some);
        parsed.map_err(|_| {
            let hint = "write a duration such as \"1h\" or \"7d\"";
            self.error("max_future", format!("is {text:?}, which is no duration"), hint)
        })
    }
}
