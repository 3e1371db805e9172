//! `kappa archive cat`

use std::collections::HashSet;
use std::io::{BufWriter, Write};

use bytes::Bytes;
use kappa_actors::archive::{ArchiveObject, LineFormat, Origin, Window};
use kappa_actors::replay::{ReadFault, ReplayRange, read_lines};
use tokio::sync::mpsc;

use super::{Archive, CatArgs, Failure, count};

/// Chunks of lines that wait to be written, at most.
const READ_AHEAD: usize = 4;

pub(super) async fn cat(
    archive: &Archive,
    args: &CatArgs,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let objects = archive.objects(&args.range).await?;
    let payloads = objects.iter().any(|object| object.format == LineFormat::Payload);
    if args.unique && payloads {
        let note = "files without a mark in their name hold no message ids: \
                    repeated lines of theirs are written again";
        super::tell("note", note);
    }
    let mut writer = Writer {
        range: args.range.range(),
        raw: args.raw,
        seen: args.unique.then(Seen::default),
        out: BufWriter::new(out),
    };
    let mut faults = 0;
    for object in objects {
        let (send, mut chunks) = mpsc::channel(READ_AHEAD);
        let stream = archive.store.read(&object.name).await.map_err(anyhow::Error::from)?;
        let reading = tokio::spawn(read_lines(stream, object.compression, move |lines| {
            send.blocking_send(lines).is_ok()
        }));
        let mut number = 0;
        while let Some(lines) = chunks.recv().await {
            for line in lines {
                number += 1;
                faults += writer.line(&object, number, line)?;
            }
        }
        if let Err(fault) =
            reading.await.unwrap_or_else(|panic| Err(ReadFault::Damaged(panic.to_string())))
        {
            faults += 1;
            super::tell("warning", &format!("{}:{}: {fault}", object.name, number + 1));
        }
    }
    writer.out.flush()?;
    match faults {
        0 => Ok(()),
        faults => Err(anyhow::anyhow!("{} could not be read back", count(faults, "place")).into()),
    }
}

/// Writes lines, or the payloads in them.
struct Writer<W: Write> {
    range: ReplayRange,
    raw: bool,
    seen: Option<Seen>,
    out: BufWriter<W>,
}

impl<W: Write> Writer<W> {
    /// Writes one line, if it belongs to the range; answers how many faults it had.
    fn line(&mut self, object: &ArchiveObject, number: u64, line: Bytes) -> Result<u64, Failure> {
        let (payload, faults) = match object.format.decode(line.clone()) {
            Ok(event) => {
                let origin = event.origin.as_ref();
                if origin.is_some_and(|origin| !self.range.holds(origin.publish_time)) {
                    return Ok(0);
                }
                let seen = self.seen.as_mut().zip(origin);
                if seen.is_some_and(|(seen, origin)| !seen.is_new(object.window, origin)) {
                    return Ok(0);
                }
                (event.payload, 0)
            }
            Err(error) => {
                super::tell("warning", &format!("{}:{number}: {error}", object.name));
                if !self.raw {
                    return Ok(1);
                }
                (Bytes::new(), 1)
            }
        };
        self.out.write_all(if self.raw { &line } else { &payload })?;
        self.out.write_all(b"\n")?;
        Ok(faults)
    }
}

/// The messages of one window. Repeats of a message have its publish time and so lie in its
/// window, and the files of a window follow one another.
#[derive(Default)]
struct Seen {
    window: Option<Window>,
    /// 128 bits of a hash of message id and publish time.
    messages: HashSet<u128>,
}

impl Seen {
    /// Notes a message; answers whether it was not there.
    fn is_new(&mut self, window: Window, origin: &Origin) -> bool {
        if self.window.replace(window) != Some(window) {
            self.messages.clear();
        }
        let mut hash = blake3::Hasher::new();
        hash.update(&origin.publish_time.micros().to_be_bytes());
        hash.update(origin.message_id.as_bytes());
        let mut mark = [0; 16];
        hash.finalize_xof().fill(&mut mark);
        self.messages.insert(u128::from_be_bytes(mark))
    }
}
