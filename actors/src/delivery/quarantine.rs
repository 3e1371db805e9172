//! When a claim that came back is delivered again, and whether alone.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::doubt::Doubt;
use super::{Claim, Crash, Duty, Ledger, Salvaged, Verdict};
use crate::dead_letter_table::{self, Stage};
use crate::fault_class::{CrashKind, FaultClass};

/// How claims that came back are delivered again.
#[derive(Clone, Debug)]
pub struct RedeliveryPolicy {
    /// The pause after the first return; doubles with each that follows.
    pub backoff: Duration,
    /// The longest pause.
    pub max_backoff: Duration,
    /// Panics after which an event becomes a dead letter.
    pub max_attempts: u32,
    /// How long an event that panics a sink is tried while nothing proves that the sink works.
    pub panic_grace: Duration,
}

/// Claims that wait to be delivered again.
///
/// Suspects of a panic go one at a time for each duty: the next only once the one before was
/// settled or came back. So a panic identifies the event that caused it. A suspect that came back
/// without a panic has met a dead actor or a sink in trouble: it goes again first, after a pause
/// that grows, and the others wait. A suspect that panicked its sink often enough, while nothing proves
/// that the sink works, goes again behind the others, after such a pause.
#[derive(Debug)]
pub struct Redelivery {
    policy: RedeliveryPolicy,
    waiting: BTreeMap<Instant, Vec<Claim>>,
    suspects: HashMap<Duty, Suspects>,
    /// Panics over each duty: an actor that panicked was alive, so pauses begin again.
    panics: HashMap<Duty, u32>,
    /// The last panic over each duty for which the event or the sink may be to blame.
    doubts: HashMap<Duty, Arc<Crash>>,
}

/// The suspects of one duty, in the order in which they go.
#[derive(Debug, Default)]
struct Suspects {
    claims: VecDeque<Claim>,
    /// None goes before.
    held_until: Option<Instant>,
}

impl Redelivery {
    /// Nothing waits yet.
    #[must_use]
    pub fn new(policy: RedeliveryPolicy) -> Self {
        Self {
            policy,
            waiting: BTreeMap::new(),
            suspects: HashMap::new(),
            panics: HashMap::new(),
            doubts: HashMap::new(),
        }
    }

    /// Takes claims that came back.
    pub fn take(&mut self, returned: Vec<Claim>, now: Instant) {
        for mut claim in returned {
            let panics = self.panics.entry(claim.duty()).or_default();
            if claim.strikes() > 0 && claim.returns() == 0 {
                *panics += 1;
            }
            claim.count_returns_since(*panics);
            if self.is_spent(&claim, now) {
                self.waiting.entry(now).or_default().push(claim);
                continue;
            }
            let pause = self.pause(&claim);
            if claim.strikes() == 0 {
                self.waiting.entry(now + pause).or_default().push(claim);
                continue;
            }
            if let Some(crash) = self.in_doubt(&claim) {
                self.doubts.insert(claim.duty(), crash);
            }
            let is_struck = claim.returns() == 0;
            let suspects = self.suspects.entry(claim.duty()).or_default();
            if is_struck {
                suspects.claims.push_back(claim);
            } else {
                suspects.claims.push_front(claim);
            }
            if !pause.is_zero() {
                suspects.held_until = Some(now + pause);
            }
        }
    }

    /// When [`Self::due`] will have something, unless an isolated claim ends before.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        let held = self.suspects.values().filter_map(|suspects| suspects.held_until);
        self.waiting.keys().next().copied().into_iter().chain(held).min()
    }

    /// Returns the claims that are due: in the first batch those that may travel together, then each isolated claim
    /// in a batch of its own. Events without attempts left become claims for the dead-letter actor.
    pub fn due(&mut self, now: Instant, ledger: &Ledger) -> Vec<Vec<Claim>> {
        let mut together = Vec::new();
        while let Some(first) = self.waiting.first_entry().filter(|entry| *entry.key() <= now) {
            let poison = |claim: Claim| match claim.strikes() {
                0 => claim,
                _ if claim.killed_by_its_letter(self.policy.max_attempts) => {
                    claim.into_poison().into_bare()
                }
                _ => claim.into_poison(),
            };
            together.extend(first.remove().into_iter().map(poison));
        }
        let mut batches = Vec::new();
        if !together.is_empty() {
            batches.push(together);
        }
        for (&duty, suspects) in &mut self.suspects {
            if suspects.held_until.is_some_and(|until| now < until) {
                continue;
            }
            suspects.held_until = None;
            if ledger.has_isolated(duty) {
                continue;
            }
            if let Some(mut claim) = suspects.claims.pop_front() {
                if duty == Duty::DeadLetter && claim.strikes() >= self.policy.max_attempts {
                    claim = claim.into_bare();
                }
                batches.push(vec![claim.isolate()]);
            }
        }
        self.suspects.retain(|_, suspects| !suspects.claims.is_empty());
        self.doubts
            .retain(|&duty, _| ledger.has_isolated(duty) || self.suspects.contains_key(&duty));
        batches
    }

    /// A panic for which the event or the sink may be to blame, and how many events wait behind it.
    #[must_use]
    pub fn doubt(&self) -> Option<(&Crash, usize)> {
        let (duty, crash) = self.doubts.iter().next()?;
        let waiting = self.suspects.get(duty).map_or(0, |suspects| suspects.claims.len());
        Some((crash, waiting.max(1)))
    }

    /// A dead letter that cannot be stored is retried without limit, from then on in its bare form: it
    /// has no further place to go.
    fn is_spent(&self, claim: &Claim, now: Instant) -> bool {
        let RedeliveryPolicy { max_attempts, panic_grace, .. } = self.policy;
        let to_blame = |doubt: &Doubt| doubt.is_over(max_attempts, panic_grace, now);
        claim.strikes() >= max_attempts
            && claim.duty() != Duty::DeadLetter
            && claim.doubt().is_none_or(to_blame)
    }

    /// The panic that would make the event a dead letter if it was not in doubt.
    fn in_doubt(&self, claim: &Claim) -> Option<Arc<Crash>> {
        let is_struck = claim.strikes() >= self.policy.max_attempts && claim.doubt().is_some();
        claim.held().history.as_ref()?.crash.clone().filter(|_| is_struck)
    }

    /// A claim that was struck goes at once, as long as its attempts count; one that found its actor
    /// dead, or is struck more often, waits longer each time.
    fn pause(&self, claim: &Claim) -> Duration {
        let RedeliveryPolicy { backoff, max_backoff, max_attempts, .. } = self.policy;
        let beyond = claim.strikes().saturating_sub(max_attempts);
        match claim.returns().max(beyond) {
            0 => Duration::ZERO,
            times => doubled(backoff, times - 1, max_backoff),
        }
    }
}

impl Claim {
    /// How often it was in hand at a panic, or alone in flight when the process was killed.
    pub(crate) fn strikes(&self) -> u32 {
        self.held().history.as_ref().map_or(0, |history| history.strikes)
    }

    fn doubt(&self) -> Option<&Doubt> {
        self.held().history.as_ref()?.doubt.as_ref()
    }

    fn returns(&self) -> u32 {
        self.held().history.as_ref().map_or(0, |history| history.returns)
    }

    /// Forgets the returns before the last of so many panics over its duty.
    fn count_returns_since(&mut self, panics: u32) {
        let history = self.held_mut().history.get_or_insert_default();
        if history.panics != panics {
            history.panics = panics;
            history.returns = history.returns.min(1);
        }
    }

    fn isolate(mut self) -> Self {
        let held = self.held_mut();
        held.history.get_or_insert_default().isolated = true;
        held.delivery.ledger.begin_isolation(held.duty);
        self
    }

    /// Whether the process was killed after the last attempt at the event: while its letter was stored.
    fn killed_by_its_letter(&self, max_attempts: u32) -> bool {
        let history = self.held().history.as_ref();
        let crash = history.and_then(|history| history.crash.as_ref());
        self.strikes() > max_attempts && crash.is_some_and(|crash| crash.kind == CrashKind::Kill)
    }

    fn into_bare(mut self) -> Self {
        self.held_mut().history.get_or_insert_default().bare = true;
        self
    }

    fn into_poison(self) -> Self {
        let duties = self.held().delivery.ledger.duties();
        let history = self.held().history.as_deref();
        let crash = history.and_then(|history| history.crash.clone());
        let processor = duties.processor(self.duty());
        let place = match self.duty() {
            Duty::Archive => dead_letter_table::ARCHIVE,
            Duty::Process(_) | Duty::Route | Duty::DeadLetter => "event",
        };
        let kind = crash.as_ref().map_or(CrashKind::Panic, |crash| crash.kind);
        let verdict = Verdict {
            stage: Stage::Poison,
            class: FaultClass::crash(processor, place, kind),
            actor: crash.as_ref().map_or_else(String::new, |crash| crash.actor.clone()),
            processor: processor.map(str::to_owned),
            reason: crash.map_or_else(String::new, |crash| crash.reason.clone()),
            salvaged: Salvaged::default(),
            attempts: self.strikes(),
        };
        self.condemn(verdict)
    }
}

/// `first` doubled `times` times, at most `longest`.
#[must_use]
pub(crate) fn doubled(first: Duration, times: u32, longest: Duration) -> Duration {
    first.saturating_mul(1_u32.checked_shl(times).unwrap_or(u32::MAX)).min(longest)
}
