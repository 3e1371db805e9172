//! The daemon: one pipeline with its status endpoint, and a data folder of its own if any of its
//! backends keeps files.

mod endpoint;
mod files;
mod folder;
mod purge;

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use kappa_actors::pipeline::{Failed, Idle, Intake, Pipeline, Stopped};
use kappa_actors::port::LogError;
use kappa_actors::vitals::Board;
use tokio_util::task::AbortOnDropHandle;

use crate::settings::Settings;
use crate::status::StatusOptions;
use crate::status::client::ADDRESS_FILE;
use crate::wiring::{Blueprint, RuleBook, open_ports};
pub(crate) use endpoint::status_branch;
pub(crate) use files::Files;
use folder::FolderLock;

/// A running daemon.
#[derive(Debug)]
pub struct Daemon {
    pipeline: Pipeline,
    board: Arc<Board>,
    address: SocketAddr,
    settings: Settings,
    files: Files,
    /// Purges old dead letters, if it is to.
    purge: Option<AbortOnDropHandle<()>>,
    /// `None` where all backends are services: then any disk will do, or none.
    lock: Option<FolderLock>,
}

impl Daemon {
    /// Takes the data folder, opens the backends, and starts everything.
    ///
    /// # Errors
    /// Any fault: the start waits for nothing.
    pub async fn start(
        settings: Settings,
        blueprint: &Blueprint,
        intake: Intake,
    ) -> anyhow::Result<Self> {
        let lock = settings.keeps_files().then(|| FolderLock::take(&settings.data_dir));
        let lock = lock.transpose()?;
        let board = Board::new();
        board.set_instance(&settings.instance);
        let ports = open_ports(&settings).await?;
        #[cfg(feature = "gcp")]
        for warning in crate::backend::gcp::proxy::ignored(&settings) {
            tracing::warn!("{warning}");
        }
        ports.log.repairs().await?.into_iter().for_each(|repair| board.warn(repair));
        let rules = RuleBook::of(&settings).await?;
        rules.check(&blueprint.processors, &*ports.warehouse).await?;
        rules.note(&blueprint.processors).await?;
        let options = StatusOptions::of(&settings);
        let (address, others) = status_branch(&settings, options, &board, &ports.log).await?;
        if lock.is_some() {
            // Whoever finds the file finds the endpoint.
            let note = settings.data_dir.join(ADDRESS_FILE);
            std::fs::write(&note, format!("{address}\n"))
                .with_context(|| note.display().to_string())?;
        }
        let plan = blueprint.plan(&settings);
        let files = Files::of(&ports);
        let pipeline = Pipeline::start(plan, ports, Arc::clone(&board), intake, others).await?;
        let purge = settings.dead_letters.max_age.map(|max_age| {
            let purge = purge::old_letters(settings.clone(), max_age, Arc::clone(&board));
            AbortOnDropHandle::new(tokio::spawn(purge))
        });
        Ok(Self { pipeline, board, address, settings, files, purge, lock })
    }

    /// Where status is served.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the board of all actors.
    #[must_use]
    pub fn board(&self) -> &Arc<Board> {
        &self.board
    }

    /// Waits until the log has nothing more and nothing is unacknowledged.
    ///
    /// # Errors
    /// [`Failed`], when the tree fails for good before that.
    pub async fn idle(&mut self) -> Result<Idle, Failed> {
        self.pipeline.idle().await
    }

    /// Describes the faults for which messages could not be handed out, such as events that the
    /// log has lost.
    ///
    /// # Errors
    /// [`LogError`], if the log cannot be asked.
    pub async fn held_up(&self) -> Result<Vec<String>, LogError> {
        self.files.held_up().await
    }

    /// Waits until the tree fails for good.
    pub async fn failed(&mut self) -> Failed {
        self.pipeline.failed().await
    }

    /// Stops within `drain_timeout`, and some seconds if the log or a file is stuck.
    pub async fn stop(self) -> Stopped {
        drop(self.purge);
        let stopped = self.pipeline.stop(self.settings.drain_timeout).await;
        if self.lock.is_some() {
            // Only a hint for `kappa status`: a leftover file is harmless.
            let _ = std::fs::remove_file(self.settings.data_dir.join(ADDRESS_FILE));
        }
        self.files.close().await;
        stopped
    }
}
