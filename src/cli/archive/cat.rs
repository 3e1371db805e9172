//! `kappa archive cat`

use std::io::{BufWriter, Write};

use bytes::Bytes;
use kappa_actors::archive::{ArchiveObject, LineFormat};
use kappa_actors::replay::{ReadFault, ReplayRange, read_lines};
use tokio::sync::mpsc;

use super::{Archive, CatArgs, Failure, count};

/// Chunks of lines that wait to be written, at most.
const READ_AHEAD: usize = 4;

pub(super) async fn cat(
    archive: &Archive<'_>,
    args: &CatArgs,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let range = args.range.range();
    let mut out = BufWriter::new(out);
    let mut faults = 0;
    for object in archive.objects(&args.range).await? {
        let (send, mut chunks) = mpsc::channel(READ_AHEAD);
        let stream = archive.store.read(&object.name).await.map_err(anyhow::Error::from)?;
        let reading = tokio::spawn(read_lines(stream, object.compression, move |lines| {
            send.blocking_send(lines).is_ok()
        }));
        let mut number = 0;
        while let Some(lines) = chunks.recv().await {
            for line in lines {
                number += 1;
                faults += event(archive, &object, number, line, range, &mut out)?;
            }
        }
        if let Err(fault) =
            reading.await.unwrap_or_else(|panic| Err(ReadFault::Damaged(panic.to_string())))
        {
            faults += 1;
            super::tell("warning", &format!("{}:{}: {fault}", object.name, number + 1));
        }
    }
    out.flush()?;
    match faults {
        0 => Ok(()),
        faults => Err(anyhow::anyhow!("{} could not be read back", count(faults, "place")).into()),
    }
}

/// Writes the event of one line; how many faults it had.
fn event(
    archive: &Archive<'_>,
    object: &ArchiveObject,
    number: u64,
    line: Bytes,
    range: ReplayRange,
    out: &mut impl Write,
) -> Result<u64, Failure> {
    let format: LineFormat = archive.settings.archive.format;
    match format.decode(line) {
        Ok(event) => {
            if event.origin.is_none_or(|origin| range.holds(origin.publish_time)) {
                out.write_all(&event.payload)?;
                out.write_all(b"\n")?;
            }
            Ok(0)
        }
        Err(error) => {
            super::tell("warning", &format!("{}:{number}: {error}", object.name));
            Ok(1)
        }
    }
}
