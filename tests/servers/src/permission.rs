//! Which permissions the caller has.
//!
//! A role is granted on a resource and holds for all that is below it:
//! <https://cloud.google.com/iam/docs/resource-hierarchy-access-control>. A resource is a path, such as
//! `projects/P/datasets/D`.

use std::collections::BTreeSet;

/// The permissions of the one account that asks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Granted {
    /// Resources and permissions; `None` while the account has all of them.
    only: Option<BTreeSet<(String, String)>>,
    denied: BTreeSet<String>,
}

impl Granted {
    /// Takes all permissions away but these.
    pub(crate) fn only(&mut self, grants: impl IntoIterator<Item = (String, String)>) {
        self.only = Some(grants.into_iter().collect());
    }

    /// Gives all permissions back that [`Self::only`] took.
    pub(crate) fn all(&mut self) {
        self.only = None;
    }

    /// Adds permissions on a resource to those that are left.
    pub(crate) fn add(&mut self, on: &str, permissions: &[&str]) {
        let added = permissions.iter().map(|name| (on.to_owned(), (*name).to_owned()));
        self.only.iter_mut().for_each(|only| only.extend(added.clone()));
    }

    /// Takes a permission away on every resource.
    pub(crate) fn deny(&mut self, permission: &str) {
        self.denied.insert(permission.to_owned());
    }

    /// Gives a permission back that was denied.
    pub(crate) fn allow(&mut self, permission: &str) {
        self.denied.remove(permission);
    }

    /// Whether the account has `permission` on the resource `on`.
    pub(crate) fn has(&self, permission: &str, on: &str) -> bool {
        let covers = |resource: &str| {
            on.strip_prefix(resource).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let granted = self.only.as_ref().is_none_or(|grants| {
            grants.iter().any(|(resource, held)| held == permission && covers(resource))
        });
        granted && !self.denied.contains(permission)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_holds_on_its_resource_and_below_and_nowhere_else() {
        let mut granted = Granted::default();
        assert!(granted.has("get", "projects/p/topics/t"));
        let grants = [("projects/p/datasets/d", "get"), ("projects/q", "list")];
        granted.only(grants.map(|(on, name)| (on.to_owned(), name.to_owned())));
        assert!(granted.has("get", "projects/p/datasets/d"));
        assert!(granted.has("get", "projects/p/datasets/d/tables/t"));
        assert!(!granted.has("get", "projects/p/datasets/dd"));
        assert!(!granted.has("get", "projects/p"));
        assert!(!granted.has("list", "projects/p/datasets/d"));
        granted.deny("list");
        assert!(!granted.has("list", "projects/q"));
        granted.allow("list");
        assert!(granted.has("list", "projects/q"));
    }
}
