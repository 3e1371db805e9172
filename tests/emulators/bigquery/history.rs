//! What reprocessing and an audit ask, by SQL that another engine understands in the same way.

use kappa::backend::bigquery::{BigQueryStaging, BigQueryWarehouse};
use kappa_actors::testing::{auditable, reprocessing};

use super::*;

fn staging(it: &Emulated) -> BigQueryStaging {
    BigQueryStaging::beside(BigQueryWarehouse::connect(it.options.clone(), None).unwrap())
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
