//! What `kappa setup` finds and makes, in the words of all backends.

use std::fmt;

/// One thing that the configuration needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thing {
    /// Its kind: `topic`, `table`.
    pub kind: &'static str,
    /// Its full name.
    pub name: String,
    /// Its state.
    pub state: State,
    /// Costs and losses that it causes, each a sentence.
    pub warnings: Vec<String>,
}

/// The state of a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It was missing and is there now.
    Created,
    /// It is there, as configured.
    Kept,
    /// It is missing still, since nothing was to be made.
    Missing,
    /// It is there, otherwise than configured, and was left so.
    Differs(Vec<Difference>),
}

/// One difference between an existing resource and the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The property.
    pub what: &'static str,
    /// As it is.
    pub is: String,
    /// As it is configured.
    pub wanted: String,
}

/// A permission that the caller lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lacking {
    /// The full name of the resource.
    pub on: String,
    /// The permission.
    pub permission: String,
    /// The role to grant on it, which holds the permission.
    pub role: &'static str,
}

impl Lacking {
    /// Returns the permissions of `wanted` that are not `held` on a resource, each with the role that has it.
    #[must_use]
    pub fn of(on: &str, wanted: &[(&str, &'static str)], held: &[String]) -> Vec<Self> {
        let lacked = wanted.iter().filter(|(name, _)| !held.iter().any(|held| held == name));
        lacked
            .map(|&(permission, role)| Self {
                on: on.to_owned(),
                permission: permission.to_owned(),
                role,
            })
            .collect()
    }
}

/// Why not all could be looked at or made.
#[derive(Debug, Default, thiserror::Error)]
#[error("{0}")]
pub struct SetupError(pub String);

impl State {
    /// The state of a thing that is there.
    #[must_use]
    pub fn of(differences: Vec<Difference>) -> Self {
        if differences.is_empty() { Self::Kept } else { Self::Differs(differences) }
    }
}

impl Difference {
    /// Adds a difference where there is one.
    pub fn note(all: &mut Vec<Self>, what: &'static str, is: String, wanted: String) {
        if is != wanted {
            all.push(Self { what, is, wanted });
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Created => "created",
            Self::Kept => "kept",
            Self::Missing => "missing",
            Self::Differs(_) => "differs from the configuration",
        })
    }
}
