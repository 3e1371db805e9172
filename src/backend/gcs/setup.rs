//! The bucket, described, compared and created.

use google_cloud_gax::options::RequestOptionsBuilder as _;
use google_cloud_storage::model::Bucket;
use google_cloud_storage::model::bucket::iam_config::UniformBucketLevelAccess;
use google_cloud_storage::model::bucket::lifecycle::Rule;
use google_cloud_storage::model::bucket::lifecycle::rule::{Action, Condition};
use google_cloud_storage::model::bucket::{IamConfig, Lifecycle, SoftDeletePolicy};
use google_cloud_wkt as wkt;

use super::GcsArchive;
use super::trouble::{Trouble, store_error, trouble};
use crate::backend::setup::{Difference, Lacking, SetupError, State, Thing};

/// Where a composition keeps its intermediates. A composition that was given up leaves them;
/// replicas sweep them, and a rule of the bucket does if no replica comes back.
pub(super) const INTERMEDIATES: &str = "composing/";
/// Where the final objects are.
const FINALS: &str = "events/";
/// The action of a lifecycle rule.
const DELETE: &str = "Delete";
const SET_CLASS: &str = "SetStorageClass";
/// Age at which finals change their class. Whole days are the unit of a rule.
const FINAL_DAYS: i32 = 1;
/// The class of objects that live for minutes: others bill them for 30 days or more.
const STANDARD: &str = "STANDARD";
/// Far longer than any composition takes.
const INTERMEDIATE_DAYS: i32 = 30;

/// The daemon's permissions on a bucket, and the role that has them:
/// <https://cloud.google.com/storage/docs/access-control/iam-roles>
const ON_BUCKET: [(&str, &str); 4] = [
    ("storage.objects.create", "roles/storage.objectUser"),
    ("storage.objects.get", "roles/storage.objectUser"),
    ("storage.objects.list", "roles/storage.objectUser"),
    ("storage.objects.delete", "roles/storage.objectUser"),
];

/// The configured properties of a bucket, except its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedBucket {
    /// The project that pays for it.
    pub project: String,
    /// Where it is: `EU`, `us-central1`.
    pub location: String,
    /// The storage class that final objects come to have; `None` leaves them in the bucket's.
    pub storage_class: Option<String>,
}

impl GcsArchive {
    /// The bucket; it is made if it is missing, unless this is a `dry_run`.
    ///
    /// # Errors
    /// [`SetupError`] when it could not be looked at or made.
    pub async fn set_up(&self, wanted: &WantedBucket, dry_run: bool) -> Result<Thing, SetupError> {
        let name = self.bucket.rsplit('/').next().unwrap_or(&self.bucket).to_owned();
        let request = self.clients.control().get_bucket().set_name(self.bucket.clone());
        let mut warnings = Vec::new();
        let state = match self.clients.answer(request.with_idempotency(true).send()).await {
            Ok(found) => {
                warnings = costs(&name, &found);
                State::of(self.differences(&found, wanted))
            }
            Err(error) if matches!(trouble(&error), Trouble::NoBucket | Trouble::NotFound) => {
                if dry_run {
                    State::Missing
                } else {
                    self.create(&name, wanted).await?
                }
            }
            Err(error) => {
                return Err(SetupError(store_error(&error, &self.bucket, &name).to_string()));
            }
        };
        Ok(Thing { kind: "bucket", name, state, warnings })
    }

    /// The permissions that archiving needs and the caller lacks; none where there is no bucket.
    ///
    /// # Errors
    /// [`SetupError`] when they could not be asked for.
    pub async fn lacking(&self) -> Result<Vec<Lacking>, SetupError> {
        let request =
            self.clients.control().test_iam_permissions().set_resource(self.bucket.clone());
        let request = request.set_permissions(ON_BUCKET.map(|(name, _)| name));
        match self.clients.answer(request.with_idempotency(true).send()).await {
            Ok(answer) => Ok(Lacking::of(&self.bucket, &ON_BUCKET, &answer.permissions)),
            Err(error) if matches!(trouble(&error), Trouble::NoBucket | Trouble::NotFound) => {
                Ok(Vec::new())
            }
            Err(error) => {
                Err(SetupError(store_error(&error, &self.bucket, &self.bucket).to_string()))
            }
        }
    }

    async fn create(&self, name: &str, wanted: &WantedBucket) -> Result<State, SetupError> {
        let rules = self.rules(wanted).into_iter().map(|rule| rule.resource);
        let access = UniformBucketLevelAccess::new().set_enabled(true);
        let bucket = Bucket::new()
            .set_project(format!("projects/{}", wanted.project))
            .set_location(wanted.location.clone())
            .set_iam_config(IamConfig::new().set_uniform_bucket_level_access(access))
            .set_storage_class(STANDARD)
            .set_lifecycle(Lifecycle::new().set_rule(rules))
            // Parts are deleted within minutes, and would be billed for seven more days.
            .set_soft_delete_policy(
                SoftDeletePolicy::new().set_retention_duration(wkt::Duration::clamp(0, 0)),
            );
        let request = self.clients.control().create_bucket().set_parent("projects/_");
        let call = request.set_bucket_id(name).set_bucket(bucket).send();
        match self.clients.answer(call).await {
            Ok(_) => Ok(State::Created),
            Err(error) => Err(SetupError(format!("the bucket {name} could not be made: {error}"))),
        }
    }

    /// The rules that the bucket's lifecycle needs.
    fn rules(&self, wanted: &WantedBucket) -> Vec<WantedRule> {
        let rule = |action: Action, days, folder: &str, does: String| {
            let prefix = format!("{}{folder}", self.prefix);
            let condition = Condition::new().set_age_days(days).set_matches_prefix([&*prefix]);
            WantedRule {
                resource: Rule::new().set_action(action).set_condition(condition),
                does: format!("to {does} {prefix} after {days} days"),
            }
        };
        let delete = Action::new().set_type(DELETE);
        let mut rules = vec![rule(delete, INTERMEDIATE_DAYS, INTERMEDIATES, "delete".to_owned())];
        let class = wanted.storage_class.as_deref();
        if let Some(class) = class.filter(|class| *class != STANDARD) {
            let action = Action::new().set_type(SET_CLASS).set_storage_class(class);
            rules.push(rule(action, FINAL_DAYS, FINALS, format!("set the class {class} of")));
        }
        rules
    }

    /// Compares only the rule that kappa would make; other rules belong to the bucket's owner.
    fn differences(&self, found: &Bucket, wanted: &WantedBucket) -> Vec<Difference> {
        let mut all = Vec::new();
        let (is, location) = (found.location.to_uppercase(), wanted.location.to_uppercase());
        Difference::note(&mut all, "location", is, location);
        let access = found.iam_config.as_ref();
        let access = access.and_then(|config| config.uniform_bucket_level_access.as_ref());
        let is = access.is_some_and(|access| access.enabled).to_string();
        Difference::note(&mut all, "uniform bucket-level access", is, true.to_string());
        let rules = found.lifecycle.iter().flat_map(|lifecycle| &lifecycle.rule);
        for wanted in self.rules(wanted) {
            if !rules.clone().any(|rule| does_the_same(rule, &wanted.resource)) {
                let is = format!("{} rules, none of which does", rules.clone().count());
                all.push(Difference { what: "lifecycle", is, wanted: wanted.does });
            }
        }
        all
    }
}

/// A rule of the bucket's lifecycle, and the same in words.
struct WantedRule {
    resource: Rule,
    does: String,
}

/// Whether two rules do the same to the same objects; the service may add what neither names.
fn does_the_same(one: &Rule, other: &Rule) -> bool {
    let parts = |rule: &Rule| {
        let action = rule.action.clone().unwrap_or_default();
        let condition = rule.condition.clone().unwrap_or_default();
        (action.r#type, action.storage_class, condition.age_days, condition.matches_prefix)
    };
    parts(one) == parts(other)
}

/// Warnings of a bucket's properties that cost without use.
fn costs(name: &str, found: &Bucket) -> Vec<String> {
    let mut all = Vec::new();
    // https://cloud.google.com/storage/docs/soft-delete
    let policy = found.soft_delete_policy.as_ref();
    let kept = policy.and_then(|policy| policy.retention_duration).map_or(0, |it| it.seconds());
    if kept > 0 {
        all.push(format!(
            "{name} has soft delete: every part is composed and deleted within minutes, and billed \
             for {} more days; switch it off with `gcloud storage buckets update gs://{name} \
             --clear-soft-delete`",
            kept / 86_400
        ));
    }
    // https://cloud.google.com/storage/pricing#early-deletion
    if !found.storage_class.is_empty() && found.storage_class != STANDARD {
        all.push(format!(
            "{name} makes objects of the class {}, which bills each part for 30 days or more, \
             however soon it is deleted; set {STANDARD} with `gcloud storage buckets update \
             --default-storage-class`, and archive.gcs.storage_class for the final files",
            found.storage_class
        ));
    }
    all
}
