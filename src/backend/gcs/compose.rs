//! Compositions, also of sources in other storage classes than the bucket's.
//!
//! All sources of one composition have one storage class, and the object that results has the same:
//! <https://cloud.google.com/storage/docs/composite-objects>. Parts of another class exist if the bucket's
//! default changed, or a rule of the bucket's lifecycle changed them. So:
//!
//! - A composition is tried in the bucket's class, which costs one call. Only when that fails the
//!   sources are looked at, and the composition gets their class.
//! - Sources of several classes are copied into the class that most of their bytes have. The copies
//!   are intermediates of the same window and incarnation, so a copy that is left over is swept with them.
//! - A copy names its source's generation and class. So a copy that is already there, perhaps of another
//!   replica, is the same copy.

use std::collections::BTreeMap;

use google_cloud_gax::options::RequestOptionsBuilder as _;
use google_cloud_storage::Error;
use google_cloud_storage::model::Object;
use google_cloud_storage::model::compose_object_request::SourceObject;
use google_cloud_storage::model::compose_object_request::source_object::ObjectPreconditions;
use kappa_actors::port::{ArchiveStore as _, ObjectInfo, ObjectRef, Put, StoreError};

use super::GcsArchive;
use super::setup::INTERMEDIATES;
use super::trouble::{Trouble, trouble};

/// Sources that one call may compose: <https://cloud.google.com/storage/docs/composite-objects>
const MAX_SOURCES: usize = 32;

/// The storage class of a new object that takes the bucket's default.
const BUCKETS_OWN: &str = "";

/// A source and its storage class.
struct Classed {
    object: ObjectRef,
    class: String,
    size: u64,
    crc32c: Option<u32>,
}

impl GcsArchive {
    /// See [`ArchiveStore::compose`](kappa_actors::port::ArchiveStore::compose).
    pub(super) async fn composed(
        &self,
        name: &str,
        sources: &[ObjectRef],
    ) -> Result<Put, StoreError> {
        if sources.is_empty() || sources.len() > MAX_SOURCES {
            let count = sources.len();
            let reason = format!("{count} sources to compose: 1 to {MAX_SOURCES} can be");
            return Err(StoreError::Refused(reason));
        }
        let error = match self.compose_as(name, sources, BUCKETS_OWN).await {
            Ok(object) => return Ok(Put::Stored(self.info_of(object))),
            Err(error) => error,
        };
        if let Some(standing) = self.standing(&error, name).await? {
            return Ok(Put::Exists(standing));
        }
        let found = self.classed(name, sources).await?;
        let class = common_class(&found);
        let (exact, copies) = self.in_class(&found, &class).await?;
        let made = self.compose_as(name, &exact, &class).await;
        let put = match made {
            Ok(object) => Put::Stored(self.info_of(object)),
            Err(error) => match self.standing(&error, name).await? {
                Some(standing) => Put::Exists(standing),
                None if trouble(&error) == Trouble::NotFound => return Err(missing_source(name)),
                None => return Err(self.error(&error, name)),
            },
        };
        for copy in copies {
            // A copy that stays is swept with the window's intermediates.
            if let Err(error) = self.delete(&copy).await {
                tracing::debug!(%error, name = copy.name, "a copy could not be removed");
            }
        }
        Ok(put)
    }

    async fn compose_as(
        &self,
        name: &str,
        sources: &[ObjectRef],
        class: &str,
    ) -> Result<Object, Error> {
        let full = |name: &str| format!("{}{name}", self.prefix);
        let destination = Object::new().set_name(full(name)).set_bucket(self.bucket.clone());
        let parts = sources.iter().map(|source| {
            let exactly = ObjectPreconditions::new().set_if_generation_match(source.generation);
            let part = SourceObject::new().set_name(full(&source.name));
            part.set_generation(source.generation).set_object_preconditions(exactly)
        });
        let request = self
            .clients
            .control()
            .compose_object()
            .set_destination(destination.set_storage_class(class))
            .set_source_objects(parts)
            .set_if_generation_match(0_i64)
            // Of these generations, to a free name: once it is done, to repeat it is refused.
            .with_idempotency(true);
        self.clients.answer(request.send()).await
    }

    /// The object that has the name already, where that may be why a composition failed.
    ///
    /// # Errors
    /// An error that another class would not change.
    async fn standing(&self, error: &Error, name: &str) -> Result<Option<ObjectInfo>, StoreError> {
        match trouble(error) {
            // The error does not name the object whose precondition failed, so the destination is looked at.
            Trouble::Precondition | Trouble::NotFound => match self.info(name).await {
                Ok(standing) => Ok(Some(standing)),
                Err(StoreError::NotFound(_)) => Ok(None),
                Err(other) => Err(other),
            },
            Trouble::Invalid => Ok(None),
            _ => Err(self.error(error, name)),
        }
    }

    async fn classed(&self, name: &str, sources: &[ObjectRef]) -> Result<Vec<Classed>, StoreError> {
        let mut found = Vec::new();
        for source in sources {
            let request = self.clients.control().get_object().set_bucket(self.bucket.clone());
            let request = request.set_object(self.full(&source.name)?);
            let request = request.set_generation(source.generation).with_idempotency(true);
            let object = match self.clients.answer(request.send()).await {
                Ok(object) => object,
                Err(error) if trouble(&error) == Trouble::NotFound => {
                    return Err(missing_source(name));
                }
                Err(error) => return Err(self.error(&error, &source.name)),
            };
            let class = object.storage_class.clone();
            let ObjectInfo { size, crc32c, .. } = self.info_of(object);
            found.push(Classed { object: source.clone(), class, size, crc32c });
        }
        Ok(found)
    }

    /// The sources in one class: those of another are copied. Returns all of them, and the copies.
    async fn in_class(
        &self,
        sources: &[Classed],
        class: &str,
    ) -> Result<(Vec<ObjectRef>, Vec<ObjectRef>), StoreError> {
        let (mut exact, mut copies) = (Vec::new(), Vec::new());
        for source in sources {
            if source.class == class {
                exact.push(source.object.clone());
                continue;
            }
            let copy = self.copy(source, class).await?;
            copies.push(copy.clone());
            exact.push(copy);
        }
        Ok((exact, copies))
    }

    async fn copy(&self, source: &Classed, class: &str) -> Result<ObjectRef, StoreError> {
        let ObjectRef { name, generation } = &source.object;
        let rest = name.split_once('/').map_or(&**name, |(_, rest)| rest);
        let copy = format!("{INTERMEDIATES}{rest}.{generation}.{class}");
        let full = self.full(&copy)?;
        let mut token = String::new();
        let made = loop {
            let destination = Object::new().set_storage_class(class);
            let request = self
                .clients
                .control()
                .rewrite_object()
                .set_destination_bucket(self.bucket.clone())
                .set_destination_name(full.clone())
                .set_destination(destination)
                .set_source_bucket(self.bucket.clone())
                .set_source_object(self.full(name)?)
                .set_source_generation(*generation)
                .set_rewrite_token(token)
                .set_if_generation_match(0_i64)
                .with_idempotency(true);
            match self.clients.answer(request.send()).await {
                // A change of the class may take several calls.
                Ok(answer) if !answer.done => token = answer.rewrite_token,
                Ok(answer) => break answer.resource.map(|object| self.info_of(object)),
                Err(error) if trouble(&error) == Trouble::Precondition => break None,
                Err(error) => return Err(self.error(&error, &copy)),
            }
        };
        let made = match made {
            Some(made) => made,
            None => self.info(&copy).await?,
        };
        if (made.size, made.crc32c) != (source.size, source.crc32c) {
            return Err(self.take_back(&made).await);
        }
        Ok(ObjectRef { name: copy, generation: made.generation })
    }
}

/// The class that most bytes have.
fn common_class(sources: &[Classed]) -> String {
    let mut bytes: BTreeMap<&str, u64> = BTreeMap::new();
    for source in sources {
        *bytes.entry(&source.class).or_default() += source.size;
    }
    let most = bytes.into_iter().max_by_key(|(_, bytes)| *bytes);
    most.map(|(class, _)| class.to_owned()).unwrap_or_default()
}

fn missing_source(name: &str) -> StoreError {
    StoreError::NotFound(format!("that is a source of {name}, or not in the generation named"))
}
