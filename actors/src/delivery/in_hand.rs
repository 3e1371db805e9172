//! The suspects of a panic: the claims that the actor had in hand, never the waiting ones.
//!
//! A claim that is dropped while its thread unwinds was in hand: it was moved into the handler that panicked. Claims in
//! the actor's state or mailbox are dropped later, without a panic. So the unwinding itself separates the two. This
//! module carries the suspects from their drop to the place that catches the panic and knows the actor and its message.

use std::any::Any;
use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use super::doubt::Doubt;
use super::{Crash, Held};
use crate::fault_class::CrashKind;
use crate::vitals::Vitals;

thread_local! {
    /// Claims dropped by the panic that this thread is unwinding from, while a handler is polled.
    static SUSPECTS: RefCell<Option<Vec<Held>>> = const { RefCell::new(None) };
}

/// Runs an actor's handler. If it panics, the claims it had in hand go back as suspects of this
/// actor.
///
/// # Errors
/// The [`Crash`], when the handler panicked.
pub async fn in_hand<T>(actor: &Vitals, handler: impl Future<Output = T>) -> Result<T, Arc<Crash>> {
    let mut handler = pin!(handler);
    poll_fn(|context| {
        SUSPECTS.set(Some(Vec::new()));
        let polled = catch_unwind(AssertUnwindSafe(|| handler.as_mut().poll(context)));
        let suspects = SUSPECTS.take().unwrap_or_default();
        match polled {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
            Err(panic) => Poll::Ready(Err(accuse(actor, &*panic, suspects))),
        }
    })
    .await
}

fn accuse(actor: &Vitals, panic: &(dyn Any + Send), suspects: Vec<Held>) -> Arc<Crash> {
    let isolated = are_of_one_event(&suspects);
    let explained = AtomicBool::new(false);
    let reason = format!("panicked: {}", words_of(panic));
    let kind = CrashKind::Panic;
    let crash = Crash { actor: actor.path().to_owned(), kind, reason, isolated, explained };
    let in_call = actor.calls().take_panic();
    let crash = Arc::new(crash);
    for mut held in suspects {
        let history = held.history.get_or_insert_default();
        if let Some(before) = history.crash.as_ref().filter(|_| isolated) {
            before.explained.store(true, Ordering::Relaxed);
        }
        history.strikes += 1;
        history.returns = 0;
        let before = history.doubt.take();
        history.doubt = in_call.then(|| Doubt::after(before, actor.events()));
        history.crash = Some(Arc::clone(&crash));
        let ledger = Arc::clone(&held.delivery.ledger);
        ledger.take_back_struck(held);
    }
    crash
}

/// Whether one event alone was in hand: tried again by itself, or come by itself.
fn are_of_one_event(suspects: &[Held]) -> bool {
    let Some(first) = suspects.first() else { return false };
    suspects.iter().all(|other| Arc::ptr_eq(&other.delivery, &first.delivery))
}

/// The message of a panic, where it has one.
fn words_of(panic: &(dyn Any + Send)) -> String {
    if let Some(words) = panic.downcast_ref::<&str>() {
        (*words).to_owned()
    } else if let Some(words) = panic.downcast_ref::<String>() {
        words.clone()
    } else {
        "a panic without a message".to_owned()
    }
}

/// Takes a claim that a panic dropped. Outside a handler there is no suspect: the claim is delivered again.
pub(super) fn suspect(held: Held) {
    let stray = SUSPECTS.with_borrow_mut(|suspects| match suspects {
        Some(suspects) => {
            suspects.push(held);
            None
        }
        None => Some(held),
    });
    if let Some(held) = stray {
        let ledger = Arc::clone(&held.delivery.ledger);
        ledger.take_back(held);
    }
}
