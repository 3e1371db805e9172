//! Random events: ids that repeat with other content, types that change, values that are no numbers.

use serde_json::{Value, json};

use super::random::Random;

pub(crate) struct Events {
    random: Random,
    /// How many event ids there are.
    ids: u64,
    value: u64,
}

impl Events {
    pub(crate) fn new(seed: u64, ids: u64) -> Self {
        Self { random: Random::new(!seed), ids, value: 0 }
    }

    pub(crate) fn next(&mut self) -> Value {
        let random = &mut self.random;
        self.value += 1;
        let kind = *random.pick(&["a.x", "a.x", "a.y", "b.x", "b.y"]);
        let time = format!("2026-01-0{}T00:00:00Z", 1 + random.below(9));
        let mut items = Vec::new();
        for s in 0..3 {
            if random.chance(40) {
                let q = if random.chance(5) { json!("bad") } else { json!(self.value * 10 + s) };
                items.push(json!({"s": format!("s{s}"), "q": q}));
            }
        }
        let mut event = json!({
            "event_id": format!("e{}", random.below(self.ids)),
            "event_type": kind,
            "timestamp": time,
            "ts": time,
            "k": format!("k{}", random.below(self.ids.div_ceil(2))),
            "v": self.value,
            "w": self.value + 1_000,
            "n": random.below(3) as i64 - 1,
            "items": items,
        });
        if random.chance(8) {
            event["v"] = json!("bad");
        }
        event
    }
}
