//! The real ledger beside a model of it.

use std::collections::BTreeMap;

use super::*;

const WAYS: [Duty; 3] = [Duty::Process(0), Duty::Process(1), Duty::Archive];

const MAX_ATTEMPTS: u32 = 3;

/// The model of one delivery.
#[derive(Debug, Default)]
struct Loan {
    leases: Vec<Lease>,
    cost_bytes: u64,
    /// Its publish time as its claims are counted by.
    time: Timestamp,
    /// Claims not settled, wherever they are.
    open: usize,
    acknowledged: bool,
}

/// A claim in an actor's hands, with its model.
#[derive(Debug)]
struct InHands {
    claim: Claim,
    charged_bytes: u64,
    strikes: u32,
}

/// A claim on its way back.
#[derive(Debug, PartialEq, Eq)]
struct Away {
    message: CompactString,
    duty: Duty,
    strikes: u32,
}

/// One run.
pub(super) struct Trial {
    ledger: Arc<Ledger>,
    log: Notes,
    redelivery: Redelivery,
    now: Instant,
    hands: Vec<InHands>,
    loans: BTreeMap<CompactString, Loan>,
    away: Vec<Away>,
    next: u64,
}

impl Trial {
    pub(super) fn new() -> Self {
        let policy = RedeliveryPolicy {
            backoff: Duration::from_millis(10),
            max_backoff: Duration::from_millis(100),
            max_attempts: MAX_ATTEMPTS,
            panic_grace: Duration::from_secs(60),
        };
        Self {
            ledger: ledger(1_000, 1 << 20),
            log: Notes::default(),
            redelivery: Redelivery::new(policy),
            now: Instant::now(),
            hands: Vec::new(),
            loans: BTreeMap::new(),
            away: Vec::new(),
            next: 0,
        }
    }

    pub(super) fn act(&mut self, action: Action) {
        match action {
            Action::Admit => self.admit(),
            Action::Repeat(which) => self.repeat(which),
            Action::Split(which, ways) => self.split(which, ways),
            Action::Settle(which, count) => {
                let mut posting = Posting::default();
                for _ in 0..count {
                    let Some(held) = self.take(which) else { break };
                    self.loan(&held.claim).open -= 1;
                    posting.settle(held.claim);
                }
            }
            Action::Drop(which) => {
                let Some(held) = self.take(which) else { return };
                self.goes_away(&held, held.strikes);
            }
            Action::Condemn(which) => {
                let Some(held) = self.take(which) else { return };
                let claim = held.claim.condemn(verdict());
                self.hands.push(InHands { claim, charged_bytes: 0, strikes: 0 });
            }
            Action::Charge(which, bytes) => {
                let Some(mut held) = self.take(which) else { return };
                Posting::default().charge(&mut held.claim, bytes.into());
                held.charged_bytes += u64::from(bytes);
                self.hands.push(held);
            }
            Action::Panic(first, count) => self.panic(first, count),
            Action::Acknowledge => self.acknowledge(),
            Action::Redeliver => self.redeliver(),
            Action::Wait(ms) => self.now += Duration::from_millis(ms.into()),
        }
    }

    fn take(&mut self, which: Index) -> Option<InHands> {
        let held = self.hands.len();
        (held > 0).then(|| self.hands.swap_remove(which.index(held)))
    }

    fn loan(&mut self, claim: &Claim) -> &mut Loan {
        self.loans.get_mut(&claim.message().id).unwrap()
    }

    fn goes_away(&mut self, held: &InHands, strikes: u32) {
        let (message, duty) = (held.claim.message().id.clone(), held.claim.duty());
        self.away.push(Away { message, duty, strikes });
    }

    fn admit(&mut self) {
        self.next += 1;
        let mut new = message(self.next, self.next);
        // Neither in order nor all apart.
        new.publish_time = Timestamp::now().before(Duration::from_millis(self.next * 3 % 7 * 40));
        let (leases, cost_bytes) = (vec![new.lease], new.cost_bytes());
        self.loans.insert(new.id.clone(), Loan { leases, cost_bytes, open: 1, ..Loan::default() });
        for claim in self.ledger.admit(vec![new]) {
            assert_eq!(claim.duty(), Duty::Route);
            self.loan(&claim).time = claim.delivery().rounded_time();
            self.hands.push(InHands { claim, charged_bytes: 0, strikes: 0 });
        }
    }

    /// Repeats a delivery that is not taken for acknowledgement, whether finished or not.
    fn repeat(&mut self, which: Index) {
        let in_flight: Vec<_> =
            self.loans.iter_mut().filter(|(_, loan)| !loan.acknowledged).collect();
        if in_flight.is_empty() {
            return;
        }
        let at = which.index(in_flight.len());
        let (id, loan) = in_flight.into_iter().nth(at).unwrap();
        self.next += 1;
        loan.leases.push(Lease(self.next));
        let again = Message { id: id.clone(), ..message(0, self.next) };
        assert!(self.ledger.admit(vec![again]).is_empty(), "a repeat opens no claim");
    }

    fn split(&mut self, which: Index, ways: [bool; 3]) {
        let Some(held) = self.take(which) else { return };
        if held.claim.duty() != Duty::Route {
            return self.hands.push(held);
        }
        let chosen: Vec<_> =
            WAYS.into_iter().zip(ways).filter_map(|(way, taken)| taken.then_some(way)).collect();
        let loan = self.loan(&held.claim);
        loan.open = loan.open + chosen.len() - 1;
        let mut opened = Vec::new();
        Posting::default().split(held.claim, &chosen, |way| opened.push(way));
        assert_eq!(opened.iter().map(Claim::duty).collect::<Vec<_>>(), chosen);
        let opened = opened.into_iter();
        self.hands.extend(opened.map(|claim| InHands { claim, charged_bytes: 0, strikes: 0 }));
    }

    fn panic(&mut self, first: Index, count: usize) {
        let mut in_hand = Vec::new();
        for _ in 0..count {
            let Some(held) = self.take(first) else { break };
            self.goes_away(&held, held.strikes + 1);
            in_hand.push(held.claim);
        }
        let events: std::collections::BTreeSet<_> =
            in_hand.iter().map(|claim| claim.message().id.clone()).collect();
        assert_eq!(crash(in_hand).isolated, events.len() == 1);
    }

    fn acknowledge(&mut self) {
        let ended = self.ledger.acknowledge_finished(&self.log).now_or_never();
        assert!(ended.is_none(), "it goes on until the ledger is closed");
        let mut expected = Vec::new();
        for loan in self.loans.values_mut().filter(|loan| loan.open == 0 && !loan.acknowledged) {
            loan.acknowledged = true;
            expected.extend(&loan.leases);
        }
        let mut acknowledged = std::mem::take(&mut *self.log.acknowledged.lock().unwrap());
        expected.sort_unstable();
        acknowledged.sort_unstable();
        assert_eq!(acknowledged, expected, "all leases of settled deliveries, and no other");
    }

    fn redeliver(&mut self) {
        let returned = self.ledger.take_returned().now_or_never().unwrap_or_default();
        self.redelivery.take(returned, self.now);
        for batch in self.redelivery.due(self.now, &self.ledger) {
            let alone = batch.len() == 1;
            for claim in batch {
                self.comes_back(claim, alone);
            }
        }
    }

    fn comes_back(&mut self, claim: Claim, alone: bool) {
        let (id, duty) = (&claim.message().id, claim.duty());
        let poison = claim.verdict().filter(|verdict| verdict.stage == Stage::Poison);
        let spent = |away: &Away| {
            let was_spent = away.duty != Duty::DeadLetter && away.strikes >= MAX_ATTEMPTS;
            poison.is_some_and(|verdict| verdict.attempts == away.strikes) && was_spent
        };
        let of_it = |kind: &dyn Fn(&Away) -> bool| {
            self.away.iter().position(|away| away.message == *id && kind(away))
        };
        let found = of_it(&spent).or_else(|| of_it(&|away| away.duty == duty));
        let away = self.away.swap_remove(found.expect("a returned claim was away, and only once"));
        let strikes = if away.duty == duty { away.strikes } else { 0 };
        if duty != Duty::DeadLetter {
            assert_eq!(claim.is_isolated(), strikes > 0, "suspects go alone, and only they");
        }
        if claim.is_isolated() {
            assert!(alone, "an isolated claim has a batch of its own");
            let isolated = self.hands.iter().filter(|held| held.claim.is_isolated());
            assert!(isolated.into_iter().all(|held| held.claim.duty() != duty), "one at a time");
        }
        self.hands.push(InHands { claim, charged_bytes: 0, strikes });
    }

    /// Checks the invariants after every step.
    pub(super) fn check(&self) {
        let account = self.ledger.account();
        let unacknowledged = || self.loans.values().filter(|loan| !loan.acknowledged);
        let lent: u64 = unacknowledged().map(|loan| loan.cost_bytes).sum();
        let made: u64 = self.hands.iter().map(|held| held.charged_bytes).sum();
        assert_eq!(account.messages(), unacknowledged().count() as u64);
        assert_eq!(account.bytes(), lent + made);
        let open: usize = self.loans.values().map(|loan| loan.open).sum();
        let held: u64 = self.ledger.holdings().iter().map(|holding| holding.messages).sum();
        assert_eq!(held, open as u64);
        assert_eq!(open, self.hands.len() + self.away.len(), "no claim is nowhere");
        for duty in WAYS.into_iter().chain([Duty::Route, Duty::DeadLetter]) {
            let held = self.hands.iter().map(|held| (held.claim.duty(), &held.claim.message().id));
            let away = self.away.iter().map(|away| (away.duty, &away.message));
            let waiting = held.chain(away).filter(|(its, _)| *its == duty);
            let oldest = waiting.map(|(_, id)| self.loans[id].time).min();
            assert_eq!(self.ledger.oldest(duty), oldest, "{duty:?}");
        }
    }

    /// The actors do their work from here on: everything comes to be acknowledged.
    pub(super) fn settle_everything(mut self) {
        let unfinished = |trial: &Self| trial.loans.values().any(|loan| !loan.acknowledged);
        while unfinished(&self) {
            for held in std::mem::take(&mut self.hands) {
                self.loan(&held.claim).open -= 1;
                settle(held.claim);
            }
            self.acknowledge();
            self.now += Duration::from_secs(1);
            self.redeliver();
            self.check();
            let waits = self.hands.len() + self.away.len() > 0;
            assert!(
                waits || !unfinished(&self),
                "a claim that is neither in hands nor away never ends"
            );
        }
        assert_eq!((self.ledger.account().messages(), self.ledger.account().bytes()), (0, 0));
        assert!(self.ledger.holdings().is_empty());
    }

    /// Closes the ledger; the actors die a little later, and their last steps have no effect.
    pub(super) fn close(mut self, after: Vec<Action>) {
        let closed = self.ledger.close(&self.log).now_or_never().expect("the log answers at once");
        let finished: Vec<_> =
            self.loans.values().filter(|loan| loan.open == 0 && !loan.acknowledged).collect();
        let unfinished: Vec<_> = self.loans.values().filter(|loan| loan.open > 0).collect();
        assert_eq!(closed.deliveries, unfinished.len());
        let leases = |loans: &[&Loan]| {
            let mut leases: Vec<_> = loans.iter().flat_map(|loan| loan.leases.clone()).collect();
            leases.sort_unstable();
            leases
        };
        let (finished, unfinished) = (leases(&finished), leases(&unfinished));
        for action in after {
            if let Action::Settle(which, _) | Action::Drop(which) = &action {
                let settles = matches!(action, Action::Settle(..));
                match self.take(*which) {
                    Some(held) if settles => settle(held.claim),
                    held => drop(held),
                }
            }
        }
        self.hands.clear();
        let ended = self.ledger.acknowledge_finished(&self.log).now_or_never();
        assert!(ended.is_some(), "a closed ledger has nothing to wait for");
        let sorted = |noted: &Mutex<Vec<Lease>>| {
            let mut leases = noted.lock().unwrap().clone();
            leases.sort_unstable();
            leases
        };
        assert_eq!(sorted(&self.log.acknowledged), finished);
        assert_eq!(sorted(&self.log.given_back), unfinished);
        let returned = self.ledger.take_returned().now_or_never().unwrap_or_default();
        assert!(returned.is_empty(), "nothing is delivered again");
    }
}

fn verdict() -> Verdict {
    Verdict {
        stage: Stage::Process,
        class: FaultClass::envelope("envelope", "not JSON"),
        actor: "kappa/actor".to_owned(),
        processor: None,
        reason: "no row".to_owned(),
        salvaged: Salvaged::default(),
        attempts: 1,
    }
}
