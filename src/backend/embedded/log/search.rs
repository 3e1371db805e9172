//! Finds events of `log.db` by offset and publish time. Publish times ascend within a generation
//! only, so each generation is searched by itself.

use rusqlite::{OptionalExtension, Row};

use super::events::{Events, Head};
use super::generations::Generations;
use super::ranges::{Range, RangeSet};

impl Events {
    /// The first event in `range` that is there: its offset and publish time.
    pub(super) fn first_in(&self, range: Range) -> rusqlite::Result<Option<(i64, i64)>> {
        const SELECT: &str = "SELECT offset, publish_time FROM events \
                              WHERE offset BETWEEN ? AND ? ORDER BY offset LIMIT 1";
        let mut select = self.connection.prepare_cached(SELECT)?;
        let row = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
        select.query_row((range.first, range.last), row).optional()
    }

    /// The lowest offset above `above` that a seek to the time `to` does not pass over: the first one
    /// published at `to` or later, or in a later generation than the event at `above`; one more than
    /// the last offset when there is none yet. Nothing above `above` may have been removed.
    pub(super) fn first_published_at(
        &self,
        to: i64,
        above: i64,
        head: &Head,
    ) -> rusqlite::Result<i64> {
        let range = Range { first: above + 1, last: head.last_offset };
        let generations = self.generations()?;
        // Offset 0, where a subscription of a new log is, belongs to the first generation.
        let sought_in = generations.number_of(above.max(1));
        for part in generations.parts(range) {
            // The time was one of another clock.
            if generations.number_of(part.first) > sought_in {
                return Ok(part.first);
            }
            let first = self.first_of_part(to, part)?;
            if first <= part.last {
                return Ok(first);
            }
        }
        Ok(head.last_offset + 1)
    }

    /// The offsets that a seek to the time `to` passes over: their events were published before it
    /// or removed by retention.
    ///
    /// A time that only an earlier generation has reached, as after a clock that was ahead, means
    /// the events of that generation. The later generations come whole: they follow these events.
    pub(super) fn published_before(&self, to: i64, head: &Head) -> rusqlite::Result<RangeSet> {
        // Some that are not acknowledged may be left below the last one removed.
        const LEFT: &str = "SELECT offset, publish_time FROM events WHERE offset <= ?";
        let generations = self.generations()?;
        let mut select = self.connection.prepare_cached(LEFT)?;
        let left = select.query_map([head.removed_offset], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let left: Vec<(i64, i64)> = left.collect::<rusqlite::Result<_>>()?;
        // The events at `to` or later, the first of each generation at least.
        let mut reached: Vec<_> =
            left.iter().filter(|(_, time)| *time >= to).map(|&(offset, _)| offset).collect();
        let range = Range { first: head.removed_offset + 1, last: head.last_offset };
        let (mut earlier, mut newest_reaches) = (Vec::new(), false);
        for part in generations.parts(range) {
            let first = self.first_of_part(to, part)?;
            newest_reaches = first <= part.last;
            reached.extend(newest_reaches.then_some(first));
            if part.first < first {
                earlier.push(Range { first: part.first, last: first - 1 });
            }
        }
        let reached_in = reached.iter().map(|&offset| generations.number_of(offset)).min();
        let follows = |offset| {
            let reached_in = reached_in.filter(|_| !newest_reaches);
            reached_in.is_some_and(|number| generations.number_of(offset) > number)
        };
        let mut before: RangeSet =
            [Range { first: 0, last: head.removed_offset }].into_iter().collect();
        for (offset, time) in left {
            if time >= to || follows(offset) {
                before.remove(offset);
            }
        }
        for part in earlier.into_iter().filter(|part| !follows(part.first)) {
            before.insert(part);
        }
        Ok(before)
    }

    /// The earliest publish time of the events that are not in `set`.
    pub(super) fn oldest_outside(
        &self,
        set: &RangeSet,
        head: &Head,
        generations: &Generations,
    ) -> rusqlite::Result<Option<i64>> {
        let mut oldest = None;
        for part in generations.parts(Range { first: 1, last: head.last_offset }) {
            let mut gap = set.gap_from(part.first);
            while gap.first <= part.last {
                let within = Range { first: gap.first, last: gap.last.min(part.last) };
                if let Some((_, time)) = self.first_in(within)? {
                    oldest = Some(oldest.map_or(time, |oldest: i64| oldest.min(time)));
                    break; // within a generation, the first is the oldest
                }
                gap = set.gap_from(within.last + 1);
            }
        }
        Ok(oldest)
    }

    /// The lowest offset of `part`, whose events are of one generation, published at `to` or later;
    /// one more than its last when there is none. A hole belongs to the event behind it.
    fn first_of_part(&self, to: i64, part: Range) -> rusqlite::Result<i64> {
        let (mut low, mut high) = (part.first, part.last + 1);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.first_in(Range { first: middle, last: high - 1 })? {
                Some((offset, time)) if time < to => low = offset + 1,
                // Nothing from the middle on, or all of it is later: look before it.
                Some(_) | None => high = middle,
            }
        }
        let found = self.first_in(Range { first: low, last: part.last })?;
        Ok(found.map_or(part.last + 1, |(offset, _)| offset))
    }

    /// The lost events that may have been published before `to`: of a range, all, unless the event in
    /// front of it, of its generation, was not.
    pub(super) fn lost_before(&self, lost: &RangeSet, to: i64) -> rusqlite::Result<RangeSet> {
        const SELECT: &str = "SELECT publish_time FROM events WHERE offset BETWEEN ? AND ? \
                              ORDER BY offset DESC LIMIT 1";
        let generations = self.generations()?;
        let mut select = self.connection.prepare_cached(SELECT)?;
        let mut before = RangeSet::default();
        for range in lost.iter() {
            let mut is_later = to < i64::MAX && generations.number_of(range.first) > 0;
            for part in generations.parts(range) {
                let first = generations.first_of(part.first);
                let front = select.query_row((first, part.first - 1), |row| row.get::<_, i64>(0));
                is_later &= front.optional()?.is_some_and(|time| time >= to);
            }
            if !is_later {
                before.insert(range);
            }
        }
        Ok(before)
    }

    /// The ranges of offsets that retention has not removed and that are not there.
    pub(super) fn holes(&self, head: &Head) -> rusqlite::Result<Vec<Range>> {
        const COUNT: &str = "SELECT count(*) FROM events WHERE offset BETWEEN ? AND ?";
        const OFFSETS: &str =
            "SELECT offset FROM events WHERE offset BETWEEN ? AND ? ORDER BY offset";
        let (first, last) = (head.removed_offset + 1, head.last_offset);
        let count: i64 = self.connection.query_row(COUNT, (first, last), |row| row.get(0))?;
        if count == last - head.removed_offset {
            return Ok(Vec::new());
        }
        let (mut holes, mut next) = (Vec::new(), first);
        let mut select = self.connection.prepare_cached(OFFSETS)?;
        let mut rows = select.query((first, last))?;
        while let Some(row) = rows.next()? {
            let offset: i64 = row.get(0)?;
            if offset > next {
                holes.push(Range { first: next, last: offset - 1 });
            }
            next = offset + 1;
        }
        if next <= last {
            holes.push(Range { first: next, last });
        }
        Ok(holes)
    }
}
