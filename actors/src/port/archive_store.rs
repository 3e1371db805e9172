//! The store that holds the archive's objects.

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

/// An object's bytes, chunk by chunk.
pub type ByteStream = BoxStream<'static, Result<Bytes, StoreError>>;

/// The store's metadata of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectInfo {
    /// The object's name, with `/` between its parts.
    pub name: String,
    /// Size in bytes.
    pub size: u64,
    /// The version of the name; a name that is written again gets another.
    pub generation: i64,
    /// CRC-32C of the bytes (Castagnoli), where the store knows it without reading the object:
    /// always after [`ArchiveStore::put_if_absent`] and [`ArchiveStore::compose`].
    pub crc32c: Option<u32>,
}

/// One exact version of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectRef {
    /// The object's name.
    pub name: String,
    /// Its generation.
    pub generation: i64,
}

/// The result of a put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Put {
    /// The object is stored durably.
    Stored(ObjectInfo),
    /// An object of this name existed and was not changed. Its checksum is given.
    Exists(ObjectInfo),
}

/// Why a call on the store did nothing.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Wait and call again; at start, end with this message.
    #[error("the archive store is unavailable: {0}")]
    Unavailable(String),
    /// No such object, or not in that generation.
    #[error("no object {0}")]
    NotFound(String),
    /// The request itself is wrong and stays so.
    #[error("{0}")]
    Refused(String),
}

/// Immutable objects under names.
///
/// A name is never written twice. All methods may be called at the same time from many tasks and
/// many processes.
#[async_trait]
pub trait ArchiveStore: Send + Sync + 'static {
    /// Stores `body` durably under `name` unless the name is taken.
    ///
    /// A reader sees the whole object or no object. After an error or a cancelled call the object
    /// may or may not be stored; putting it again shows which.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]: put it again later.
    async fn put_if_absent(&self, name: &str, body: Bytes) -> Result<Put, StoreError>;

    /// All objects whose names begin with `prefix`, in the order of their names.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]: list again later.
    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError>;

    /// Returns the metadata of `name`, with its checksum.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if there is no such object.
    async fn info(&self, name: &str) -> Result<ObjectInfo, StoreError>;

    /// Reads an object as a stream.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when it is not there; the stream yields an error if it breaks off.
    async fn read(&self, name: &str) -> Result<ByteStream, StoreError>;

    /// Joins the bytes of 1 to 32 objects, in their order, into a new object, unless the name is
    /// taken. The sources stay.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when a source is missing or has another generation: nothing was
    /// made. [`StoreError::Refused`] with no source or more than 32.
    async fn compose(&self, name: &str, sources: &[ObjectRef]) -> Result<Put, StoreError>;

    /// Removes exactly this version. Removing it again is no error.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]: delete it again later.
    async fn delete(&self, object: &ObjectRef) -> Result<(), StoreError>;
}
