//! Layers, precedence, provenance, and the exact words for each kind of mistake.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

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

/// The lines shown for a refused configuration.
fn refusal(sources: &Sources) -> String {
    Settings::load(sources).unwrap_err().to_string()
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
fn the_data_folder_flag_stands_for_its_setting() {
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
fn every_mistake_is_told_with_its_place_and_a_way_out() {
    let cases = [
        (
            "actors.writer.max_batch_rows=0",
            "error: --set: actors.writer.max_batch_rows is 0\n\
             hint: use 1 to 50000, or leave it out for the default, 5000",
        ),
        (
            "actors.writer.max_batch_row=10",
            "error: --set: actors.writer.max_batch_row is no setting\n\
             hint: did you mean actors.writer.max_batch_rows?",
        ),
        (
            "actors.writter.max_batch_rows=10",
            "error: --set: actors.writter is no setting\nhint: did you mean actors.writer?",
        ),
        (
            "max_batch_events=10",
            "error: --set: max_batch_events is no setting\n\
             hint: did you mean actors.reader.max_batch_events?",
        ),
        (
            "colour=blue",
            "error: --set: colour is no setting\nhint: `kappa config reference` lists every key",
        ),
        (
            "status.ingest=maybe",
            "error: --set: status.ingest is \"maybe\"\n\
             hint: use true or false, or leave it out for the default, false",
        ),
        (
            "drain_timeout=30",
            "error: --set: drain_timeout is \"30\"\n\
             hint: use a duration from \"1ms\" to \"1h\", or leave it out for the default, \"30s\"",
        ),
        (
            "actors.reader.restart.window=0s",
            "error: --set: actors.reader.restart.window is \"0s\"\n\
             hint: use a duration from \"1ms\" to \"1day\", or leave it out for the default, \"60s\"",
        ),
        (
            "archive.compression=lzma",
            "error: --set: archive.compression is \"lzma\"\n\
             hint: use \"none\" or \"gzip\" or \"zstd\", or leave it out for the default, \"none\"",
        ),
        (
            "envelope.id=event_id",
            "error: --set: envelope.id is \"event_id\"\n\
             hint: use a JSON pointer such as \"/meta/id\", or leave it out for the default, \
             \"/event_id\"",
        ),
        (
            "archive=5",
            "error: --set: archive is 5\nhint: it is a section: write [archive] and its keys below",
        ),
        (
            "status.listen=localhost:80",
            "error: --set: status.listen is \"localhost:80\"\n\
             hint: use an IP address and port such as \"127.0.0.1:8080\", or leave it out for the \
             default, \"127.0.0.1:8080\"",
        ),
        (
            "status.listen=0.0.0.0:80",
            "error: --set: status.listen is 0.0.0.0:80, which others reach, without a token\n\
             hint: set status.token, or listen on 127.0.0.1",
        ),
        (
            "actors.writer.each.order.max_batch_rows=1",
            "error: --set: actors.writer.each.order: no table order\nhint: did you mean orders?",
        ),
        (
            "actors.processor.each.orders.max_rows_per_events=1",
            "error: --set: actors.processor.each.orders.max_rows_per_events is no setting\n\
             hint: did you mean actors.processor.max_rows_per_event?",
        ),
        (
            "actors.writer.each.orders.max_delay=0s",
            "error: --set: actors.writer.each.orders.max_delay is \"0s\"\n\
             hint: use a duration from \"1ms\" to \"1m\", or leave it out for the default, \"20ms\"",
        ),
        (
            "actors.writer.retry_backoff=1m",
            "error: --set: actors.writer.retry_backoff is \"1m\", more than \
             actors.writer.max_retry_backoff, \"10s\"\n\
             hint: lower actors.writer.retry_backoff, or raise actors.writer.max_retry_backoff",
        ),
        (
            "faults.fail={ sink = \"writer.orders\", for = \"5s\" }",
            "error: --set: faults.fail is set, and faults are not enabled\n\
             hint: set faults.enabled = true, in a chaos test only",
        ),
        (
            "processors.orders=5",
            "error: --set: processors.orders is 5\n\
             hint: it is a section: write [processors.orders] and its keys below",
        ),
        (
            "processors.orders.enabled=no",
            "error: --set: processors.orders.enabled is \"no\"\n\
             hint: use true or false, or leave it out",
        ),
        (
            "drain_timeout",
            "error: --set: \"drain_timeout\" has no value\n\
             hint: write --set key=value, as in --set drain_timeout=10s",
        ),
        (
            "drain..timeout=5",
            "error: --set: \"drain..timeout\" is no key\n\
             hint: write --set key=value, as in --set drain_timeout=10s",
        ),
    ];
    for (text, told) in cases {
        assert_eq!(refusal(&set(&[text])), told, "{text}");
    }
}

#[test]
fn a_fault_wants_its_sink_and_its_span() {
    let sources = set(&["faults.enabled=true", "faults.slow={ sink = \"archive\" }"]);
    let told = "error: --set: faults.slow has no for\n\
                hint: write it as { sink = \"writer.orders\", for = \"5s\" }";
    assert_eq!(refusal(&sources), told);
    let whole = set(&["faults.enabled=true", "faults.slow={ sink = \"archive\", for = \"5s\" }"]);
    let slow = Settings::load(&whole).unwrap().faults.slow.unwrap();
    assert_eq!((slow.sink.as_str(), slow.lasts), ("archive", Duration::from_secs(5)));
}

#[test]
fn a_mistake_in_the_environment_names_the_variable() {
    let told = "error: KAPPA__STATUS__LISTEM: status.listem is no setting\n\
                hint: did you mean status.listen?";
    assert_eq!(refusal(&environment(&[("KAPPA__STATUS__LISTEM", "x")])), told);
    assert!(Settings::load(&environment(&[("KAPPA_HOME", "x"), ("PATH", "y")])).is_ok());
}

#[test]
fn a_file_that_is_missing_or_no_toml_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("none.toml");
    let missing = Sources { files: vec![path.clone()], ..Sources::default() };
    let told = refusal(&missing);
    assert!(told.starts_with(&format!("error: {}: No such file", path.display())), "{told}");
    let broken = with_file(dir.path(), "broken.toml", "[status]\nlisten = = 5\n");
    let told = refusal(&broken);
    let place = dir.path().join("broken.toml");
    assert!(
        told.starts_with(&format!("error: {}: line 2, column 10: ", place.display())),
        "{told}"
    );
}

#[test]
fn a_folder_of_processors_that_was_asked_for_must_exist() {
    let told = refusal(&set(&["processors_dir=/no/such/folder"]));
    assert!(told.starts_with("error: --set: processors_dir is \"/no/such/folder\": "), "{told}");
}

#[test]
fn all_mistakes_are_told_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut sources =
        with_file(dir.path(), "a.toml", "colour = 1\n[actors.reader]\nmax_attempts = 0\n");
    sources.environment = environment(&[("KAPPA__STATUS__INGEST", "5")]).environment;
    sources.set = vec!["actors.writer.retry_backoff=20m".to_owned()];
    let problems = Settings::load(&sources).unwrap_err().0;
    let places: Vec<_> = problems.iter().map(|problem| problem.place.clone().unwrap()).collect();
    let file = dir.path().join("a.toml").display().to_string();
    assert_eq!(places.len(), 4, "{problems:?}");
    assert_eq!(places.iter().filter(|place| **place == file).count(), 2);
}

#[test]
fn a_token_is_never_shown() {
    let settings = Settings::load(&set(&["status.token=hush"])).unwrap();
    assert_eq!(settings.status.token.0, "hush");
    assert!(!format!("{settings:?}").contains("hush"));
    assert!(settings.provenance.iter().all(|setting| !setting.value.to_string().contains("hush")));
}

#[test]
fn what_a_compiler_refuses_is_told_at_the_place_it_was_written() {
    #[derive(Deserialize)]
    struct Rule {
        table: String,
        columns: std::collections::BTreeMap<String, Column>,
    }
    #[derive(Deserialize)]
    struct Column {
        #[serde(rename = "type")]
        _kind: String,
        #[serde(default)]
        len: Option<String>,
    }
    let compile = |name: &str, rule: Rule| match rule.columns.iter().find(|(_, c)| c.len.is_some())
    {
        Some((column, _)) => Err(Fault {
            key: format!("processors.{name}.columns.{column}.len"),
            reason: "is refused".to_owned(),
            hint: Some("leave it out".to_owned()),
        }),
        None => Ok(rule.table),
    };
    let sources = set(&[
        "processors.orders.columns.item_count.len=/x",
        "processors.users.columns.source.type=5",
    ]);
    let settings = Settings::load(&sources).unwrap();
    let told = settings.compile_processors(compile).unwrap_err().to_string();
    assert!(
        told.contains(
            "error: --set: processors.orders.columns.item_count.len is refused\nhint: leave it out"
        ),
        "{told}"
    );
    assert!(
        told.contains("error: --set: processors.users.columns.source.type is wrong: "),
        "{told}"
    );
    let fine = set(&["processors.orders.enabled=false"]);
    let tables = Settings::load(&fine).unwrap().compile_processors(compile).unwrap();
    assert_eq!(tables.len(), 3);
}

#[test]
fn every_key_of_the_default_file_has_a_doc_a_rule_and_a_field() {
    for entry in reference::entries() {
        assert!(entry.doc.ends_with('.'), "{} has no doc: {:?}", entry.key, entry.doc);
        assert!(!entry.kind.is_empty(), "{} has no rule", entry.key);
    }
    let listed: BTreeSet<_> = reference::entries().into_iter().map(|entry| entry.key).collect();
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
    let sources = set(&["faults.enabled=true", "faults.fail={ sink = \"a\", for = \"1s\" }"]);
    assert!(Settings::load(&sources).is_ok());
}

#[test]
fn no_rule_stands_for_a_key_that_is_not_there() {
    let defaults =
        tree::merge(&[tree::parse(&reference::with_examples(), DEFAULT).unwrap()]).unwrap();
    let keys: Vec<_> = tree::leaves(&defaults).into_iter().map(|(key, _)| key).collect();
    for (pattern, _) in rules::RULES {
        assert!(keys.iter().any(|key| rules::matches(pattern, key)), "{pattern} matches no key");
    }
}

#[test]
fn a_variable_that_is_not_text_is_refused() {
    use std::os::unix::ffi::OsStringExt as _;
    let value = OsString::from_vec(vec![0xFF]);
    let environment = vec![("KAPPA__INSTANCE".into(), value)];
    let told = refusal(&Sources { environment, ..Sources::default() });
    assert_eq!(told, "error: KAPPA__INSTANCE: the value is not UTF-8\nhint: use UTF-8 text");
}
