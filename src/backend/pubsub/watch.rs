//! Says what would otherwise go unsaid: leases about to end, and a service that does not answer.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};

use super::admin::Admin;
use super::loans::PROBE;
use super::session::Session;
use super::{fault, probe};

/// How often ages are looked at, and so how often a warning can come.
const LOOK: Duration = Duration::from_secs(10);
/// Runs until the session stops.
pub(super) async fn run(session: Arc<Session>, admin: Arc<Admin>) {
    let max_lease = session.options.max_lease;
    let warn_at = max_lease.mul_f64(0.8);
    // With a short lease ten seconds could step over the time between warning and end.
    let mut ticks = tokio::time::interval((max_lease / 20).clamp(Duration::from_millis(50), LOOK));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut arrivals, mut heard) = (session.loans.arrivals(), Instant::now());
    loop {
        tokio::select! {
            () = session.stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        warn_of_age(&session, warn_at, max_lease);
        if session.loans.arrivals() != arrivals {
            (arrivals, heard) = (session.loans.arrivals(), Instant::now());
            session.loans.works(PROBE);
        } else if heard.elapsed() >= session.options.silence {
            heard = Instant::now();
            tokio::select! {
                () = session.stop.cancelled() => return,
                () = ask(&session, &admin) => {}
            }
        }
    }
}

fn warn_of_age(session: &Session, warn_at: Duration, max_lease: Duration) {
    let ageing = session.loans.ageing(warn_at);
    if ageing.count > 0 {
        tracing::warn!(
            messages = ageing.count,
            oldest_seconds = ageing.oldest.as_secs(),
            "the leases of {} messages end soon: they have been in flight for up to {:?} of \
             max_lease = {max_lease:?}, and come again after it; see which sink is waited for, or \
             raise max_lease (an hour at most)",
            ageing.count,
            Duration::from_secs(ageing.oldest.as_secs()),
        );
    }
}

async fn ask(session: &Session, admin: &Admin) {
    let name = session.options.subscription_name();
    match admin.permitted(&name, &[probe::CONSUME]).await {
        // An endpoint without REST gives no information.
        Err(error) if !probe::served(&session.options, &error) => {}
        Err(error) if !fault::lasts(&error) => {
            if session.loans.broke(PROBE, fault::reading(&name, &error)) {
                tracing::warn!("Pub/Sub does not answer: {error}");
            }
        }
        // It answers; a lasting fault is reported by the streams.
        _ => {
            if session.loans.works(PROBE) {
                tracing::info!("Pub/Sub answers again");
            }
        }
    }
}
