//! Numbers as their digits: no detour through a double.

use std::iter::repeat_n;

/// Digits that BigQuery's NUMERIC holds before the point.
const MAX_WHOLE_DIGITS: i64 = 29;
/// Digits that BigQuery's NUMERIC holds behind the point.
const MAX_FRACTION_DIGITS: i64 = 9;
/// Digits of an `i64`, at most.
const MAX_INTEGER_DIGITS: i64 = 19;

/// A number of any size: `0.digits × 10^point`, without zeros at either end of its digits.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Decimal {
    negative: bool,
    digits: String,
    point: i64,
}

/// The parts of a number's text.
struct Parts<'a> {
    negative: bool,
    whole: &'a str,
    fraction: &'a str,
    exponent: i64,
}

/// Whether `text` is a number as JSON writes them: no `+`, no leading zeros, no `inf`.
pub(super) fn is_number(text: &str) -> bool {
    split(text).is_some()
}

fn split(text: &str) -> Option<Parts<'_>> {
    let (negative, rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, read_exponent(exponent)?),
        None => (rest, 0),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) if is_digits(fraction) => (whole, fraction),
        Some(_) => return None,
        None => (mantissa, ""),
    };
    let plain = is_digits(whole) && (whole.len() == 1 || !whole.starts_with('0'));
    plain.then_some(Parts { negative, whole, fraction, exponent })
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// An exponent too large to count is as good as a very large one.
fn read_exponent(text: &str) -> Option<i64> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let size = i64::from(digits.parse::<i32>().unwrap_or(i32::MAX));
    is_digits(digits).then_some(if negative { -size } else { size })
}

impl Decimal {
    /// Reads a number as JSON writes them.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let Parts { negative, whole, fraction, exponent } = split(text)?;
        let all = format!("{whole}{fraction}");
        let digits = all.trim_start_matches('0');
        let zeros = (all.len() - digits.len()) as i64;
        let digits = digits.trim_end_matches('0').to_owned();
        if digits.is_empty() {
            return Some(Self { negative: false, digits, point: 0 });
        }
        Some(Self { negative, point: whole.len() as i64 - zeros + exponent, digits })
    }

    /// The integer that it is exactly, if there is one in 64 bits.
    pub(super) fn integer(&self) -> Option<i64> {
        if self.digits.is_empty() {
            return Some(0);
        }
        if self.fraction_digits() > 0 || self.point > MAX_INTEGER_DIGITS {
            return None;
        }
        self.text().parse().ok()
    }

    /// Its text without exponent or idle zeros, if BigQuery's NUMERIC holds it exactly.
    pub(super) fn numeric(&self) -> Option<String> {
        let fits = self.point <= MAX_WHOLE_DIGITS && self.fraction_digits() <= MAX_FRACTION_DIGITS;
        fits.then(|| self.text())
    }

    fn fraction_digits(&self) -> i64 {
        self.digits.len() as i64 - self.point
    }

    /// Only for numbers checked to be of modest size: writes all zeros out.
    fn text(&self) -> String {
        let (len, point) = (self.digits.len() as i64, self.point);
        let zeros = |count: i64| usize::try_from(count).unwrap_or(0);
        let (whole, fraction) = self.digits.split_at(zeros(point.min(len)));
        let mut text = String::with_capacity(40);
        if self.negative {
            text.push('-');
        }
        text.push_str(if whole.is_empty() { "0" } else { whole });
        text.extend(repeat_n('0', zeros(point - len)));
        if !fraction.is_empty() {
            text.push('.');
            text.extend(repeat_n('0', zeros(-point)));
            text.push_str(fraction);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_read_from_any_spelling_of_the_same_number() {
        for (text, integer) in [
            ("0", Some(0)),
            ("-0.0", Some(0)),
            ("0e99999999999", Some(0)),
            ("3.0", Some(3)),
            ("-1.5e1", Some(-15)),
            ("1e3", Some(1000)),
            ("1200e-2", Some(12)),
            ("9223372036854775807.0", Some(i64::MAX)),
            ("-9223372036854775808.00", Some(i64::MIN)),
            ("9223372036854775808.0", None),
            ("1e19", None),
            ("1e99999999999", None),
            ("3.5", None),
            ("1e-1", None),
        ] {
            assert_eq!(Decimal::parse(text).unwrap().integer(), integer, "{text}");
        }
    }

    #[test]
    fn numerics_keep_every_digit_or_are_refused() {
        let nines = "9".repeat(29);
        for (text, numeric) in [
            ("0", Some("0")),
            ("-0.00", Some("0")),
            ("1.50", Some("1.5")),
            ("-12.30e1", Some("-123")),
            ("5e-9", Some("0.000000005")),
            ("12e3", Some("12000")),
            ("0.1", Some("0.1")),
            ("100.0000000010", Some("100.000000001")),
            (&format!("{nines}.999999999"), Some(&format!("{nines}.999999999"))),
            ("1e28", Some("10000000000000000000000000000")),
            ("1e29", None),
            ("1e-10", None),
            ("0.0000000001", None),
            ("1e-99999999999", None),
        ] {
            assert_eq!(Decimal::parse(text).unwrap().numeric().as_deref(), numeric, "{text}");
        }
    }

    #[test]
    fn what_json_would_not_call_a_number_is_none() {
        for text in [
            "", "-", "+1", "01", ".5", "5.", "1e", "1e+", "1e1.5", "0x1", "inf", "NaN", " 1",
            "1_0", "١",
        ] {
            assert!(!is_number(text), "{text}");
        }
    }
}
