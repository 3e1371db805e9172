//! Ids, times and numbers as text, written without the formatting machinery: it would cost more
//! than the rest of an event.

use compact_str::CompactString;
use kappa_actors::time::Timestamp;

use super::random::{SplitMix64, mix};

/// Digits of base 32 in the order of their bytes, so that text sorts as numbers do.
const BASE32: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const DAY_MS: u64 = 86_400_000;

/// The time of the next event, in milliseconds, with its day as text.
#[derive(Clone, Debug)]
pub(super) struct Clock {
    /// Milliseconds since midnight.
    of_day: u64,
    /// Midnight, in microseconds since the epoch.
    midnight: i64,
    /// `2026-02-17T14:30:00.123Z`, the part up to the T kept from event to event.
    text: [u8; 24],
}

impl Clock {
    pub(super) fn starting_at(start: Timestamp) -> Self {
        let day = (DAY_MS * 1000) as i64;
        let of_day = start.micros().rem_euclid(day);
        let mut clock = Self {
            of_day: of_day.unsigned_abs() / 1000,
            midnight: start.micros() - of_day,
            text: *b"0000-00-00T00:00:00.000Z",
        };
        clock.write_day();
        clock.write_time();
        clock
    }

    pub(super) fn advance(&mut self, ms: u64) {
        self.of_day += ms;
        while self.of_day >= DAY_MS {
            self.of_day -= DAY_MS;
            let day = (DAY_MS * 1000) as i64;
            self.midnight += day;
            self.write_day();
        }
        self.write_time();
    }

    pub(super) fn time(&self) -> Timestamp {
        Timestamp::from_micros(self.midnight).after(std::time::Duration::from_millis(self.of_day))
    }

    /// RFC 3339 with milliseconds.
    pub(super) fn text(&self) -> &[u8] {
        &self.text
    }

    fn write_day(&mut self) {
        let day = Timestamp::from_micros(self.midnight).to_string();
        self.text[..10].copy_from_slice(&day.as_bytes()[..10]);
    }

    fn write_time(&mut self) {
        let ms = self.of_day;
        put_digits(&mut self.text[11..13], ms / 3_600_000);
        put_digits(&mut self.text[14..16], ms / 60_000 % 60);
        put_digits(&mut self.text[17..19], ms / 1000 % 60);
        put_digits(&mut self.text[20..23], ms % 1000);
    }

    /// `evt_20260217_` and eleven digits of base 32: 27 bits of the time of day, then 28 bits that
    /// differ between salts at any one time. At 24 bytes a [`CompactString`] needs no heap.
    pub(super) fn ordered_id(&self, salt: u64) -> CompactString {
        let tail = (salt ^ mix(self.of_day)) & 0x0FFF_FFFF;
        let mut id = *b"evt_00000000_00000000000";
        id[4..8].copy_from_slice(&self.text[..4]);
        id[8..10].copy_from_slice(&self.text[5..7]);
        id[10..12].copy_from_slice(&self.text[8..10]);
        put_base32(&mut id[13..], self.of_day << 28 | tail);
        as_text(&id)
    }
}

/// `evt_` and twenty digits of base 32: 100 random bits.
pub(super) fn random_id(random: &mut SplitMix64) -> CompactString {
    let mut id = *b"evt_00000000000000000000";
    put_base32(&mut id[4..14], random.bits());
    put_base32(&mut id[14..], random.bits());
    as_text(&id)
}

fn as_text(ascii: &[u8]) -> CompactString {
    CompactString::from_utf8_lossy(ascii)
}

fn put_base32(into: &mut [u8], mut bits: u64) {
    for digit in into.iter_mut().rev() {
        *digit = BASE32[(bits & 31) as usize];
        bits >>= 5;
    }
}

/// Fills `into` with the last decimal digits of `number`.
fn put_digits(into: &mut [u8], mut number: u64) {
    for digit in into.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// Appends `number` in decimal, with at least `width` digits.
pub(super) fn push_number(number: u64, width: usize, buffer: &mut Vec<u8>) {
    let width = width.max(number.checked_ilog10().map_or(1, |digits| digits as usize + 1));
    let begin = buffer.len();
    buffer.resize(begin + width, b'0');
    put_digits(&mut buffer[begin..], number);
}

/// Appends `cents` hundredths: `29.99`.
pub(super) fn push_cents(cents: u64, buffer: &mut Vec<u8>) {
    push_number(cents / 100, 1, buffer);
    buffer.push(b'.');
    push_number(cents % 100, 2, buffer);
}

/// Appends 16 hexadecimal digits.
pub(super) fn push_hex(bits: u64, buffer: &mut Vec<u8>) {
    buffer.extend(
        (0..16).rev().map(|digit| b"0123456789abcdef"[(bits >> (4 * digit) & 15) as usize]),
    );
}
