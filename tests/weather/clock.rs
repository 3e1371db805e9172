//! A clock that steps back does not disturb the flow.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::Connection;

use crate::support::{Oracle, Publisher, Scene, generated};

#[test]
fn after_a_step_back_of_the_clock_publish_times_do_not_decrease_and_events_flow() {
    let scene = Scene::new("actors.archive_window.grace = '1s'");
    let mut oracle = Oracle::default();
    oracle.publish(&Publisher::open(&scene.data_dir()), generated(60).take(300), 100);
    // As if the last event had been published an hour from now, before the clock stepped back.
    let log = Connection::open(scene.data_dir().join("log.db")).unwrap();
    let ahead = SystemTime::now() + Duration::from_secs(3_600);
    let ahead = i64::try_from(ahead.duration_since(UNIX_EPOCH).unwrap().as_micros()).unwrap();
    log.execute("UPDATE log SET last_time = ?", [ahead]).unwrap();
    log.execute("UPDATE events SET publish_time = ? WHERE offset = 300", [ahead]).unwrap();
    let daemon = scene.start();
    oracle.publish(&Publisher::open(&scene.data_dir()), generated(61).take(300), 100);
    daemon.await_acknowledged(oracle.events());
    daemon.stop();
    oracle.check(&scene);
    let earliest: i64 = log
        .query_row("SELECT min(publish_time) FROM events WHERE offset >= 300", (), |row| row.get(0))
        .unwrap();
    assert_eq!(earliest, ahead, "a later event was published earlier");
}
