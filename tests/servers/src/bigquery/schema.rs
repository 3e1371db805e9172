//! Changes of a table's columns: <https://cloud.google.com/bigquery/docs/managing-table-schemas>.
//!
//! Columns are added, at the end and none that is required, and a required one may become nullable.
//! That columns in another order are taken, and stay where they are, is observed:
//! <https://github.com/terraform-google-modules/terraform-google-bigquery/issues/90>,
//! <https://github.com/googleapis/google-cloud-python/issues/6383>.

use serde_json::Value;

/// A mode that is not named is this:
/// <https://cloud.google.com/bigquery/docs/reference/rest/v2/tables#TableFieldSchema>.
const NULLABLE: &str = "NULLABLE";

fn mode(field: &Value) -> &str {
    field["mode"].as_str().unwrap_or(NULLABLE)
}

/// Returns the fields of `table` after a change to those `asked` for.
pub(super) fn changed(
    table: &str,
    fields: &[Value],
    mut asked: Vec<Value>,
) -> Result<Vec<Value>, String> {
    let mut all = Vec::with_capacity(asked.len());
    for field in fields {
        let refused = |why: String| {
            let words = "Provided Schema does not match Table";
            format!("{words} {table}. Field {} {why}", field["name"].as_str().unwrap_or_default())
        };
        let Some(at) = asked.iter().position(|one| one["name"] == field["name"]) else {
            return Err(refused("is missing in new schema".to_owned()));
        };
        let found = asked.remove(at);
        let kind = |field: &Value| field["type"].as_str().unwrap_or_default().to_ascii_uppercase();
        if kind(&found) != kind(field) {
            let why = format!("has changed type from {} to {}", kind(field), kind(&found));
            return Err(refused(why));
        }
        match (mode(field), mode(&found)) {
            ("REQUIRED", NULLABLE) => {}
            (was, is) if was == is => {}
            (was, is) => return Err(refused(format!("has changed mode from {was} to {is}"))),
        }
        all.push(found);
    }
    if asked.iter().any(|field| mode(field) == "REQUIRED") {
        return Err("Cannot add required fields to an existing schema.".to_owned());
    }
    all.extend(asked);
    Ok(all)
}
