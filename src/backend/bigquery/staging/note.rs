//! Which replay fills a staging table, in the table's description.

use std::fmt;

use kappa_actors::port::{ReprocessError, Staged};
use kappa_actors::time::Timestamp;
use serde_json::{Value, json};

/// The beginning of a description that is a note.
const BEGINNING: &str = "staged by a replay of kappa: ";

/// The note on a staging table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Note {
    pub(super) replay: String,
    /// The revision of the rule that the replay runs.
    pub(super) revision: u16,
    pub(super) began: Timestamp,
    pub(super) completed: Option<Timestamp>,
}

/// The note on a table, as REST knows it.
pub(super) fn noted(table: &Value) -> Option<Note> {
    let note = table["description"].as_str()?.strip_prefix(BEGINNING)?;
    let note: Value = serde_json::from_str(note).ok()?;
    let time = |name: &str| note[name].as_str().and_then(|it| Timestamp::parse_rfc3339(it).ok());
    Some(Note {
        replay: note["replay"].as_str()?.to_owned(),
        revision: note["revision"].as_u64()?.try_into().ok()?,
        began: time("began")?,
        completed: time("completed"),
    })
}

impl Note {
    /// Returns the note of a replay that begins now.
    pub(super) fn begun(replay: &str, revision: u16) -> Self {
        Self { replay: replay.to_owned(), revision, began: Timestamp::now(), completed: None }
    }

    pub(super) fn staged(self, rows: u64) -> Staged {
        let Self { replay, revision, began, completed } = self;
        Staged { replay, revision, began, completed, rows }
    }

    /// Whether this replay may write into the table.
    pub(super) fn check_open(&self, name: &str, replay: &str) -> Result<(), ReprocessError> {
        let says = if self.replay != replay {
            format!("{name} belongs to the replay {} that began {}", self.replay, self.began)
        } else if let Some(at) = self.completed {
            format!("{name} is complete: the replay {replay} ended {at}")
        } else {
            return Ok(());
        };
        Err(ReprocessError::Taken(says))
    }

    /// Refuses an incomplete replay.
    pub(super) fn check_complete(&self, live: &str) -> Result<(), ReprocessError> {
        if self.completed.is_some() {
            return Ok(());
        }
        Err(ReprocessError::Taken(format!(
            "the staging table of {live} is not complete: the replay {} that began {} has not ended",
            self.replay, self.began
        )))
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let completed = self.completed.map(|at| at.to_string());
        let note = json!({
            "replay": self.replay, "revision": self.revision,
            "began": self.began.to_string(), "completed": completed,
        });
        write!(f, "{BEGINNING}{note}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_read_as_it_was_written_and_nothing_else_is() {
        let begun = Note::begun("r \"1\"", 3);
        let ended = Note { completed: Some(begun.began), ..begun.clone() };
        for note in [begun, ended] {
            assert_eq!(noted(&json!({ "description": note.to_string() })), Some(note));
        }
        for other in [json!({}), json!({ "description": "orders" })] {
            assert_eq!(noted(&other), None);
        }
    }
}
