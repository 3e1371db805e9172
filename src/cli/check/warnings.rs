//! Warnings: settings that are valid, but may surprise.

use kappa_actors::processor::Processor as _;

use crate::cli::costs;
use crate::settings::Settings;
use crate::wiring::{Blueprint, Rule};

/// All of them, as sentences.
pub(super) fn of(settings: &Settings, blueprint: &Blueprint) -> Vec<String> {
    let mut warnings = Vec::new();
    let takes_rest = |rule: &Rule| rule.plan.patterns().iter().any(|pattern| pattern == "*");
    if !blueprint.processors.iter().any(takes_rest) {
        let text = "no processor matches \"*\": events of a type that none takes are archived and \
                    counted, nothing else";
        warnings.push(text.to_owned());
    }
    for Rule { plan, .. } in &blueprint.processors {
        let table = plan.table();
        if table.key.is_empty() {
            let (name, table) = (plan.name(), &table.name);
            warnings.push(format!(
                "processors.{name} has no key: redelivery may add a row to {table} twice"
            ));
        }
    }
    let listen = settings.status.listen;
    if settings.status.ingest {
        let status = &settings.status;
        let who = match status.token.0.is_empty() && status.senders.is_empty() {
            true => "anyone on this machine",
            false => "the bearer of a token",
        };
        warnings.push(format!("status.ingest is on: {who} may publish events at {listen}"));
    }
    warnings.extend(costs::warnings(settings, blueprint));
    if settings.faults.enabled {
        warnings.push(
            "faults are enabled: every client of the endpoint can break the daemon on purpose"
                .to_owned(),
        );
    }
    #[cfg(feature = "gcp")]
    warnings.extend(crate::backend::gcp::proxy::ignored(settings));
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Sources;

    fn warnings(sets: &[&str]) -> Vec<String> {
        let set = sets.iter().map(ToString::to_string).collect();
        let settings = Settings::load(&Sources { set, ..Sources::default() }).unwrap();
        of(&settings, &Blueprint::of(&settings).unwrap())
    }

    #[test]
    fn the_shipped_configuration_warns_of_nothing() {
        assert_eq!(warnings(&[]), [""; 0]);
    }

    #[test]
    fn each_warning_names_the_key_that_causes_it() {
        for (set, word) in [
            ("processors.other.enabled=false", "no processor matches \"*\""),
            ("processors.users.key=[]", "processors.users has no key"),
            ("status.ingest=true", "status.ingest is on: anyone on this machine"),
            ("faults.enabled=true", "faults are enabled"),
        ] {
            let [told] = &warnings(&[set])[..] else { panic!("{set}: {:?}", warnings(&[set])) };
            assert!(told.contains(word), "{set}: {told}");
        }
    }
}
