#![doc = include_str!("gcs/README.md")]

mod clients;
mod compose;
mod options;
mod setup;
mod trouble;

use std::error::Error as _;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use google_cloud_gax::options::RequestOptionsBuilder as _;
use google_cloud_gax::paginator::ItemPaginator as _;
use google_cloud_storage::error::WriteError;
use google_cloud_storage::model::Object;
use kappa_actors::port::{ArchiveStore, ByteStream, ObjectInfo, ObjectRef, Put, StoreError};

pub use options::GcsOptions;
pub use setup::WantedBucket;

use super::object_name;
use clients::Clients;
use trouble::{Trouble, store_error, trouble};

/// One bucket, or the objects below a prefix of it.
#[derive(Clone)]
pub struct GcsArchive {
    clients: Arc<Clients>,
    bucket: String,
    prefix: String,
}

impl fmt::Debug for GcsArchive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GcsArchive")
            .field("bucket", &self.bucket)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

impl GcsArchive {
    /// An archive that has asked nothing of the service yet.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when no client can be made of these options.
    pub async fn connect(options: GcsOptions) -> Result<Self, StoreError> {
        Ok(Self {
            bucket: format!("projects/_/buckets/{}", options.bucket),
            prefix: options.prefix.clone(),
            clients: Arc::new(Clients::connect(options).await?),
        })
    }

    /// The object's whole name, if it may have one.
    fn full(&self, name: &str) -> Result<String, StoreError> {
        object_name::check(name)?;
        Ok(format!("{}{name}", self.prefix))
    }

    fn info_of(&self, object: Object) -> ObjectInfo {
        let name = object.name.strip_prefix(&self.prefix).unwrap_or(&object.name).to_owned();
        ObjectInfo {
            name,
            size: u64::try_from(object.size).unwrap_or_default(),
            generation: object.generation,
            crc32c: object.checksums.and_then(|checksums| checksums.crc32c),
        }
    }

    /// The error of a call about the object `name`.
    fn error(&self, error: &google_cloud_storage::Error, name: &str) -> StoreError {
        store_error(error, &self.bucket, name)
    }

    /// Removes an object that differs from the sent bytes: its name must be free for the next try.
    async fn take_back(&self, stored: &ObjectInfo) -> StoreError {
        let object = ObjectRef { name: stored.name.clone(), generation: stored.generation };
        let gone = match self.delete(&object).await {
            Ok(()) => "it was removed".to_owned(),
            Err(error) => format!("it could not be removed: {error}"),
        };
        StoreError::Unavailable(format!(
            "{} was stored with another size or checksum than it was sent with, and {gone}",
            stored.name
        ))
    }
}

#[async_trait]
impl ArchiveStore for GcsArchive {
    async fn put_if_absent(&self, name: &str, body: Bytes) -> Result<Put, StoreError> {
        let full = self.full(name)?;
        let (size, crc32c) = (body.len() as u64, crc32c::crc32c(&body));
        let storage = self.clients.storage();
        let mut write = storage.write_object(&self.bucket, full, body);
        write = write.set_if_generation_match(0_i64);
        // Not buffered: google-cloud-storage 1.21 takes up a buffered upload that broke inside a
        // chunk with the wrong bytes, and then never ends.
        let sent = write.with_known_crc32c(crc32c).send_unbuffered();
        match self.clients.answer(sent).await {
            Ok(object) => {
                let stored = self.info_of(object);
                if stored.size != size || stored.crc32c.is_some_and(|other| other != crc32c) {
                    return Err(self.take_back(&stored).await);
                }
                Ok(Put::Stored(ObjectInfo { crc32c: Some(crc32c), ..stored }))
            }
            Err(error) if trouble(&error) == Trouble::Precondition => {
                Ok(Put::Exists(self.info(name).await?))
            }
            Err(error) => match unlike(&error) {
                Some(object) => Err(self.take_back(&self.info_of(object)).await),
                None => Err(self.error(&error, name)),
            },
        }
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        let request = self
            .clients
            .control()
            .list_objects()
            .set_parent(self.bucket.clone())
            .set_prefix(format!("{}{prefix}", self.prefix))
            .with_idempotency(true);
        let mut items = request.by_item();
        let mut listed = Vec::new();
        while let Some(object) = self.clients.next(items.next()).await {
            listed.push(self.info_of(object.map_err(|error| self.error(&error, prefix))?));
        }
        listed.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(listed)
    }

    async fn info(&self, name: &str) -> Result<ObjectInfo, StoreError> {
        let request = self.clients.control().get_object().set_bucket(self.bucket.clone());
        let request = request.set_object(self.full(name)?).with_idempotency(true);
        match self.clients.answer(request.send()).await {
            Ok(object) => Ok(self.info_of(object)),
            Err(error) => Err(self.error(&error, name)),
        }
    }

    async fn read(&self, name: &str) -> Result<ByteStream, StoreError> {
        let request = self.clients.storage().read_object(&self.bucket, self.full(name)?);
        let response = self.clients.answer(request.send()).await;
        let response = response.map_err(|error| self.error(&error, name))?;
        let (archive, name) = (self.clone(), name.to_owned());
        let chunks = futures::stream::unfold(Some(response), move |response| {
            let (archive, name) = (archive.clone(), name.clone());
            async move {
                let mut response = response?;
                match archive.clients.next(response.next()).await? {
                    Ok(chunk) => Some((Ok(chunk), Some(response))),
                    // Whatever breaks off a read may be better the next time.
                    Err(error) => {
                        let told = archive.error(&error, &name).to_string();
                        Some((Err(StoreError::Unavailable(told)), None))
                    }
                }
            }
        });
        Ok(chunks.boxed())
    }

    async fn compose(&self, name: &str, sources: &[ObjectRef]) -> Result<Put, StoreError> {
        self.composed(name, sources).await
    }

    async fn delete(&self, object: &ObjectRef) -> Result<(), StoreError> {
        let request = self.clients.control().delete_object().set_bucket(self.bucket.clone());
        let request =
            request.set_object(self.full(&object.name)?).set_generation(object.generation);
        // Of one generation, so to repeat it removes nothing else.
        match self.clients.answer(request.with_idempotency(true).send()).await {
            Ok(()) => Ok(()),
            Err(error) => match self.error(&error, &object.name) {
                StoreError::NotFound(_) => Ok(()),
                other => Err(other),
            },
        }
    }
}

/// The object that was stored with another checksum than it was sent with, if that is the error.
fn unlike(error: &google_cloud_storage::Error) -> Option<Object> {
    match error.source()?.downcast_ref()? {
        WriteError::ChecksumMismatch { object, .. } => Some(Object::clone(object)),
        _ => None,
    }
}
