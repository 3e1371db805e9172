//! A process's state of its subscription, changed together with the file.

use kappa_actors::message::Lease;
use rusqlite::{Connection, OptionalExtension};

use crate::backend::embedded::log::ranges::{Range, RangeSet};

/// The subscription, and the loans of this process.
#[derive(Debug, Default)]
pub(super) struct State {
    /// From 1; 0 before it is known.
    pub(super) epoch: i64,
    pub(super) skip_until: Option<i64>,
    pub(super) acknowledged: RangeSet,
    /// Messages that were acknowledged before a seek and have a line in the archive.
    pub(super) archived: RangeSet,
    /// Messages that are acknowledged, or were passed over, without a line.
    pub(super) unarchived: RangeSet,
    /// Messages that are not handed out: acknowledged, or on loan.
    pub(super) taken: RangeSet,
    /// Not acknowledged, and found missing from the log.
    pub(super) missing: RangeSet,
}

impl State {
    /// The offsets of the leases that no seek has made void.
    pub(super) fn current<'a>(&self, leases: &'a [Lease]) -> impl Iterator<Item = i64> + use<'a> {
        let epoch = lease(self.epoch, 0);
        leases
            .iter()
            .filter(move |lease| lease.0 >> OFFSET_BITS == epoch.0 >> OFFSET_BITS)
            .map(|&lease| offset(lease))
    }

    /// Reads the subscription if it reads this log. Loans of an unchanged epoch stay loans.
    pub(super) fn read(
        &mut self,
        connection: &Connection,
        name: &str,
        log: i64,
    ) -> rusqlite::Result<bool> {
        const SELECT: &str = "SELECT 1 FROM subscriptions WHERE name = ? AND log = ?";
        let found =
            connection.prepare_cached(SELECT)?.query_row((name, log), |_| Ok(())).optional()?;
        if found.is_some() {
            self.reread(connection, name)?;
        }
        Ok(found.is_some())
    }

    pub(super) fn reread(&mut self, connection: &Connection, name: &str) -> rusqlite::Result<()> {
        const SELECT: &str = "SELECT epoch, skip_until FROM subscriptions WHERE name = ?";
        let (epoch, skip_until) = connection
            .prepare_cached(SELECT)?
            .query_row([name], |row| Ok((row.get(0)?, row.get(1)?)))?;
        self.acknowledged = read_ranges(connection, name)?;
        self.archived = read_lines(connection, name, true)?;
        self.unarchived = read_lines(connection, name, false)?;
        if self.epoch == epoch {
            for range in self.acknowledged.iter() {
                self.taken.insert(range);
            }
        } else {
            self.taken = self.acknowledged.clone();
            self.missing = RangeSet::default();
        }
        (self.epoch, self.skip_until) = (epoch, skip_until);
        Ok(())
    }

    /// The offsets that are acknowledged, or lost and cannot be.
    pub(super) fn passed(&self) -> RangeSet {
        let mut passed = self.acknowledged.clone();
        passed.extend(&self.missing);
        passed
    }

    /// Whether any of these is neither.
    pub(super) fn waits_for(&self, these: Range) -> bool {
        self.passed().gap_from(these.first).first <= these.last
    }

    pub(super) fn acknowledge(
        &mut self,
        transaction: &Connection,
        name: &str,
        range: Range,
    ) -> rusqlite::Result<()> {
        const ABSORB: &str =
            "DELETE FROM acknowledged WHERE subscription = ? AND first > ? AND first <= ?";
        const UPSERT: &str = "INSERT INTO acknowledged VALUES (?, ?, ?) \
                              ON CONFLICT DO UPDATE SET last = excluded.last";
        self.taken.insert(range);
        let merged = self.acknowledged.insert(range);
        transaction.prepare_cached(ABSORB)?.execute((name, merged.first, merged.last))?;
        transaction.prepare_cached(UPSERT)?.execute((name, merged.first, merged.last))?;
        Ok(())
    }

    /// Records acknowledged messages without a line in the archive.
    pub(super) fn note_unarchived(
        &mut self,
        transaction: &Connection,
        name: &str,
        offsets: &RangeSet,
    ) -> rusqlite::Result<()> {
        for range in offsets.without(&self.archived).iter() {
            let merged = self.unarchived.insert(range);
            write_lines(transaction, name, false, merged)?;
        }
        self.bound_notes(transaction, name)
    }

    /// Keeps the notes of the archive small for any pattern of valid and invalid events. A dropped
    /// note only causes repeated lines after a seek.
    fn bound_notes(&mut self, transaction: &Connection, name: &str) -> rusqlite::Result<()> {
        if self.unarchived.count() > MOST_NOTES {
            // The lines of the archived events in between are repeated.
            let merged = self.unarchived.join_oldest(MOST_NOTES / 2);
            write_lines(transaction, name, false, merged)?;
        }
        if self.archived.count() > MOST_NOTES {
            let last = self.archived.drop_oldest(MOST_NOTES / 2);
            const DROP: &str =
                "DELETE FROM lines WHERE subscription = ? AND archived = 1 AND first <= ?";
            transaction.prepare_cached(DROP)?.execute((name, last))?;
        }
        Ok(())
    }

    /// Of leases that a seek made void while their lines were written: the archive has them now.
    pub(super) fn note_archived(
        &mut self,
        transaction: &Connection,
        name: &str,
        leases: &[Lease],
    ) -> rusqlite::Result<()> {
        let epoch = lease(self.epoch, 0).0 >> OFFSET_BITS;
        let void = leases.iter().filter(|lease| lease.0 >> OFFSET_BITS != epoch);
        let offsets: RangeSet = void.map(|&lease| offset(lease)).collect();
        for range in offsets.without(&self.archived).iter() {
            let merged = self.archived.insert(range);
            write_lines(transaction, name, true, merged)?;
        }
        self.bound_notes(transaction, name)
    }

    /// Begins a new epoch with these acknowledged, offset 0 among them, and nothing on loan.
    pub(super) fn restart(
        &mut self,
        transaction: &Connection,
        name: &str,
        passed_over: &RangeSet,
    ) -> rusqlite::Result<()> {
        self.epoch = transaction
            .prepare_cached(
                "UPDATE subscriptions SET epoch = epoch + 1 WHERE name = ? RETURNING epoch",
            )?
            .query_row([name], |row| row.get(0))?;
        transaction
            .prepare_cached("DELETE FROM acknowledged WHERE subscription = ?")?
            .execute([name])?;
        self.archived.extend(&self.acknowledged.without(&self.unarchived));
        (self.acknowledged, self.taken) = (RangeSet::default(), RangeSet::default());
        self.missing = RangeSet::default();
        self.unarchived = passed_over.without(&self.archived);
        transaction.prepare_cached("DELETE FROM lines WHERE subscription = ?")?.execute([name])?;
        for (has, ranges) in [(true, &self.archived), (false, &self.unarchived)] {
            ranges.iter().try_for_each(|range| write_lines(transaction, name, has, range))?;
        }
        self.bound_notes(transaction, name)?;
        passed_over.iter().try_for_each(|range| self.acknowledge(transaction, name, range))
    }
}

/// Returns the offset of a lease.
pub(super) fn offset(lease: Lease) -> i64 {
    (lease.0 & ((1 << OFFSET_BITS) - 1)).cast_signed()
}

/// The lease on one hand-out: the epoch's low 16 bits above 48 bits of offset.
pub(super) fn lease(epoch: i64, offset: i64) -> Lease {
    Lease((epoch.cast_unsigned() << OFFSET_BITS) | offset.cast_unsigned())
}

const OFFSET_BITS: u32 = 48;

/// Ranges noted of events with and without a line in the archive, each at most: below 1 MB of memory,
/// and a few milliseconds when another process has changed the file and they are read again.
pub(super) const MOST_NOTES: usize = 8_192;

/// Writes a range in the place of all ranges of its kind that begin in it.
fn write_lines(
    transaction: &Connection,
    name: &str,
    archived: bool,
    range: Range,
) -> rusqlite::Result<()> {
    const ABSORB: &str =
        "DELETE FROM lines WHERE subscription = ? AND archived = ? AND first BETWEEN ? AND ?";
    transaction.prepare_cached(ABSORB)?.execute((name, archived, range.first, range.last))?;
    transaction
        .prepare_cached("INSERT INTO lines VALUES (?, ?, ?, ?)")?
        .execute((name, archived, range.first, range.last))
        .map(drop)
}

/// Reads from the file which offsets of `name` have a line in the archive, or have none.
fn read_lines(connection: &Connection, name: &str, archived: bool) -> rusqlite::Result<RangeSet> {
    const SELECT: &str = "SELECT first, last FROM lines WHERE subscription = ? AND archived = ?";
    let mut select = connection.prepare_cached(SELECT)?;
    let rows = select.query_map((name, archived), range)?;
    rows.collect()
}

fn range(row: &rusqlite::Row<'_>) -> rusqlite::Result<Range> {
    Ok(Range { first: row.get(0)?, last: row.get(1)? })
}

/// What `name` has acknowledged.
pub(super) fn read_ranges(connection: &Connection, name: &str) -> rusqlite::Result<RangeSet> {
    const SELECT: &str = "SELECT first, last FROM acknowledged WHERE subscription = ?";
    let mut select = connection.prepare_cached(SELECT)?;
    let rows = select.query_map([name], range)?;
    rows.collect()
}
