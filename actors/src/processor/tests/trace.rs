//! How rows are found again.

use super::*;

const ID: &str = "[columns.id]\ntype = \"STRING\"\nfrom = \"/event_id\"\n";

#[test]
fn rows_are_found_by_their_key_or_else_by_the_id_of_their_event() {
    let total = "[columns.total]\ntype = \"FLOAT\"\nfrom = \"/data/total\"\n";
    let message = "[columns.m]\ntype = \"STRING\"\nmessage = \"id\"\n";
    let sku = "explode = \"/data/items\"\n[columns.sku]\ntype = \"STRING\"\nfrom = \"/sku\"\n";
    let root = "[columns.id]\ntype = \"STRING\"\nroot = \"/event_id\"\n";
    let trace = |toml: String| compile(&toml).unwrap().trace();
    assert_eq!(trace(format!("key = [\"id\"]\n{ID}")), Trace::Key);
    assert_eq!(trace(format!("{total}{ID}")), Trace::Event(1));
    assert_eq!(trace(format!("{total}{message}")), Trace::Event(1));
    assert_eq!(trace(format!("{sku}{root}")), Trace::Event(1));
    assert!(matches!(trace(total.to_owned()), Trace::Lost(_)));
    // The element's own id is none of the event's.
    assert!(matches!(trace(sku.to_owned()), Trace::Lost(_)));
}

#[test]
fn a_bad_row_still_has_a_key_unless_the_key_itself_is_bad() {
    let keys = |toml: &str| {
        let message = Message {
            id: "m1".into(),
            payload: Bytes::from_static(EVENT.as_bytes()),
            publish_time: Timestamp::from_micros(7),
            attributes: None,
            ordering_key: "".into(),
            attempt: None,
            archived: false,
            suspect: None,
            lease: Lease(1),
        };
        let envelope = envelope().read(EVENT.as_bytes()).unwrap();
        compile(toml).unwrap().keys(&EventView { message: &message, envelope: &envelope })
    };
    let bad = "[columns.n]\ntype = \"INTEGER\"\nfrom = \"/data/customer_id\"\n";
    let key = |value: &str| Row(Box::new([text(value)]));
    assert_eq!(keys(&format!("key = [\"id\"]\n{bad}{ID}")), Some(vec![key("evt_1")]));
    let items = "key = [\"id\", \"sku\"]\nexplode = \"/data/items\"\n\
         [columns.id]\ntype = \"STRING\"\nroot = \"/event_id\"\n\
         [columns.sku]\ntype = \"STRING\"\nfrom = \"/sku\"\n\
         [columns.n]\ntype = \"DATE\"\nfrom = \"/n\"\n";
    let both = ["a", "b"].map(|sku| Row(Box::new([text("evt_1"), text(sku)])));
    assert_eq!(keys(items), Some(both.to_vec()));
    assert_eq!(keys(&format!("key = [\"id\", \"n\"]\n{bad}{ID}")), None);
}
