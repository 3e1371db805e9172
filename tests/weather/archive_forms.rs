//! Every line format of the archive returns the published payloads.

use crate::any_event::odd_but_valid;
use crate::support::{Oracle, Publisher, Scene, generated};

#[test]
fn all_line_formats_and_all_compressions_give_back_the_published_events() {
    for format in ["annotated", "envelope", "payload"] {
        for compression in ["none", "gzip", "zstd"] {
            let scene = Scene::new(&format!(
                "archive = {{ format = '{format}', compression = '{compression}' }}\n\
                 actors.archive_window.flush_bytes = 20_000"
            ));
            let publisher = Publisher::open(&scene.data_dir());
            let mut oracle = Oracle::default();
            oracle.publish(&publisher, generated(70).take(500), 100);
            oracle.publish(&publisher, odd_but_valid(), 100);
            scene.run_until_idle();
            oracle.publish(&publisher, generated(71).take(500), 100);
            scene.run_until_idle();
            oracle.check(&scene);
            let endings = ["jsonl", "gz", "zst"].map(|ending| scene.archived_as(ending) > 0);
            let expected = ["none", "gzip", "zstd"].map(|one| one == compression);
            assert_eq!(endings, expected, "the endings for {compression}");
        }
    }
}
