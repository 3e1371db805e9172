//! The exact words for each kind of mistake.

use std::ffi::OsString;

use kappa_actors::processor::ProcessorConfig;
use serde::Deserialize;

use super::*;

/// The lines shown for a refused configuration.
fn refusal(sources: &Sources) -> String {
    Settings::load(sources).unwrap_err().to_string()
}

/// A setting, and the expected error.
const MISTAKES: &[(&str, &str)] = &[
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
        "actors.writer.each.orders.retry_backoff=1m",
        "error: --set: actors.writer.each.orders.retry_backoff is \"1m\", more than \
             actors.writer.each.orders.max_retry_backoff, \"10s\"\n\
             hint: lower actors.writer.each.orders.retry_backoff, or raise \
             actors.writer.each.orders.max_retry_backoff",
    ),
    (
        "actors.writer.max_retry_backoff=10ms",
        "error: --set: actors.writer.retry_backoff is \"50ms\", more than \
             actors.writer.max_retry_backoff, \"10ms\"\n\
             hint: lower actors.writer.retry_backoff, or raise actors.writer.max_retry_backoff",
    ),
    (
        "actors.watchdog.degraded_after=10m",
        "error: --set: actors.watchdog.degraded_after is \"10m\", more than \
             actors.watchdog.restart_after, \"5m\"\n\
             hint: lower actors.watchdog.degraded_after, or raise actors.watchdog.restart_after",
    ),
    (
        "actors.watchdog.exit_after=2m",
        "error: --set: actors.watchdog.restart_after is \"5m\", more than \
             actors.watchdog.exit_after, \"2m\"\n\
             hint: lower actors.watchdog.restart_after, or raise actors.watchdog.exit_after",
    ),
    (
        "faults.hang={ sink = \"archive\", for = \"5s\" }",
        "error: --set: faults.hang is set, and faults are not enabled\n\
             hint: set faults.enabled = true, in a chaos test only",
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
#[test]
fn every_mistake_is_reported_with_its_place_and_a_hint() {
    for (text, told) in MISTAKES {
        assert_eq!(refusal(&set(&[text])), *told, "{text}");
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
    assert_eq!((slow.sink.to_string().as_str(), slow.lasting), ("archive", Duration::from_secs(5)));
}

#[cfg(feature = "gcp")]
#[test]
fn a_call_may_not_take_longer_than_the_watchdog_waits_before_a_restart() {
    let timeout = "archive.gcs.attempt_timeout=10m";
    let of_gcs = set(&["archive.backend=gcs", "archive.gcs.bucket=events", timeout]);
    let told = "error: --set: archive.gcs.attempt_timeout is \"10m\", more than \
                actors.watchdog.restart_after, \"5m\"\n\
                hint: lower archive.gcs.attempt_timeout, or raise actors.watchdog.restart_after";
    assert_eq!(refusal(&of_gcs), told);
    assert!(Settings::load(&set(&[timeout])).is_ok(), "nothing is stored there");
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
fn all_mistakes_are_reported_together() {
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
fn a_compilers_fault_is_reported_with_its_place() {
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
fn a_slip_is_found_at_any_depth_of_a_processor_and_where_it_is_switched_off_too() {
    for (setting, told) in [
        (
            "processors.orders.columns.currency.defalt=EUR",
            "error: --set: processors.orders.columns.currency.defalt is wrong: ",
        ),
        ("processors.orders.columns.currency.defalt=EUR", "\nhint: did you mean default?"),
        ("processors.orders.columns.currency.type=STRIN", "\nhint: did you mean STRING?"),
        ("processors.orders.tabel=x", "\nhint: did you mean table?"),
        ("processors.orders.freshnes=1m", "\nhint: did you mean freshness?"),
        ("processors.orders={ enabled = false, tabel = 'x' }", "\nhint: did you mean table?"),
        ("processors.ordres.enabled=false", "error: --set: processors.ordres is wrong: missing"),
    ] {
        let settings = Settings::load(&set(&[setting])).unwrap();
        let compile = |_: &str, _: ProcessorConfig| Ok(());
        let refusal = settings.compile_processors(compile).unwrap_err().to_string();
        assert!(refusal.contains(told), "{setting}: {refusal}");
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

/// A text that must never be shown, though it may be written in a wrong place.
const SECRET: &str = "Tr0ub4dor&3-horse-staple";

#[test]
fn a_token_that_no_request_can_bring_is_refused_without_showing_it() {
    for token in [
        "Tr0ub4dor&3",
        "Tr0ub4dor&3 horse staple",
        "Tr0ub4dor&3\thorse-staple",
        "Tr0ub4dor&3-hörse-staple",
    ] {
        for key in ["status.token", "status.senders.shop.token"] {
            let told = refusal(&set(&[&format!("{key}={token}")]));
            let begin =
                format!("error: --set: {key} is no token that a request can bring\nhint: use 16");
            assert!(told.starts_with(&begin), "{told}");
            assert!(!told.contains("Tr0ub4dor"), "{told}");
        }
    }
}

#[test]
fn a_secret_in_a_wrong_place_is_not_shown() {
    for text in [
        format!("status={SECRET}"),
        format!("status.token.value={SECRET}"),
        format!("status.tokens={SECRET}"),
        format!("status.senders={SECRET}"),
        format!("status.senders.shop={SECRET}"),
        format!("status.senders.shop.tokn={SECRET}"),
        format!("status.tls={SECRET}"),
        format!("status.token {SECRET}"),
        format!("status.token:{SECRET}"),
        format!("status.token {SECRET}=1"),
    ] {
        let told = refusal(&set(&[&text]));
        assert!(told.contains("\nhint: ") && !told.contains("horse"), "{text}: {told}");
    }
    let dir = tempfile::tempdir().unwrap();
    for text in [
        format!("status = \"{SECRET}\""),
        format!("[status]\ntoken = \"{SECRET}"),
        format!("[status]\ntoken = {SECRET}"),
        format!("[status]\ntoken = [\"{SECRET}\"]"),
        format!("[status]\ntoken = \"{SECRET}\"\ntoken = \"{SECRET}\""),
    ] {
        let told = refusal(&with_file(dir.path(), "a.toml", &text));
        assert!(!told.contains("horse"), "{text}: {told}");
    }
}

#[test]
fn senders_have_names_and_tokens_of_their_own() {
    let token = "status.senders.shop.token=0123456789abcdef";
    for (sets, told) in [
        (
            &["status.senders.shop.rate=5"][..],
            "error: --set: status.senders.shop has no token\nhint: ",
        ),
        (&["status.senders.\"a b\".token=0123456789abcdef"], "status.senders.\"a b\" is no name\n"),
        (&[token, "status.senders.shop.rate=0"], "status.senders.shop.rate is 0\nhint: use 1 to "),
        (&[token, "status.token=0123456789abcdef"], "is the same token as status."),
        (&[token, "status.senders.web.token=0123456789abcdef"], "is the same token as status."),
        (
            &["status.tls.key=a.key"],
            "status.tls.key is set, and status.tls.certificate is not\nhint: ",
        ),
    ] {
        let refusal = refusal(&set(sets));
        assert!(refusal.contains(told), "{refusal}");
        assert!(!refusal.contains("0123456789abcdef"), "{refusal}");
    }
    let settings = Settings::load(&set(&[token, "status.senders.shop.rate=5"])).unwrap();
    assert_eq!(settings.status.senders["shop"].rate, Some(5));
    let shown = settings.provenance.iter().map(|setting| setting.value.to_string());
    assert!(shown.into_iter().all(|shown| !shown.contains("0123456789abcdef")));
}
