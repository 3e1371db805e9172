//! How each column comes by its value.

use super::Compiler;
use crate::processor::config::{ColumnConfig, MessageField};
use crate::processor::plan::{Cell, Place, Source};
use crate::processor::{PlanError, convert};
use crate::row::{ColumnType, Value};

impl Compiler<'_> {
    pub(super) fn cell(&mut self, name: &str, column: &ColumnConfig) -> Result<Cell, PlanError> {
        let key = format!("columns.{name}");
        let source = self.source(&key, column)?;
        let fixed = match source {
            Source::Len(_) | Source::Index => Some(ColumnType::Integer),
            Source::Now | Source::Message(MessageField::PublishTime) => Some(ColumnType::Timestamp),
            _ => None,
        };
        if let Some(kind) = fixed.filter(|kind| *kind != column.r#type) {
            let reason = format!("is {}, but its source is {}", column.r#type.name(), kind.name());
            let hint = format!("use type = \"{}\"", kind.name());
            return Err(self.error(&format!("{key}.type"), reason, hint));
        }
        let always = fixed.is_some()
            || matches!(source, Source::Constant(_) | Source::Message(MessageField::Id));
        let key = format!("{key}.default");
        let default = match &column.default {
            None => Value::Null,
            Some(_) if always => {
                return Err(self.error(
                    &key,
                    "is never used",
                    "leave it out: the source always has a value",
                ));
            }
            Some(_) if column.required => {
                return Err(self.error(&key, "contradicts required = true", "keep one of the two"));
            }
            Some(value) => self.constant(&key, column.r#type, value)?,
        };
        Ok(Cell { source, default, required: column.required })
    }

    /// The one source that the column names.
    fn source(&mut self, key: &str, column: &ColumnConfig) -> Result<Source, PlanError> {
        let named: Vec<&str> = [
            ("from", column.from.is_some()),
            ("root", column.root.is_some()),
            ("len", column.len.is_some()),
            ("index", column.index),
            ("value", column.value.is_some()),
            ("now", column.now),
            ("message", column.message.is_some()),
            ("attribute", column.attribute.is_some()),
        ]
        .into_iter()
        .filter_map(|(name, is_named)| is_named.then_some(name))
        .collect();
        let [source] = named[..] else {
            let reason = if named.is_empty() {
                "has no source".to_owned()
            } else {
                format!("has {} sources: {}", named.len(), named.join(", "))
            };
            let hint = "give exactly one of from, root, len, index, value, now, message, attribute";
            return Err(self.error(key, reason, hint));
        };
        let key = format!("{key}.{source}");
        if matches!(source, "root" | "index") && self.explode.is_none() {
            let hint = "add explode, or use from";
            return Err(self.error(&key, "means nothing without explode", hint));
        }
        match column {
            ColumnConfig { from: Some(text), .. } => self.place(&key, text).map(Source::Json),
            ColumnConfig { len: Some(text), .. } => self.place(&key, text).map(Source::Len),
            ColumnConfig { root: Some(text), .. } => {
                let pointer = self.pointer(&key, text)?;
                Ok(Source::Json(Place::Event(self.event.insert(&pointer))))
            }
            ColumnConfig { value: Some(value), r#type, .. } => {
                self.constant(&key, *r#type, value).map(Source::Constant)
            }
            ColumnConfig { message: Some(field), .. } => Ok(Source::Message(*field)),
            ColumnConfig { attribute: Some(name), .. } => Ok(Source::Attribute(name.clone())),
            ColumnConfig { index: true, .. } => Ok(Source::Index),
            _ => Ok(Source::Now),
        }
    }

    /// A place in the element where there is one, else in the event.
    fn place(&mut self, key: &str, text: &str) -> Result<Place, PlanError> {
        let pointer = self.pointer(key, text)?;
        Ok(match &mut self.explode {
            Some(explode) => Place::Element(explode.element.insert(&pointer)),
            None => Place::Event(self.event.insert(&pointer)),
        })
    }

    fn constant(
        &self,
        key: &str,
        kind: ColumnType,
        value: &serde_json::Value,
    ) -> Result<Value, PlanError> {
        let constant =
            if value.is_null() { None } else { convert::from_json(kind, &value.to_string()) };
        constant.ok_or_else(|| {
            let hint = format!("write a {} value", kind.name());
            self.error(key, format!("is {value}, which is no {}", kind.name()), hint)
        })
    }
}
