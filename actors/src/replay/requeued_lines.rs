//! The archive's lines of earlier requeues.
//!
//! A requeue that is killed between the line of an event and the mark on its letter leaves the letter
//! open. The next one looks for the line among the objects that requeues wrote in the event's window,
//! and does not store it again. Lines of plain payloads do not name their message: they are not
//! found, and such an event is archived twice.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use compact_str::CompactString;

use super::object::{ReadFault, read_lines};
use crate::archive::{ArchiveObject, Window, requeued_objects};
use crate::port::{ArchiveStore, StoreError};
use crate::time::Timestamp;

/// Message id and publish time.
type Identity = (CompactString, Timestamp);

/// The lines of one archive. It remembers the last window: letters of one outage are neighbours.
pub(super) struct RequeuedLines {
    archive: Arc<dyn ArchiveStore>,
    last: tokio::sync::Mutex<Option<(Window, HashSet<Identity>)>>,
}

impl RequeuedLines {
    pub(super) fn of(archive: Arc<dyn ArchiveStore>) -> Self {
        Self { archive, last: tokio::sync::Mutex::default() }
    }

    /// Whether a requeue before this process stored the line of the message.
    pub(super) async fn hold(
        &self,
        message_id: &str,
        publish_time: Timestamp,
    ) -> Result<bool, StoreError> {
        let window = Window::of(publish_time);
        let mut last = self.last.lock().await;
        let lines = match &mut *last {
            Some((of, lines)) if *of == window => lines,
            other => &mut other.insert((window, self.read(window).await?)).1,
        };
        Ok(lines.contains(&(message_id.into(), publish_time)))
    }

    async fn read(&self, window: Window) -> Result<HashSet<Identity>, StoreError> {
        let found = Arc::new(Mutex::new(HashSet::new()));
        loop {
            let mut all_there = true;
            for object in requeued_objects(&*self.archive, window).await? {
                match self.add(&object, &found).await {
                    // A part whose lines are in a final by now.
                    Err(ReadFault::Store(StoreError::NotFound(_))) => all_there = false,
                    Err(ReadFault::Store(error)) => return Err(error),
                    // An event whose line cannot be read is archived again.
                    Err(ReadFault::Damaged(_)) | Ok(()) => {}
                }
            }
            if all_there {
                let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                return Ok(std::mem::take(&mut *found));
            }
        }
    }

    async fn add(
        &self,
        object: &ArchiveObject,
        found: &Arc<Mutex<HashSet<Identity>>>,
    ) -> Result<(), ReadFault> {
        let stream = self.archive.read(&object.name).await?;
        let (format, found) = (object.format, Arc::clone(found));
        read_lines(stream, object.compression, move |lines| {
            let origins = lines.into_iter().filter_map(|line| format.decode(line).ok()?.origin);
            let identities = origins.map(|origin| (origin.message_id, origin.publish_time));
            found.lock().unwrap_or_else(PoisonError::into_inner).extend(identities);
            true
        })
        .await
    }
}
