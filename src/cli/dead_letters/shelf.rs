//! The dead letters of a data folder, found by a user's filters.

use std::sync::Arc;

use kappa_actors::dead_letter_table::{DeadLetter, Mark};
use kappa_actors::port::{DeadLetterFilter, DeadLetterStore, DeadLettersUnavailable, LetterGroup};

use crate::cli::Failure;
use crate::settings::Settings;
use crate::wiring::open_dead_letters;

/// Ids that are named when the beginning of one is not enough.
const CANDIDATES: usize = 5;

/// The letters that a command means.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
pub struct Wanted {
    /// Only those whose reason contains this text; case counts
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Only those of this class, as `summary` shows it
    #[arg(long, value_name = "CLASS")]
    pub class: Option<String>,
}

/// The dead letters; `None` where there is no warehouse, which is not made for this.
pub(super) struct Shelf {
    store: Option<Arc<dyn DeadLetterStore>>,
    folder: String,
}

impl Shelf {
    /// Opens the dead letters of a configuration; a daemon may run on the same folder.
    pub(super) async fn open(settings: &Settings) -> anyhow::Result<Self> {
        let folder = settings.data_dir.display().to_string();
        Ok(Self { store: open_dead_letters(settings).await?, folder })
    }

    /// Why there is nothing to show.
    pub(super) fn nothing_found(&self, wanted: &Wanted) -> String {
        if self.store.is_none() {
            return format!("no dead letters: there is no warehouse in {}", self.folder);
        }
        let class = wanted.class.as_ref().map(|class| format!(" of the class {class:?}"));
        let reason = wanted.reason.as_ref().map(|text| format!(" with {text:?} in their reason"));
        let [class, reason] = [class, reason].map(Option::unwrap_or_default);
        format!("no dead letters{class}{reason}")
    }

    /// Ids, the newest failure first.
    pub(super) async fn find(
        &self,
        wanted: &Wanted,
        limit: usize,
    ) -> Result<Vec<String>, DeadLettersUnavailable> {
        let Wanted { reason, class } = wanted.clone();
        self.matching(&DeadLetterFilter { reason, class, limit, ..DeadLetterFilter::ALL }).await
    }

    /// Ids of the open ones that no staging replay left, the oldest failure first. All at once, some
    /// 60 bytes each, so that letters that fail again are not requeued in a loop.
    pub(super) async fn waiting(
        &self,
        wanted: &Wanted,
    ) -> Result<Vec<String>, DeadLettersUnavailable> {
        let Wanted { reason, class } = wanted.clone();
        let filter = DeadLetterFilter {
            reason,
            class,
            requeued: Some(false),
            live_only: true,
            ..DeadLetterFilter::ALL
        };
        let mut ids = self.matching(&filter).await?;
        ids.reverse();
        Ok(ids)
    }

    /// The letters in groups, the purged ones too.
    pub(super) async fn groups(
        &self,
        wanted: &Wanted,
    ) -> Result<Vec<LetterGroup>, DeadLettersUnavailable> {
        let Wanted { reason, class } = wanted.clone();
        let filter = DeadLetterFilter { reason, class, purged_too: true, ..DeadLetterFilter::ALL };
        match &self.store {
            Some(store) => store.groups(&filter).await,
            None => Ok(Vec::new()),
        }
    }

    /// The ids that begin with these texts, each once.
    pub(super) async fn resolve(&self, prefixes: &[String]) -> Result<Vec<String>, Failure> {
        let mut ids = Vec::with_capacity(prefixes.len());
        for prefix in prefixes {
            let id = self.id(prefix).await?;
            if let Some(at) = self.get(&id).await?.and_then(|letter| letter.purged_at) {
                let error = anyhow::anyhow!("the event of the letter {id} was purged at {at}");
                let hint = "if it ever was valid, the archive has it: see `kappa replay`";
                return Err(Failure::with_hint(error, hint));
            }
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        Ok(ids)
    }

    /// The letter whose id begins with this text.
    pub(super) async fn named(&self, prefix: &str) -> Result<DeadLetter, Failure> {
        let id = self.id(prefix).await?;
        self.get(&id).await?.ok_or_else(|| unknown(prefix))
    }

    /// The letter with this id.
    pub(super) async fn get(&self, id: &str) -> Result<Option<DeadLetter>, DeadLettersUnavailable> {
        match &self.store {
            Some(store) => store.get(id).await,
            None => Ok(None),
        }
    }

    /// The store; `None` where there is no warehouse.
    pub(super) fn store(&self) -> Option<Arc<dyn DeadLetterStore>> {
        self.store.clone()
    }

    /// Marks letters as requeued.
    pub(super) async fn mark(&self, marks: &[Mark]) -> Result<(), DeadLettersUnavailable> {
        match &self.store {
            Some(store) => store.mark_requeued(marks).await,
            None => Ok(()),
        }
    }

    async fn id(&self, prefix: &str) -> Result<String, Failure> {
        let filter = DeadLetterFilter {
            id_prefix: Some(prefix.to_owned()),
            purged_too: true,
            limit: CANDIDATES + 1,
            ..DeadLetterFilter::ALL
        };
        let mut ids = self.matching(&filter).await?;
        if ids.len() > 1 {
            let more = if ids.len() > CANDIDATES { ", …" } else { "" };
            ids.truncate(CANDIDATES);
            let error =
                anyhow::anyhow!("several dead letters have an id that begins with {prefix:?}");
            return Err(Failure::with_hint(error, format!("choose from {}{more}", ids.join(", "))));
        }
        ids.pop().filter(|_| !prefix.is_empty()).ok_or_else(|| unknown(prefix))
    }

    async fn matching(
        &self,
        filter: &DeadLetterFilter,
    ) -> Result<Vec<String>, DeadLettersUnavailable> {
        match &self.store {
            Some(store) => store.find(filter).await,
            None => Ok(Vec::new()),
        }
    }
}

fn unknown(id: &str) -> Failure {
    let error = anyhow::anyhow!("no dead letter has an id that begins with {id:?}");
    Failure::with_hint(error, "`kappa dead-letters list` shows the ids")
}

impl From<DeadLettersUnavailable> for Failure {
    fn from(error: DeadLettersUnavailable) -> Self {
        anyhow::Error::from(error).into()
    }
}
