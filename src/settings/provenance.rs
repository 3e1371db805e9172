//! Where each effective setting came from.

use config::Value;

use super::rules::Kind;
use super::tree;

/// One effective setting.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// The full key.
    pub key: String,
    /// The value, without secrets.
    pub value: toml::Value,
    /// The file, the environment variable or the flag it came from; `default` for the defaults.
    pub place: String,
}

/// All effective settings, in the order of the default file, processors last.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Provenance(Vec<Setting>);

impl Provenance {
    pub(super) fn new(tree: &Value) -> Self {
        let settings = tree::leaves(tree).into_iter().map(|(key, value)| {
            let hidden = Kind::of(&key) == Some(Kind::Secret) && tree::show(value) != "\"\"";
            let shown = if hidden { toml::Value::from("…") } else { tree::to_toml(value) };
            let place = tree::place(value).unwrap_or(super::DEFAULT).to_owned();
            Setting { key, value: shown, place }
        });
        let (processors, rest): (Vec<_>, Vec<_>) =
            settings.partition(|setting| setting.key.starts_with("processors."));
        Self(rest.into_iter().chain(processors).collect())
    }

    /// The settings.
    pub fn iter(&self) -> impl Iterator<Item = &Setting> {
        self.0.iter()
    }

    /// Returns the place of `key`: of a key below it if it is a section, and of the section around it if it is not
    /// set.
    #[must_use]
    pub fn of(&self, key: &str) -> Option<&str> {
        let within = |setting: &&Setting| {
            setting
                .key
                .strip_prefix(key)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        match self.0.iter().find(within) {
            Some(setting) => Some(&setting.place),
            None => self.of(key.rsplit_once('.')?.0),
        }
    }
}
