//! Where a schedule is played: a log, a warehouse and an archive with their daemons.

use super::model::{Key, Letter, Message, Row};
use super::project::Project;
use super::rules::{Rules, Table};

pub(crate) trait Place {
    fn project(&self) -> &Project;

    /// Publishes batches, each in one commit, so that their messages share a publish time.
    fn publish(&mut self, rules: &Rules, batches: &[Vec<String>]);

    /// Whether a replay can read the log, and not only the archive, within the time of a test.
    fn replays_log(&self) -> bool {
        true
    }

    /// The messages of the log above an offset, in the order of their offsets.
    fn messages(&self, above: i64) -> Vec<Message>;

    /// Works off everything that is not acknowledged.
    fn run(&mut self, rules: &Rules);

    /// Runs until `events` more are acknowledged or nothing is left to do, and kills a daemon then.
    fn kill(&mut self, rules: &Rules, events: u64);

    /// Works off everything by a daemon that was started before the rules changed: the notes of rules
    /// do not concern it any more.
    fn run_older(&mut self, rules: &Rules);

    /// The open letters of live runs.
    fn letters(&self) -> Vec<Letter>;

    /// Reads the rows of a table in the order of their keys, each with the time of its processing
    /// where an equal version must not be written again.
    fn read(&self, table: &Table, row_of: &mut dyn FnMut(Key, Row, Option<&str>));
}
