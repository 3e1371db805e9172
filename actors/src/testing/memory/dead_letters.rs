//! Dead letters in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::task::yield_now;

use crate::dead_letter_table::{DeadLetter, Mark};
use crate::port::{DeadLetterFilter, DeadLetterStore, DeadLettersUnavailable};

/// A [`DeadLetterStore`] in memory. Clones share the letters. Each call waits once before it looks
/// and once after.
#[derive(Clone, Debug, Default)]
pub struct MemoryLetters(Arc<Mutex<BTreeMap<String, DeadLetter>>>);

impl MemoryLetters {
    /// Writes a letter as the table of dead letters does: the greatest version counts.
    pub fn write(&self, letter: DeadLetter) {
        let mut all = self.all();
        if all.get(&letter.id).is_none_or(|it| it.version() <= letter.version()) {
            all.insert(letter.id.clone(), letter);
        }
    }

    /// The letters, in the order of their ids.
    #[must_use]
    pub fn letters(&self) -> Vec<DeadLetter> {
        self.all().values().cloned().collect()
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<String, DeadLetter>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl DeadLetterStore for MemoryLetters {
    async fn find(&self, filter: &DeadLetterFilter) -> Result<Vec<String>, DeadLettersUnavailable> {
        let DeadLetterFilter { id_prefix, reason, requeued, live_only, limit } = filter;
        let all = self.all();
        let mut found: Vec<_> = all
            .values()
            .filter(|it| id_prefix.as_ref().is_none_or(|prefix| it.id.starts_with(prefix)))
            .filter(|it| reason.as_ref().is_none_or(|reason| it.reason.contains(reason)))
            .filter(|it| requeued.is_none_or(|requeued| it.requeued_at.is_some() == requeued))
            .filter(|it| !live_only || it.replay_id.is_none())
            .collect();
        found.sort_by_key(|it| std::cmp::Reverse(it.failed_at));
        Ok(found.into_iter().take(*limit).map(|it| it.id.clone()).collect())
    }

    async fn get(&self, id: &str) -> Result<Option<DeadLetter>, DeadLettersUnavailable> {
        yield_now().await;
        let found = self.all().get(id).cloned();
        yield_now().await;
        Ok(found)
    }

    async fn mark_requeued(&self, marks: &[Mark]) -> Result<(), DeadLettersUnavailable> {
        yield_now().await;
        for mark in marks {
            if let Some(letter) = self.all().get_mut(&mark.id)
                && letter.version() <= mark.version
            {
                letter.requeued_at = Some(mark.at);
            }
        }
        yield_now().await;
        Ok(())
    }
}
