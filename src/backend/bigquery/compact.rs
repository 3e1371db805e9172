//! Removes superseded and repeated rows from a table that is appended to.
//!
//! Each partition is one MERGE: it deletes all rows of the keys that have several, and inserts the
//! newest of each again. A DELETE could not keep one of two equal rows. The statement finds these keys
//! itself, in the snapshot that it changes, so a row that is appended meanwhile is neither deleted nor
//! hidden. A partition is either done or as before; a second run finds the partitions that are left.

use chrono::NaiveDate;
use kappa_actors::port::ReprocessError;
use kappa_actors::row::{ColumnType, TableSpec};
use serde_json::{Value, json};

use super::rest::{Rest, RestError};
use super::{BigQueryWarehouse, WriteMode, schema};

/// How often a table that others change at the same time is looked at again.
const ATTEMPTS: usize = 5;
/// In the description of a table: older rows of a key may be gone.
const MARK: &str = "compacted by kappa";
const DAY_MICROS: i64 = 86_400_000_000;

/// Days by the table's partition column, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Days {
    /// The first day; `None` from the beginning.
    pub from: Option<NaiveDate>,
    /// The day after the last.
    pub to: NaiveDate,
}

/// A partition with rows to remove, or the whole table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Its day; `None` for a table whose keys may span partitions, or that has none.
    pub day: Option<NaiveDate>,
    /// Keys with a row.
    pub keys: u64,
    /// Rows to remove.
    pub removes: u64,
    /// The estimated bytes that its MERGE reads.
    pub bytes: u64,
}

/// The work of a compaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CompactPlan {
    /// Bytes that looking for it has read.
    pub looked: u64,
    /// The partitions in the order of their days.
    pub partitions: Vec<Partition>,
}

/// Whether rows that are not current may have been removed from a table, as REST describes it.
pub(super) fn is_compacted(found: &Value) -> bool {
    found["description"].as_str().is_some_and(|text| text.contains(MARK))
}

impl BigQueryWarehouse {
    /// Looks for keys with several rows, and estimates the cost of removing the superseded ones.
    /// Changes nothing.
    ///
    /// # Errors
    /// [`ReprocessError::Mismatch`] for a table that cannot be compacted so.
    pub async fn plan_compaction(
        &self,
        table: &TableSpec,
        days: Days,
    ) -> Result<CompactPlan, ReprocessError> {
        let unit = Unit::of(self, table).await?;
        let look = unit.look(days);
        let looked = self.rest.estimate(&look).await?;
        let mut partitions = Vec::new();
        for row in self.rest.query(&look, &[]).await? {
            let number = |at: usize| row.get(at).and_then(|cell| cell.as_str()?.parse().ok());
            let counted = number(0).zip(number(1)).zip(number(2));
            let ((day, keys), rows): ((i64, i64), i64) = counted.ok_or_else(unreadable)?;
            let day = match unit.partition {
                Some(_) => Some(date(day).ok_or_else(unreadable)?),
                None => None,
            };
            let bytes = self.rest.estimate(&unit.statement(day)).await?;
            let removes = u64::try_from(rows - keys).map_err(|_| unreadable())?;
            let keys = u64::try_from(keys).map_err(|_| unreadable())?;
            partitions.push(Partition { day, keys, removes, bytes });
        }
        Ok(CompactPlan { looked, partitions })
    }

    /// Removes the superseded rows of one partition, in one statement.
    ///
    /// # Errors
    /// As [`BigQueryWarehouse::plan_compaction`]. After [`ReprocessError::Unavailable`] the partition
    /// may be done; compacting it again does no harm.
    pub async fn compact(
        &self,
        table: &TableSpec,
        partition: &Partition,
    ) -> Result<(), ReprocessError> {
        let unit = Unit::of(self, table).await?;
        // First: a diff must not rely on rows that are gone.
        self.mark_compacted(&table.name).await?;
        self.rest.query(&unit.statement(partition.day), &[]).await?;
        Ok(())
    }

    async fn mark_compacted(&self, table: &str) -> Result<(), ReprocessError> {
        for _ in 0..ATTEMPTS {
            let found = self.rest.table(table).await?;
            if is_compacted(&found) {
                return Ok(());
            }
            let own = found["description"].as_str().unwrap_or_default();
            let description = format!("{own} ({MARK}: older rows of a key may be gone)");
            let body = json!({ "description": description.trim_start() });
            match self.rest.patch_table(table, &body, found["etag"].as_str()).await {
                Ok(_) => return Ok(()),
                Err(RestError::Conflict(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(ReprocessError::Unavailable(format!("{table} is being changed by others")))
    }
}

impl Rest {
    /// The bytes that a query would read. It is not run.
    async fn estimate(&self, sql: &str) -> Result<u64, RestError> {
        let body = json!({
            "query": sql, "useLegacySql": false, "location": self.location(), "dryRun": true,
        });
        let answer = self.send(reqwest::Method::POST, "/queries", Some(&body), None).await?;
        let bytes = answer["totalBytesProcessed"].as_str().and_then(|bytes| bytes.parse().ok());
        bytes.ok_or_else(|| RestError::Unavailable("a dry run has no totalBytesProcessed".into()))
    }
}

/// A table as the statements name it.
struct Unit {
    name: String,
    /// All columns, also those that are not configured.
    columns: Vec<String>,
    key: Vec<String>,
    version: String,
    /// The partition column if it is in the key: then all rows of a key are in one partition.
    partition: Option<(String, ColumnType)>,
}

impl Unit {
    async fn of(warehouse: &BigQueryWarehouse, table: &TableSpec) -> Result<Self, ReprocessError> {
        let name = &table.name;
        let mismatch = |why: String| ReprocessError::Mismatch(why);
        let version = table.version.filter(|_| !table.key.is_empty());
        let version = version
            .ok_or_else(|| mismatch(format!("table {name} has no key: every row is current")))?;
        if warehouse.mode(table) == WriteMode::Upsert {
            let why = "takes upserts: BigQuery keeps one row of a key there by itself";
            return Err(mismatch(format!("table {name} {why}")));
        }
        let found = match warehouse.rest.table(name).await {
            Err(RestError::NotFound(_)) => {
                return Err(mismatch(format!("there is no table {name}: nothing was written yet")));
            }
            found => found?,
        };
        let gap = schema::compare(table, WriteMode::Append, &found).map_err(mismatch)?;
        let picked = table.key.iter().chain([&version]);
        if let Some(at) = picked.copied().find(|at| gap.missing.contains(at)) {
            let column = &table.columns[at].name;
            return Err(mismatch(format!("table {name} has no column {column}: start the daemon")));
        }
        let quoted = |at: usize| format!("`{}`", table.columns[at].name);
        let fields = found["schema"]["fields"].as_array().into_iter().flatten();
        let columns = fields.filter_map(|field| Some(format!("`{}`", field["name"].as_str()?)));
        let partition = table.partition_by.filter(|at| table.key.contains(at));
        Ok(Self {
            name: warehouse.rest.sql_name(name),
            columns: columns.collect(),
            key: table.key.iter().map(|&at| quoted(at)).collect(),
            version: quoted(version),
            partition: partition.map(|at| (quoted(at), table.columns[at].kind)),
        })
    }

    /// Selects each day that has keys with several rows, its keys and its rows. Reads the columns of
    /// the key only.
    fn look(&self, days: Days) -> String {
        let day = match &self.partition {
            Some((column, ColumnType::Date)) => format!("UNIX_DATE({column})"),
            Some((column, _)) => format!("UNIX_DATE(DATE({column}))"),
            None => "0".to_owned(),
        };
        let mut conditions = self.conditions("");
        if let Some((column, kind)) = &self.partition {
            conditions.extend(days.from.map(|from| format!("{column} >= {}", moment(*kind, from))));
            conditions.push(format!("{column} < {}", moment(*kind, days.to)));
        }
        format!(
            "SELECT _day, COUNT(*) AS _keys, SUM(_rows) AS _all FROM (SELECT {day} AS _day, \
             COUNT(*) AS _rows FROM {} WHERE {} GROUP BY {}) GROUP BY _day \
             HAVING SUM(_rows) > COUNT(*) ORDER BY _day",
            self.name,
            conditions.join(" AND "),
            self.key.join(", "),
        )
    }

    /// The MERGE of one day, or of the whole table.
    ///
    /// Its source has two rows for each key with several rows: one matches all of them, which are
    /// deleted, and one matches none and is inserted.
    fn statement(&self, day: Option<NaiveDate>) -> String {
        let (columns, key) = (self.columns.join(", "), self.key.join(", "));
        let within = |side: &str| {
            let mut conditions = self.conditions(side);
            if let (Some((column, kind)), Some(day)) = (&self.partition, day) {
                let next = day.succ_opt().unwrap_or(day);
                conditions.push(format!("{side}{column} >= {}", moment(*kind, day)));
                conditions.push(format!("{side}{column} < {}", moment(*kind, next)));
            }
            conditions.join(" AND ")
        };
        let several = "FROM r WHERE _place = 1 AND _rows > 1";
        let same = self.key.iter().map(|column| format!("l.{column} = s.{column}"));
        let inserted = self.columns.iter().map(|column| format!("s.{column}"));
        format!(
            "MERGE INTO {name} AS l USING (WITH r AS (SELECT {columns}, \
             ROW_NUMBER() OVER (PARTITION BY {key} ORDER BY {version} DESC) AS _place, \
             COUNT(*) OVER (PARTITION BY {key}) AS _rows FROM {name} WHERE {inner}) \
             SELECT {columns}, TRUE AS _gone {several} \
             UNION ALL SELECT {columns}, FALSE AS _gone {several}) AS s \
             ON s._gone AND {same} AND {outer} \
             WHEN MATCHED THEN DELETE \
             WHEN NOT MATCHED AND NOT s._gone THEN INSERT ({columns}) VALUES ({inserted})",
            name = self.name,
            version = self.version,
            inner = within(""),
            same = same.collect::<Vec<_>>().join(" AND "),
            outer = within("l."),
            inserted = inserted.collect::<Vec<_>>().join(", "),
        )
    }

    /// Rows without a key match nothing: they stay as they are.
    fn conditions(&self, side: &str) -> Vec<String> {
        self.key.iter().map(|column| format!("{side}{column} IS NOT NULL")).collect()
    }
}

/// The first moment of a day, in a column of this type.
fn moment(kind: ColumnType, day: NaiveDate) -> String {
    let days = i64::from(day.to_epoch_days());
    match kind {
        ColumnType::Date => format!("DATE_FROM_UNIX_DATE({days})"),
        _ => format!("TIMESTAMP_MICROS({})", days * DAY_MICROS),
    }
}

fn date(days: i64) -> Option<NaiveDate> {
    NaiveDate::from_epoch_days(i32::try_from(days).ok()?)
}

fn unreadable() -> ReprocessError {
    ReprocessError::Unavailable("BigQuery answered with a count that cannot be read".to_owned())
}
