//! Checks of whose a staging table is, and whether it fits.

use super::{COLUMNS, Integer, ReadBack, Reprocessing, Scene, Text, all, how, read_row, spec};
use crate::port::{MergeOptions, ReprocessError};

/// In an incomplete replay, later rows look like removed ones.
pub async fn half_a_replay_is_not_merged_and_misses_nothing(
    live: &impl ReadBack,
    staging: &dyn Reprocessing,
) {
    let ports = (live, staging);
    let scene = Scene::of(ports, spec("half", &COLUMNS, 1), all(&[("a", 1, (1, 0))])).await;
    scene.stage("r_half", vec![], &[1]).await;
    assert_eq!(scene.diff().await.missing, None);
    for dry_run in [false, true] {
        let options = MergeOptions { remove_missing: true, dry_run };
        let merged = staging.merge(&scene.table, &how(), options).await;
        assert!(matches!(merged, Err(ReprocessError::Taken(_))), "{merged:?}");
    }
    assert_eq!(scene.rows().await.len(), 1);
}

/// It is resumed by its own replay only, and not after that has ended.
pub async fn a_staging_table_belongs_to_one_replay(
    live: &impl ReadBack,
    staging: &dyn Reprocessing,
) {
    let (name, table) = ("owned", spec("owned", &COLUMNS, 1));
    let scene = Scene { live, staging, table };
    let absent = staging.diff(&scene.table, &how()).await;
    assert!(matches!(absent, Err(ReprocessError::NotStaged(_))), "{absent:?}");
    assert_eq!(staging.staged(name).await.expect("an answer"), None);
    scene.stage("r1", all(&[("a", 1, (1, 0))]), &[]).await;
    staging.stage(&scene.table, "r1", 1).await.expect("resumed");
    let staged = staging.staged(name).await.expect("an answer").expect("it stands");
    assert_eq!((staged.rows, staged.replay.as_str()), (1, "r1"), "resumed, not emptied");
    assert_eq!((staged.completed, staged.revision), (None, 1));
    let other = staging.stage(&scene.table, "r2", 1).await;
    assert!(matches!(&other, Err(ReprocessError::Taken(says)) if says.contains("r1")), "{other:?}");
    let other = staging.complete(name, "r2").await;
    assert!(matches!(other, Err(ReprocessError::NotStaged(_))), "{other:?}");
    scene.complete("r1").await;
    let staged = staging.staged(name).await.expect("an answer").expect("it stands");
    assert!(staged.completed.is_some_and(|at| at >= staged.began), "{staged:?}");
    scene.complete("r1").await;
    let again = staging.staged(name).await.expect("an answer").expect("it stands");
    assert_eq!(again, staged, "the first end counts");
    let ended = staging.stage(&scene.table, "r1", 1).await;
    assert!(matches!(ended, Err(ReprocessError::Taken(_))), "{ended:?}");
    // Left from an earlier replay.
    let other = staging.stage(&scene.table, "r2", 1).await;
    assert!(matches!(&other, Err(ReprocessError::Taken(says)) if says.contains("r1")), "{other:?}");
    scene.drop().await;
    assert!(!staging.drop_staging(name).await.expect("an answer"), "once is enough");
    scene.stage("r2", vec![], &[]).await;
    assert_eq!(staging.staged(name).await.expect("an answer").expect("it stands").rows, 0);
}

/// If two begin at the same moment, one gets an error that names the other.
pub async fn two_replays_at_once_do_not_share_a_staging_table(
    live: &impl ReadBack,
    staging: &dyn Reprocessing,
) {
    let scene = Scene { live, staging, table: spec("contended", &COLUMNS, 1) };
    let both = futures::join!(
        staging.stage(&scene.table, "r_first", 1),
        staging.stage(&scene.table, "r_second", 1)
    );
    assert!(
        matches!(
            &both,
            (Ok(_), Err(ReprocessError::Taken(_))) | (Err(ReprocessError::Taken(_)), Ok(_))
        ),
        "{both:?}"
    );
}

/// Neither a staging table of another shape than configured nor a live one is touched.
pub async fn a_column_of_another_type_is_a_mismatch_and_changes_nothing(
    live: &impl ReadBack,
    staging: &dyn Reprocessing,
) {
    let rows = all(&[("a", 1, (1, 0))]);
    let mut scene = Scene::of((live, staging), spec("retyped", &COLUMNS, 1), rows.clone()).await;
    scene.stage("r_retyped", all(&[("a", 2, (2, 0))]), &[]).await;
    let mut columns = COLUMNS;
    columns[1].1 = Text;
    let retyped = spec("retyped", &columns, 1);
    let diff = staging.diff(&retyped, &how()).await;
    let told = |says: &str| says.contains("count");
    assert!(matches!(&diff, Err(ReprocessError::Mismatch(says)) if told(says)), "{diff:?}");
    // A resumed replay cannot go on in it.
    let resumed = staging.stage(&retyped, "r_retyped", 1).await;
    assert!(matches!(&resumed, Err(ReprocessError::Mismatch(_))), "{resumed:?}");
    let wider = [COLUMNS[0], COLUMNS[1], COLUMNS[2], ("note", Integer), COLUMNS[3]];
    let resumed = staging.stage(&spec("retyped", &wider, 1), "r_retyped", 1).await;
    assert!(matches!(&resumed, Err(ReprocessError::Mismatch(_))), "{resumed:?}");
    // Staged again: now the live table has the other type.
    scene.drop().await;
    let live_table = std::mem::replace(&mut scene.table, retyped);
    scene.stage("r_retyped_2", vec![], &[]).await;
    scene.complete("r_retyped_2").await;
    for dry_run in [true, false] {
        let options = MergeOptions { remove_missing: false, dry_run };
        let merged = staging.merge(&scene.table, &how(), options).await;
        assert!(matches!(&merged, Err(ReprocessError::Mismatch(says)) if told(says)), "{merged:?}");
    }
    let after: Vec<_> = live.read_back(&live_table).await.iter().map(read_row).collect();
    assert_eq!(after, rows.iter().map(read_row).collect::<Vec<_>>());
}

/// Without a key, rows of both sides cannot be matched.
pub async fn a_table_without_a_key_is_not_staged(_: &impl ReadBack, staging: &dyn Reprocessing) {
    for columns in [&COLUMNS[..], &COLUMNS[..3]] {
        let keyed = usize::from(columns.len() < COLUMNS.len());
        let staged = staging.stage(&spec("unkeyed", columns, keyed), "r_unkeyed", 1).await;
        assert!(matches!(&staged, Err(ReprocessError::Mismatch(_))), "{staged:?}");
    }
    assert_eq!(staging.staged("unkeyed").await.expect("an answer"), None);
}
