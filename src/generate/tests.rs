use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::*;

const OPTIONS: Options =
    Options { seed: 7, invalid_percent: 1.0, ids: Ids::Ordered, start: DEFAULT_START };

fn generate(options: Options, count: usize) -> Vec<Event> {
    Generator::new(options).take(count).collect()
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_seed_others() {
    assert_eq!(generate(OPTIONS, 1_000), generate(OPTIONS, 1_000));
    let other = generate(Options { seed: 8, ..OPTIONS }, 1_000);
    let ids = |events: &[Event]| -> BTreeSet<_> {
        events.iter().map(|event| event.expected.id.clone()).collect()
    };
    assert!(ids(&generate(OPTIONS, 1_000)).is_disjoint(&ids(&other)));
}

const FIRST_OF_SEED_7: &str = concat!(
    r#"{"event_id":"evt_20260217_ce84g26pw4v","event_type":"order.cancelled","#,
    r#""entity_type":"order","entity_id":"ord_5829302","timestamp":"2026-02-17T14:30:00.000Z","#,
    r#""data":{"customer_id":"cust_452441","items":[{"product_id":"prod_13425","quantity":2,"#,
    r#""price":66.27}],"total":132.54,"currency":"USD"},"metadata":{"source":"web-checkout","#,
    r#""version":"1.2","trace_id":"f5ba4eb728dd632c"}}"#,
);

#[test]
fn a_seed_always_gives_the_same_bytes() {
    let first = generate(OPTIONS, 1).remove(0);
    assert_eq!(String::from_utf8(first.payload).unwrap(), FIRST_OF_SEED_7);
}

#[test]
fn a_valid_event_is_json_with_the_id_type_and_time_that_are_expected_of_it() {
    for event in generate(Options { invalid_percent: 0.0, ..OPTIONS }, 5_000) {
        let value: Value = serde_json::from_slice(&event.payload).unwrap();
        assert_eq!(value["event_id"], event.expected.id.as_str());
        assert_eq!(value["event_type"], event.expected.kind);
        let time = Timestamp::parse_rfc3339(value["timestamp"].as_str().unwrap()).unwrap();
        assert_eq!(time, event.expected.time);
    }
}

#[test]
fn an_order_totals_its_items() {
    let cents = |value: &Value| (value.as_f64().unwrap() * 100.0).round() as u64;
    let orders = generate(Options { invalid_percent: 0.0, ..OPTIONS }, 1_000).into_iter();
    for order in orders.filter(|event| event.expected.kind.starts_with("order.")) {
        let value: Value = serde_json::from_slice(&order.payload).unwrap();
        let items = value["data"]["items"].as_array().unwrap();
        let sum: u64 =
            items.iter().map(|i| cents(&i["price"]) * i["quantity"].as_u64().unwrap()).sum();
        assert_eq!(cents(&value["data"]["total"]), sum);
    }
}

#[test]
fn every_event_is_a_line_of_300_to_500_bytes() {
    for event in generate(Options { invalid_percent: 30.0, ..OPTIONS }, 20_000) {
        let text = String::from_utf8_lossy(&event.payload);
        assert!((300..=500).contains(&event.payload.len()), "{} {text}", event.payload.len());
        assert!(!event.payload.contains(&b'\n'), "{text}");
    }
}

#[test]
fn families_and_invalid_events_come_in_the_promised_proportion() {
    let mut counts = BTreeMap::new();
    for event in generate(OPTIONS, 100_000) {
        let family = match event.expected.defect {
            Some(_) => "invalid",
            None => event.expected.kind.split('.').next().unwrap(),
        };
        let family = if ["order", "user", "product", "invalid"].contains(&family) {
            family
        } else {
            "other"
        };
        *counts.entry(family).or_insert(0) += 1;
    }
    for (family, promised) in [
        ("order", 60_000),
        ("user", 20_000),
        ("product", 15_000),
        ("other", 4_000),
        ("invalid", 1_000),
    ] {
        let off = i64::abs(counts[family] - promised);
        assert!(off < 600.min(promised / 5), "{family}: {counts:?}");
    }
}

#[test]
fn every_defect_occurs_and_makes_the_event_invalid() {
    let events = generate(Options { invalid_percent: 100.0, ..OPTIONS }, 2_000);
    let mut seen = BTreeSet::new();
    for event in events {
        let defect = event.expected.defect.unwrap();
        assert!(
            !is_valid(&event.payload),
            "{defect:?} {}",
            String::from_utf8_lossy(&event.payload)
        );
        seen.insert(defect);
    }
    assert_eq!(seen, Defect::ALL.into());
}

fn is_valid(payload: &[u8]) -> bool {
    let Ok(Value::Object(event)) = serde_json::from_slice(payload) else { return false };
    let text = |name: &str| event.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    text("event_id").is_some()
        && text("event_type").is_some()
        && text("timestamp").is_some_and(|time| Timestamp::parse_rfc3339(time).is_ok())
}

#[test]
fn ordered_ids_follow_time_over_midnight_and_random_ones_do_not() {
    let before_midnight = Timestamp::parse_rfc3339("2026-02-17T23:59:59.500Z").unwrap();
    let ids = |ids| -> Vec<_> {
        let options = Options { ids, start: before_midnight, ..OPTIONS };
        generate(options, 1_000).into_iter().map(|event| event.expected.id).collect()
    };
    let ordered = ids(Ids::Ordered);
    assert!(ordered.is_sorted());
    assert!(ordered[0].starts_with("evt_20260217_") && ordered[999].starts_with("evt_20260218_"));
    let random = ids(Ids::Random);
    assert!(!random.is_sorted());
    for all in [ordered, random] {
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 1_000);
        assert!(all.iter().all(|id| id.len() == 24));
    }
}
