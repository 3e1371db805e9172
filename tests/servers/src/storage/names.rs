//! The rules of names.

use std::net::Ipv4Addr;

use super::state::Refusal;

/// The longest name of an object, in bytes of UTF-8.
const MAX_OBJECT_BYTES: usize = 1024;

/// The longest name of a bucket that has no dots, and part between two dots.
const MAX_PART: usize = 63;
/// The longest name of a bucket with dots.
const MAX_DOTTED: usize = 222;

/// <https://cloud.google.com/storage/docs/objects#naming>
pub(super) fn check_object(name: &str) -> Result<(), Refusal> {
    let reserved = name.starts_with(".well-known/acme-challenge/") || [".", ".."].contains(&name);
    if name.is_empty() || name.len() > MAX_OBJECT_BYTES || name.contains(['\r', '\n']) || reserved {
        return Err(Refusal::Invalid(format!("{name:?} is no name for an object")));
    }
    Ok(())
}

/// <https://cloud.google.com/storage/docs/buckets#naming>. Of the close misspellings only the named one is refused; the
/// ownership of a domain is not checked.
pub(super) fn check_bucket(name: &str) -> Result<(), Refusal> {
    let plain = |letter: u8| letter.is_ascii_lowercase() || letter.is_ascii_digit();
    let ends = [name.bytes().next(), name.bytes().last()];
    let longest = if name.contains('.') { MAX_DOTTED } else { MAX_PART };
    let why = if !(3..=longest).contains(&name.len())
        || name.split('.').any(|part| part.len() > MAX_PART)
    {
        "3 to 63 characters, or to 222 in parts of at most 63 between dots"
    } else if !name.bytes().all(|letter| plain(letter) || b"-_.".contains(&letter)) {
        "lower-case letters, digits, dashes, underscores and dots"
    } else if !ends.into_iter().flatten().all(plain) {
        "a letter or a digit at both ends"
    } else if name.parse::<Ipv4Addr>().is_ok() {
        "no IP address"
    } else if name.starts_with("goog") || name.contains("google") || name.contains("g00gle") {
        "nothing of Google's name"
    } else {
        return Ok(());
    };
    Err(Refusal::Invalid(format!("{name:?} is no name for a bucket: {why}")))
}
