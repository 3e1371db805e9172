//! Dead letters in a dataset, as a person who requeues them meets them.

use bytes::Bytes;
use kappa_actors::dead_letter_table::{DeadLetter, Stage};
use kappa_actors::port::DeadLetterFilter;
use kappa_actors::time::Timestamp;

/// A letter of this id.
pub(crate) fn letter(id: &str, payload: Bytes) -> DeadLetter {
    DeadLetter {
        id: id.to_owned(),
        event_id: Some("e".into()),
        event_type: None,
        stage: Stage::Process,
        actor: "kappa.processor.orders".to_owned(),
        processor: Some("orders".to_owned()),
        duty: "orders".to_owned(),
        reason: "no order_id".to_owned(),
        payload,
        attributes: None,
        message_id: "17".into(),
        publish_time: Timestamp::from_micros(1_700_000_000_000_000),
        failed_at: Timestamp::from_micros(1_700_000_000_000_001),
        attempts: 1,
        requeued_at: None,
        replay_id: None,
        ordering_key: "".into(),
        class: None,
        payload_object: None,
        purged_at: None,
    }
}

/// Looks for any letter.
pub(crate) fn any() -> DeadLetterFilter {
    DeadLetterFilter { limit: 10, ..DeadLetterFilter::ALL }
}
