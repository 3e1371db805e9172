//! Reads the format of a body from the request's headers and query.

use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName};
use serde::Deserialize;

use super::body::Rejection;
use crate::framing::Format;

/// The query of `POST /v1/events`.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(in crate::status) struct Options {
    /// Whether a body with an event that is no JSON object is refused as a whole.
    pub(super) strict: bool,
}

/// How a body is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Identity,
    Gzip,
    Zstd,
}

/// How a body holds events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Lines,
    /// One document, or one array of them, by its first character.
    Json,
}

impl Encoding {
    /// The encoding that the headers name.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Rejection> {
        let mut all = values(headers, &CONTENT_ENCODING);
        let first = all.next().unwrap_or_default();
        match first.to_ascii_lowercase().trim() {
            _ if all.next().is_some() => Err(Rejection::Encoding),
            "" | "identity" => Ok(Self::Identity),
            "gzip" | "x-gzip" => Ok(Self::Gzip),
            "zstd" => Ok(Self::Zstd),
            _ => Err(Rejection::Encoding),
        }
    }
}

impl Framing {
    /// The framing that the media type asks for: lines, unless it is JSON's own.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Rejection> {
        let value = values(headers, &CONTENT_TYPE).next().unwrap_or_default().to_ascii_lowercase();
        let mut parts = value.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default();
        for parameter in parts {
            let charset = parameter.strip_prefix("charset=").map(|name| name.trim_matches('"'));
            if charset.is_some_and(|name| !["utf-8", "utf8", "us-ascii"].contains(&name)) {
                return Err(Rejection::Charset);
            }
        }
        let is_json = media == "application/json" || media.ends_with("+json");
        Ok(if is_json { Self::Json } else { Self::Lines })
    }

    /// The format of this text.
    pub(super) fn format(self, text: &[u8]) -> Format {
        match (self, text.trim_ascii_start().first()) {
            (Self::Lines, _) => Format::Lines,
            (Self::Json, Some(b'[')) => Format::Array,
            (Self::Json, _) => Format::Document,
        }
    }
}

fn values<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    // Text that is no text is no known value either.
    headers.get_all(name).iter().map(|value| value.to_str().unwrap_or("?"))
}
