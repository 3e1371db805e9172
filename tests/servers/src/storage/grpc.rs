//! The service google.storage.v2.Storage.
//!
//! Rules without a page are the comments of googleapis: google/storage/v2/storage.proto.

use googleapis_tonic_google_iam_v1::google::iam::v1;
use googleapis_tonic_google_storage_v2::google::storage::v2;
use tonic::{Request, Status};

use super::names;
use super::policies;
use super::state::{Refusal, SharedState, Source, State, Stored, Wanted};
use crate::grpc::{Answer, Call, Methods, unary, unimplemented};

/// Objects in a page at most:
/// <https://cloud.google.com/storage/docs/json_api/v1/objects/list#parameters>
const MAX_PAGE: usize = 1000;

/// Lists, describes, composes and deletes.
#[derive(Clone, Debug)]
pub(super) struct Storage(pub(super) SharedState);

impl Methods for Storage {
    const NAME: &'static str = "google.storage.v2.Storage";

    async fn call(self, method: String, call: Call) -> Answer {
        match method.as_str() {
            "ListObjects" => {
                unary(call, move |request| {
                    self.clone().answer(request, |it: &v2::ListObjectsRequest| &*it.prefix, list)
                })
                .await
            }
            "GetObject" => {
                unary(call, move |request| {
                    self.clone().answer(request, |it: &v2::GetObjectRequest| &*it.object, get)
                })
                .await
            }
            "GetBucket" => {
                unary(call, move |request| {
                    self.clone().answer(request, |it: &v2::GetBucketRequest| &*it.name, get_bucket)
                })
                .await
            }
            "CreateBucket" => {
                unary(call, move |request| self.clone().answer(request, bucket_id, create_bucket))
                    .await
            }
            "ComposeObject" => {
                unary(call, move |request| self.clone().answer(request, destination, compose)).await
            }
            "RewriteObject" => {
                unary(call, move |request| {
                    self.clone().answer(
                        request,
                        |it: &v2::RewriteObjectRequest| &*it.destination_name,
                        rewrite,
                    )
                })
                .await
            }
            "DeleteObject" => {
                unary(call, move |request| {
                    self.clone().answer(request, |it: &v2::DeleteObjectRequest| &*it.object, delete)
                })
                .await
            }
            other => unimplemented(other),
        }
    }
}

/// The service google.storage.control.v2.StorageControl, beside the other on the same address.
#[derive(Clone, Debug)]
pub(super) struct StorageControl(pub(super) SharedState);

impl Methods for StorageControl {
    const NAME: &'static str = "google.storage.control.v2.StorageControl";

    async fn call(self, method: String, call: Call) -> Answer {
        let storage = Storage(self.0);
        match method.as_str() {
            "TestIamPermissions" => {
                unary(call, move |request| storage.clone().answer(request, resource, test)).await
            }
            other => unimplemented(other),
        }
    }
}

fn resource(request: &v1::TestIamPermissionsRequest) -> &str {
    &request.resource
}

/// The resource of a test: googleapis: google/storage/control/v2/storage_control.proto.
fn test(
    state: &mut State,
    request: v1::TestIamPermissionsRequest,
) -> Result<v1::TestIamPermissionsResponse, Refusal> {
    state.class_of(&bucket_of(&request.resource)?)?;
    let mut permissions = request.permissions;
    permissions.retain(|permission| state.granted.has(permission, &request.resource));
    Ok(v1::TestIamPermissionsResponse { permissions })
}

fn bucket_id(request: &v2::CreateBucketRequest) -> &str {
    &request.bucket_id
}

fn destination(request: &v2::ComposeObjectRequest) -> &str {
    request.destination.as_ref().map_or("", |object| &object.name)
}

impl Storage {
    async fn answer<Req, Res>(
        self,
        request: Request<Req>,
        about: impl for<'a> Fn(&'a Req) -> &'a str,
        work: fn(&mut State, Req) -> Result<Res, Refusal>,
    ) -> Result<Res, Status> {
        let request = request.into_inner();
        let kind = std::any::type_name::<Req>().rsplit("::").next().unwrap_or_default();
        let mut state = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let told = format!("{} {}", kind.trim_end_matches("Request"), about(&request));
        let done = state.admit(told, false).and_then(|()| work(&mut state, request));
        done.map_err(|refusal| status(&refusal))
    }
}

fn list(
    state: &mut State,
    request: v2::ListObjectsRequest,
) -> Result<v2::ListObjectsResponse, Refusal> {
    let bucket = bucket_of(&request.parent)?;
    state.allow("storage.objects.list", &bucket)?;
    state.class_of(&bucket)?;
    let asked = usize::try_from(request.page_size).ok().filter(|&size| size > 0);
    let size = asked.unwrap_or(MAX_PAGE).min(state.page_size.unwrap_or(MAX_PAGE)).min(MAX_PAGE);
    let first = request.prefix.clone().max(request.page_token.clone());
    let mut found: Vec<_> = state
        .objects
        .range((bucket.clone(), first)..)
        .map(|(_, it)| it)
        .take_while(|it| it.bucket == bucket && it.name.starts_with(&request.prefix))
        .filter(|it| it.name > request.page_token)
        .take(size + 1)
        .map(object)
        .collect();
    let more = found.len() > size;
    found.truncate(size);
    let last = found.last().filter(|_| more).map(|object| object.name.clone());
    Ok(v2::ListObjectsResponse {
        objects: found,
        next_page_token: last.unwrap_or_default(),
        ..Default::default()
    })
}

/// <https://cloud.google.com/storage/docs/json_api/v1/objects/get>
fn get(state: &mut State, request: v2::GetObjectRequest) -> Result<v2::Object, Refusal> {
    let bucket = bucket_of(&request.bucket)?;
    state.allow("storage.objects.get", &bucket)?;
    let found = state.find(&bucket, &request.object)?;
    if request.generation != 0 && request.generation != found.generation {
        return Err(Refusal::NoObject(request.object));
    }
    Ok(object(found))
}

fn get_bucket(state: &mut State, request: v2::GetBucketRequest) -> Result<v2::Bucket, Refusal> {
    let name = bucket_of(&request.name)?;
    state.allow("storage.buckets.get", &name)?;
    let class = state.class_of(&name)?.to_owned();
    let made = state.made_buckets.get(&name).cloned();
    Ok(made.unwrap_or(v2::Bucket {
        name: request.name,
        storage_class: class,
        soft_delete_policy: Some(policies::default_soft_delete()),
        ..Default::default()
    }))
}

/// <https://cloud.google.com/storage/docs/json_api/v1/buckets/insert>: a project, a free name.
fn create_bucket(
    state: &mut State,
    request: v2::CreateBucketRequest,
) -> Result<v2::Bucket, Refusal> {
    let Some(mut bucket) = request.bucket else {
        return Err(Refusal::Invalid("a bucket is needed".to_owned()));
    };
    // `CreateBucketRequest`: parent, and bucket.
    let project = bucket.project.strip_prefix("projects/").filter(|project| !project.is_empty());
    if request.parent != "projects/_" || project.is_none() {
        return Err(Refusal::Invalid("parent is projects/_, the project is in the bucket".into()));
    }
    let id = request.bucket_id;
    // On the project: this server has buckets of one project.
    state.allow("storage.buckets.create", &id)?;
    names::check_bucket(&id)?;
    // The code is observed, not documented:
    // https://github.com/googleapis/google-cloud-cpp/pull/10799
    if state.buckets.contains_key(&id) {
        return Err(Refusal::Precondition);
    }
    bucket.name = format!("projects/_/buckets/{id}");
    policies::complete(&mut bucket)?;
    state.buckets.insert(id.clone(), bucket.storage_class.clone());
    state.made_buckets.insert(id, bucket.clone());
    Ok(bucket)
}

fn compose(state: &mut State, request: v2::ComposeObjectRequest) -> Result<v2::Object, Refusal> {
    let Some(destination) = request.destination else {
        return Err(Refusal::Invalid("a composition needs a destination".to_owned()));
    };
    // No rule of the service.
    if request.delete_source_objects == Some(true) {
        return Err(Refusal::Invalid("delete_source_objects is not served here".to_owned()));
    }
    let bucket = bucket_of(&destination.bucket)?;
    state.allow("storage.objects.create", &bucket)?;
    state.allow("storage.objects.get", &bucket)?;
    let wanted = Wanted {
        bucket,
        name: destination.name,
        storage_class: Some(destination.storage_class),
        if_generation_match: request.if_generation_match,
    };
    let sources = request.source_objects.into_iter().map(|source| Source {
        name: source.name,
        generation: source.generation,
        if_generation_match: source.object_preconditions.and_then(|it| it.if_generation_match),
    });
    let made = state.compose(wanted, &sources.collect::<Vec<_>>())?;
    if state.loses_answer() { Err(Refusal::Fault(503)) } else { Ok(object(&made)) }
}

fn rewrite(
    state: &mut State,
    request: v2::RewriteObjectRequest,
) -> Result<v2::RewriteResponse, Refusal> {
    let bucket = bucket_of(&request.destination_bucket)?;
    // No rule of the service.
    if request.source_bucket != request.destination_bucket {
        return Err(Refusal::Invalid("one bucket is served here".to_owned()));
    }
    state.allow("storage.objects.create", &bucket)?;
    state.allow("storage.objects.get", &bucket)?;
    let source = Source {
        name: request.source_object,
        generation: request.source_generation,
        if_generation_match: request.if_source_generation_match,
    };
    let wanted = Wanted {
        bucket,
        name: request.destination_name,
        storage_class: request.destination.map(|it| it.storage_class),
        if_generation_match: request.if_generation_match,
    };
    let token = format!("rewrite-{}", source.generation);
    match state.rewrite(&source, wanted, &request.rewrite_token)? {
        None => Ok(v2::RewriteResponse { rewrite_token: token, ..Default::default() }),
        Some(_) if state.loses_answer() => Err(Refusal::Fault(503)),
        Some(made) => Ok(v2::RewriteResponse {
            done: true,
            object_size: i64::try_from(made.body.len()).unwrap_or(i64::MAX),
            resource: Some(object(&made)),
            ..Default::default()
        }),
    }
}

fn delete(state: &mut State, request: v2::DeleteObjectRequest) -> Result<(), Refusal> {
    let bucket = bucket_of(&request.bucket)?;
    state.allow("storage.objects.delete", &bucket)?;
    let generation = Some(request.generation);
    state.delete(&bucket, &request.object, generation, request.if_generation_match)?;
    if state.loses_answer() { Err(Refusal::Fault(503)) } else { Ok(()) }
}

/// Buckets are named `projects/_/buckets/B` in storage.v2: "API Overview and Naming Syntax".
fn bucket_of(name: &str) -> Result<String, Refusal> {
    let bucket = name.strip_prefix("projects/_/buckets/").filter(|name| !name.is_empty());
    bucket
        .map(str::to_owned)
        .ok_or_else(|| Refusal::Invalid(format!("{name:?} is no projects/_/buckets/BUCKET")))
}

fn object(stored: &Stored) -> v2::Object {
    v2::Object {
        name: stored.name.clone(),
        bucket: format!("projects/_/buckets/{}", stored.bucket),
        generation: stored.generation,
        metageneration: 1,
        size: i64::try_from(stored.body.len()).unwrap_or(i64::MAX),
        storage_class: stored.storage_class.clone(),
        component_count: stored.components.unwrap_or_default(),
        checksums: Some(v2::ObjectChecksums { crc32c: Some(stored.crc32c), ..Default::default() }),
        ..Default::default()
    }
}

/// <https://cloud.google.com/storage/docs/json_api/v1/status-codes> has the words; the codes are
/// those that gRPC gives the same statuses.
fn status(refusal: &Refusal) -> Status {
    match refusal {
        Refusal::Invalid(why) => Status::invalid_argument(why),
        Refusal::NoBucket => Status::not_found("The specified bucket does not exist."),
        Refusal::NoObject(name) => Status::not_found(format!("No such object: {name}")),
        Refusal::Precondition => Status::failed_precondition(
            "At least one of the pre-conditions you specified did not hold.",
        ),
        Refusal::Forbidden(permission) => Status::permission_denied(format!(
            "does not have {permission} access to the Google Cloud Storage object. Permission \
             '{permission}' denied on resource (or it may not exist)."
        )),
        Refusal::NotEmpty => Status::failed_precondition("The bucket is not empty."),
        Refusal::Fault(429) => Status::resource_exhausted("rateLimitExceeded"),
        Refusal::Fault(408) => Status::deadline_exceeded("request timeout"),
        Refusal::Fault(500) => Status::internal("backendError"),
        Refusal::Fault(_) => Status::unavailable("backendError"),
    }
}
