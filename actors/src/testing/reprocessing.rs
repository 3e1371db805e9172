//! Conformance: what every [`Reprocessing`] does, checked through the ports alone.
//!
//! A backend's test makes a fresh warehouse with its staging and awaits [`conforms`]. Each check
//! uses a table and a replay of its own, so all may run on one warehouse.
#![expect(clippy::expect_used, reason = "a check that cannot go on has failed")]

mod compared;
mod merged;
mod owned;

use std::sync::Arc;

use bytes::Bytes;

use super::warehouse::{ReadBack, read_row, row, table as spec, text};
use crate::port::{Comparison, Diff, MergeOptions, Merged, Reprocessing, Scope};
use crate::position::Position;
use crate::row::ColumnType::{Integer, String as Text};
use crate::row::{ColumnType, Row, TableSpec, Value};
use crate::time::Timestamp;
use crate::version::Version;

pub use compared::*;
pub use merged::*;
pub use owned::*;

/// Runs every check against `staging`, which belongs to `live`; neither has any of the checks' tables yet.
pub async fn conforms(live: &impl ReadBack, staging: &dyn Reprocessing) {
    a_diff_names_what_was_added_changed_and_is_missing_and_nothing_else(live, staging).await;
    every_type_is_compared_and_shown(live, staging).await;
    a_new_column_differs_where_it_has_a_value_and_is_merged(live, staging).await;
    without_a_live_table_every_row_is_added(live, staging).await;
    a_dead_letter_keeps_no_row(live, staging).await;
    replaying_under_the_same_rules_differs_in_nothing(live, staging).await;
    the_last_bytes_of_an_ordered_version_decide(live, staging).await;
    a_row_whose_message_was_not_replayed_is_not_missing(live, staging).await;
    a_row_that_is_now_made_elsewhere_is_missing(live, staging).await;
    a_merge_never_replaces_a_higher_version_and_again_changes_nothing(live, staging).await;
    nothing_is_removed_unless_it_is_asked_for(live, staging).await;
    an_older_staged_row_comes_back_when_the_newer_one_is_removed(live, staging).await;
    an_older_row_is_current_again_or_counted_as_hidden(live, staging).await;
    a_newer_row_is_not_hindered_by_a_removal(live, staging).await;
    a_key_is_merged_by_its_newest_rows(live, staging).await;
    rows_of_a_key_of_two_columns_are_told_apart(live, staging).await;
    a_column_no_longer_configured_is_null_in_merged_rows(live, staging).await;
    half_a_replay_is_not_merged_and_misses_nothing(live, staging).await;
    a_staging_table_belongs_to_one_replay(live, staging).await;
    two_replays_at_once_do_not_share_a_staging_table(live, staging).await;
    a_column_of_another_type_is_a_mismatch_and_changes_nothing(live, staging).await;
    a_table_without_a_key_is_not_staged(live, staging).await;
}

/// An id, a count, a column about the processing, and a version: the columns of most checks.
const COLUMNS: [(&str, ColumnType); 4] =
    [("id", Text), ("count", Integer), ("at", Text), ("_version", ColumnType::Bytes)];

/// The publish time of the message that makes a row, in microseconds, and the rule's revision.
type Origin = (i64, u16);

/// Id, count and origin of a row.
type Made<'a> = (&'a str, i64, Origin);

fn position(micros: i64) -> Position {
    Position::of("1", Timestamp::from_micros(micros), 0)
}

fn version((micros, revision): Origin) -> Value {
    Value::Version(Box::new(Version::new(None, position(micros), revision)))
}

fn made((id, count, origin): Made<'_>) -> Row {
    row([text(id), Value::Integer(count), text(&format!("at {origin:?}")), version(origin)])
}

fn all(rows: &[Made<'_>]) -> Vec<Row> {
    rows.iter().copied().map(made).collect()
}

/// The rows as a warehouse hands them back.
fn read(rows: &[Made<'_>]) -> Vec<Row> {
    rows.iter().copied().map(|it| read_row(&made(it))).collect()
}

/// As of a replay under revision 1.
fn how() -> Comparison {
    let scope = Some(Scope { revision: 1 });
    Comparison { passed_over: vec!["at".to_owned()], scope, examples: 2 }
}

/// A live table, and the rows that a replay of the table's name staged for it.
struct Scene<'a, L> {
    live: &'a L,
    staging: &'a dyn Reprocessing,
    table: Arc<TableSpec>,
}

impl<'a, L: ReadBack> Scene<'a, L> {
    /// Live rows of this table.
    async fn of(
        (live, staging): (&'a L, &'a dyn Reprocessing),
        table: Arc<TableSpec>,
        rows: Vec<Row>,
    ) -> Self {
        live.ensure_table(&table).await.expect("the live table is made");
        let refused = live.write(&table, Arc::new(rows)).await.expect("the live rows are written");
        assert_eq!(refused.refusals, []);
        Self { live, staging, table }
    }

    /// Rows of [`COLUMNS`], staged by a complete replay over the messages of these times.
    async fn new(
        ports: (&'a L, &'a dyn Reprocessing),
        name: &str,
        live: &[Made<'_>],
        staged: &[Made<'_>],
        events: &[i64],
    ) -> Self {
        let scene = Self::of(ports, spec(name, &COLUMNS, 1), all(live)).await;
        scene.stage(name, all(staged), events).await;
        scene.complete(name).await;
        scene
    }

    async fn stage(&self, replay: &str, rows: Vec<Row>, events: &[i64]) {
        let tables = self.staging.stage(&self.table, replay, 1).await.expect("it is staged");
        let to = self.staging.warehouse();
        let refused = to.write(&tables.rows, Arc::new(rows)).await.expect("rows are staged");
        assert_eq!(refused.refusals, []);
        let events = events.iter().map(|&at| replayed(at)).collect();
        let refused = to.write(&tables.events, Arc::new(events)).await.expect("events are noted");
        assert_eq!(refused.refusals, []);
    }

    async fn complete(&self, replay: &str) {
        self.staging.complete(&self.table.name, replay).await.expect("the replay is complete");
    }

    async fn drop(&self) {
        assert!(self.staging.drop_staging(&self.table.name).await.expect("it is dropped"));
    }

    async fn diff(&self) -> Diff {
        self.staging.diff(&self.table, &how()).await.expect("they are compared")
    }

    async fn merge(&self, remove_missing: bool, dry_run: bool) -> Merged {
        let options = MergeOptions { remove_missing, dry_run };
        self.staging.merge(&self.table, &how(), options).await.expect("it is merged")
    }

    async fn write(&self, rows: &[Made<'_>]) {
        let written = self.live.write(&self.table, Arc::new(all(rows))).await;
        assert_eq!(written.expect("the live rows are written").refusals, []);
    }

    /// The rows of the live table, in the order of the ids.
    async fn rows(&self) -> Vec<Row> {
        let rows = self.live.read_back(&self.table).await;
        let mut rows: Vec<_> = rows.iter().map(read_row).collect();
        rows.sort_by_key(|row| format!("{row:?}"));
        rows
    }
}

/// The note that the message of this time was replayed.
fn replayed(micros: i64) -> Row {
    row([Value::Bytes(Box::new(Bytes::copy_from_slice(&position(micros).to_bytes())))])
}

/// `a` is alike, `b` differs, `c` is newer in live, `d` is new, `e` is made no more, a higher
/// revision made `f` and `h`, which is staged too, `g` is no event of the range, and `i` has equal
/// versions.
async fn scene<'a, L: ReadBack>(ports: (&'a L, &'a dyn Reprocessing), name: &str) -> Scene<'a, L> {
    let live = [
        ("a", 1, (1, 0)),
        ("b", 1, (2, 0)),
        ("c", 1, (30, 0)),
        ("e", 1, (5, 0)),
        ("f", 1, (6, 2)),
        ("g", 1, (7, 0)),
        ("h", 1, (8, 2)),
        ("i", 1, (9, 1)),
    ];
    let staged = [
        ("a", 1, (1, 1)),
        ("b", 2, (2, 1)),
        ("c", 2, (3, 1)),
        ("d", 2, (4, 1)),
        ("h", 2, (8, 1)),
        ("i", 2, (9, 1)),
    ];
    Scene::new(ports, name, &live, &staged, &[1, 2, 3, 4, 5, 6, 8, 9]).await
}
