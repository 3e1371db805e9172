//! `kappa dead-letters edit`: publishes a corrected event as a new event.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, anyhow, bail};
use bytes::Bytes;
use kappa_actors::dead_letter_table::DeadLetter;
use kappa_actors::message::NewMessage;
use kappa_actors::time::Timestamp;
use tokio_util::sync::CancellationToken;

use super::shelf::Shelf;
use crate::cli::output::tell;
use crate::cli::{Failure, patience};
use crate::settings::Settings;
use crate::wiring::{Blueprint, open_log};

/// The attribute that names the letter whose event is corrected.
const CORRECTS: &str = "kappa-corrects";

/// Publishes the corrected event of a letter, and then marks the letter: killed in between, the
/// letter stays open.
pub(super) async fn run(
    (settings, blueprint): (&Settings, &Blueprint),
    shelf: &Shelf,
    (id, file): (&str, Option<&Path>),
    out: &mut impl Write,
) -> Result<(), Failure> {
    let letter = shelf.named(id).await?;
    if let Some(at) = letter.purged_at {
        return Err(anyhow!("the event of this letter was purged at {at}").into());
    }
    let temporary = match file {
        Some(_) => None,
        None => Some(edited(&letter)?),
    };
    let path = temporary.as_ref().map(|temporary| &*temporary.0).or(file).unwrap_or(Path::new(""));
    let corrected = std::fs::read(path).with_context(|| path.display().to_string())?;
    let payload = Bytes::copy_from_slice(corrected.trim_ascii_end());
    if payload == letter.payload.trim_ascii_end() {
        return Err(Failure::with_hint(
            anyhow!("the event is unchanged: nothing was published"),
            "`kappa dead-letters requeue --id ID` processes it again as it is",
        ));
    }
    let published = publish((settings, blueprint), &letter, payload).await;
    let message_id = match (published, temporary) {
        (Err(failure), Some(temporary)) => {
            let kept = temporary.keep();
            tell(
                "note",
                &format!("the corrected event is kept: pass it with --file {}", kept.display()),
            );
            return Err(failure);
        }
        (published, _) => published?,
    };
    shelf.mark(&[letter.mark(Timestamp::now())]).await.map_err(|why| {
        Failure::with_hint(
            anyhow!("{why}: the event is published as {message_id}, but the letter is still open"),
            "do not edit it again: it would be published a second time",
        )
    })?;
    writeln!(out, "published {message_id}")?;
    Ok(out.flush()?)
}

/// Publishes the corrected event, and returns its message's id. After an error nothing is published.
async fn publish(
    (settings, blueprint): (&Settings, &Blueprint),
    letter: &DeadLetter,
    payload: Bytes,
) -> Result<String, Failure> {
    if let Err(why) = blueprint.envelope.read(&payload) {
        let error = anyhow!("the corrected event is not valid: {why}; nothing was published");
        return Err(Failure::with_hint(error, "check the corrected event with `kappa try FILE`"));
    }
    let mut attributes = letter.attributes.as_deref().cloned().unwrap_or_default();
    attributes.insert(CORRECTS.to_owned(), letter.id.clone());
    let ordering_key = letter.ordering_key.to_string();
    let message = NewMessage { payload, attributes, ordering_key };
    let log = open_log(settings).await?;
    let waits = |why: &str| tell("waiting", why);
    let outcomes = patience::publish(&*log, &[message], &CancellationToken::new(), waits).await;
    log.close().await;
    let Some(published) = outcomes.into_iter().next() else {
        return Err(anyhow!("the log has not answered").into());
    };
    Ok(published.map_err(anyhow::Error::from)?)
}

/// The file with the letter's event, after the user's editor has closed.
fn edited(letter: &DeadLetter) -> anyhow::Result<Temporary> {
    let editor = ["VISUAL", "EDITOR"].iter().find_map(std::env::var_os);
    let Some(editor) = editor.filter(|editor| !editor.is_empty()) else {
        bail!("neither VISUAL nor EDITOR is set: set one, or name the corrected event with --file");
    };
    let file = Temporary::with(&letter.id, &letter.payload)?;
    // An editor may have arguments of its own, such as `code --wait`.
    let status = Command::new("sh")
        .arg("-c")
        .arg(format!("{} \"$1\"", editor.to_string_lossy()))
        .arg("sh")
        .arg(&file.0)
        .status()
        .context("sh")?;
    if !status.success() {
        bail!("the editor ended with {status}: nothing was published");
    }
    Ok(file)
}

/// A file that only this user may read; removed with this.
struct Temporary(PathBuf);

impl Temporary {
    fn with(id: &str, payload: &[u8]) -> anyhow::Result<Self> {
        let random: u64 = rand::random();
        let path = std::env::temp_dir().join(format!("kappa-{id}-{random:016x}.json"));
        let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let mut file = opened.with_context(|| path.display().to_string())?;
        let temporary = Self(path);
        file.write_all(payload).with_context(|| temporary.0.display().to_string())?;
        Ok(temporary)
    }

    /// Leaves the file where it is.
    fn keep(mut self) -> PathBuf {
        std::mem::take(&mut self.0)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // It may have been moved by the editor, or it is kept.
        let _ = std::fs::remove_file(&self.0);
    }
}
