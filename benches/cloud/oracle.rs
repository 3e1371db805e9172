//! Nothing may be lost or doubled: a fast daemon that loses rows is no use.

use std::collections::HashMap;
use std::time::Duration;

use super::publisher::Publisher;
use super::services::Services;

/// From publishing to the row, for every valid event.
///
/// # Panics
/// When an event has no row, or more than one, or a row no event.
pub fn latencies(services: &mut Services, published: &Publisher) -> Vec<Duration> {
    let rows = services.rows();
    assert_eq!(services.ask("violations"), "", "requests that the service would refuse");
    let mut seen: HashMap<&str, u128> = HashMap::with_capacity(rows.len());
    for (key, at) in &rows {
        assert_eq!(seen.insert(key, *at), None, "two rows of {key}");
    }
    let latencies = published.valid.iter().map(|(id, at)| {
        let row = seen.remove(id.as_str());
        let visible = row.unwrap_or_else(|| panic!("no row of {id}"));
        Duration::from_micros(u64::try_from(visible.saturating_sub(*at)).unwrap())
    });
    let latencies = latencies.collect();
    assert!(seen.is_empty(), "{} rows of no event", seen.len());
    latencies
}
