//! Faults on demand, and the stored objects.

use std::sync::MutexGuard;
use std::time::Duration;

use bytes::Bytes;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::policies;
use super::state::{SharedState, State, Wanted};

/// How the next read goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadFault {
    /// One byte is another than was stored.
    Corrupt,
    /// The connection ends in the middle.
    Cut,
    /// Nothing more comes in the middle, and the connection stays.
    Stall,
}

/// Tells a running server how to misbehave, and looks into it.
#[derive(Clone, Debug)]
pub struct Control(SharedState);

impl Control {
    pub(super) fn new(state: SharedState) -> Self {
        Self(state)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Makes a bucket whose objects are of this storage class unless they say another, or gives it
    /// another default.
    pub fn create_bucket(&self, name: &str, storage_class: &str) {
        self.state().buckets.insert(name.to_owned(), storage_class.to_owned());
    }

    /// Takes one permission away.
    pub fn deny(&self, permission: &str) {
        self.state().granted.deny(permission);
    }

    /// Gives the caller all permissions again.
    pub fn grant_all(&self) {
        self.state().granted.all();
    }

    /// Leaves the caller these permissions, each on a resource and what is below it: a bucket is
    /// `projects/_/buckets/B`.
    pub fn grant_only(&self, grants: impl IntoIterator<Item = (String, String)>) {
        self.state().granted.only(grants);
    }

    /// A bucket as it was asked for over gRPC: its location, and the prefixes whose objects it
    /// deletes with their age in days.
    #[must_use]
    pub fn made_bucket(&self, name: &str) -> Option<(String, Vec<(String, i32)>)> {
        let state = self.state();
        let bucket = state.made_buckets.get(name)?;
        let rules = bucket.lifecycle.iter().flat_map(|lifecycle| &lifecycle.rule);
        let conditions = rules.filter_map(|rule| rule.condition.as_ref());
        let deleted = conditions.flat_map(|condition| {
            let days = condition.age_days.unwrap_or_default();
            condition.matches_prefix.iter().map(move |prefix| (prefix.clone(), days))
        });
        Some((bucket.location.clone(), deleted.collect()))
    }

    /// How long a bucket that was made over gRPC keeps deleted objects, in seconds.
    #[must_use]
    pub fn soft_deleted_for(&self, name: &str) -> Option<i64> {
        self.state().made_buckets.get(name).map(policies::soft_deleted_for)
    }

    /// Makes a bucket keep deleted objects as the service does by default, and new objects be of
    /// this class.
    pub fn spoil_bucket(&self, name: &str, class: &str) {
        let mut state = self.state();
        state.buckets.insert(name.to_owned(), class.to_owned());
        if let Some(bucket) = state.made_buckets.get_mut(name) {
            bucket.soft_delete_policy = Some(policies::default_soft_delete());
            class.clone_into(&mut bucket.storage_class);
        }
    }

    /// Stores an object.
    ///
    /// # Panics
    /// When there is no such bucket.
    pub fn put(&self, bucket: &str, name: &str, body: &'static str) {
        let (bucket, name) = (bucket.to_owned(), name.to_owned());
        let wanted = Wanted { bucket, name, storage_class: None, if_generation_match: None };
        let made = self.state().make(wanted, body.into(), None, None);
        assert!(made.is_ok(), "{made:?}");
    }

    /// Lets all objects of a bucket be of this age, and its lifecycle work.
    pub fn grow_old(&self, bucket: &str, days: i32) {
        self.state().grow_old(bucket, days);
    }

    /// Takes all rules of a bucket's lifecycle away.
    pub fn drop_lifecycle(&self, name: &str) {
        if let Some(bucket) = self.state().made_buckets.get_mut(name) {
            bucket.lifecycle = None;
        }
    }

    /// Removes a bucket; its objects are there again when it is.
    pub fn remove_bucket(&self, name: &str) {
        self.state().buckets.remove(name);
    }

    /// Answers the next requests over HTTP with these statuses.
    pub fn fail_http(&self, statuses: impl IntoIterator<Item = u16>) {
        self.state().http_faults.extend(statuses);
    }

    /// Answers the next calls over gRPC with the codes of these statuses.
    pub fn fail_grpc(&self, statuses: impl IntoIterator<Item = u16>) {
        self.state().grpc_faults.extend(statuses);
    }

    /// Answers as it should again.
    pub fn fail_no_more(&self) {
        let mut state = self.state();
        state.http_faults.clear();
        state.grpc_faults.clear();
    }

    /// Performs the next `count` changes, but answers 503 or UNAVAILABLE.
    pub fn lose_answers(&self, count: usize) {
        self.state().lost_answers = count;
    }

    /// Refuses so many of a hundred requests with 503 or UNAVAILABLE, and loses the answers of as
    /// many changes; zero ends it.
    pub fn unsteady(&self, seed: u64, percent: u32) {
        self.state().unsteady = Some((StdRng::seed_from_u64(seed), percent));
    }

    /// Answers each request of an upload this much later.
    pub fn delay_uploads(&self, delay: Duration) {
        self.state().upload_delay = delay;
    }

    /// Breaks the next reads.
    pub fn fail_reads(&self, faults: impl IntoIterator<Item = ReadFault>) {
        self.state().read_faults.extend(faults);
    }

    /// Breaks the next resumable upload once, after this many bytes of a chunk are kept.
    pub fn break_upload_after(&self, bytes: usize) {
        self.state().break_upload = Some(bytes);
    }

    /// Says that resumable uploads go on at this address, such as a proxy's.
    pub fn reached_at(&self, url: &str) {
        self.state().url = url.to_owned();
    }

    /// Stores one byte of the next resumable upload wrongly.
    pub fn spoil_upload(&self) {
        self.state().spoil_upload = true;
    }

    /// Refuses everything as not permitted, or no more.
    pub fn revoke(&self, revoked: bool) {
        self.state().revoked = revoked;
    }

    /// At most so many objects in a page of a listing.
    pub fn page_size(&self, objects: usize) {
        self.state().page_size = Some(objects);
    }

    /// The buckets there are, by name.
    #[must_use]
    pub fn buckets(&self) -> Vec<String> {
        self.state().buckets.keys().cloned().collect()
    }

    /// The live objects of a bucket, by name.
    #[must_use]
    pub fn objects(&self, bucket: &str) -> Vec<(String, Bytes)> {
        let state = self.state();
        let objects = state.objects.values().filter(|object| object.bucket == bucket);
        objects.map(|object| (object.name.clone(), object.body.clone())).collect()
    }

    /// Gives an object another storage class, as a rule of the bucket's lifecycle does.
    pub fn change_class(&self, bucket: &str, name: &str, class: &str) {
        let key = (bucket.to_owned(), name.to_owned());
        if let Some(object) = self.state().objects.get_mut(&key) {
            object.storage_class = class.to_owned();
        }
    }

    /// The storage class of an object.
    #[must_use]
    pub fn storage_class(&self, bucket: &str, name: &str) -> Option<String> {
        let state = self.state();
        state.find(bucket, name).ok().map(|object| object.storage_class.clone())
    }

    /// Returns every request so far: its method, and the name of its resource.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        self.state().requests.clone()
    }
}
