//! A set of offsets kept as ranges: neighbours always coalesce, so its size is the number of its
//! gaps, however many offsets it holds.

use std::collections::BTreeMap;

/// Offsets from `first` to `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) first: i64,
    pub(super) last: i64,
}

/// A set of offsets, from 0 on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RangeSet {
    /// First to last of each range; no two touch.
    ranges: BTreeMap<i64, i64>,
}

impl RangeSet {
    /// Adds a range, and returns the range it is part of now.
    pub(super) fn insert(&mut self, added: Range) -> Range {
        let mut merged = added;
        // From the back: every range that begins inside `added`, right behind it, or before it and
        // reaches it.
        while let Some((&first, &last)) =
            self.ranges.range(..=added.last.saturating_add(1)).next_back()
            && last >= added.first - 1
        {
            merged = Range { first: merged.first.min(first), last: merged.last.max(last) };
            self.ranges.remove(&first);
        }
        self.ranges.insert(merged.first, merged.last);
        merged
    }

    /// Takes one offset out.
    pub(super) fn remove(&mut self, offset: i64) {
        let Some((&first, &last)) = self.ranges.range(..=offset).next_back() else { return };
        if offset > last {
            return;
        }
        self.ranges.remove(&first);
        if first < offset {
            self.ranges.insert(first, offset - 1);
        }
        if offset < last {
            self.ranges.insert(offset + 1, last);
        }
    }

    /// Whether it holds `offset`.
    pub(super) fn contains(&self, offset: i64) -> bool {
        self.ranges.range(..=offset).next_back().is_some_and(|(_, &last)| offset <= last)
    }

    /// Adds all of `others`.
    pub(super) fn extend(&mut self, others: &Self) {
        for range in others.iter() {
            self.insert(range);
        }
    }

    /// Returns the members that are not in `others`.
    pub(super) fn without(&self, others: &Self) -> Self {
        let mut rest = Self::default();
        for Range { mut first, last } in self.iter() {
            // The one that reaches into this range from before it, and those that begin inside.
            let before = others.ranges.range(..first).next_back();
            for (&taken, &until) in before.into_iter().chain(others.ranges.range(first..=last)) {
                if first < taken {
                    rest.insert(Range { first, last: taken - 1 });
                }
                first = first.max(until + 1);
            }
            if first <= last {
                rest.insert(Range { first, last });
            }
        }
        rest
    }

    /// How many ranges it has.
    pub(super) fn count(&self) -> usize {
        self.ranges.len()
    }

    /// Makes one range of all but the newest `keep` ranges, the offsets between them included, and
    /// returns it. There are more than `keep` ranges.
    pub(super) fn join_oldest(&mut self, keep: usize) -> Range {
        let first = self.ranges.first_key_value().map_or(0, |(&first, _)| first);
        let last = self.drop_oldest(keep);
        self.insert(Range { first, last })
    }

    /// Drops all but the newest `keep` ranges; returns the last offset that was dropped.
    pub(super) fn drop_oldest(&mut self, keep: usize) -> i64 {
        let mut last = -1;
        while self.ranges.len() > keep
            && let Some((_, end)) = self.ranges.pop_first()
        {
            last = end;
        }
        last
    }

    /// How many offsets it holds.
    pub(super) fn len(&self) -> i64 {
        self.ranges.iter().map(|(first, last)| last - first + 1).sum()
    }

    /// The highest offset it holds; -1 when it holds none.
    pub(super) fn last(&self) -> i64 {
        self.ranges.last_key_value().map_or(-1, |(_, &last)| last)
    }

    /// The lowest offsets it lacks. The last such gap has no end: it reaches to `i64::MAX`.
    pub(super) fn first_gap(&self) -> Range {
        self.gap_from(0)
    }

    /// The lowest offsets from `offset` on that it lacks.
    pub(super) fn gap_from(&self, offset: i64) -> Range {
        let first = match self.ranges.range(..=offset).next_back() {
            Some((_, &last)) if last >= offset => last + 1,
            _ => offset,
        };
        let last = self.ranges.range(first..).next().map_or(i64::MAX, |(&next, _)| next - 1);
        Range { first, last }
    }

    /// Its ranges, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = Range> + '_ {
        self.ranges.iter().map(|(&first, &last)| Range { first, last })
    }
}

impl FromIterator<i64> for RangeSet {
    fn from_iter<I: IntoIterator<Item = i64>>(offsets: I) -> Self {
        let mut set = Self::default();
        let mut open: Option<Range> = None;
        for offset in offsets {
            match &mut open {
                Some(range) if offset == range.last + 1 => range.last = offset,
                _ => {
                    if let Some(closed) = open.replace(Range { first: offset, last: offset }) {
                        set.insert(closed);
                    }
                }
            }
        }
        if let Some(closed) = open {
            set.insert(closed);
        }
        set
    }
}

impl FromIterator<Range> for RangeSet {
    fn from_iter<I: IntoIterator<Item = Range>>(ranges: I) -> Self {
        let mut set = Self::default();
        for range in ranges {
            set.insert(range);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ranges_have_the_members_of_a_plain_set(
            steps in prop::collection::vec((any::<bool>(), 0..60_i64, 0..6_i64), 0..60),
        ) {
            let (mut ranges, mut plain) = (RangeSet::default(), BTreeSet::new());
            for (adds, first, more) in steps {
                if adds {
                    let merged = ranges.insert(Range { first, last: first + more });
                    plain.extend(first..=first + more);
                    prop_assert!((merged.first..=merged.last).all(|offset| plain.contains(&offset)));
                    prop_assert!(!plain.contains(&(merged.last + 1)));
                    prop_assert!(!plain.contains(&(merged.first - 1)));
                } else {
                    ranges.remove(first);
                    plain.remove(&first);
                }
                let later = ranges.gap_from(first);
                prop_assert_eq!(later.first, (first..).find(|it| !plain.contains(it)).unwrap());
                let gap = ranges.first_gap();
                prop_assert_eq!(gap.first, (0..).find(|offset| !plain.contains(offset)).unwrap());
                prop_assert_eq!(
                    gap.last,
                    plain.range(gap.first..).next().map_or(i64::MAX, |next| next - 1)
                );
                prop_assert_eq!(ranges.len(), i64::try_from(plain.len()).unwrap());
                prop_assert_eq!(ranges.last(), plain.last().copied().unwrap_or(-1));
                prop_assert_eq!(ranges.clone(), plain.iter().copied().collect::<RangeSet>());
                prop_assert!((0..70).all(|offset| ranges.contains(offset) == plain.contains(&offset)));
            }
        }

        #[test]
        fn ranges_are_joined_and_subtracted_as_plain_sets_are(
            one in prop::collection::btree_set(0..40_i64, 0..30),
            other in prop::collection::btree_set(0..40_i64, 0..30),
        ) {
            let [mut left, right] = [&one, &other].map(|set| set.iter().copied().collect::<RangeSet>());
            prop_assert_eq!(left.without(&right), one.difference(&other).copied().collect());
            left.extend(&right);
            prop_assert_eq!(left, one.union(&other).copied().collect());
        }
    }

    #[test]
    fn offsets_in_any_order_coalesce() {
        let set: RangeSet = [5, 3, 4, 9, 1, 2].into_iter().collect();
        let ranges: Vec<_> = set.iter().collect();
        assert_eq!(ranges, [Range { first: 1, last: 5 }, Range { first: 9, last: 9 }]);
    }
}
