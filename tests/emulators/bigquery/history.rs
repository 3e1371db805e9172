//! What reprocessing and an audit ask, by SQL that another engine understands in the same way.

use kappa::backend::bigquery::{BigQueryStaging, BigQueryWarehouse};
use kappa_actors::port::{
    Comparison, Diff, MergeOptions, Merged, ReprocessError, Reprocessing as _, Scope,
};
use kappa_actors::testing::{auditable, reprocessing};

use kappa_actors::position::Position;
use kappa_actors::testing::warehouse::{read_row, version};
use kappa_actors::time::Timestamp;

use super::*;

const COLUMNS: [(&str, ColumnType); 3] =
    [("id", ColumnType::String), ("count", ColumnType::Integer), ("_version", ColumnType::Bytes)];

/// A row of the message of this time, in microseconds.
fn made(id: &str, count: i64, micros: i64) -> Row {
    row([text(id), Value::Integer(count), version(micros)])
}

fn replayed(micros: i64) -> Row {
    let position = Position::of("1", Timestamp::from_micros(micros), 0);
    row([Value::Bytes(Box::new(position.to_bytes().to_vec().into()))])
}

fn staging(it: &Emulated) -> BigQueryStaging {
    BigQueryStaging::beside(BigQueryWarehouse::connect(it.options.clone(), None).unwrap())
}

/// Examples are kept by an aggregation that the emulator does not parse.
fn how() -> Comparison {
    let scope = Scope { revision: 0 };
    Comparison { passed_over: vec![], scope: Some(scope), examples: 0 }
}

#[tokio::test]
async fn a_replay_is_compared_and_merged_in_one_statement() {
    shows(async |it| {
        let spec = table("replayed", &COLUMNS, 1);
        it.ensure_table(&spec).await.unwrap();
        let live = [("same", 1, 1), ("wrong", 1, 1), ("newer", 1, 101), ("gone", 1, 2)];
        let live = live.map(|(id, count, micros)| made(id, count, micros));
        assert_eq!(it.write(&spec, Arc::new(live.to_vec())).await.unwrap(), []);
        let staging = staging(it);
        let staged = staging.stage(&spec, "r").await.unwrap();
        let to = staging.warehouse();
        let rows = [("same", 1, 5), ("wrong", 2, 5), ("newer", 2, 5), ("new", 2, 5)];
        let rows = rows.map(|(id, count, micros)| made(id, count, micros));
        assert_eq!(to.write(&staged.rows, Arc::new(rows.to_vec())).await.unwrap(), []);
        let events = [1, 2, 5].map(replayed);
        assert_eq!(to.write(&staged.events, Arc::new(events.to_vec())).await.unwrap(), []);

        let all = MergeOptions { remove_missing: true, dry_run: false };
        let early = staging.merge(&spec, &how(), all).await.unwrap_err();
        assert!(matches!(early, ReprocessError::Taken(_)), "{early}");
        staging.complete("replayed", "r").await.unwrap();
        let Diff { added, missing, changed, older, same, .. } =
            staging.diff(&spec, &how()).await.unwrap();
        assert_eq!((added, missing, changed, older, same), (1, Some(1), 1, 1, 1));
        it.drop_view("replayed").await;
        let merged = staging.merge(&spec, &how(), all).await.unwrap();
        let (inserted, replaced, unchanged, kept, removed) = (1, 1, 1, 1, 1);
        let expected = Merged { inserted, replaced, unchanged, kept, removed, may_hide: 0 };
        assert_eq!(merged, expected);
        let mut rows = it.read_back(&spec).await;
        rows.sort_by_key(|row| format!("{row:?}"));
        let expected =
            [made("new", 2, 5), made("newer", 1, 101), made("same", 1, 5), made("wrong", 2, 5)];
        assert_eq!(rows, expected.map(|row| read_row(&row)));
        assert!(staging.drop_staging("replayed").await.unwrap());
        assert!(staging.staged("replayed").await.unwrap().is_none());
        to.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_staging_table_belongs_to_one_replay() {
    shows(async |it| {
        let staging = staging(it);
        reprocessing::a_staging_table_belongs_to_one_replay(it, &staging).await;
        reprocessing::two_replays_at_once_do_not_share_a_staging_table(it, &staging).await;
        reprocessing::a_table_without_a_key_is_not_staged(it, &staging).await;
    })
    .await;
}

#[tokio::test]
async fn a_column_of_another_type_is_a_mismatch_and_changes_nothing() {
    shows(async |it| {
        let staging = staging(it);
        reprocessing::a_column_of_another_type_is_a_mismatch_and_changes_nothing(it, &staging)
            .await;
    })
    .await;
}

#[tokio::test]
async fn an_audit_counts_each_key_in_its_place() {
    shows(async |it| {
        auditable::each_key_is_counted_in_its_place(it, &it.dataset.warehouse).await;
    })
    .await;
}

#[tokio::test]
async fn an_audit_finds_keys_of_every_type() {
    shows(async |it| {
        auditable::keys_of_every_type_are_found(it, &it.dataset.warehouse).await;
    })
    .await;
}

#[tokio::test]
async fn an_audit_counts_many_keys_in_one_call() {
    shows(async |it| {
        auditable::many_keys_are_counted_in_one_call(it, &it.dataset.warehouse).await;
    })
    .await;
}
