//! Dead letters in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::task::yield_now;

use crate::dead_letter_table::{DeadLetter, Mark};
use crate::fault_class::UNCLASSIFIED;
use crate::port::{DeadLetterFilter, DeadLetterStore, DeadLettersUnavailable, LetterGroup};
use crate::time::Timestamp;

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
        let all = self.all();
        let mut found: Vec<_> = all.values().filter(|it| passes(filter, it)).collect();
        found.sort_by_key(|it| std::cmp::Reverse(it.failed_at));
        Ok(found.into_iter().take(filter.limit).map(|it| it.id.clone()).collect())
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

    async fn groups(
        &self,
        filter: &DeadLetterFilter,
    ) -> Result<Vec<LetterGroup>, DeadLettersUnavailable> {
        let mut groups = BTreeMap::<_, LetterGroup>::new();
        for it in self.all().values().filter(|it| passes(filter, it)) {
            let class = it.class.as_ref().map(ToString::to_string);
            let key = (it.stage.name(), it.duty.clone(), class.clone());
            let group = groups.entry(key).or_insert_with(|| LetterGroup {
                stage: it.stage,
                duty: it.duty.clone(),
                class,
                open: 0,
                requeued: 0,
                purged: 0,
                first: it.failed_at,
                last: it.failed_at,
                example: it.id.clone(),
            });
            match (it.is_open(), it.purged_at) {
                (true, _) => group.open += 1,
                (false, None) => group.requeued += 1,
                (false, Some(_)) => group.purged += 1,
            }
            group.first = group.first.min(it.failed_at);
            group.last = group.last.max(it.failed_at);
        }
        let mut groups: Vec<_> = groups.into_values().collect();
        groups.sort_by_key(|group| std::cmp::Reverse(group.letters()));
        Ok(groups)
    }

    async fn purge(
        &self,
        filter: &DeadLetterFilter,
        at: Timestamp,
    ) -> Result<u64, DeadLettersUnavailable> {
        let filter = DeadLetterFilter { purged_too: false, ..filter.clone() };
        let mut purged = 0;
        for letter in self.all().values_mut() {
            if passes(&filter, letter) {
                *letter = letter.clone().purged(at);
                purged += 1;
            }
        }
        Ok(purged)
    }
}

/// Whether the filter means this letter, but for the limit.
fn passes(filter: &DeadLetterFilter, it: &DeadLetter) -> bool {
    let class = it.class.as_deref().unwrap_or(UNCLASSIFIED);
    filter.id_prefix.as_ref().is_none_or(|prefix| it.id.starts_with(prefix))
        && filter.reason.as_ref().is_none_or(|reason| it.reason.contains(reason))
        && filter.class.as_ref().is_none_or(|wanted| wanted == class)
        && filter.requeued.is_none_or(|requeued| it.requeued_at.is_some() == requeued)
        && (filter.purged_too || it.purged_at.is_none())
        && filter.failed_before.is_none_or(|before| it.failed_at < before)
        && (!filter.live_only || it.replay_id.is_none())
}
