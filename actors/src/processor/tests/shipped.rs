//! The configuration files that ship with the daemon.

use super::*;
use crate::row::ColumnType;

const ORDERS: &str = include_str!("../../../../config/processors/orders.toml");
const USERS: &str = include_str!("../../../../config/processors/users.toml");
const PRODUCTS: &str = include_str!("../../../../config/processors/products.toml");
const OTHER: &str = include_str!("../../../../config/processors/other.toml");
const ORDER_ITEMS: &str = include_str!("../../../../config/processors/order_items.toml.example");
const CLOUDEVENTS: &str = include_str!("../../../../config/cloudevents.toml");

const MANY: EventLimits = EventLimits { max_rows: 10_000, max_bytes: 1 << 24 };

fn shipped(name: &str, toml: &str) -> ProcessorPlan {
    ProcessorPlan::compile(name, &toml::from_str(toml).unwrap(), &envelope(), MANY).unwrap()
}

fn columns(plan: &ProcessorPlan) -> Vec<&str> {
    plan.table().columns.iter().map(|column| column.name.as_str()).collect()
}

#[test]
fn orders_are_the_tutorials_ten_columns_in_order() {
    let plan = shipped("orders", ORDERS);
    assert_eq!(
        columns(&plan),
        [
            "event_id",
            "event_type",
            "order_id",
            "customer_id",
            "total_amount",
            "item_count",
            "currency",
            "source",
            "event_timestamp",
            "processed_at",
            "_version",
        ]
    );
    let at = Timestamp::parse_rfc3339("2026-02-17T14:30:00.123Z").unwrap();
    assert_eq!(
        *rows(&plan, EVENT).unwrap()[0].0,
        [
            text("evt_1"),
            text("order.placed"),
            text("ord_1"),
            text("cust_1"),
            Value::Float(109.97),
            Value::Integer(2),
            text("USD"),
            text("web"),
            Value::Timestamp(at),
            Value::Timestamp(NOW),
            version(None, 0),
        ]
    );
}

#[test]
fn the_other_tables_keep_data_and_metadata_as_json() {
    for (name, toml) in [("users", USERS), ("products", PRODUCTS), ("other", OTHER)] {
        let plan = shipped(name, toml);
        assert_eq!(plan.table().name, name);
        assert_eq!(plan.table().key, [0, 4]);
        let row = rows(&plan, EVENT).unwrap().remove(0);
        let data = plan.table().column("data").unwrap();
        assert_eq!(plan.table().columns[data].kind, ColumnType::Json);
        assert_eq!(row.0[data + 1], text(r#"{"source":"web"}"#));
    }
}

#[test]
fn every_event_type_has_its_table() {
    let plans = [("orders", ORDERS), ("users", USERS), ("products", PRODUCTS), ("other", OTHER)]
        .map(|(name, toml)| shipped(name, toml));
    let matcher = Matcher::new(plans.iter().map(Processor::patterns));
    let mut ways = Vec::new();
    for (event_type, way) in
        [("order.placed", 0), ("user.created", 1), ("product.updated", 2), ("audit.login", 3)]
    {
        matcher.ways(event_type, &mut ways);
        assert_eq!(ways, [way], "{event_type}");
    }
}

#[test]
fn order_items_explode_orders() {
    let plan = shipped("order_items", ORDER_ITEMS);
    let event = EVENT.replace("\"sku\"", "\"product_id\"").replace("\"n\"", "\"quantity\"");
    let rows = rows(&plan, &event).unwrap();
    assert_eq!(rows.len(), 2);
    assert_eq!(
        rows[1].0[..5],
        [text("evt_1"), Value::Integer(1), text("ord_1"), text("b"), Value::Integer(1)]
    );
}

#[test]
fn cloudevents_fill_their_table() {
    let file: toml::Table = toml::from_str(CLOUDEVENTS).unwrap();
    let envelope = file["envelope"].clone().try_into().unwrap();
    let envelope = EnvelopePlan::compile(&envelope, 10_000).unwrap();
    let config = file["processors"]["cloudevents"].clone().try_into().unwrap();
    let plan = ProcessorPlan::compile("cloudevents", &config, &envelope, MANY).unwrap();
    let payload = r#"{"specversion":"1.0","id":"1","source":"/shop","type":"com.example.order",
        "time":"2026-02-17T14:30:00Z","data":{"a":1}}"#;
    let envelope = envelope.read(payload.as_bytes()).unwrap();
    assert_eq!((&*envelope.id, &*envelope.kind), ("1", "com.example.order"));
    assert_eq!(columns(&plan)[..4], ["id", "source", "type", "subject"]);
    for name in ["orders", "users", "products", "other"] {
        assert_eq!(file["processors"][name]["enabled"].as_bool(), Some(false), "{name}");
    }
}

#[test]
fn every_shipped_table_keeps_events_and_has_its_partitions_in_its_key() {
    let cloudevents: toml::Table = toml::from_str(CLOUDEVENTS).unwrap();
    let envelope = cloudevents["envelope"].clone().try_into().unwrap();
    let envelope = EnvelopePlan::compile(&envelope, 10_000).unwrap();
    let config = cloudevents["processors"]["cloudevents"].clone().try_into().unwrap();
    let cloudevents = ProcessorPlan::compile("cloudevents", &config, &envelope, MANY).unwrap();
    let plans = [ORDERS, USERS, PRODUCTS, OTHER, ORDER_ITEMS].map(|toml| shipped("any", toml));
    for plan in plans.iter().chain([&cloudevents]) {
        let table = plan.table();
        assert!(table.keeps_events, "{}", table.name);
        assert!(table.key.contains(&table.partition_by.unwrap()), "{}", table.name);
    }
}

#[test]
fn a_key_without_the_events_id_keeps_latest_states_and_is_clustered_by_it() {
    let latest = ORDERS
        .replace(r#"key = ["event_id", "event_timestamp"]"#, r#"key = ["order_id", "currency"]"#)
        .replace("revision = 0", "revision = 0\norder_by = \"event_timestamp\"");
    let plan = shipped("orders", &latest);
    assert!(!plan.table().keeps_events);
    assert_eq!(plan.table().cluster_by, [1, 3], "as configured");
    let plan =
        shipped("orders", &latest.replace(r#"cluster_by = ["event_type", "customer_id"]"#, ""));
    assert_eq!((&plan.table().cluster_by, &plan.table().key), (&vec![2, 6], &vec![2, 6]));
    let events = ORDERS.replace(r#"cluster_by = ["event_type", "customer_id"]"#, "");
    assert_eq!(shipped("orders", &events).table().cluster_by, [0; 0]);
}

#[test]
fn a_changed_rule_changes_the_fingerprint_and_nothing_else_does() {
    let fingerprint = |toml: &str| toml::from_str::<ProcessorConfig>(toml).unwrap().fingerprint();
    let orders = fingerprint(ORDERS);
    for (from, to) in [
        ("revision = 0", "revision = 7"),
        ("revision = 0", "revision = 0\nfreshness = \"1m\""),
        ("cluster_by = [\"event_type\", \"customer_id\"]", ""),
        ("now = true", "now = true, description = \"when\""),
    ] {
        assert!(ORDERS.contains(from));
        assert_eq!(fingerprint(&ORDERS.replace(from, to)), orders, "{to}");
    }
    for (from, to) in [
        ("default = \"USD\"", "default = \"EUR\""),
        ("/data/total", "/data/sum"),
        ("type = \"FLOAT\"", "type = \"NUMERIC\""),
        ("[\"order.\"]", "[\"order.\", \"cart.\"]"),
    ] {
        assert!(ORDERS.contains(from));
        assert_ne!(fingerprint(&ORDERS.replace(from, to)), orders, "{to}");
    }
}
