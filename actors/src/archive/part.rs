//! Lines on their way into the archive.

use std::io;

use bytes::Bytes;

use super::{Compression, Incarnation, LineFormat, PartName, Window};
use crate::message::Message;
use crate::port::{ArchiveStore, ObjectInfo, Put, StoreError};

/// The lines that wait to be stored.
#[derive(Debug)]
pub struct Part {
    format: LineFormat,
    compression: Compression,
    lines: Vec<u8>,
    events: usize,
}

impl Part {
    /// An empty one.
    #[must_use]
    pub const fn new(format: LineFormat, compression: Compression) -> Self {
        Self { format, compression, lines: Vec::new(), events: 0 }
    }

    /// Reserves capacity for this many bytes of lines: growing in steps would need twice the memory at the last step.
    /// Memory that is not written to costs nothing.
    #[must_use]
    pub fn with_room(self, bytes: usize) -> Self {
        Self { lines: Vec::with_capacity(bytes), ..self }
    }

    /// Adds one line.
    pub fn append(&mut self, message: &Message) {
        self.format.encode(message, &mut self.lines);
        self.events += 1;
    }

    /// Bytes of the lines, before compression.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.lines.len()
    }

    /// Lines.
    #[must_use]
    pub const fn events(&self) -> usize {
        self.events
    }

    /// Compresses the lines. Megabytes take milliseconds: a place for a blocking thread.
    ///
    /// # Errors
    /// The compressor's; in practice, memory.
    pub fn encode(self) -> io::Result<EncodedPart> {
        let Self { format, compression, lines, events } = self;
        let body = Bytes::from(compression.encode(lines)?);
        let crc32c = crc32c::crc32c(&body);
        Ok(EncodedPart { body, crc32c, format, compression, events })
    }
}

/// A part as it will be stored. Cloning shares the bytes.
#[derive(Clone, Debug)]
pub struct EncodedPart {
    /// The object's bytes.
    pub body: Bytes,
    /// Their CRC-32C.
    pub crc32c: u32,
    /// What its lines hold.
    pub format: LineFormat,
    /// How they are compressed.
    pub compression: Compression,
    /// Lines in it.
    pub events: usize,
}

/// Why a part is not known to be stored.
#[derive(Debug, thiserror::Error)]
pub enum StorePartError {
    /// Store the same part under the same number again, later.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The name belongs to an object with other bytes: take another incarnation.
    #[error("{0} holds something else")]
    Taken(String),
}

/// Stores `part` under its name.
///
/// "Exists already" means an earlier success of the caller only if size and checksum are equal. After an error or a
/// cancelled call, store the same bytes under the same number again: if another process composed and removed the part
/// meanwhile, the archive has its lines twice, and none is lost.
///
/// # Errors
/// [`StorePartError`], whose variant names the caller's next step.
pub async fn store_part(
    store: &dyn ArchiveStore,
    window: Window,
    incarnation: &Incarnation,
    number: u32,
    part: &EncodedPart,
) -> Result<ObjectInfo, StorePartError> {
    let name = PartName {
        window,
        incarnation: incarnation.clone(),
        number,
        lines: Some(part.events as u64),
        format: part.format,
        compression: part.compression,
    };
    match store.put_if_absent(&name.to_string(), part.body.clone()).await? {
        Put::Stored(info) => Ok(info),
        Put::Exists(info)
            if info.size == part.body.len() as u64 && info.crc32c == Some(part.crc32c) =>
        {
            Ok(info)
        }
        Put::Exists(info) => Err(StorePartError::Taken(info.name)),
    }
}
