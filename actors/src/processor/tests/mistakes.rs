//! Each mistake in a configuration is refused under its key.

use super::compile;

const ID: &str = "columns.id = { type = \"STRING\", from = \"/event_id\" }\n";

fn refuse(toml: &str, key: &str, reason: &str) {
    let error = compile(toml).expect_err(toml);
    assert_eq!((error.key.as_str(), error.reason.as_str()), (key, reason), "{toml}");
    assert!(error.hint.is_some(), "{toml}");
}

fn refuse_column(column: &str, key: &str, reason: &str) {
    let key = if key.is_empty() {
        "processors.p.columns.c".into()
    } else {
        format!("processors.p.columns.c.{key}")
    };
    refuse(&format!("columns.c = {{ {column} }}"), &key, reason);
}

#[test]
fn a_column_has_exactly_one_source() {
    refuse_column("type = \"STRING\"", "", "has no source");
    refuse_column("type = \"TIMESTAMP\", now = false", "", "has no source");
    refuse_column("type = \"STRING\", default = \"x\"", "", "has no source");
    refuse_column(
        "type = \"STRING\", from = \"/a\", attribute = \"b\"",
        "",
        "has 2 sources: from, attribute",
    );
}

#[test]
fn a_pointer_is_a_pointer() {
    for source in ["from", "len"] {
        refuse_column(
            &format!("type = \"INTEGER\", {source} = \"data/x\""),
            source,
            "is no JSON pointer: \"data/x\" does not begin with /",
        );
    }
    refuse(
        &format!("explode = \"/a~\"\n{ID}"),
        "processors.p.explode",
        "is no JSON pointer: \"/a~\" has a ~ without 0 or 1 behind it",
    );
}

#[test]
fn root_and_index_need_explode() {
    refuse_column("type = \"STRING\", root = \"/a\"", "root", "means nothing without explode");
    refuse_column("type = \"INTEGER\", index = true", "index", "means nothing without explode");
}

#[test]
fn a_constant_is_of_its_columns_type() {
    refuse_column(
        "type = \"FLOAT\", from = \"/a\", default = \"x\"",
        "default",
        "is \"x\", which is no FLOAT",
    );
    refuse_column("type = \"INTEGER\", value = 1.5", "value", "is 1.5, which is no INTEGER");
    refuse_column("type = \"FLOAT\", value = nan", "value", "is null, which is no FLOAT");
    refuse_column(
        "type = \"DATE\", value = \"2026-02-30\"",
        "value",
        "is \"2026-02-30\", which is no DATE",
    );
}

#[test]
fn a_source_of_a_fixed_type_needs_a_column_of_that_type() {
    refuse_column(
        "type = \"STRING\", now = true",
        "type",
        "is STRING, but its source is TIMESTAMP",
    );
    refuse_column(
        "type = \"DATE\", message = \"publish_time\"",
        "type",
        "is DATE, but its source is TIMESTAMP",
    );
    refuse_column("type = \"FLOAT\", len = \"/a\"", "type", "is FLOAT, but its source is INTEGER");
}

#[test]
fn a_default_that_can_never_serve_is_refused() {
    refuse_column("type = \"INTEGER\", len = \"/a\", default = 1", "default", "is never used");
    refuse_column(
        "type = \"STRING\", from = \"/a\", default = \"\", required = true",
        "default",
        "contradicts required = true",
    );
}

#[test]
fn names_are_names_for_every_warehouse() {
    for (name, reason) in [
        ("_version", "is reserved"),
        ("_Version", "is reserved"),
        ("_place", "is reserved"),
        ("_CHANGE_TYPE", "begins as only BigQuery's own columns may"),
        ("_change_timestamp", "begins as only BigQuery's own columns may"),
        ("1a", "is no name that warehouses take"),
        ("", "is no name that warehouses take"),
        ("a-b", "is no name that warehouses take"),
        ("größe", "is no name that warehouses take"),
        (&"x".repeat(301), "is no name that warehouses take"),
    ] {
        let toml = format!("columns.\"{name}\" = {{ type = \"STRING\", from = \"/a\" }}");
        refuse(&toml, &format!("processors.p.columns.{name}"), reason);
    }
    refuse(
        "columns.a = { type = \"STRING\", from = \"/a\" }\ncolumns.A = { type = \"STRING\", from = \"/b\" }",
        "processors.p.columns.A",
        "differs from another column only in upper and lower case",
    );
    refuse("columns = {}", "processors.p.columns", "has no column");
}

#[test]
fn a_table_of_the_daemons_own_is_refused() {
    for (table, reason) in [
        ("Dead_Letters", "is \"Dead_Letters\", which is reserved"),
        ("sqlite_x", "is \"sqlite_x\", which is reserved"),
        ("a.b", "is \"a.b\", which is no name that warehouses take"),
    ] {
        let config = format!("match = [\"*\"]\ntable = \"{table}\"\n{ID}");
        let config = toml::from_str(&config).unwrap();
        let error = super::ProcessorPlan::compile("p", &config, &super::envelope(), super::FEW)
            .unwrap_err();
        assert_eq!(error.to_string(), format!("processors.p.table {reason}"));
    }
}

#[test]
fn patterns_are_prefixes_or_a_star() {
    for (patterns, reason) in
        [("[]", "is empty"), ("[\"order.*\"]", "has \"order.*\""), ("[\"\"]", "has \"\"")]
    {
        let config = format!("match = {patterns}\ntable = \"t\"\n{ID}");
        let config = toml::from_str(&config).unwrap();
        let error = super::ProcessorPlan::compile("p", &config, &super::envelope(), super::FEW)
            .unwrap_err();
        assert_eq!((&*error.key, &*error.reason), ("processors.p.match", reason));
    }
}

#[test]
fn a_revision_fits_eleven_bits() {
    for revision in ["-1", "65536"] {
        let reason = format!("is {revision}");
        refuse(&format!("revision = {revision}\n{ID}"), "processors.p.revision", &reason);
    }
    assert!(compile(&format!("revision = 65535\n{ID}")).is_ok());
}

#[test]
fn columns_that_are_referred_to_exist_and_suit() {
    let columns = format!(
        "{ID}columns.f = {{ type = \"FLOAT\", from = \"/f\" }}\n\
         columns.t = {{ type = \"TIMESTAMP\", from = \"/t\" }}\n\
         columns.n = {{ type = \"INTEGER\", from = \"/n\" }}\n\
         columns.now = {{ type = \"TIMESTAMP\", now = true }}"
    );
    for (line, key, reason) in [
        ("key = [\"x\"]", "key", "has \"x\", which is no column"),
        ("key = [\"ID\"]", "key", "has \"ID\", which is no column"),
        ("key = [\"id\", \"id\"]", "key", "has \"id\" twice"),
        ("key = [\"id\", \"f\"]", "key", "has \"f\", which is FLOAT"),
        ("partition_by = \"id\"", "partition_by", "has \"id\", which is STRING"),
        ("partition_by = \"day\"", "partition_by", "has \"day\", which is no column"),
        ("cluster_by = [\"f\"]", "cluster_by", "has \"f\", which is FLOAT"),
        ("cluster_by = [\"id\", \"t\", \"id\", \"t\", \"id\"]", "cluster_by", "has 5 columns"),
        ("key = [\"id\"]\norder_by = \"f\"", "order_by", "has \"f\", which is FLOAT"),
        ("order_by = \"t\"", "order_by", "means nothing without a key"),
        ("key = [\"id\", \"now\"]", "key", "has a column with now = true"),
        ("key = [\"id\"]\norder_by = \"now\"", "order_by", "has a column with now = true"),
        (
            "key = [\"id\"]\nmax_future = \"1d\"",
            "max_future",
            "needs an order_by column of type TIMESTAMP or DATE",
        ),
        (
            "key = [\"id\"]\norder_by = \"n\"\nmax_future = \"1d\"",
            "max_future",
            "needs an order_by column of type TIMESTAMP or DATE",
        ),
        (
            "key = [\"id\"]\norder_by = \"t\"\nmax_future = \"soon\"",
            "max_future",
            "is \"soon\", which is no duration",
        ),
        ("freshness = \"soon\"", "freshness", "is \"soon\""),
        ("freshness = \"999ms\"", "freshness", "is \"999ms\""),
        ("freshness = \"32d\"", "freshness", "is \"32d\""),
    ] {
        refuse(&format!("{line}\n{columns}"), &format!("processors.p.{key}"), reason);
    }
}

#[test]
fn a_key_without_the_events_id_needs_order_by() {
    let columns = "columns.o = { type = \"STRING\", from = \"/order\" }\n\
                   columns.t = { type = \"TIMESTAMP\", from = \"/t\" }\n\
                   columns.m = { type = \"STRING\", message = \"id\" }\n";
    refuse(
        &format!("key = [\"o\"]\n{columns}"),
        "processors.p.key",
        "does not hold the event's id",
    );
    assert!(compile(&format!("key = [\"o\"]\norder_by = \"t\"\n{columns}")).is_ok());
    assert!(compile(&format!("key = [\"o\", \"m\"]\n{columns}")).is_ok());
    assert!(compile(&format!("key = [\"id\"]\n{ID}")).is_ok());
}

#[test]
fn an_exploded_key_differs_between_the_rows_of_one_event() {
    let columns = "explode = \"/items\"\n\
                   columns.id = { type = \"STRING\", root = \"/event_id\" }\n\
                   columns.not_id = { type = \"STRING\", from = \"/event_id\" }\n\
                   columns.n = { type = \"INTEGER\", index = true }\n";
    let reason = "is the same for all rows of one event";
    refuse(&format!("key = [\"id\"]\n{columns}"), "processors.p.key", reason);
    for without in ["[\"n\"]", "[\"not_id\"]"] {
        let reason = "does not hold the event's id";
        refuse(&format!("key = {without}\n{columns}"), "processors.p.key", reason);
    }
    assert!(compile(&format!("key = [\"id\", \"n\"]\n{columns}")).is_ok());
    assert!(compile(&format!("key = [\"id\", \"not_id\"]\n{columns}")).is_ok());
}

#[test]
fn unknown_keys_are_refused() {
    for toml in [
        "match = [\"*\"]\ntable = \"t\"\nkeys = []\n[columns]",
        "match = [\"*\"]\ntable = \"t\"\n[columns]\na = { type = \"STRING\", form = \"/a\" }",
        "match = [\"*\"]\ntable = \"t\"\n[columns]\na = { type = \"TEXT\", from = \"/a\" }",
    ] {
        assert!(toml::from_str::<super::super::ProcessorConfig>(toml).is_err(), "{toml}");
    }
}
