//! How a text is divided into events: for `POST /v1/events` and for `kappa publish` alike.
//!
//! Events are taken as they are, also such as will become dead letters. Refused is a mistake
//! of framing: a text of which no part would be an event, though the text itself may be fine.

mod array;
mod lines;
mod mistake;
mod sniff;

use std::io::{self, BufRead, BufReader, Read};

use bytes::Bytes;
use serde_json::value::RawValue;

use array::Elements;
pub(crate) use lines::Line;
use lines::Lines;
pub(crate) use mistake::{Means, Mistake};
pub(crate) use sniff::{Sniffed, check_start};

/// How events are written one after another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// One event a line
    #[default]
    Lines,
    /// The whole text is one event
    Document,
    /// Each element of one JSON array is an event
    Array,
}

/// The events of a text, one after another, in bounded memory.
pub(crate) enum Events<R> {
    Lines(Lines<R>),
    Document(Option<Document<R>>),
    Array(Elements<R>),
}

/// A text that is one event.
pub(crate) struct Document<R> {
    from: R,
    most: u64,
}

impl<R: BufRead> Events<R> {
    /// The events in `from`, holding none of more than `most` bytes. Small payloads share
    /// allocations of `arena` bytes.
    pub(crate) fn new(format: Format, from: R, most: u64, arena: usize) -> Self {
        match format {
            Format::Lines => Self::Lines(Lines::new(from, most, arena)),
            Format::Document => Self::Document(Some(Document { from, most })),
            Format::Array => Self::Array(Elements::new(from, most)),
        }
    }

    /// The next event; `None` at the end.
    ///
    /// # Errors
    /// Errors of the source; a [`Mistake`] is the inner error where the text is no document or array.
    pub(crate) fn next(&mut self) -> io::Result<Option<Line>> {
        match self {
            Self::Lines(lines) => lines.next(),
            Self::Document(document) => document.take().map_or(Ok(None), Document::read),
            Self::Array(elements) => elements.next(),
        }
    }

    /// Bytes read so far, where lines are read.
    pub(crate) fn position(&self) -> u64 {
        match self {
            Self::Lines(lines) => lines.position(),
            Self::Document(_) | Self::Array(_) => 0,
        }
    }
}

impl<R: Read> Events<BufReader<R>> {
    /// Whether the next event may have to be waited for.
    pub(crate) fn may_wait(&self) -> bool {
        match self {
            Self::Lines(lines) => lines.may_wait(),
            Self::Document(_) | Self::Array(_) => false,
        }
    }
}

impl<R: BufRead> Document<R> {
    fn read(mut self) -> io::Result<Option<Line>> {
        let mut payload = Vec::new();
        self.from.by_ref().take(self.most.saturating_add(1)).read_to_end(&mut payload)?;
        if payload.len() as u64 > self.most {
            return Ok(Some(Line::TooLong { number: 1 }));
        }
        if payload.trim_ascii().is_empty() {
            return Ok(None);
        }
        check_json(&payload).map_err(|fault| Mistake::NotJson(fault.to_string()))?;
        Ok(Some(Line::Event { number: 1, payload: payload.into() }))
    }
}

fn check_json(text: &[u8]) -> Result<(), serde_json::Error> {
    serde_json::from_slice::<&RawValue>(text).map(|_| ())
}

/// Whether the text is a JSON object. Numbers that a double cannot hold are JSON.
pub(crate) fn is_object(text: &[u8]) -> bool {
    text.trim_ascii_start().first() == Some(&b'{') && check_json(text).is_ok()
}

/// The contents of a text.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Survey {
    /// Events of at most the allowed length.
    pub(crate) events: u64,
    /// The lines that are no JSON objects.
    pub(crate) no_objects: u64,
    /// Events that are too long.
    pub(crate) too_long: u64,
}

impl Survey {
    /// Reads all events; `report` gets each that is no JSON object, and each that is too long.
    ///
    /// # Errors
    /// As [`Events::next`].
    pub(crate) fn of(
        mut events: Events<impl BufRead>,
        mut report: impl FnMut(&Line),
    ) -> io::Result<Self> {
        let mut survey = Self::default();
        while let Some(line) = events.next()? {
            match &line {
                Line::Event { payload, .. } => {
                    survey.events += 1;
                    if !is_object(payload) {
                        survey.no_objects += 1;
                        report(&line);
                    }
                }
                Line::TooLong { .. } => {
                    survey.too_long += 1;
                    report(&line);
                }
            }
        }
        Ok(survey)
    }

    /// Whether there are events, and none is a JSON object.
    pub(crate) fn has_no_object(&self) -> bool {
        self.events > 0 && self.no_objects == self.events
    }
}

/// Looks for mistakes in a text that is held whole; `report` as in [`Survey::of`].
///
/// # Errors
/// The mistake.
pub(crate) fn survey(
    format: Format,
    text: &Bytes,
    most: u64,
    report: impl FnMut(&Line),
) -> Result<Survey, Mistake> {
    let survey = Survey::of(Events::new(format, &text[..], most, 0), report)?;
    let spread = format == Format::Lines && survey.no_objects > 0 && survey.events > 1;
    if survey.has_no_object() || spread && check_json(text).is_ok() {
        return Err(Mistake::of_text(format, text));
    }
    Ok(survey)
}

#[cfg(test)]
mod tests;
