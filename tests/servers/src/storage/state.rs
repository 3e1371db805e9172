//! Buckets and objects, and the rules that both protocols share.

use googleapis_tonic_google_storage_v2::google::storage::v2;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use rand::RngExt as _;
use rand::rngs::StdRng;

use super::control::ReadFault;
use super::names;
use super::upload::Session;
use crate::permission::Granted;

/// What both protocols work on.
pub(super) type SharedState = Arc<Mutex<State>>;

/// Sources of one composition: <https://cloud.google.com/storage/docs/composite-objects>
const MAX_SOURCES: usize = 32;

/// Why a request is not carried out; each protocol has its own code for it:
/// <https://cloud.google.com/storage/docs/json_api/v1/status-codes>.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Invalid(String),
    NoBucket,
    NoObject(String),
    Precondition,
    /// The missing permission: <https://cloud.google.com/storage/docs/access-control/iam-json>
    Forbidden(String),
    /// A bucket that still holds objects.
    NotEmpty,
    /// As a fault ordered: an HTTP status.
    Fault(u16),
}

/// One generation of an object.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) bucket: String,
    pub(super) name: String,
    pub(super) body: Bytes,
    pub(super) generation: i64,
    pub(super) crc32c: u32,
    pub(super) storage_class: String,
    /// How many objects it was composed of; none for one that was uploaded.
    pub(super) components: Option<i32>,
}

/// A source of a composition.
pub(super) struct Source {
    pub(super) name: String,
    pub(super) generation: i64,
    pub(super) if_generation_match: Option<i64>,
}

/// An object to be made.
pub(super) struct Wanted {
    pub(super) bucket: String,
    pub(super) name: String,
    pub(super) storage_class: Option<String>,
    pub(super) if_generation_match: Option<i64>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    /// Where this server is reached over HTTP.
    pub(super) url: String,
    pub(super) buckets: BTreeMap<String, String>,
    /// Buckets that were made over gRPC, as they were described.
    pub(super) made_buckets: BTreeMap<String, v2::Bucket>,
    pub(super) objects: BTreeMap<(String, String), Stored>,
    pub(super) sessions: HashMap<u64, Session>,
    pub(super) generations: i64,
    pub(super) revoked: bool,
    pub(super) granted: Granted,
    pub(super) page_size: Option<usize>,
    pub(super) http_faults: VecDeque<u16>,
    pub(super) grpc_faults: VecDeque<u16>,
    pub(super) lost_answers: usize,
    /// Draws which requests go wrong, so many of a hundred.
    pub(super) unsteady: Option<(StdRng, u32)>,
    /// How late an upload is answered.
    pub(super) upload_delay: Duration,
    pub(super) read_faults: VecDeque<ReadFault>,
    /// Bytes of a resumable upload that are kept before it is broken, once.
    pub(super) break_upload: Option<usize>,
    pub(super) spoil_upload: bool,
    pub(super) requests: Vec<String>,
}

impl State {
    pub(super) fn new(url: String) -> Self {
        Self { url, ..Self::default() }
    }

    /// Takes note of a request, and refuses it if it is to be refused.
    pub(super) fn admit(&mut self, request: String, is_http: bool) -> Result<(), Refusal> {
        self.requests.push(request);
        let faults = if is_http { &mut self.http_faults } else { &mut self.grpc_faults };
        let ordered = faults.pop_front();
        match ordered.or_else(|| self.draws().then_some(503)) {
            Some(status) => Err(Refusal::Fault(status)),
            None if self.revoked => Err(Refusal::Forbidden("storage.objects".to_owned())),
            None => Ok(()),
        }
    }

    /// Returns whether the answer to the last change is to be lost.
    pub(super) fn loses_answer(&mut self) -> bool {
        let ordered = self.lost_answers > 0;
        self.lost_answers -= usize::from(ordered);
        ordered || self.draws()
    }

    fn draws(&mut self) -> bool {
        let unsteady = self.unsteady.as_mut();
        unsteady.is_some_and(|(random, percent)| random.random_range(0..100) < *percent)
    }

    /// Refuses what the caller has no permission for on a bucket: which method needs which,
    /// <https://cloud.google.com/storage/docs/access-control/iam-json>.
    pub(super) fn allow(&self, permission: &str, bucket: &str) -> Result<(), Refusal> {
        if self.granted.has(permission, &format!("projects/_/buckets/{bucket}")) {
            return Ok(());
        }
        Err(Refusal::Forbidden(permission.to_owned()))
    }

    pub(super) fn class_of(&self, bucket: &str) -> Result<&str, Refusal> {
        self.buckets.get(bucket).map(String::as_str).ok_or(Refusal::NoBucket)
    }

    pub(super) fn find(&self, bucket: &str, name: &str) -> Result<&Stored, Refusal> {
        self.class_of(bucket)?;
        let key = (bucket.to_owned(), name.to_owned());
        self.objects.get(&key).ok_or_else(|| {
            // Only a caller who may list learns that an object is missing:
            // https://cloud.google.com/storage/docs/json_api/v1/status-codes#403-forbidden.
            match self.allow("storage.objects.list", bucket) {
                Ok(()) => Refusal::NoObject(format!("{bucket}/{name}")),
                Err(refusal) => refusal,
            }
        })
    }

    /// Whether an object may be made so: <https://cloud.google.com/storage/docs/request-preconditions>
    pub(super) fn may_make(&self, wanted: &Wanted) -> Result<(), Refusal> {
        self.class_of(&wanted.bucket)?;
        names::check_object(&wanted.name)?;
        let standing = self.find(&wanted.bucket, &wanted.name).map_or(0, |it| it.generation);
        match wanted.if_generation_match {
            Some(generation) if generation != standing => Err(Refusal::Precondition),
            _ => Ok(()),
        }
    }

    pub(super) fn make(
        &mut self,
        wanted: Wanted,
        body: Bytes,
        crc32c: Option<u32>,
        components: Option<i32>,
    ) -> Result<Stored, Refusal> {
        self.may_make(&wanted)?;
        let computed = crc32c::crc32c(&body);
        if crc32c.is_some_and(|told| told != computed) {
            // https://cloud.google.com/storage/docs/data-validation
            return Err(Refusal::Invalid("the CRC32C does not match the bytes".to_owned()));
        }
        let storage_class = match wanted.storage_class {
            Some(class) if !class.is_empty() => class,
            _ => self.class_of(&wanted.bucket)?.to_owned(),
        };
        self.generations += 1;
        let stored = Stored {
            bucket: wanted.bucket,
            name: wanted.name,
            body,
            generation: self.generations,
            crc32c: computed,
            storage_class,
            components,
        };
        self.objects.insert((stored.bucket.clone(), stored.name.clone()), stored.clone());
        Ok(stored)
    }

    /// <https://cloud.google.com/storage/docs/composite-objects>; that the sources are of one storage
    /// class: <https://cloud.google.com/storage/docs/xml-api/put-object-compose>.
    pub(super) fn compose(
        &mut self,
        wanted: Wanted,
        sources: &[Source],
    ) -> Result<Stored, Refusal> {
        if sources.is_empty() || sources.len() > MAX_SOURCES {
            return Err(Refusal::Invalid(format!(
                "The number of source components provided ({}) must be 1 to {MAX_SOURCES}",
                sources.len()
            )));
        }
        self.may_make(&wanted)?;
        let class = wanted.storage_class.clone().filter(|class| !class.is_empty());
        let class = class.map_or_else(|| self.class_of(&wanted.bucket).map(str::to_owned), Ok)?;
        let (mut body, mut components) = (Vec::new(), 0);
        for source in sources {
            let found = self.find(&wanted.bucket, &source.name)?;
            // `ComposeObjectRequest.SourceObject`, in googleapis: google/storage/v2/storage.proto.
            if source.generation != 0 && source.generation != found.generation {
                return Err(Refusal::NoObject(format!("{} in that generation", source.name)));
            }
            if source.if_generation_match.is_some_and(|wanted| wanted != found.generation) {
                return Err(Refusal::Precondition);
            }
            // That the class is the destination's is observed, not documented:
            // https://github.com/GoogleCloudPlatform/dotnet-docs-samples/issues/2038
            if found.storage_class != class {
                return Err(Refusal::Invalid(format!(
                    "Cannot compose object with destination storage class {class} from source \
                     components that have different storage classes ({})",
                    found.storage_class
                )));
            }
            body.extend_from_slice(&found.body);
            components += found.components.unwrap_or(1);
        }
        self.make(wanted, body.into(), None, Some(components))
    }

    /// Copies an object, perhaps into another class; `None` while bytes are left to copy. A call is
    /// enough unless the storage class changes: here that takes two, the second with the token of the
    /// first. <https://cloud.google.com/storage/docs/json_api/v1/objects/rewrite>
    pub(super) fn rewrite(
        &mut self,
        source: &Source,
        wanted: Wanted,
        token: &str,
    ) -> Result<Option<Stored>, Refusal> {
        let found = self.find(&wanted.bucket, &source.name)?.clone();
        if source.generation != 0 && source.generation != found.generation {
            return Err(Refusal::NoObject(format!("{} in that generation", source.name)));
        }
        if source.if_generation_match.is_some_and(|wanted| wanted != found.generation) {
            return Err(Refusal::Precondition);
        }
        self.may_make(&wanted)?;
        let changes = wanted.storage_class.as_ref().is_some_and(|it| *it != found.storage_class);
        let expected = format!("rewrite-{}", found.generation);
        match token {
            "" if changes => return Ok(None),
            "" => {}
            token if token == expected => {}
            token => return Err(Refusal::Invalid(format!("the rewrite token {token:?}"))),
        }
        self.make(wanted, found.body, Some(found.crc32c), None).map(Some)
    }

    /// <https://cloud.google.com/storage/docs/json_api/v1/objects/delete>, with its preconditions
    /// <https://cloud.google.com/storage/docs/request-preconditions>.
    pub(super) fn delete(
        &mut self,
        bucket: &str,
        name: &str,
        generation: Option<i64>,
        if_generation_match: Option<i64>,
    ) -> Result<(), Refusal> {
        let found = self.find(bucket, name)?.generation;
        if generation.is_some_and(|wanted| wanted != 0 && wanted != found) {
            return Err(Refusal::NoObject(format!("{bucket}/{name} in that generation")));
        }
        if if_generation_match.is_some_and(|wanted| wanted != found) {
            return Err(Refusal::Precondition);
        }
        self.objects.remove(&(bucket.to_owned(), name.to_owned()));
        Ok(())
    }
}
