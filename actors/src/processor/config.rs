//! A processor as the configuration writes it.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use crate::row::ColumnType;

/// `processors.NAME`: which events it takes, the table it fills, and how.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessorConfig {
    /// Whether it runs; `true` by default.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Event types, by prefix; `*` takes the types that no other processor takes.
    pub r#match: Vec<String>,
    /// The table it fills.
    pub table: String,
    /// Columns that identify a row. Empty: rows are only added, and a second delivery adds them again.
    #[serde(default)]
    pub key: Vec<String>,
    /// TIMESTAMP or DATE column to partition by, where the warehouse can.
    #[serde(default)]
    pub partition_by: Option<String>,
    /// Columns to cluster by, where the warehouse can; at most 4.
    #[serde(default)]
    pub cluster_by: Vec<String>,
    /// 0 to 65535, raised with each change of the rule: of the rows that several revisions make of
    /// one event, the highest revision's is current.
    #[serde(default)]
    pub revision: i64,
    /// TIMESTAMP, DATE or INTEGER column: of the rows of a key, the one with the greatest value is
    /// current. Between equal values, and without `order_by`, the order of the log decides.
    #[serde(default)]
    pub order_by: Option<String>,
    /// A TIMESTAMP or DATE in `order_by` that is further than this behind the publish time makes the
    /// event a dead letter: a duration such as "1d".
    #[serde(default)]
    pub max_future: Option<String>,
    /// How far the table's rows may be behind, as a duration such as "1m". It changes no row: a miss is
    /// shown, counted and logged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub freshness: Option<String>,
    /// Pointer to an array: a row for each of its elements.
    #[serde(default)]
    pub explode: Option<String>,
    /// The columns, in their order.
    pub columns: IndexMap<String, ColumnConfig>,
}

/// `processors.NAME.columns.COLUMN`: a type, and exactly one source.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ColumnConfig {
    /// The type.
    #[serde(serialize_with = "type_name")]
    pub r#type: ColumnType,
    /// Source: a JSON pointer, into the event or, with `explode`, into the element.
    #[serde(default)]
    pub from: Option<String>,
    /// Source: with `explode`, a JSON pointer into the event.
    #[serde(default)]
    pub root: Option<String>,
    /// Source: the length of the array that this pointer, read as `from` is, leads to; 0 where
    /// there is no array.
    #[serde(default)]
    pub len: Option<String>,
    /// Source: with `explode`, the element's number, from 0.
    #[serde(default)]
    pub index: bool,
    /// Source: a constant.
    #[serde(default)]
    pub value: Option<Value>,
    /// Source: the time of processing.
    #[serde(default)]
    pub now: bool,
    /// Source: a field of the message's metadata.
    #[serde(default)]
    pub message: Option<MessageField>,
    /// Source: the message's attribute of this name.
    #[serde(default)]
    pub attribute: Option<String>,
    /// Stands in for a source that is missing or null.
    #[serde(default)]
    pub default: Option<Value>,
    /// Whether a missing or null source makes the event a dead letter. Columns of the key are
    /// required always.
    #[serde(default)]
    pub required: bool,
    /// A description for people.
    #[serde(default)]
    pub description: Option<String>,
}

/// A field of a message's metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MessageField {
    /// Its id.
    Id,
    /// When the log took it in.
    PublishTime,
    /// Its ordering key; an empty one counts as missing.
    OrderingKey,
}

impl MessageField {
    /// The name used in the configuration.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::PublishTime => "publish_time",
            Self::OrderingKey => "ordering_key",
        }
    }
}

impl ProcessorConfig {
    /// A hash of all that decides which rows are made, the revision aside: a changed rule under an
    /// unchanged revision shows. The order of columns, descriptions, the objective and what only the
    /// warehouse's layout needs do not count.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let mut rule = self.clone();
        rule.enabled = true;
        rule.revision = 0;
        rule.partition_by = None;
        rule.cluster_by.clear();
        rule.freshness = None;
        rule.columns.sort_unstable_keys();
        for column in rule.columns.values_mut() {
            column.description = None;
        }
        // Text keys and plain values always have a JSON form.
        let rule = serde_json::to_vec(&rule).unwrap_or_default();
        blake3::hash(&rule).to_hex()[..32].to_owned()
    }
}

fn yes() -> bool {
    true
}

fn type_name<S: Serializer>(kind: &ColumnType, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(kind.name())
}
