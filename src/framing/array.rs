//! Cuts the elements out of a JSON array, holding one at a time.

use std::io::{self, BufRead, Read as _};

use super::lines::Line;
use super::{Mistake, check_json};

/// The elements of the one array in `R`.
pub(crate) struct Elements<R> {
    from: R,
    most: u64,
    number: u64,
    place: Place,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Before,
    Within,
    Behind,
}

/// How an element ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Comma,
    Bracket,
}

impl<R: BufRead> Elements<R> {
    /// The elements in `from`, holding none of more than `most` bytes.
    pub(super) fn new(from: R, most: u64) -> Self {
        Self { from, most, number: 0, place: Place::Before }
    }

    /// The next element; `None` at the end of the text.
    pub(super) fn next(&mut self) -> io::Result<Option<Line>> {
        if self.place == Place::Before {
            match self.byte_behind_space()? {
                None => return Ok(None),
                Some(b'[') => self.place = Place::Within,
                Some(_) => return Err(Mistake::NoArray("it does not begin with [").into()),
            }
        }
        if self.place == Place::Behind {
            return match self.byte_behind_space()? {
                None => Ok(None),
                Some(_) => Err(Mistake::NoArray("more follows behind its end").into()),
            };
        }
        let (element, length, end) = self.element()?;
        if end == End::Bracket {
            self.place = Place::Behind;
            if self.number == 0 && element.trim_ascii().is_empty() && length <= self.most {
                return self.next();
            }
        }
        self.number += 1;
        let number = self.number;
        if length > self.most {
            return Ok(Some(Line::TooLong { number }));
        }
        check_json(&element).map_err(|fault| Mistake::Element(number, fault.to_string()))?;
        Ok(Some(Line::Event { number, payload: element.trim_ascii().to_vec().into() }))
    }

    /// An element as far as it may be held, its whole length, and how it ends.
    fn element(&mut self) -> io::Result<(Vec<u8>, u64, End)> {
        let (mut element, mut length) = (Vec::new(), 0);
        let mut scan = Scan::default();
        loop {
            let Some(byte) = self.byte()? else {
                return Err(Mistake::NoArray("it does not end").into());
            };
            if let Some(end) = scan.end(byte) {
                return Ok((element, length, end));
            }
            // White space in front does not count as the element's.
            if length > 0 || !byte.is_ascii_whitespace() {
                length += 1;
                if length <= self.most {
                    element.push(byte);
                }
            }
        }
    }

    fn byte(&mut self) -> io::Result<Option<u8>> {
        self.from.by_ref().bytes().next().transpose()
    }

    fn byte_behind_space(&mut self) -> io::Result<Option<u8>> {
        loop {
            match self.byte()? {
                Some(byte) if byte.is_ascii_whitespace() => {}
                other => return Ok(other),
            }
        }
    }
}

/// Where in an element a byte is.
#[derive(Default)]
struct Scan {
    depth: usize,
    in_string: bool,
    is_escaped: bool,
}

impl Scan {
    /// How the element ends before this byte; `None` where the byte belongs to it.
    fn end(&mut self, byte: u8) -> Option<End> {
        if self.in_string {
            match byte {
                _ if self.is_escaped => self.is_escaped = false,
                b'\\' => self.is_escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return None;
        }
        match byte {
            b',' if self.depth == 0 => return Some(End::Comma),
            b']' if self.depth == 0 => return Some(End::Bracket),
            b'"' => self.in_string = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        None
    }
}
