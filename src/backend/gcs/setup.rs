//! The bucket, described, compared and created.

use google_cloud_gax::options::RequestOptionsBuilder as _;
use google_cloud_storage::model::Bucket;
use google_cloud_storage::model::bucket::iam_config::UniformBucketLevelAccess;
use google_cloud_storage::model::bucket::lifecycle::Rule;
use google_cloud_storage::model::bucket::lifecycle::rule::{Action, Condition};
use google_cloud_storage::model::bucket::{IamConfig, Lifecycle};

use super::GcsArchive;
use super::trouble::{Trouble, store_error, trouble};
use crate::backend::setup::{Difference, Lacking, SetupError, State, Thing};

/// Where a composition keeps what it has joined so far. A composition that was given up leaves it;
/// replicas sweep it, and the bucket does where none ever comes back.
pub(super) const INTERMEDIATES: &str = "composing/";
/// What a rule of the lifecycle does.
const DELETE: &str = "Delete";
/// Far longer than any composition takes.
const INTERMEDIATE_DAYS: i32 = 30;

/// What the daemon does with a bucket, and the role that allows it:
/// <https://cloud.google.com/storage/docs/access-control/iam-roles>
const ON_BUCKET: [(&str, &str); 4] = [
    ("storage.objects.create", "roles/storage.objectUser"),
    ("storage.objects.get", "roles/storage.objectUser"),
    ("storage.objects.list", "roles/storage.objectUser"),
    ("storage.objects.delete", "roles/storage.objectUser"),
];

/// What is configured of a bucket beyond its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedBucket {
    /// The project that pays for it.
    pub project: String,
    /// Where it is: `EU`, `us-central1`.
    pub location: String,
    /// The storage class of its objects; `None` leaves it to the service.
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
        let state = match self.clients.answer(request.with_idempotency(true).send()).await {
            Ok(found) => State::of(self.differences(&found, wanted)),
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
        Ok(Thing { kind: "bucket", name, state })
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
        let rule = Rule::new().set_action(Action::new().set_type(DELETE)).set_condition(
            Condition::new()
                .set_age_days(INTERMEDIATE_DAYS)
                .set_matches_prefix([self.intermediates()]),
        );
        let access = UniformBucketLevelAccess::new().set_enabled(true);
        let mut bucket = Bucket::new()
            .set_project(format!("projects/{}", wanted.project))
            .set_location(wanted.location.clone())
            .set_iam_config(IamConfig::new().set_uniform_bucket_level_access(access))
            .set_lifecycle(Lifecycle::new().set_rule([rule]));
        if let Some(class) = &wanted.storage_class {
            bucket = bucket.set_storage_class(class.clone());
        }
        let request = self.clients.control().create_bucket().set_parent("projects/_");
        let call = request.set_bucket_id(name).set_bucket(bucket).send();
        match self.clients.answer(call).await {
            Ok(_) => Ok(State::Created),
            Err(error) => Err(SetupError(format!("the bucket {name} could not be made: {error}"))),
        }
    }

    fn intermediates(&self) -> String {
        format!("{}{INTERMEDIATES}", self.prefix)
    }

    /// Of its rules only that which would be made is looked for; others are whoever made them's.
    fn differences(&self, found: &Bucket, wanted: &WantedBucket) -> Vec<Difference> {
        let mut all = Vec::new();
        let (is, location) = (found.location.to_uppercase(), wanted.location.to_uppercase());
        Difference::note(&mut all, "location", is, location);
        if let Some(class) = &wanted.storage_class {
            Difference::note(&mut all, "storage class", found.storage_class.clone(), class.clone());
        }
        let access = found.iam_config.as_ref();
        let access = access.and_then(|config| config.uniform_bucket_level_access.as_ref());
        let is = access.is_some_and(|access| access.enabled).to_string();
        Difference::note(&mut all, "uniform bucket-level access", is, true.to_string());
        let sweeps = |rule: &Rule| {
            let condition = rule.condition.clone().unwrap_or_default();
            rule.action.as_ref().is_some_and(|action| action.r#type == DELETE)
                && condition.age_days == Some(INTERMEDIATE_DAYS)
                && condition.matches_prefix == [self.intermediates()]
        };
        let rules = found.lifecycle.iter().flat_map(|lifecycle| &lifecycle.rule);
        if !rules.clone().any(sweeps) {
            all.push(Difference {
                what: "lifecycle",
                is: format!("{} rules, none of which does", rules.count()),
                wanted: format!(
                    "to delete {} after {INTERMEDIATE_DAYS} days",
                    self.intermediates()
                ),
            });
        }
        all
    }
}
