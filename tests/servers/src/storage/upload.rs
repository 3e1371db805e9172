//! Uploads: whole ones and resumable ones.
//!
//! <https://cloud.google.com/storage/docs/performing-resumable-uploads>,
//! <https://cloud.google.com/storage/docs/uploading-objects#uploading-an-object>

use axum::http::{HeaderMap, StatusCode};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde_json::Value;

use super::state::{Refusal, State, Stored, Wanted};

/// A chunk that is not the last has a multiple of so many bytes:
/// <https://cloud.google.com/storage/docs/performing-resumable-uploads#chunked-upload>. The words are
/// observed, and that fewer bytes are refused; that more are, which are no multiple, is the stricter
/// way: <https://github.com/googleapis/gcs-resumable-upload/issues/17>.
const CHUNK: usize = 262_144;

/// A resumable upload that is under way, or done.
#[derive(Debug, Default)]
pub(super) struct Session {
    bucket: String,
    name: String,
    storage_class: Option<String>,
    crc32c: Option<u32>,
    if_generation_match: Option<i64>,
    kept: Vec<u8>,
    /// Its result; a repeated request gets the same answer.
    done: Option<Stored>,
}

/// The result of a chunk.
pub(super) enum Progress {
    Done(Stored),
    /// So many bytes are kept: 308.
    Kept(usize),
}

/// The metadata of an upload.
struct Metadata {
    storage_class: Option<String>,
    crc32c: Option<u32>,
}

/// Takes a whole object: its metadata and its bytes, in two parts.
/// <https://cloud.google.com/storage/docs/uploading-objects#uploading-an-object>
pub(super) fn multipart(
    state: &mut State,
    mut wanted: Wanted,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<Stored, Refusal> {
    let invalid = |why: &str| Refusal::Invalid(why.to_owned());
    let kind = headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or("");
    let boundary = kind.split("boundary=").nth(1).ok_or_else(|| invalid("no boundary"))?;
    let boundary = boundary.split(';').next().unwrap_or(boundary).trim_matches('"');
    let parts = parts(body, boundary);
    let [first, media, ..] = &parts[..] else { return Err(invalid("two parts are needed")) };
    let metadata = metadata(first)?;
    wanted.storage_class = metadata.storage_class;
    state.make(wanted, media.clone(), metadata.crc32c, None)
}

/// Begins a resumable upload; its number.
pub(super) fn begin(state: &mut State, wanted: Wanted, body: &Bytes) -> Result<u64, Refusal> {
    state.may_make(&wanted)?;
    let metadata = metadata(body)?;
    let number = state.sessions.len() as u64 + 1;
    let session = Session {
        bucket: wanted.bucket,
        name: wanted.name,
        if_generation_match: wanted.if_generation_match,
        storage_class: metadata.storage_class,
        crc32c: metadata.crc32c,
        ..Session::default()
    };
    state.sessions.insert(number, session);
    Ok(number)
}

/// Takes a chunk, or reports the progress: `bytes 0-99/*`, `bytes 0-99/100`, `bytes */*`.
/// <https://cloud.google.com/storage/docs/performing-resumable-uploads>
pub(super) fn go_on(
    state: &mut State,
    number: u64,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<Progress, Refusal> {
    let invalid = |why: String| Refusal::Invalid(why);
    let range = headers.get("content-range").and_then(|value| value.to_str().ok()).unwrap_or("");
    let (span, total) = range
        .strip_prefix("bytes ")
        .and_then(|range| range.split_once('/'))
        .ok_or_else(|| invalid(format!("content-range {range:?}")))?;
    let broken = state.break_upload.filter(|_| span != "*" && !body.is_empty());
    let spoil = state.spoil_upload;
    // https://cloud.google.com/storage/docs/json_api/v1/status-codes: 404.
    let Some(session) = state.sessions.get_mut(&number) else {
        return Err(Refusal::NoObject(format!("upload {number}")));
    };
    if let Some(done) = &session.done {
        return Ok(Progress::Done(done.clone()));
    }
    if let Some(told) = checksum(headers) {
        session.crc32c = Some(told);
    }
    if let Some((first, _)) = span.split_once('-') {
        let first: usize = first.parse().map_err(|_| invalid(format!("range {span}")))?;
        let is_last = total.parse() == Ok(first + body.len());
        if !is_last && !body.len().is_multiple_of(CHUNK) {
            return Err(invalid(format!(
                "The number of bytes uploaded is required to be equal or greater than {CHUNK}, \
                 except for the final request (it's recommended to be the exact multiple of \
                 {CHUNK}). The received request contained {} bytes, which does not meet this \
                 requirement.",
                body.len()
            )));
        }
        // Observed, not documented, and with 503 there:
        // https://github.com/risingwavelabs/risingwave/issues/17407
        if first > session.kept.len() {
            return Err(invalid(format!("bytes {span} after {} kept", session.kept.len())));
        }
        let fresh = &body[(session.kept.len() - first).min(body.len())..];
        if let Some(keep) = broken {
            session.kept.extend_from_slice(&fresh[..keep.min(fresh.len())]);
            state.break_upload = None;
            return Err(Refusal::Fault(503));
        }
        session.kept.extend_from_slice(fresh);
    }
    let Ok(total) = total.parse::<usize>() else { return Ok(Progress::Kept(session.kept.len())) };
    if session.kept.len() < total {
        return Ok(Progress::Kept(session.kept.len()));
    }
    let mut bytes = std::mem::take(&mut session.kept);
    let mut crc32c = session.crc32c;
    let wanted = Wanted {
        bucket: session.bucket.clone(),
        name: session.name.clone(),
        storage_class: session.storage_class.clone(),
        if_generation_match: session.if_generation_match,
    };
    if let Some(byte) = bytes.first_mut().filter(|_| spoil) {
        *byte ^= 1;
        crc32c = None;
        state.spoil_upload = false;
    }
    let stored = state.make(wanted, bytes.into(), crc32c, None)?;
    if let Some(session) = state.sessions.get_mut(&number) {
        session.done = Some(stored.clone());
    }
    Ok(Progress::Done(stored))
}

/// The status with which a broken upload reports its progress.
pub(super) const RESUME_INCOMPLETE: StatusCode = StatusCode::PERMANENT_REDIRECT;

fn metadata(json: &[u8]) -> Result<Metadata, Refusal> {
    let json: Value = if json.is_empty() {
        Value::Null
    } else {
        serde_json::from_slice(json)
            .map_err(|error| Refusal::Invalid(format!("metadata: {error}")))?
    };
    Ok(Metadata {
        storage_class: json["storageClass"].as_str().map(str::to_owned),
        crc32c: json["crc32c"].as_str().and_then(decode_crc32c),
    })
}

/// The checksum that comes with the last chunk: `x-goog-hash: crc32c=…`.
fn checksum(headers: &HeaderMap) -> Option<u32> {
    let hash = headers.get("x-goog-hash")?.to_str().ok()?;
    hash.split(',').find_map(|one| decode_crc32c(one.trim().strip_prefix("crc32c=")?))
}

/// Base64 of four bytes, the highest first.
fn decode_crc32c(text: &str) -> Option<u32> {
    let bytes = BASE64_STANDARD.decode(text).ok()?;
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

/// The bodies of the parts between boundaries, without their headers.
fn parts(body: &Bytes, boundary: &str) -> Vec<Bytes> {
    let mark = format!("--{boundary}");
    let mut starts = Vec::new();
    let mut from = 0;
    while let Some(at) = find(&body[from..], mark.as_bytes()) {
        starts.push(from + at);
        from += at + mark.len();
    }
    let between = starts.windows(2).map(|pair| body.slice(pair[0] + mark.len()..pair[1]));
    between
        .filter_map(|part| {
            let content = find(&part, b"\r\n\r\n")? + 4;
            Some(part.slice(content..part.len().saturating_sub(2).max(content)))
        })
        .collect()
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
