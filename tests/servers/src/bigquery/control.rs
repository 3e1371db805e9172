//! Faults and inspection while the server runs.

use std::fmt;
use std::time::Duration;

use serde_json::{Map, Value};
use tonic::Code;

use super::Arrival;
use super::state::{Connections, Shared, State, StreamSeen, lock};
use std::sync::MutexGuard;

/// What happens to one append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendFault {
    /// Nothing is stored, the connection ends with this code.
    EndsWith(Code),
    /// Nothing is stored, the answer holds this code, the connection lives on.
    Answers(Code),
    /// The rows are stored, then the connection ends unanswered.
    LosesAnswer,
    /// Nothing is stored and nothing is answered on this connection from here on: half closed.
    Hangs,
}

/// What happens to one REST request: this status with this body, and nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestFault {
    /// The HTTP status.
    pub status: u16,
    /// The body, JSON or not.
    pub body: String,
}

/// A handle on a running server.
#[derive(Clone)]
pub struct Control(Shared);

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Control").finish_non_exhaustive()
    }
}

impl Control {
    pub(super) fn new(state: Shared) -> Self {
        Self(state)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.0)
    }

    /// Lets the next `count` appends meet `fault`, after those already ordered.
    pub fn fail_appends(&self, count: usize, fault: AppendFault) {
        self.state().append_faults.extend(std::iter::repeat_n(fault, count));
    }

    /// Refuses the next `count` calls that finalize a stream, as unavailable.
    pub fn fail_finalizing(&self, count: usize) {
        self.state().finalize_faults = count;
    }

    /// Lets the next `count` REST requests meet `fault`.
    pub fn fail_rest(&self, count: usize, fault: &RestFault) {
        self.state().rest_faults.extend(std::iter::repeat_n(fault.clone(), count));
    }

    /// Answers each append this much later; requests in flight wait side by side.
    pub fn delay_answers(&self, delay: Duration) {
        self.state().delay = delay;
    }

    /// Keeps of the rows from now on only this column, for [`Control::arrivals`]: under a load whole
    /// rows would fill the memory. They are checked as ever.
    pub fn keep_only(&self, column: &str) {
        self.state().keep_only = Some(column.to_owned());
    }

    /// The rows of a table of which only one column was kept, in the order of arrival.
    #[must_use]
    pub fn arrivals(&self, table: &str) -> Vec<Arrival> {
        self.state().tables.get(table).map(|table| table.arrivals.clone()).unwrap_or_default()
    }

    /// Keeps columns added from now on unknown to appends until [`Control::spread_schema`].
    pub fn spread_schema_late(&self) {
        self.state().spread_late = true;
    }

    /// Makes all columns known to appends, now and from now on.
    pub fn spread_schema(&self) {
        let mut state = self.state();
        state.spread_late = false;
        state.tables.values_mut().for_each(super::table::Table::spread);
    }

    /// Forgets the deletions of all tables, as the service does after two days: a row that was numbered
    /// lower than a deletion is then taken.
    /// <https://cloud.google.com/bigquery/docs/change-data-capture#limitations>
    pub fn forget_deletes(&self) {
        self.state().tables.values_mut().for_each(super::table::Table::forget_deletes);
    }

    /// Refuses rows of `table` (`project.dataset.table`) whose `column` contains `text`.
    pub fn refuse_rows(&self, table: &str, column: &str, text: &str) {
        self.state().refused.push((table.to_owned(), column.to_owned(), text.to_owned()));
    }

    /// Takes all rows again.
    pub fn refuse_no_rows(&self) {
        self.state().refused.clear();
    }

    /// Lets a refused request name none of its rows, or name them again.
    pub fn name_no_rows(&self, unnamed: bool) {
        self.state().unnamed = unnamed;
    }

    /// Ends the call with the status of each refusal, without details, instead of answering.
    pub fn refuse_by_status(&self, by_status: bool) {
        self.state().by_status = by_status;
    }

    /// Answers for a table that does not exist that permission is denied "on resource … (or it may
    /// not exist)", as the service answers a caller without access.
    pub fn hide_missing_tables(&self, hidden: bool) {
        self.state().hidden = hidden;
    }

    /// Removes every stream that was created, and leaves its rows, as the service does with streams
    /// that were not used for days.
    pub fn forget_streams(&self) {
        self.state().streams.clear();
    }

    /// Answers queries in pages of so many rows at most.
    pub fn page_rows(&self, rows: usize) {
        self.state().page_rows = Some(rows);
    }

    /// Lets queries see `table` (`project.dataset.table`) as it is at this moment, even if rows are streamed into it, as
    /// within `maxStaleness`; or as it is at the query.
    pub fn hold_changes(&self, table: &str, held: bool) {
        if let Some(table) = self.state().tables.get_mut(table) {
            table.hold(held);
        }
    }

    /// Runs the next query that begins with `word`, and answers 503.
    pub fn lose_answer_of(&self, word: &str) {
        self.state().lost = Some(word.to_owned());
    }

    /// The queries so far, as they came.
    #[must_use]
    pub fn statements(&self) -> Vec<String> {
        self.state().statements.clone()
    }

    /// Takes every permission away, or gives them back.
    pub fn revoke(&self, revoked: bool) {
        self.state().revoked = revoked;
    }

    /// Takes one permission away.
    pub fn deny(&self, permission: &str) {
        self.state().granted.deny(permission);
    }

    /// Gives the caller all permissions again.
    pub fn grant_all(&self) {
        self.state().granted.all();
    }

    /// Leaves the caller these permissions, each on a resource and what is below it: a project, or
    /// `projects/P/datasets/D` with or without `/tables/T`.
    pub fn grant_only(&self, grants: impl IntoIterator<Item = (String, String)>) {
        self.state().granted.only(grants);
    }

    /// Takes no larger request than this: fewer bytes than are documented.
    pub fn limit_requests(&self, bytes: usize) {
        self.state().max_request = Some(bytes);
    }

    /// Lets another client change `table` (`project.dataset.table`) just before its next PATCH.
    pub fn overtake_patch(&self, table: &str) {
        self.state().overtaken.push(table.to_owned());
    }

    /// Deletes `table` (`project.dataset.table`) with its rows, as another client would.
    pub fn delete_table(&self, table: &str) {
        self.state().drop_table(table);
    }

    /// The rows of a table as a reader sees them: changes merged, the rest as appended.
    #[must_use]
    pub fn rows(&self, table: &str) -> Vec<Map<String, Value>> {
        self.state().tables.get(table).map(super::table::Table::visible).unwrap_or_default()
    }

    /// The rows of a table in the order of arrival, pseudocolumns with them.
    #[must_use]
    pub fn appended(&self, table: &str) -> Vec<Map<String, Value>> {
        let state = self.state();
        let rows = state.tables.get(table).map(|table| table.rows.as_slice()).unwrap_or_default();
        rows.iter().map(|row| row.record(true)).collect()
    }

    /// How many rows were appended to a table, without decoding them.
    #[must_use]
    pub fn appended_count(&self, table: &str) -> usize {
        let count = |table: &super::table::Table| table.rows.len() + table.arrivals.len();
        self.state().tables.get(table).map_or(0, count)
    }

    /// The table's REST resource.
    #[must_use]
    pub fn resource(&self, table: &str) -> Option<Value> {
        self.state().tables.get(table).map(|table| table.resource.clone())
    }

    /// The datasets there are, as `project.dataset`.
    #[must_use]
    pub fn datasets(&self) -> Vec<String> {
        self.state().datasets.keys().cloned().collect()
    }

    /// Changes one field of a table's REST resource, as another client would.
    pub fn change(&self, table: &str, field: &str, value: Value) {
        if let Some(found) = self.state().tables.get_mut(table) {
            found.resource[field] = value;
        }
    }

    /// How many appends arrived.
    #[must_use]
    pub fn appends(&self) -> usize {
        self.state().appends
    }

    /// REST requests so far, as `METHOD /path`.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        self.state().requests.clone()
    }

    /// The `authorization` headers seen by REST, in order and without repeats in a row.
    #[must_use]
    pub fn tokens(&self) -> Vec<String> {
        self.state().tokens.clone()
    }

    /// Takes calls of the write API with this authorization alone, as after an hour; those that are
    /// under way go on.
    pub fn accept_only(&self, authorization: &str) {
        self.state().accepted = Some(authorization.to_owned());
    }

    /// Connections of the write API.
    #[must_use]
    pub fn connections(&self) -> Connections {
        self.state().connections
    }

    /// Streams created so far, by name.
    #[must_use]
    pub fn streams(&self) -> Vec<StreamSeen> {
        let state = self.state();
        let mut seen: Vec<StreamSeen> = state
            .streams
            .iter()
            .map(|(name, stream)| StreamSeen {
                name: name.clone(),
                rows: i64::try_from(stream.rows.len()).unwrap_or(i64::MAX),
                finalized: stream.finalized,
            })
            .collect();
        seen.sort_by(|one, other| one.name.cmp(&other.name));
        seen
    }

    /// Returns the calls of clients that would lose rows or that the service forbids. Empty is good.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        self.state().violations.clone()
    }
}
