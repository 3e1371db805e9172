//! Layers, precedence and provenance.

mod mistakes;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use super::*;

/// Sources that no file of the working directory changes.
fn set(texts: &[&str]) -> Sources {
    Sources { set: texts.iter().map(|&text| text.to_owned()).collect(), ..Sources::default() }
}

fn environment(variables: &[(&str, &str)]) -> Sources {
    let variables = variables.iter().map(|(name, value)| (name.into(), value.into()));
    Sources { environment: variables.collect(), ..Sources::default() }
}

fn with_file(dir: &Path, name: &str, text: &str) -> Sources {
    let path = dir.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, text).unwrap();
    Sources { files: vec![path], ..Sources::default() }
}

fn columns(settings: &Settings, processor: &str) -> toml::Table {
    let found = settings.processors.iter().find(|found| found.name == processor).unwrap();
    found.table["columns"].as_table().unwrap().clone()
}

#[test]
fn the_defaults_alone_are_a_configuration() {
    let settings = Settings::load(&Sources::default()).unwrap();
    assert_eq!(settings.max_event_bytes, 10_485_760);
    assert_eq!(settings.drain_timeout, Duration::from_secs(30));
    assert_eq!(settings.actors.writer.of("orders").max_batch_rows, 5_000);
    assert_eq!(settings.actors.supervisor.restart.budget, 3);
    let names: BTreeSet<_> = settings.processors.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(names, ["orders", "other", "products", "users"].into());
}

#[test]
fn each_layer_counts_more_than_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    let key = "actors.writer.max_batch_rows";
    let first = with_file(dir.path(), "first.toml", "[actors.writer]\nmax_batch_rows = 1\n");
    let second = with_file(dir.path(), "second.toml", "actors.writer.max_batch_rows = 2");
    let mut sources = first;
    let expect = |sources: &Sources, rows, place: &str| {
        let settings = Settings::load(sources).unwrap();
        assert_eq!(settings.actors.writer.of("orders").max_batch_rows, rows);
        assert_eq!(settings.provenance.of(key), Some(place));
        // Its neighbour is left alone.
        assert_eq!(settings.provenance.of("actors.writer.max_batch_bytes"), Some("default"));
    };
    expect(&sources, 1, dir.path().join("first.toml").to_str().unwrap());
    sources.files.extend(second.files);
    expect(&sources, 2, dir.path().join("second.toml").to_str().unwrap());
    sources.environment =
        environment(&[("KAPPA__ACTORS__WRITER__MAX_BATCH_ROWS", "3")]).environment;
    expect(&sources, 3, "KAPPA__ACTORS__WRITER__MAX_BATCH_ROWS");
    sources.set = vec![format!("{key}=4")];
    expect(&sources, 4, "--set");
}

#[test]
fn the_emulators_variable_goes_before_files_and_behind_a_setting_of_ones_own() {
    let key = "event_log.pubsub.endpoint";
    let dir = tempfile::tempdir().unwrap();
    let file = with_file(dir.path(), "log.toml", "event_log.pubsub.endpoint = \"http://file:1\"");
    let expect = |variables: &[(&str, &str)], endpoint, place| {
        let sources = Sources { files: file.files.clone(), ..environment(variables) };
        let settings = Settings::load(&sources).unwrap();
        assert_eq!(settings.event_log.pubsub.endpoint.as_deref(), Some(endpoint));
        assert_eq!(settings.provenance.of(key), Some(place));
    };
    let emulator = ("PUBSUB_EMULATOR_HOST", "localhost:8085");
    expect(&[emulator], "http://localhost:8085", "PUBSUB_EMULATOR_HOST");
    let own = "KAPPA__EVENT_LOG__PUBSUB__ENDPOINT";
    expect(&[(own, "http://own:1"), emulator], "http://own:1", own);
    let unset = ("PUBSUB_EMULATOR_HOST", "");
    expect(&[unset], "http://file:1", dir.path().join("log.toml").to_str().unwrap());
}

#[test]
fn the_data_folder_flag_is_its_setting() {
    let sources = Sources { data_dir: Some("/srv/a b".into()), ..Sources::default() };
    let settings = Settings::load(&sources).unwrap();
    assert_eq!(settings.data_dir, Path::new("/srv/a b"));
    assert_eq!(settings.provenance.of("data_dir"), Some("--data-dir"));
}

#[test]
fn a_value_that_can_only_be_text_is_taken_as_it_is() {
    let settings = Settings::load(&set(&["instance=7", "data_dir=/a=b"])).unwrap();
    assert_eq!(settings.instance, "7");
    assert_eq!(settings.data_dir, Path::new("/a=b"));
    let quoted = Settings::load(&set(&["instance=\"7\""])).unwrap();
    assert_eq!(quoted.instance, "7");
}

#[test]
fn an_unnamed_instance_has_the_hosts_name_and_a_random_suffix() {
    let instance = || Settings::load(&Sources::default()).unwrap().instance;
    let (one, other) = (instance(), instance());
    assert_eq!(one.rsplit_once('-').unwrap().0, other.rsplit_once('-').unwrap().0);
    assert_eq!(one.rsplit_once('-').unwrap().1.len(), 4);
}

#[test]
fn an_override_for_one_table_keeps_all_else_of_its_section() {
    let texts = [
        "actors.writer.each.orders.max_batch_rows=7",
        "actors.writer.each.orders.restart.budget=2",
        "actors.writer.max_delay=1ms",
    ];
    let settings = Settings::load(&set(&texts)).unwrap();
    let (orders, users) = (settings.actors.writer.of("orders"), settings.actors.writer.of("users"));
    assert_eq!((orders.max_batch_rows, users.max_batch_rows), (7, 5_000));
    assert_eq!((orders.restart.budget, users.restart.budget), (2, 10));
    assert_eq!(orders.restart.window, users.restart.window);
    assert_eq!(orders.max_delay, Duration::from_millis(1));
}

#[test]
fn a_setting_layers_over_one_key_of_a_shipped_column() {
    let before = columns(&Settings::load(&Sources::default()).unwrap(), "orders");
    for sources in [
        set(&["processors.orders.columns.currency.default=EUR"]),
        environment(&[("KAPPA__PROCESSORS__ORDERS__COLUMNS__CURRENCY__DEFAULT", "EUR")]),
    ] {
        let columns = columns(&Settings::load(&sources).unwrap(), "orders");
        assert_eq!(columns["currency"]["default"].as_str(), Some("EUR"));
        assert_eq!(columns["currency"]["from"], before["currency"]["from"]);
        assert!(columns.keys().eq(before.keys()), "the order of columns changed");
    }
}

#[test]
fn columns_keep_the_order_and_the_case_they_were_written_in() {
    let dir = tempfile::tempdir().unwrap();
    let text = "[processors.Payments]\nmatch = [\"payment.\"]\ntable = \"Payments\"\n\
                [processors.Payments.columns]\nzeta = { type = \"STRING\", from = \"/z\" }\n\
                customerId = { type = \"STRING\", from = \"/c\" }\n\
                alpha = { type = \"STRING\", from = \"/a\" }\n";
    let mut sources = with_file(dir.path(), "a.toml", text);
    let variable = "KAPPA__PROCESSORS__PAYMENTS__COLUMNS__CUSTOMERID__DEFAULT";
    sources.environment = environment(&[(variable, "none")]).environment;
    let columns = columns(&Settings::load(&sources).unwrap(), "Payments");
    assert!(columns.keys().eq(["zeta", "customerId", "alpha"]), "{columns:?}");
    assert_eq!(columns["customerId"]["default"].as_str(), Some("none"));
}

#[test]
fn a_column_given_another_source_loses_the_one_it_had() {
    let over = set(&["processors.orders.columns.currency={ value = \"EUR\" }"]);
    let columns = columns(&Settings::load(&over).unwrap(), "orders");
    let currency = columns["currency"].as_table().unwrap();
    assert!(currency.keys().eq(["type", "value"]), "{currency:?}");
}

#[test]
fn a_file_in_the_folder_is_the_whole_of_its_processor() {
    let dir = tempfile::tempdir().unwrap();
    let orders = "match = [\"order.\"]\ntable = \"orders\"\n[columns]\nid = { type = \"STRING\", from = \"/id\" }\n";
    with_file(dir.path(), "etc/mine/orders.toml", orders);
    with_file(dir.path(), "etc/mine/ignored.toml.example", "not = toml = at all");
    // The folder is found beside the file that names it, wherever one starts kappa.
    let sources = with_file(dir.path(), "etc/prod.toml", "processors_dir = \"mine\"");
    let settings = Settings::load(&sources).unwrap();
    assert!(columns(&settings, "orders").keys().eq(["id"]));
    assert_eq!(settings.processors.len(), 4);
    let place = dir.path().join("etc/mine/orders.toml");
    assert_eq!(settings.provenance.of("processors.orders.columns.id"), place.to_str());
}

#[test]
fn a_processor_can_be_switched_off() {
    let settings = Settings::load(&set(&["processors.other.enabled=false"])).unwrap();
    assert!(settings.processors.iter().all(|processor| processor.name != "other"));
    assert_eq!(settings.processors.len(), 3);
    let on = Settings::load(&set(&["processors.other.enabled=true"])).unwrap();
    assert!(on.processors.iter().all(|processor| !processor.table.contains_key("enabled")));
}

#[test]
fn a_token_is_never_shown() {
    let settings = Settings::load(&set(&["status.token=hush-hush-hush-hush"])).unwrap();
    assert_eq!(settings.status.token.0, "hush-hush-hush-hush");
    assert!(!format!("{settings:?}").contains("hush"));
    assert!(settings.provenance.iter().all(|setting| !setting.value.to_string().contains("hush")));
}

#[test]
fn every_key_of_the_default_file_has_a_doc_a_rule_and_a_field() {
    let entries = || reference::sections().into_iter().flat_map(|section| section.entries);
    for entry in entries() {
        assert!(entry.doc.ends_with('.'), "{} has no doc: {:?}", entry.key, entry.doc);
        assert!(!entry.kind.is_empty(), "{} has no rule", entry.key);
    }
    let listed: BTreeSet<_> = entries().map(|entry| entry.key).collect();
    let defaults =
        tree::merge(&[tree::parse(&reference::with_examples(), DEFAULT).unwrap()]).unwrap();
    for (key, value) in tree::leaves(&defaults) {
        assert!(
            listed.iter().any(|listed| key.starts_with(listed)),
            "{key} is not in the reference"
        );
        let kind = rules::Kind::of(&key);
        assert!(kind.is_some_and(|kind| kind.allows(value)), "{key} breaks its rule, {kind:?}");
    }
    // The sections refuse unknown keys, and each key here is known: that is one direction. The
    // other: no section has a field that the file leaves out, or this would not load.
    let sources = set(&["faults.enabled=true", "faults.fail={ sink = \"archive\", for = \"1s\" }"]);
    assert!(Settings::load(&sources).is_ok());
}

#[test]
fn every_rule_has_its_key() {
    let defaults =
        tree::merge(&[tree::parse(&reference::with_examples(), DEFAULT).unwrap()]).unwrap();
    let keys: Vec<_> = tree::leaves(&defaults).into_iter().map(|(key, _)| key).collect();
    for (pattern, _) in rules::RULES {
        assert!(keys.iter().any(|key| rules::matches(pattern, key)), "{pattern} matches no key");
    }
}
