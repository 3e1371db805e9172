//! Splits any bytes into lines, in bounded memory: a line that is too long is not held beyond the limit.

use std::io::{self, BufRead, BufReader, Read};

use bytes::{Bytes, BytesMut};

/// One line that is not blank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// An event.
    Event {
        /// The line's number, from 1.
        number: u64,
        /// The line without its end.
        payload: Bytes,
    },
    /// A line of more bytes than may be.
    TooLong {
        /// The line's number, from 1.
        number: u64,
    },
}

/// The lines of `R`. Only `\n` divides them; the last needs none; blank ones count but are left out.
pub(crate) struct Lines<R> {
    from: R,
    most: u64,
    number: u64,
    position: u64,
    line: Vec<u8>,
    /// Payloads are cut from here, so that thousands of them share one allocation.
    arena: BytesMut,
}

impl<R: BufRead> Lines<R> {
    /// The lines of `from`, holding none of more than `most` bytes; payloads share allocations of
    /// `arena` bytes.
    pub(super) fn new(from: R, most: u64, arena: usize) -> Self {
        Self {
            from,
            most,
            number: 0,
            position: 0,
            line: Vec::new(),
            arena: BytesMut::with_capacity(arena),
        }
    }

    /// The next line that is not blank; `None` at the end.
    pub(super) fn next(&mut self) -> io::Result<Option<Line>> {
        loop {
            self.line.clear();
            let whole = self.most.saturating_add(1);
            let read = self.from.by_ref().take(whole).read_until(b'\n', &mut self.line)? as u64;
            if read == 0 {
                return Ok(None);
            }
            self.number += 1;
            self.position += read;
            let number = self.number;
            if self.line.last() == Some(&b'\n') {
                self.line.pop();
            } else if read > self.most {
                self.position += self.from.skip_until(b'\n')? as u64;
                return Ok(Some(Line::TooLong { number }));
            }
            if !self.line.trim_ascii().is_empty() {
                self.arena.extend_from_slice(&self.line);
                return Ok(Some(Line::Event { number, payload: self.arena.split().freeze() }));
            }
        }
    }

    /// Bytes read so far.
    pub(super) fn position(&self) -> u64 {
        self.position
    }
}

impl<R: Read> Lines<BufReader<R>> {
    /// Whether the next line may have to be waited for.
    pub(super) fn may_wait(&self) -> bool {
        !self.from.buffer().contains(&b'\n')
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Gives its bytes in pieces of these sizes, over and over, as a slow pipe does.
    struct Pieces<'a> {
        bytes: &'a [u8],
        sizes: std::iter::Cycle<std::vec::IntoIter<usize>>,
    }

    impl Read for Pieces<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let most = self.sizes.next().unwrap_or(1).min(buffer.len());
            self.bytes.read(&mut buffer[..most])
        }
    }

    fn buffered<R: Read>(from: R, most: u64) -> Lines<BufReader<R>> {
        Lines::new(BufReader::new(from), most, 1_024)
    }

    fn split(bytes: &[u8], most: u64, sizes: Vec<usize>) -> Vec<Line> {
        let mut lines = buffered(Pieces { bytes, sizes: sizes.into_iter().cycle() }, most);
        let all = std::iter::from_fn(|| lines.next().unwrap()).collect();
        assert_eq!(lines.position(), bytes.len() as u64);
        all
    }

    /// What `split` promises, by the shortest code that holds everything at once.
    fn model(bytes: &[u8], most: u64) -> Vec<Line> {
        let lines = bytes.split(|byte| *byte == b'\n').zip(1..);
        lines
            .filter_map(|(line, number)| match line {
                long if long.len() as u64 > most => Some(Line::TooLong { number }),
                blank if blank.trim_ascii().is_empty() => None,
                event => Some(Line::Event { number, payload: Bytes::copy_from_slice(event) }),
            })
            .collect()
    }

    proptest! {
        #[test]
        fn any_bytes_are_split_at_newlines_alone_however_they_arrive(
            bytes in prop::collection::vec(
                prop_oneof![3 => any::<u8>(), 2 => Just(b'\n'), 1 => Just(b' '), 1 => Just(b'\r')],
                0..200,
            ),
            most in 1_u64..12,
            sizes in prop::collection::vec(1_usize..20, 1..5),
        ) {
            prop_assert_eq!(split(&bytes, most, sizes), model(&bytes, most));
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_never_held_whole() {
        let long = io::repeat(b'x').take(50_000_000);
        let input = io::Read::chain(long, &b"\n{}"[..]);
        let mut lines = buffered(input, 10);
        assert_eq!(lines.next().unwrap(), Some(Line::TooLong { number: 1 }));
        assert!(lines.line.capacity() < 1_000, "{}", lines.line.capacity());
        let payload = Bytes::from_static(b"{}");
        assert_eq!(lines.next().unwrap(), Some(Line::Event { number: 2, payload }));
    }

    #[test]
    fn a_line_is_handed_on_before_the_next_one_is_there() {
        let mut lines = buffered(&b"a\nb\nhalf"[..], 10);
        lines.next().unwrap();
        assert!(!lines.may_wait(), "the second line is there");
        lines.next().unwrap();
        assert!(lines.may_wait(), "the third is not");
    }
}
