//! Policies of a bucket: the retention of deleted objects, and rules for old ones.
//!
//! - Soft delete is on for seven days unless a bucket is made without it, and lasts 7 to 90 days:
//!   <https://cloud.google.com/storage/docs/soft-delete>.
//! - A rule has one action, and conditions that must all be true. Deleting comes before a change of
//!   class, which only leads to a colder one: <https://cloud.google.com/storage/docs/lifecycle>.

use googleapis_tonic_google_storage_v2::google::storage::v2;
use v2::bucket::SoftDeletePolicy;
use v2::bucket::lifecycle::Rule;

use super::state::{Refusal, State};

const DAY: i64 = 86_400;
const DEFAULT_SOFT_DELETE: i64 = 7 * DAY;
const MAX_SOFT_DELETE: i64 = 90 * DAY;
/// From warm to cold.
const CLASSES: [&str; 4] = ["STANDARD", "NEARLINE", "COLDLINE", "ARCHIVE"];

/// The policy of a bucket that was made without one.
pub(super) fn default_soft_delete() -> SoftDeletePolicy {
    soft_delete(DEFAULT_SOFT_DELETE)
}

fn soft_delete(seconds: i64) -> SoftDeletePolicy {
    let retention = prost_types::Duration { seconds, nanos: 0 };
    SoftDeletePolicy { retention_duration: Some(retention), effective_time: None }
}

/// How long a bucket keeps its deleted objects, in seconds.
pub(super) fn soft_deleted_for(bucket: &v2::Bucket) -> i64 {
    let policy = bucket.soft_delete_policy.as_ref();
    let kept = policy.and_then(|policy| policy.retention_duration.as_ref());
    kept.map_or(DEFAULT_SOFT_DELETE, |kept| kept.seconds)
}

/// Checks the policies of a bucket that is to be made, and fills in defaults.
pub(super) fn complete(bucket: &mut v2::Bucket) -> Result<(), Refusal> {
    let kept = soft_deleted_for(bucket);
    if kept != 0 && !(DEFAULT_SOFT_DELETE..=MAX_SOFT_DELETE).contains(&kept) {
        return Err(Refusal::Invalid(format!(
            "softDeletePolicy.retentionDurationSeconds is {kept}: 0, or 604800 to 7776000"
        )));
    }
    bucket.soft_delete_policy = Some(soft_delete(kept));
    if bucket.storage_class.is_empty() {
        CLASSES[0].clone_into(&mut bucket.storage_class);
    }
    if !CLASSES.contains(&bucket.storage_class.as_str()) {
        return Err(Refusal::Invalid(format!("no storage class {}", bucket.storage_class)));
    }
    bucket.lifecycle.iter().flat_map(|lifecycle| &lifecycle.rule).try_for_each(check_rule)
}

fn check_rule(rule: &Rule) -> Result<(), Refusal> {
    let invalid = |why: &str| Err(Refusal::Invalid(format!("lifecycle rule: {why}")));
    let Some(action) = &rule.action else { return invalid("no action") };
    match action.r#type.as_str() {
        "Delete" if action.storage_class.is_empty() => {}
        "SetStorageClass" if CLASSES.contains(&action.storage_class.as_str()) => {}
        _ => return invalid("an action that the service does not have"),
    }
    let Some(condition) = &rule.condition else { return invalid("no condition") };
    if condition.age_days.is_none_or(|days| days < 0) {
        return invalid("an age of 0 days or more is the only condition served beside prefixes");
    }
    match condition.matches_prefix.iter().any(String::is_empty) {
        true => invalid("an empty prefix"),
        false => Ok(()),
    }
}

impl State {
    /// Does to the objects of a bucket what its rules ask for objects of this age.
    pub(super) fn grow_old(&mut self, bucket: &str, days: i32) {
        let Some(made) = self.made_buckets.get(bucket) else { return };
        let rules: Vec<_> =
            made.lifecycle.iter().flat_map(|lifecycle| lifecycle.rule.clone()).collect();
        let names = self.objects.keys().filter(|(of, _)| of == bucket).cloned();
        for key in names.collect::<Vec<_>>() {
            let actions: Vec<_> = rules
                .iter()
                .filter(|rule| applies(rule, &key.1, days))
                .filter_map(|rule| rule.action.as_ref())
                .collect();
            if actions.iter().any(|action| action.r#type == "Delete") {
                self.objects.remove(&key);
                continue;
            }
            let place = |class: &str| CLASSES.iter().position(|known| *known == class);
            let coldest = actions.iter().max_by_key(|action| place(&action.storage_class));
            if let (Some(action), Some(object)) = (coldest, self.objects.get_mut(&key))
                && place(&action.storage_class) > place(&object.storage_class)
            {
                object.storage_class.clone_from(&action.storage_class);
            }
        }
    }
}

fn applies(rule: &Rule, name: &str, days: i32) -> bool {
    rule.condition.as_ref().is_some_and(|condition| {
        let prefixes = &condition.matches_prefix;
        condition.age_days.is_some_and(|age| age <= days)
            && (prefixes.is_empty() || prefixes.iter().any(|prefix| name.starts_with(prefix)))
    })
}
