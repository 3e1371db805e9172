//! `kappa archive verify`

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::StreamExt;
use kappa_actors::archive::{ArchiveObject, LineFormat, Window};
use kappa_actors::replay::read_lines;
use serde::de::IgnoredAny;

use super::{Archive, Failure, VerifyArgs, count};

/// Faults of one file that are told one by one; a file of noise has as many as lines.
const TOLD: usize = 10;

pub(super) async fn verify(
    archive: &Archive<'_>,
    args: &VerifyArgs,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let (mut files, mut lines, mut faults) = (0, 0, 0);
    for object in archive.objects(&args.range).await? {
        let found = examine(archive, &object).await?;
        files += 1;
        lines += found.lines;
        faults += found.faults.len() as u64;
        for fault in found.faults.iter().take(TOLD) {
            writeln!(out, "{}{fault}", object.name)?;
        }
        if let Some(more @ 1..) = found.faults.len().checked_sub(TOLD) {
            writeln!(out, "{}: and {more} more", object.name)?;
        }
    }
    let (files, lines) = (count(files, "file"), count(lines, "line"));
    writeln!(out, "{files}, {lines}, {}", count(faults, "fault"))?;
    out.flush()?;
    if faults == 0 {
        return Ok(());
    }
    let hint = "`kappa archive cat` and `kappa replay` still read every line that is whole";
    Err(Failure::with_hint(anyhow::anyhow!("the archive has {}", count(faults, "fault")), hint))
}

/// What one file holds.
#[derive(Default)]
struct Found {
    lines: u64,
    /// Each begins with the line, `:7: `, or with `: ` where it is about the whole file.
    faults: Vec<String>,
}

impl Found {
    fn look_at(&mut self, line: &Bytes, format: LineFormat, window: Window) {
        self.lines += 1;
        let wrong = match format.decode(line.clone()) {
            Err(error) => error.to_string(),
            Ok(event) => match serde_json::from_slice::<IgnoredAny>(&event.payload) {
                Err(error) => format!("not JSON: {error}"),
                Ok(_) => match event.origin {
                    Some(origin) if Window::of(origin.publish_time) != window => {
                        format!("published at {}, in another window", origin.publish_time)
                    }
                    _ => return,
                },
            },
        };
        self.faults.push(format!(":{}: {wrong}", self.lines));
    }
}

async fn examine(archive: &Archive<'_>, object: &ArchiveObject) -> Result<Found, Failure> {
    let stored = archive.store.info(&object.name).await.map_err(anyhow::Error::from)?;
    let seen = Arc::new(Mutex::new((0_u64, 0_u32)));
    let found = Arc::new(Mutex::new(Found::default()));
    let stream = archive.store.read(&object.name).await.map_err(anyhow::Error::from)?;
    let stream = stream.inspect({
        let seen = Arc::clone(&seen);
        move |chunk| {
            if let Ok(chunk) = chunk {
                let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                *seen = (seen.0 + chunk.len() as u64, crc32c::crc32c_append(seen.1, chunk));
            }
        }
    });
    let (format, window) = (archive.settings.archive.format, object.window);
    let read = read_lines(stream.boxed(), object.compression, {
        let found = Arc::clone(&found);
        move |lines| {
            let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
            lines.iter().for_each(|line| found.look_at(line, format, window));
            true
        }
    });
    let read = read.await;
    let mut found = std::mem::take(&mut *found.lock().unwrap_or_else(PoisonError::into_inner));
    let (size, crc32c) = *seen.lock().unwrap_or_else(PoisonError::into_inner);
    match read {
        Err(fault) => found.faults.push(format!(":{}: {fault}", found.lines + 1)),
        Ok(()) if size != stored.size => {
            found.faults.push(format!(": {size} bytes instead of {}", stored.size));
        }
        Ok(()) if stored.crc32c.is_some_and(|stored| stored != crc32c) => {
            found.faults.push(": the checksum is another than the store's".to_owned());
        }
        Ok(()) => {}
    }
    Ok(found)
}
