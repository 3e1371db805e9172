//! Histograms over fixed buckets, cheap enough for every row.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Bounds of durations, in microseconds.
///
/// A commit on a local disk takes milliseconds, so buckets begin at one. Up to 30 s each bound is at
/// most 2.5 times the one before, which bounds the error of a quantile. Above, bounds are the round
/// times in which objectives are set. Rows older than a day are history that is read again.
pub(super) const DURATIONS: &[u64] = &[
    1_000,
    2_000,
    5_000,
    10_000,
    20_000,
    50_000,
    100_000,
    200_000,
    500_000,
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    20_000_000,
    30_000_000,
    60_000_000,
    120_000_000,
    300_000_000,
    600_000_000,
    1_800_000_000,
    3_600_000_000,
    21_600_000_000,
    86_400_000_000,
];

/// Bounds of row counts: from one row alone to 50,000, the largest `max_batch_rows`.
pub(super) const ROWS: &[u64] =
    &[1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000];

/// A duration as histograms count it.
pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// The longest list of bounds, and the bucket above the last bound.
const BUCKETS: usize = 24;

const _: () = assert!(DURATIONS.len() < BUCKETS && ROWS.len() < BUCKETS);

/// The counts of all buckets; those behind the bounds' end stay 0.
pub(super) type Counts = [u64; BUCKETS];

/// Counts values by bucket, for good.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [u64],
    counts: [AtomicU64; BUCKETS],
    sum: AtomicU64,
}

/// Of durations.
impl Default for Histogram {
    fn default() -> Self {
        Self::new(DURATIONS)
    }
}

impl Histogram {
    /// An empty histogram with these bounds, which must ascend.
    #[must_use]
    pub(super) fn new(bounds: &'static [u64]) -> Self {
        Self { bounds, counts: [const { AtomicU64::new(0) }; BUCKETS], sum: AtomicU64::new(0) }
    }

    /// Counts one value.
    pub fn observe(&self, value: u64) {
        let mut tally = self.tally();
        tally.observe(value, 1);
        self.add(&tally);
    }

    /// An empty tally with the same bounds.
    #[must_use]
    pub fn tally(&self) -> Tally {
        Tally { bounds: self.bounds, counts: [0; BUCKETS], sum: 0, last: 0 }
    }

    /// Adds a batch of values.
    pub fn add(&self, tally: &Tally) {
        for (count, more) in self.counts.iter().zip(tally.counts) {
            if more > 0 {
                count.fetch_add(more, Relaxed);
            }
        }
        self.sum.fetch_add(tally.sum, Relaxed);
    }

    /// The bounds of all buckets but the last, which has none.
    #[must_use]
    pub fn bounds(&self) -> &'static [u64] {
        self.bounds
    }

    /// The number of values at or below each bound, then of all values; and their sum.
    #[must_use]
    pub fn cumulative(&self) -> (Vec<u64>, u64) {
        // Read first: a value that is counted meanwhile may be in the buckets alone.
        let sum = self.sum.load(Relaxed);
        let counts = self.counts();
        let mut total = 0;
        let totals = counts[..=self.bounds.len()].iter().map(|count| {
            total += count;
            total
        });
        (totals.collect(), sum)
    }

    pub(super) fn counts(&self) -> Counts {
        std::array::from_fn(|at| self.counts[at].load(Relaxed))
    }
}

/// The values of one batch, counted by a single actor.
#[derive(Clone, Debug)]
pub struct Tally {
    bounds: &'static [u64],
    counts: Counts,
    sum: u64,
    /// The bucket of the last value: the next one is most often in it too.
    last: usize,
}

impl Tally {
    /// Counts a value `times` times.
    pub fn observe(&mut self, value: u64, times: u64) {
        let above_lower = self.last == 0 || self.bounds[self.last - 1] < value;
        if !above_lower || self.bounds.get(self.last).is_some_and(|upper| *upper < value) {
            self.last = self.bounds.partition_point(|bound| *bound < value);
        }
        self.counts[self.last] += times;
        self.sum = self.sum.saturating_add(value.saturating_mul(times));
    }
}

/// Estimates a quantile from the counts of buckets as Prometheus' `histogram_quantile` does: values
/// count as spread evenly over their bucket, and those above the last bound as equal to it. `None`
/// without values.
pub(super) fn quantile(bounds: &[u64], counts: &Counts, quantile: f64) -> Option<f64> {
    let total: u64 = counts.iter().sum();
    if total == 0 {
        return None;
    }
    let rank = quantile * total as f64;
    let mut below = 0.0;
    for (at, bound) in bounds.iter().enumerate() {
        let count = counts[at] as f64;
        if count > 0.0 && below + count >= rank {
            let lower = if at == 0 { 0.0 } else { bounds[at - 1] as f64 };
            return Some(lower + (*bound as f64 - lower) * (rank - below) / count);
        }
        below += count;
    }
    bounds.last().map(|bound| *bound as f64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Any value; often a bound, or just above one.
    fn value() -> impl Strategy<Value = u64> {
        let near = (prop::sample::select(ROWS), 0..2_u64).prop_map(|(bound, more)| bound + more);
        prop_oneof![0..200_000_u64, near]
    }

    proptest! {
        #[test]
        fn every_value_is_counted_in_its_bucket(
            values in prop::collection::vec((value(), 1..5_u64), 0..100),
        ) {
            let histogram = Histogram::new(ROWS);
            let mut tally = histogram.tally();
            values.iter().for_each(|&(value, times)| tally.observe(value, times));
            histogram.add(&tally);
            let (totals, sum) = histogram.cumulative();
            let count = |bound: u64| -> u64 {
                let below = values.iter().filter(|(value, _)| *value <= bound);
                below.map(|(_, times)| times).sum()
            };
            let expected: Vec<_> = ROWS.iter().copied().chain([u64::MAX]).map(count).collect();
            prop_assert_eq!(totals, expected);
            prop_assert_eq!(sum, values.iter().map(|(value, times)| value * times).sum::<u64>());
        }
    }

    #[test]
    fn a_quantile_lies_within_its_bucket() {
        let histogram = Histogram::new(ROWS);
        assert_eq!(quantile(ROWS, &histogram.counts(), 0.99), None);
        (1..=98).for_each(|_| histogram.observe(1));
        histogram.observe(40);
        histogram.observe(90);
        let counts = histogram.counts();
        assert_eq!(quantile(ROWS, &counts, 0.99), Some(50.0));
        assert_eq!(quantile(ROWS, &counts, 0.985), Some(35.0));
        assert_eq!(quantile(ROWS, &counts, 1.0), Some(100.0));
        histogram.observe(1_000_000);
        assert_eq!(quantile(ROWS, &histogram.counts(), 1.0), Some(50_000.0));
    }
}
