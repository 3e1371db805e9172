//! Text from outside, made fit for a terminal: nothing in it steers, reorders or hides.

use std::borrow::Cow;
use std::io::{self, Write};

/// Characters of a text that a table's cell shows.
const CELL_CHARS: usize = 400;

/// Whether a terminal shows the character as something else than itself, or not at all.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            // Marks that change the direction of text.
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
            // Other ends of a line.
            | '\u{2028}' | '\u{2029}'
            // Characters that are ignored where they are shown.
            | '\u{ad}' | '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200d}' | '\u{2060}'..='\u{2065}'
            | '\u{206a}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
            | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// Writes the character as JSON escapes it, so that JSON stays JSON.
fn escape(c: char, into: &mut String) {
    use std::fmt::Write as _;
    for unit in c.encode_utf16(&mut [0; 2]) {
        // Writing to a string does not fail.
        let _ = write!(into, "\\u{unit:04x}");
    }
}

fn visible(text: &str, stays: impl Fn(char) -> bool) -> Cow<'_, str> {
    if text.chars().all(|c| stays(c) || !is_hidden(c)) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if stays(c) || !is_hidden(c) { shown.push(c) } else { escape(c, &mut shown) }
    }
    Cow::Owned(shown)
}

/// Text of several lines, with its line breaks and nothing else that a terminal obeys.
pub(crate) fn lines(text: &str) -> Cow<'_, str> {
    visible(text, |c| matches!(c, '\n' | '\t'))
}

/// Text on one line, its line breaks and tabs become spaces.
pub(crate) fn one_line(text: &str) -> String {
    visible(text, |c| matches!(c, '\n' | '\t')).replace(['\n', '\t'], " ")
}

/// The beginning of a text, for a table's cell: laying out takes time for each character.
pub(crate) fn cell(text: &str) -> String {
    match text.char_indices().nth(CELL_CHARS) {
        Some((end, _)) => format!("{}…", one_line(&text[..end])),
        None => one_line(text),
    }
}

/// An output that escapes hidden characters on a terminal, except colours and line breaks. In a pipe all
/// bytes stay as they are.
#[derive(Debug)]
pub(crate) struct Visible<W> {
    out: W,
    is_terminal: bool,
    /// A character that has begun.
    begun: Vec<u8>,
}

impl<W: Write> Visible<W> {
    pub(crate) fn new(out: W, is_terminal: bool) -> Self {
        Self { out, is_terminal, begun: Vec::new() }
    }

    fn shown(&mut self, bytes: &[u8]) -> String {
        let bytes = [&std::mem::take(&mut self.begun)[..], bytes].concat();
        let mut shown = String::with_capacity(bytes.len());
        let mut rest = &bytes[..];
        for chunk in bytes.utf8_chunks() {
            shown.push_str(&visible(chunk.valid(), |c| matches!(c, '\n' | '\t' | '\x1b')));
            rest = &rest[chunk.valid().len() + chunk.invalid().len()..];
            let may_go_on = std::str::from_utf8(chunk.invalid())
                .is_err_and(|error| error.error_len().is_none());
            if rest.is_empty() && may_go_on {
                self.begun = chunk.invalid().to_vec();
            } else if !chunk.invalid().is_empty() {
                shown.push(char::REPLACEMENT_CHARACTER);
            }
        }
        shown
    }
}

impl<W: Write> Write for Visible<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.is_terminal {
            return self.out.write(bytes);
        }
        let shown = self.shown(bytes);
        self.out.write_all(shown.as_bytes()).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    /// A carriage return, a text from right to left, an invisible space, a tag, a C1 control.
    const HOSTILE: &str = "a\rb\u{202e}c\u{200b}d\u{e0041}e\u{9b}2Jf\u{1b}[2Jg\u{feff}\u{2028}h";
    const SHOWN: &str =
        "a\\u000db\\u202ec\\u200bd\\udb40\\udc41e\\u009b2Jf\\u001b[2Jg\\ufeff\\u2028h";

    #[test]
    fn what_hides_or_steers_is_escaped() {
        assert_eq!(one_line(HOSTILE), SHOWN);
        assert_eq!(lines(HOSTILE), SHOWN);
        assert_eq!(one_line("ä 日本\n\tx"), "ä 日本  x");
        assert_eq!(lines("ä\n\tx"), "ä\n\tx");
        let read: String = serde_json::from_str(&format!("\"{SHOWN}\"")).unwrap();
        assert_eq!(read, HOSTILE, "JSON means the same");
    }

    #[test]
    fn a_terminal_gets_escapes_and_a_pipe_the_bytes() {
        let text = HOSTILE.replace('\u{1b}', "");
        for size in [1, 2, 3, 1_000] {
            for is_terminal in [true, false] {
                let mut out = Visible::new(Vec::new(), is_terminal);
                let bytes = ["\u{1b}[1mä".as_bytes(), text.as_bytes(), b"\xff\xc3("].concat();
                bytes.chunks(size).for_each(|piece| out.write_all(piece).unwrap());
                let shown = format!("\u{1b}[1mä{}\u{fffd}\u{fffd}(", SHOWN.replace("\\u001b", ""));
                let wanted = if is_terminal { shown.into_bytes() } else { bytes };
                assert_eq!(out.out, wanted, "{size}");
            }
        }
    }

    #[test]
    fn a_wide_cell_is_cut() {
        assert_eq!(cell("a\u{202e}"), "a\\u202e");
        let started = Instant::now();
        let wide = cell(&"wé".repeat(10_000_000));
        assert_eq!(wide.chars().count(), CELL_CHARS + 1);
        assert!(wide.ends_with('…') && started.elapsed() < Duration::from_secs(5));
    }
}
