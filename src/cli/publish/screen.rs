//! Holds the first lines back until one of them is a JSON object: input that holds none is framed in
//! another way, and nothing of it is published.

use std::collections::VecDeque;
use std::io;

use crate::cli::source::SourceEvents;
use crate::framing::{Format, Line, Mistake, is_object};

/// The most input that is held back; if no object begins in it, the input has none.
const MAX_HELD_BYTES: usize = 1 << 20;
const MAX_HELD_LINES: usize = 2_000;

/// An event, and what became known of it.
pub(super) struct Screened {
    pub(super) line: Line,
    pub(super) is_object: bool,
    /// Bytes of the source up to its end.
    pub(super) position: u64,
}

/// The events of a source, screened.
pub(super) struct Screen {
    events: SourceEvents,
    held: VecDeque<Screened>,
    held_bytes: usize,
    /// Whether the source is known to hold events.
    is_open: bool,
    is_strict: bool,
}

impl Screen {
    /// Screens lines; lines from a terminal are taken as they are.
    pub(super) fn new(events: SourceEvents, format: Format, terminal: bool, strict: bool) -> Self {
        let is_open = terminal || format != Format::Lines;
        Self { events, held: VecDeque::new(), held_bytes: 0, is_open, is_strict: strict }
    }

    /// The next event; `None` at the end.
    ///
    /// # Errors
    /// Errors of the source; a [`Mistake`] and a line that `--strict` refuses are inner errors.
    pub(super) fn next(&mut self) -> io::Result<Option<Screened>> {
        while !self.is_open {
            match self.read()? {
                Some(next) => {
                    self.is_open = next.is_object || matches!(next.line, Line::TooLong { .. });
                    if let Line::Event { payload, .. } = &next.line {
                        self.held_bytes += payload.len();
                    }
                    self.held.push_back(next);
                    if !self.is_open {
                        self.check_held()?;
                    }
                }
                None if self.held.is_empty() => return Ok(None),
                None => return Err(Mistake::of_lines(&self.text()).into()),
            }
        }
        match self.held.pop_front() {
            Some(held) => Ok(Some(held)),
            None => self.read(),
        }
    }

    /// Whether the next event may have to be waited for.
    pub(super) fn may_wait(&self) -> bool {
        self.held.is_empty() && self.events.may_wait()
    }

    fn read(&mut self) -> io::Result<Option<Screened>> {
        let Some(line) = self.events.next()? else { return Ok(None) };
        let is_object = matches!(&line, Line::Event { payload, .. } if is_object(payload));
        if let Line::Event { number, .. } = line
            && self.is_strict
            && !is_object
        {
            let text = format!("line {number} is no JSON object, and --strict is set");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        Ok(Some(Screened { line, is_object, position: self.events.position() }))
    }

    /// Gives up on input that cannot become better.
    fn check_held(&self) -> io::Result<()> {
        // JSON that is spread over lines begins with a line that only opens an object or an array.
        let opens = self.held.len() == 1 && matches!(self.text().trim_ascii(), b"{" | b"[");
        if opens || self.held_bytes > MAX_HELD_BYTES || self.held.len() > MAX_HELD_LINES {
            return Err(Mistake::of_lines(&self.text()).into());
        }
        Ok(())
    }

    fn text(&self) -> Vec<u8> {
        let payloads = self.held.iter().filter_map(|held| match &held.line {
            Line::Event { payload, .. } => Some(&payload[..]),
            Line::TooLong { .. } => None,
        });
        payloads.collect::<Vec<_>>().join(&b'\n')
    }
}
