//! Which permissions REST and queries need.

use super::rest::Refused;
use super::state::State;

/// The permissions of a dataset's owner that this server checks:
/// <https://cloud.google.com/bigquery/docs/access-control#bigquery.dataOwner>.
pub(super) const OWNED: [&str; 10] = [
    "bigquery.datasets.delete",
    "bigquery.datasets.get",
    "bigquery.datasets.update",
    "bigquery.tables.create",
    "bigquery.tables.delete",
    "bigquery.tables.get",
    "bigquery.tables.getData",
    "bigquery.tables.list",
    "bigquery.tables.update",
    "bigquery.tables.updateData",
];

impl State {
    /// Which permission a method needs:
    /// <https://cloud.google.com/bigquery/docs/access-control#bq-permissions>. Queries are checked where
    /// they are run; the caller that started a query may read its results.
    pub(super) fn permitted(&self, method: &str, parts: &[&str]) -> Result<(), Refused> {
        let permission = match (method, parts) {
            ("POST", ["projects", _, "datasets"]) => "bigquery.datasets.create",
            ("GET", ["projects", _, "datasets", _]) => "bigquery.datasets.get",
            ("PATCH", ["projects", _, "datasets", _]) => "bigquery.datasets.update",
            ("DELETE", ["projects", _, "datasets", _]) => "bigquery.datasets.delete",
            ("POST", ["projects", _, "datasets", _, "tables"]) => "bigquery.tables.create",
            ("GET", ["projects", _, "datasets", _, "tables"]) => "bigquery.tables.list",
            ("GET", ["projects", _, "datasets", _, "tables", _]) => "bigquery.tables.get",
            ("PATCH", ["projects", _, "datasets", _, "tables", _]) => "bigquery.tables.update",
            ("DELETE", ["projects", _, "datasets", _, "tables", _]) => "bigquery.tables.delete",
            ("GET", ["projects", _, "datasets", _, "tables", _, "data"]) => {
                "bigquery.tables.getData"
            }
            ("POST", ["projects", _, "queries"]) => "bigquery.jobs.create",
            _ => return Ok(()),
        };
        let on = parts.get(..parts.len() / 2 * 2).unwrap_or_default().join("/");
        self.require(permission, &on)
    }

    /// Refuses a call without its permission.
    pub(super) fn require(&self, permission: &str, on: &str) -> Result<(), Refused> {
        if self.granted.has(permission, on) {
            return Ok(());
        }
        let message = format!(
            "Access Denied: {on}: Permission {permission} denied on {on} (or it may not exist)."
        );
        Err(Refused::new(403, "accessDenied", message))
    }
}
