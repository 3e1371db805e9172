//! `kappa archive verify`

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::StreamExt;
use kappa_actors::archive::{ArchiveObject, Indexes, LineFormat, Tally, Window, indexes_between};
use kappa_actors::replay::read_lines;
use serde::de::IgnoredAny;

use super::{Archive, Failure, VerifyArgs, count};

/// Faults of one file that are listed one by one; a file of noise has as many as lines.
const TOLD: usize = 10;

pub(super) async fn verify(
    archive: &Archive,
    args: &VerifyArgs,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let objects = archive.objects(&args.range).await?;
    let range = args.range.range();
    let indexes = indexes_between(&*archive.store, range.from, range.to, &objects)
        .await
        .map_err(anyhow::Error::from)?;
    let (mut files, mut lines) = (0, 0);
    let mut faults = lost(&indexes, out)?;
    for object in objects {
        let found = examine(archive, &object, &indexes).await?;
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

/// Names the files that are gone, and the indexes that are; answers how many.
fn lost(indexes: &Indexes, out: &mut impl Write) -> Result<u64, Failure> {
    for lost in &indexes.lost {
        let lines = lost.lines.map_or("its".to_owned(), |lines| count(lines, "line"));
        writeln!(out, "{}: is lost, with {lines}: its index still names it", lost.name)?;
    }
    for name in &indexes.unindexed {
        writeln!(out, "{name}: has no index: nothing would show that lines of it were lost")?;
    }
    for (name, reason) in &indexes.unreadable {
        writeln!(out, "{name}: cannot be read: {reason}")?;
    }
    Ok((indexes.lost.len() + indexes.unindexed.len() + indexes.unreadable.len()) as u64)
}

/// The contents and faults of one file.
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

async fn examine(
    archive: &Archive,
    object: &ArchiveObject,
    indexes: &Indexes,
) -> Result<Found, Failure> {
    // A local store reads the file for this, and the index holds the same figure.
    let stored = match indexes.find(&object.name) {
        Some(_) => None,
        None => Some(archive.store.info(&object.name).await.map_err(anyhow::Error::from)?),
    };
    let seen = Arc::new(Mutex::new(Tally::default()));
    let found = Arc::new(Mutex::new(Found::default()));
    let stream = archive.store.read(&object.name).await.map_err(anyhow::Error::from)?;
    let stream = stream.inspect({
        let seen = Arc::clone(&seen);
        move |chunk| {
            if let Ok(chunk) = chunk {
                seen.lock().unwrap_or_else(PoisonError::into_inner).add(chunk);
            }
        }
    });
    let (format, window) = (object.format, object.window);
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
    let seen = *seen.lock().unwrap_or_else(PoisonError::into_inner);
    let seen = Tally { lines: found.lines, ..seen };
    let fault = match (read, stored) {
        (Err(fault), _) => Some(format!(":{}: {fault}", found.lines + 1)),
        (Ok(()), Some(stored)) if seen.size != stored.size => {
            Some(format!(": {} bytes instead of {}", seen.size, stored.size))
        }
        (Ok(()), Some(stored)) if stored.crc32c.is_some_and(|stored| stored != seen.crc32c) => {
            Some(": the checksum is another than the store's".to_owned())
        }
        (Ok(()), _) => {
            indexes.difference(object, &seen).map(|difference| format!(": {difference}"))
        }
    };
    found.faults.extend(fault);
    Ok(found)
}
