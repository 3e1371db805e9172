//! How large a query may be: <https://cloud.google.com/bigquery/quotas#query_jobs>.
//!
//! That characters are counted, and the words of both refusals, are observed:
//! <https://github.com/metabase/metabase/issues/79019>,
//! <https://github.com/OHDSI/WebAPI/issues/2270>.

use serde_json::Value;

use super::Refused;

/// 1 MB of unresolved text: parameters are in it by their names.
const MAX_CHARACTERS: usize = 1_048_576;
const MAX_PARAMETERS: usize = 10_000;

/// Refuses a query that is larger.
pub(super) fn check(body: &Value) -> Result<(), Refused> {
    let characters = body["query"].as_str().unwrap_or_default().chars().count();
    let parameters = body["queryParameters"].as_array().map_or(0, Vec::len);
    let why = if characters > MAX_CHARACTERS {
        "The query is too large. The maximum standard SQL query length is 1024.00K characters, \
         including comments and white space characters."
            .to_owned()
    } else if parameters > MAX_PARAMETERS {
        format!("Too many query parameters: {parameters} exceeds limit of {MAX_PARAMETERS}.")
    } else {
        return Ok(());
    };
    Err(Refused::new(400, "invalid", why))
}
