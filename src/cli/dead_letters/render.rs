//! Dead letters as text.

use std::io::{self, BufWriter, Write};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use comfy_table::Table;
use kappa_actors::dead_letter_table::DeadLetter;
use kappa_actors::message::Attributes;
use kappa_actors::time::Timestamp;
use serde::Serialize;

use crate::cli::output::{Format, cell, count, one_line, or_dash, table};

/// Characters of an id that a table shows: enough to name one letter among millions.
pub(super) const SHORT_ID: usize = 12;

/// Writes a list of letters.
pub(super) struct List<W: Write> {
    format: Format,
    rows: Option<Table>,
    out: BufWriter<W>,
}

impl<W: Write> List<W> {
    pub(super) fn new(format: Format, out: W) -> Self {
        Self { format, rows: None, out: BufWriter::new(out) }
    }

    pub(super) fn add(&mut self, letter: &DeadLetter) -> io::Result<()> {
        match self.format {
            Format::Json => {
                serde_json::to_writer(&mut self.out, &LetterJson::new(letter))?;
                writeln!(self.out)
            }
            Format::Plain => writeln!(self.out, "{}", fields(letter).join("\t")),
            Format::Table { colour } => {
                let head = ["id", "failed at", "stage", "processor", "event type", "reason"];
                let [id, failed_at, stage, processor, kind, _, requeued_at, reason] =
                    fields(letter);
                let reason =
                    if requeued_at == "-" { reason } else { format!("{reason} (requeued)") };
                let id = id.chars().take(SHORT_ID).collect();
                // Without the fraction of a second.
                let failed_at = failed_at.split('.').next().unwrap_or_default().replace('T', " ");
                let rows = self.rows.get_or_insert_with(|| table(&head, colour));
                rows.add_row(
                    [id, failed_at, stage, processor, kind, reason].map(|text| cell(&text)),
                );
                Ok(())
            }
        }
    }

    pub(super) fn end(mut self) -> io::Result<()> {
        if let Some(rows) = &self.rows {
            writeln!(self.out, "{rows}")?;
        }
        self.out.flush()
    }
}

/// The columns of a list: id, failed at, stage, processor, event type, event id, requeued at, reason.
fn fields(letter: &DeadLetter) -> [String; 8] {
    [
        letter.id.clone(),
        letter.failed_at.to_string(),
        letter.stage.name().to_owned(),
        or_dash(letter.processor.as_deref()),
        or_dash(letter.event_type.as_deref()),
        or_dash(letter.event_id.as_deref()),
        or_dash(letter.requeued_at.map(|at| at.to_string()).as_deref()),
        one_line(&letter.reason),
    ]
}

/// Writes one letter whole.
pub(super) fn show(letter: &DeadLetter, json: bool, out: &mut impl Write) -> io::Result<()> {
    if json {
        let payload = Some(BASE64_STANDARD.encode(&letter.payload));
        serde_json::to_writer(&mut *out, &LetterJson { payload, ..LetterJson::new(letter) })?;
        return writeln!(out);
    }
    let [requeued_at, purged_at] =
        [letter.requeued_at, letter.purged_at].map(|at| at.map(|at| at.to_string()));
    let fields = [
        ("id", Some(&*letter.id)),
        ("event_id", letter.event_id.as_deref()),
        ("event_type", letter.event_type.as_deref()),
        ("stage", Some(letter.stage.name())),
        ("actor", Some(&*letter.actor)),
        ("processor", letter.processor.as_deref()),
        ("duty", Some(&*letter.duty)),
        ("class", letter.class.as_deref()),
        ("reason", Some(&*letter.reason)),
        ("message_id", Some(&*letter.message_id)),
        ("ordering_key", Some(&*letter.ordering_key)),
        ("publish_time", Some(&*letter.publish_time.to_string())),
        ("failed_at", Some(&*letter.failed_at.to_string())),
        ("attempts", Some(&*letter.attempts.to_string())),
        ("requeued_at", requeued_at.as_deref()),
        ("purged_at", purged_at.as_deref()),
        ("replay_id", letter.replay_id.as_deref()),
    ];
    for (name, value) in fields {
        writeln!(out, "{name:12} {}", or_dash(value))?;
    }
    for (name, value) in letter.attributes.iter().flat_map(|all| all.iter()) {
        writeln!(out, "{:12} {}", "attribute", one_line(&format!("{name} = {value}")))?;
    }
    let size = count(letter.payload.len() as u64, "byte");
    match printable(&letter.payload) {
        Some(text) => writeln!(out, "{:12} {size}\n{text}", "payload"),
        None => {
            let base64 = BASE64_STANDARD.encode(&letter.payload);
            writeln!(out, "{:12} {size}, not all printable text; in base64:\n{base64}", "payload")
        }
    }
}

/// The payload as text, if it is text that cannot steer a terminal.
fn printable(payload: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(payload).ok()?;
    let fits = |c: char| !c.is_control() || matches!(c, '\n' | '\t' | '\r');
    text.chars().all(fits).then_some(text)
}

/// A letter as JSON; times as text, the payload as base64 or left out.
#[derive(Serialize)]
struct LetterJson<'a> {
    id: &'a str,
    event_id: Option<&'a str>,
    event_type: Option<&'a str>,
    stage: &'static str,
    actor: &'a str,
    processor: Option<&'a str>,
    duty: &'a str,
    class: Option<&'a str>,
    reason: &'a str,
    attributes: Option<&'a Attributes>,
    message_id: &'a str,
    ordering_key: &'a str,
    publish_time: String,
    failed_at: String,
    attempts: u32,
    requeued_at: Option<String>,
    purged_at: Option<String>,
    replay_id: Option<&'a str>,
    payload_bytes: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<String>,
}

impl<'a> LetterJson<'a> {
    fn new(letter: &'a DeadLetter) -> Self {
        Self {
            id: &letter.id,
            event_id: letter.event_id.as_deref(),
            event_type: letter.event_type.as_deref(),
            stage: letter.stage.name(),
            actor: &letter.actor,
            processor: letter.processor.as_deref(),
            duty: &letter.duty,
            class: letter.class.as_deref(),
            reason: &letter.reason,
            attributes: letter.attributes.as_deref(),
            message_id: &letter.message_id,
            ordering_key: &letter.ordering_key,
            publish_time: letter.publish_time.to_string(),
            failed_at: letter.failed_at.to_string(),
            attempts: letter.attempts,
            requeued_at: letter.requeued_at.as_ref().map(Timestamp::to_string),
            purged_at: letter.purged_at.as_ref().map(Timestamp::to_string),
            replay_id: letter.replay_id.as_deref(),
            payload_bytes: letter.payload.len(),
            payload: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use kappa_actors::dead_letter_table::Stage;

    use super::*;

    fn letter() -> DeadLetter {
        DeadLetter {
            id: DeadLetter::id(("17", Timestamp::from_micros(0)), Stage::Parse, "route", None),
            event_id: None,
            event_type: Some("order.\x1b[2Jplaced".into()),
            stage: Stage::Parse,
            actor: "kappa/intake/parser.0".to_owned(),
            processor: None,
            duty: "route".to_owned(),
            reason: "/timestamp: missing".to_owned(),
            payload: b"\x1b[2J"[..].into(),
            attributes: None,
            message_id: "17".into(),
            publish_time: Timestamp::from_micros(1_771_338_600_000_000),
            failed_at: Timestamp::from_micros(1_771_338_600_500_000),
            attempts: 1,
            requeued_at: Some(Timestamp::from_micros(1_771_338_700_000_000)),
            replay_id: None,
            ordering_key: "".into(),
            class: None,
            payload_object: None,
            purged_at: None,
        }
    }

    fn listed(format: Format) -> String {
        let mut out = Vec::new();
        let mut list = List::new(format, &mut out);
        list.add(&letter()).unwrap();
        list.end().unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_wide_letter_is_listed_at_once_and_cut() {
        let wide = "w\u{202e}é".repeat(1_000_000);
        let letter =
            DeadLetter { event_type: Some(wide.as_str().into()), reason: wide, ..letter() };
        let mut out = Vec::new();
        let mut list = List::new(Format::Table { colour: false }, &mut out);
        let started = std::time::Instant::now();
        list.add(&letter).unwrap();
        list.end().unwrap();
        assert!(started.elapsed() < std::time::Duration::from_secs(5), "{:?}", started.elapsed());
        let text = String::from_utf8(out).unwrap();
        assert!(text.len() < 100_000 && !text.contains('\u{202e}'), "{} bytes", text.len());
    }

    #[test]
    fn a_terminal_gets_one_table_that_shows_requeued_letters() {
        let text = listed(Format::Table { colour: false });
        let id = &letter().id[..SHORT_ID];
        assert!(text.contains(&format!("│ {id} ┆ 2026-02-17 14:30:00 ┆ parse ┆")), "{text}");
        assert!(text.contains("/timestamp: missing (requeued)"), "{text}");
    }

    #[test]
    fn a_line_has_its_fields_in_their_places_and_no_empty_one() {
        let id = letter().id;
        let line = format!(
            "{id}\t2026-02-17T14:30:00.500000Z\tparse\t-\torder.\\u001b[2Jplaced\t-\t\
             2026-02-17T14:31:40.000000Z\t/timestamp: missing\n"
        );
        assert_eq!(listed(Format::Plain), line);
    }

    #[test]
    fn a_payload_that_could_steer_the_terminal_is_shown_in_base64() {
        let mut out = Vec::new();
        show(&letter(), false, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.ends_with("4 bytes, not all printable text; in base64:\nG1sySg==\n"),
            "{text}"
        );
        assert!(!text.contains('\x1b'));
        assert_eq!(printable("{\n\t\"é\": 1\r\n}".as_bytes()), Some("{\n\t\"é\": 1\r\n}"));
    }
}
