//! Finds hangs: calls without an answer, and actors that take no message.
//!
//! A hang degrades the daemon, then ends the actor's life so that its supervisor starts another, and
//! at last ends the process. Time counts only while the watchdog itself runs: a suspended machine or a
//! stopped process makes no stall.
//!
//! Some waits are no hang. A sink that fails and is tried again answers every call. A processor that
//! waits for memory notes it ([`Vitals::waits`]). A call that waits for another of its actor
//! does not age.

use std::collections::BTreeMap;
use std::time::Duration;

use super::actor::{Trouble, Vitals};
use super::board::Board;
use super::calls::Silence;
use crate::settings::WatchdogSettings;
use crate::time::Timestamp;

/// Looks at the board once a second.
#[derive(Debug)]
pub(crate) struct Watchdog {
    settings: WatchdogSettings,
    /// The actors with messages, and how long each took none.
    still: BTreeMap<String, Still>,
    /// What hangs, by its name on the board.
    stalls: BTreeMap<String, Stall>,
}

/// The reason to end the process.
#[derive(Debug)]
pub(crate) struct Fatal {
    pub(crate) reason: String,
    /// An actor cannot be ended: it computes without an end. An event may cause that.
    pub(crate) is_endless: bool,
}

/// An actor whose mailbox is not empty.
#[derive(Debug)]
struct Still {
    progress: u64,
    lasting: Duration,
}

/// Something that hangs, across the lives of its actor.
#[derive(Debug, Default)]
struct Stall {
    lasting: Duration,
    since_restart: Duration,
    /// The progress at the last restart, if there was one.
    restarted_at: Option<u64>,
    /// How long it has not hung.
    calm: Duration,
}

/// The finding of one look at one caller.
#[derive(Debug)]
struct Hang {
    reason: String,
    lasting: Duration,
    /// It hangs at this moment. Otherwise it is only not known to work again.
    now: bool,
}

impl Watchdog {
    pub(crate) fn new(settings: &WatchdogSettings) -> Self {
        Self { settings: settings.clone(), still: BTreeMap::new(), stalls: BTreeMap::new() }
    }

    /// Adds `step` to the time that everything on the board hangs, and acts on it.
    ///
    /// # Errors
    /// The reason to end the process.
    pub(crate) fn look(&mut self, board: &Board, step: Duration) -> Result<(), Fatal> {
        let mut fatal = Ok(());
        let actors = board.entries();
        let others = board.callers();
        self.still.retain(|path, _| actors.iter().any(|vitals| vitals.path() == path));
        self.stalls.retain(|source, _| {
            others.iter().any(|(what, _)| what == source)
                || actors.iter().any(|vitals| vitals.path() == source)
        });
        for vitals in actors {
            let silence = vitals.calls().count(step);
            let progress = vitals.taken() + silence.answered;
            let hang = match self.unanswered(&silence) {
                Some(hang) => Some(hang),
                None => self.standing_still(&vitals, progress, silence.is_waiting, step),
            };
            let stall = self.follow(vitals.path(), hang.as_ref(), progress, step);
            let shown = stall.map(|(reason, since)| trouble(board, reason, since));
            vitals.set_stall(shown);
            // A call that blocks its thread is the backend's fault, and no event's.
            let is_endless = vitals.is_ending() && !silence.is_waiting;
            if let Some(reason) = self.restart_due(vitals.path(), hang.as_ref(), progress) {
                vitals.end_life(reason);
            }
            fatal = fatal.and(self.exit_due(vitals.path(), hang.as_ref(), is_endless));
        }
        for (what, calls) in others {
            let silence = calls.count(step);
            let hang = self.unanswered(&silence);
            match self.follow(what, hang.as_ref(), silence.answered, step) {
                Some((reason, since)) => board.stall(what, trouble(board, reason, since)),
                None => board.stall_over(what),
            }
            fatal = fatal.and(self.exit_due(what, hang.as_ref(), false));
        }
        fatal
    }

    /// A call that has no answer for too long.
    fn unanswered(&self, silence: &Silence) -> Option<Hang> {
        let Silence { call, lasting, is_waiting, .. } = *silence;
        (lasting >= self.settings.degraded_after).then(|| Hang {
            reason: format!("{call} has no answer for {}", shown(lasting)),
            lasting,
            now: is_waiting,
        })
    }

    /// An actor that takes none of its messages for too long.
    fn standing_still(
        &mut self,
        vitals: &Vitals,
        progress: u64,
        is_calling: bool,
        step: Duration,
    ) -> Option<Hang> {
        let waiting = vitals.mailbox();
        if waiting == 0 || is_calling || vitals.is_waiting() {
            self.still.remove(vitals.path());
            return None;
        }
        let before = self.still.get(vitals.path()).filter(|still| still.progress == progress);
        let lasting = before.map_or(Duration::ZERO, |still| still.lasting + step);
        self.still.insert(vitals.path().to_owned(), Still { progress, lasting });
        (lasting >= self.settings.degraded_after).then(|| Hang {
            reason: format!("no message was taken for {}, and {waiting} wait", shown(lasting)),
            lasting,
            now: true,
        })
    }

    /// Notes whether `source` hangs. The reason to be shown, and since when, until it is over: at
    /// once if it was not restarted, else as soon as the new life has done anything.
    fn follow(
        &mut self,
        source: &str,
        hang: Option<&Hang>,
        progress: u64,
        step: Duration,
    ) -> Option<(String, Duration)> {
        if let Some(hang) = hang {
            let stall = self.stalls.entry(source.to_owned()).or_insert_with(|| Stall {
                lasting: hang.lasting.saturating_sub(step),
                since_restart: hang.lasting.saturating_sub(step),
                ..Stall::default()
            });
            stall.lasting += step;
            stall.since_restart += step;
            stall.calm = Duration::ZERO;
            return Some((hang.reason.clone(), stall.lasting));
        }
        let stall = self.stalls.get_mut(source)?;
        stall.lasting += step;
        stall.since_restart += step;
        stall.calm += step;
        let works = stall.restarted_at.is_none_or(|before| before != progress);
        if works || stall.calm >= self.settings.degraded_after {
            self.stalls.remove(source);
            return None;
        }
        Some(("it hung, was restarted and has done nothing since".to_owned(), stall.lasting))
    }

    fn restart_due(&mut self, source: &str, hang: Option<&Hang>, progress: u64) -> Option<String> {
        let hang = hang.filter(|hang| hang.now)?;
        let stall = self.stalls.get_mut(source)?;
        if stall.since_restart < self.settings.restart_after {
            return None;
        }
        stall.since_restart = Duration::ZERO;
        stall.restarted_at = Some(progress);
        Some(hang.reason.clone())
    }

    fn exit_due(&self, source: &str, hang: Option<&Hang>, is_endless: bool) -> Result<(), Fatal> {
        let Some(hang) = hang.filter(|hang| hang.now) else { return Ok(()) };
        let Some(stall) = self.stalls.get(source) else { return Ok(()) };
        if stall.lasting < self.settings.exit_after {
            return Ok(());
        }
        let reason = format!("{source} hangs for {}: {}", shown(stall.lasting), hang.reason);
        Err(Fatal { reason, is_endless })
    }
}

fn trouble(board: &Board, reason: String, lasting: Duration) -> Trouble {
    let waiting = board.counters().in_flight_messages.get();
    Trouble { since: Timestamp::now().before(lasting), reason, waiting }
}

fn shown(lasting: Duration) -> humantime::FormattedDuration {
    humantime::format_duration(Duration::from_secs(lasting.as_secs()))
}

#[cfg(test)]
mod tests;
