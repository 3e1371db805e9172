//! Rows in protobuf, read by a descriptor compiled once against a table's columns.

use prost::bytes::Buf;
use prost::encoding::{WireType, decode_key, decode_varint};
use prost_types::DescriptorProto;
use prost_types::field_descriptor_proto::{Label, Type};

use super::cell::{Cell, convertible, fault};
use super::table::Column;

/// The pseudocolumn that makes a row a change:
/// <https://cloud.google.com/bigquery/docs/change-data-capture>.
const CHANGE_TYPE: &str = "_CHANGE_TYPE";
/// The pseudocolumn that orders changes of one key, on the same page.
const SEQUENCE: &str = "_CHANGE_SEQUENCE_NUMBER";

/// How the rows of one writer are read.
#[derive(Debug)]
pub(super) struct Plan {
    /// By field number.
    fields: Vec<Option<Field>>,
    columns: Vec<Column>,
    /// Whether rows say what change they are.
    pub(super) changes: bool,
}

#[derive(Debug)]
struct Field {
    kind: Type,
    slot: usize,
    required: bool,
}

/// Why a writer's schema does not fit the table.
#[derive(Debug)]
pub(super) enum Misfit {
    /// Fields that the table has no columns for.
    Extra(Vec<String>),
    /// Something else.
    Other(String),
}

impl Plan {
    /// Fits `descriptor` to `columns`.
    pub(super) fn compile(
        descriptor: &DescriptorProto,
        columns: &[Column],
    ) -> Result<Self, Misfit> {
        let mut fields: Vec<Option<Field>> = Vec::new();
        let mut extra = Vec::new();
        let mut changes = false;
        for field in &descriptor.field {
            let name = field.name();
            let slot = match name {
                CHANGE_TYPE => {
                    changes = true;
                    Some(columns.len())
                }
                SEQUENCE => Some(columns.len() + 1),
                _ => columns.iter().position(|column| column.name.eq_ignore_ascii_case(name)),
            };
            let Some(slot) = slot else {
                extra.push(name.to_owned());
                continue;
            };
            let to = columns.get(slot).map_or("STRING", |column| column.kind.as_str());
            // https://cloud.google.com/bigquery/docs/supported-data-types, but for lists, of which
            // there are none here.
            if field.label() == Label::Repeated || !convertible(field.r#type(), to) {
                return Err(Misfit::Other(format!(
                    "field {name} of protobuf type {} cannot fill a column of type {to}",
                    field.r#type().as_str_name()
                )));
            }
            let number = usize::try_from(field.number()).unwrap_or(0);
            // That many alone is no rule of the service.
            if number == 0 || number > 20_000 {
                return Err(Misfit::Other(format!("field {name} has the number {number}")));
            }
            if fields.len() <= number {
                fields.resize_with(number + 1, || None);
            }
            let required = field.label() == Label::Required;
            fields[number] = Some(Field { kind: field.r#type(), slot, required });
        }
        if !extra.is_empty() {
            return Err(Misfit::Extra(extra));
        }
        Ok(Self { fields, columns: columns.to_vec(), changes })
    }

    /// The columns the plan was made for.
    pub(super) fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// Reads `row` into `cells`: the columns in order, then change type and sequence. Rows are proto2 messages, by `ProtoData`
    /// in googleapis: google/cloud/bigquery/storage/v1/storage.proto.
    pub(super) fn read<'a>(
        &self,
        mut row: &'a [u8],
        cells: &mut Vec<Cell<'a>>,
    ) -> Result<(), String> {
        cells.clear();
        cells.resize(self.columns.len() + 2, Cell::Null);
        let buf = &mut row;
        while buf.has_remaining() {
            let (number, wire) = decode_key(buf).map_err(|error| error.to_string())?;
            let field = self.fields.get(number as usize).and_then(Option::as_ref);
            let raw = Raw::take(wire, buf)?;
            if let Some(field) = field {
                cells[field.slot] = raw.cell(field.kind)?;
            }
        }
        for field in self.fields.iter().flatten() {
            if field.required && cells[field.slot] == Cell::Null {
                return Err("a required field of the writer's schema is missing".to_owned());
            }
        }
        Ok(())
    }

    /// Why the cells cannot be a row of the table, if they cannot: of NULL
    /// <https://cloud.google.com/bigquery/docs/schemas#modes>, of changes
    /// <https://cloud.google.com/bigquery/docs/change-data-capture>. A key is not NULL, but this is not enforced:
    /// <https://cloud.google.com/bigquery/docs/primary-foreign-keys>.
    pub(super) fn fault(&self, cells: &[Cell<'_>], key: &[usize]) -> Option<String> {
        for (at, column) in self.columns.iter().enumerate() {
            if cells[at] == Cell::Null && (column.required || (self.changes && key.contains(&at))) {
                return Some(format!("column {} must not be NULL", column.name));
            }
            if let Some(fault) = fault(cells[at], &column.kind) {
                return Some(format!("column {}: {fault}", column.name));
            }
        }
        let at = self.columns.len();
        if self.changes && !matches!(cells[at], Cell::Text("UPSERT" | "DELETE")) {
            return Some(format!("{CHANGE_TYPE} must be UPSERT or DELETE, not {:?}", cells[at]));
        }
        match cells[at + 1] {
            Cell::Text(text) if sequence(text).is_none() => Some(format!(
                "{SEQUENCE} {text:?}: one to four hexadecimal sections of at most 16 digits"
            )),
            _ => None,
        }
    }
}

/// A sequence number's sections, if it is well formed:
/// <https://cloud.google.com/bigquery/docs/change-data-capture>.
pub(super) fn sequence(text: &str) -> Option<Vec<u64>> {
    let sections: Option<Vec<u64>> = text
        .split('/')
        .map(|section| {
            let fits = (1..=16).contains(&section.len())
                && section.bytes().all(|byte| byte.is_ascii_hexdigit());
            fits.then(|| u64::from_str_radix(section, 16).ok()).flatten()
        })
        .collect();
    sections.filter(|sections| sections.len() <= 4)
}

enum Raw<'a> {
    Number(u64),
    Short(u32),
    Bytes(&'a [u8]),
}

impl<'a> Raw<'a> {
    fn take(wire: WireType, buf: &mut &'a [u8]) -> Result<Self, String> {
        let truncated = || "the row ends inside a field".to_owned();
        Ok(match wire {
            WireType::Varint => Raw::Number(decode_varint(buf).map_err(|e| e.to_string())?),
            WireType::SixtyFourBit => Raw::Number(buf.try_get_u64_le().map_err(|_| truncated())?),
            WireType::ThirtyTwoBit => Raw::Short(buf.try_get_u32_le().map_err(|_| truncated())?),
            WireType::LengthDelimited => {
                let length = decode_varint(buf).map_err(|e| e.to_string())?;
                let length = usize::try_from(length).map_err(|e| e.to_string())?;
                let (bytes, rest) = buf.split_at_checked(length).ok_or_else(truncated)?;
                *buf = rest;
                Raw::Bytes(bytes)
            }
            // None of https://cloud.google.com/bigquery/docs/supported-data-types is a group.
            WireType::StartGroup | WireType::EndGroup => return Err("groups are refused".into()),
        })
    }

    /// Strings are UTF-8:
    /// <https://cloud.google.com/bigquery/docs/reference/standard-sql/data-types#string_type>.
    fn cell(self, kind: Type) -> Result<Cell<'a>, String> {
        Ok(match (self, kind) {
            (Raw::Number(n), Type::Bool) => Cell::Bool(n != 0),
            (Raw::Number(n), Type::Double) => Cell::Float(f64::from_bits(n)),
            (Raw::Number(n), Type::Int32) => Cell::Int(i64::from(n as i32)),
            (Raw::Number(n), Type::Int64 | Type::Uint32 | Type::Uint64 | Type::Enum) => {
                Cell::Int(n.cast_signed())
            }
            (Raw::Short(n), Type::Float) => Cell::Float(f64::from(f32::from_bits(n))),
            (Raw::Bytes(bytes), Type::Bytes) => Cell::Bytes(bytes),
            (Raw::Bytes(bytes), Type::String) => Cell::Text(
                std::str::from_utf8(bytes).map_err(|_| "a string is not UTF-8".to_owned())?,
            ),
            (_, kind) => return Err(format!("a field does not hold {}", kind.as_str_name())),
        })
    }
}
