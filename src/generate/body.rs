//! The bytes of one event, by family.

use super::defect::Defect;
use super::random::SplitMix64;
use super::text::{push_cents, push_hex, push_number};

const ORDERS: [&str; 5] =
    ["order.placed", "order.paid", "order.shipped", "order.delivered", "order.cancelled"];
const USERS: [&str; 4] = ["user.registered", "user.updated", "user.signed_in", "user.deleted"];
const PRODUCTS: [&str; 3] = ["product.created", "product.price_changed", "product.stock_changed"];
const OTHERS: [&str; 4] =
    ["payment.captured", "shipment.delayed", "inventory.counted", "cart.abandoned"];

const CURRENCIES: [&str; 4] = ["USD", "USD", "EUR", "GBP"];
const SOURCES: [&str; 4] = ["web-checkout", "mobile-app", "partner-api", "back-office"];
const COUNTRIES: [&str; 5] = ["US", "DE", "FR", "GB", "JP"];
const PLANS: [&str; 3] = ["free", "plus", "business"];
const CATEGORIES: [&str; 4] = ["garden", "kitchen", "outdoor", "stationery"];
const REASONS: [&str; 3] = ["scheduled run", "customer request", "carrier notice"];

/// The fields that are fixed before an event's data are drawn.
pub(super) struct Body<'a> {
    /// The event's id.
    pub(super) id: &'a str,
    /// The event's time.
    pub(super) timestamp: &'a [u8],
    /// What to leave out or write wrong.
    pub(super) defect: Option<Defect>,
}

impl Body<'_> {
    /// Appends an event of a random family, in the proportion 60 : 20 : 15 : 4; gives its type.
    pub(super) fn write(&self, random: &mut SplitMix64, buffer: &mut Vec<u8>) -> &'static str {
        let (kind, data): (_, fn(&mut SplitMix64, &mut Vec<u8>)) = match random.below(99) {
            0..60 => (random.pick(&ORDERS), order),
            60..80 => (random.pick(&USERS), user),
            80..95 => (random.pick(&PRODUCTS), product),
            _ => (random.pick(&OTHERS), other),
        };
        buffer.push(b'{');
        self.envelope(kind, random, buffer);
        put(buffer, "\"data\":{");
        data(random, buffer);
        put(buffer, "},\"metadata\":{\"source\":\"");
        match self.defect {
            Some(Defect::LoneSurrogate) => put(buffer, "\\ud83d"),
            _ => put(buffer, random.pick(&SOURCES)),
        }
        put(buffer, "\",\"version\":\"1.2\",\"trace_id\":\"");
        push_hex(random.bits(), buffer);
        put(buffer, "\"}}");
        kind
    }

    /// Everything before the data, each field with a comma behind it.
    fn envelope(&self, kind: &str, random: &mut SplitMix64, buffer: &mut Vec<u8>) {
        let entity = kind.split('.').next().unwrap_or(kind);
        match self.defect {
            Some(Defect::MissingId) => {}
            Some(Defect::EmptyId) => put(buffer, "\"event_id\":\"\","),
            Some(Defect::NumericId) => put(buffer, "\"event_id\":20260217,"),
            _ => text(buffer, "event_id", self.id),
        }
        match self.defect {
            Some(Defect::MissingType) => {}
            Some(Defect::NullType) => put(buffer, "\"event_type\":null,"),
            _ => text(buffer, "event_type", kind),
        }
        text(buffer, "entity_type", entity);
        let prefix = if entity == "order" { "ord" } else { entity };
        number(buffer, "entity_id", prefix, random.below(10_000_000), 7);
        match self.defect {
            Some(Defect::MissingTime) => {}
            Some(Defect::BadTime) => put(buffer, "\"timestamp\":\"17 Feb 2026, 14:30\","),
            Some(Defect::YearZero) => put(buffer, "\"timestamp\":\"0000-02-17T14:30:00.000Z\","),
            _ => {
                put(buffer, "\"timestamp\":\"");
                buffer.extend_from_slice(self.timestamp);
                put(buffer, "\",");
            }
        }
    }
}

fn order(random: &mut SplitMix64, buffer: &mut Vec<u8>) {
    number(buffer, "customer_id", "cust", random.below(1_000_000), 6);
    put(buffer, "\"items\":[");
    let mut total = 0;
    for item in 0..=random.below(3) {
        let (quantity, price) = (1 + random.below(4), 99 + random.below(19_900));
        total += quantity * price;
        put(buffer, if item == 0 { "{" } else { ",{" });
        number(buffer, "product_id", "prod", random.below(100_000), 5);
        put(buffer, "\"quantity\":");
        push_number(quantity, 1, buffer);
        put(buffer, ",\"price\":");
        push_cents(price, buffer);
        put(buffer, "}");
    }
    put(buffer, "],\"total\":");
    push_cents(total, buffer);
    put(buffer, ",\"currency\":\"");
    put(buffer, random.pick(&CURRENCIES));
    put(buffer, "\"");
}

fn user(random: &mut SplitMix64, buffer: &mut Vec<u8>) {
    let user = random.below(1_000_000);
    number(buffer, "user_id", "user", user, 6);
    put(buffer, "\"email\":\"user");
    push_number(user, 6, buffer);
    put(buffer, "@mail.example\",");
    text(buffer, "plan", random.pick(&PLANS));
    text(buffer, "country", random.pick(&COUNTRIES));
    session(random, buffer);
}

fn product(random: &mut SplitMix64, buffer: &mut Vec<u8>) {
    number(buffer, "product_id", "prod", random.below(100_000), 5);
    text(buffer, "category", random.pick(&CATEGORIES));
    put(buffer, "\"price\":");
    push_cents(99 + random.below(19_900), buffer);
    put(buffer, ",\"stock\":");
    push_number(random.below(5_000), 1, buffer);
    put(buffer, ",");
    text(buffer, "currency", random.pick(&CURRENCIES));
    session(random, buffer);
}

fn other(random: &mut SplitMix64, buffer: &mut Vec<u8>) {
    number(buffer, "order_id", "ord", random.below(10_000_000), 7);
    put(buffer, "\"amount\":");
    push_cents(99 + random.below(99_900), buffer);
    put(buffer, ",");
    text(buffer, "reason", random.pick(&REASONS));
    text(buffer, "country", random.pick(&COUNTRIES));
    session(random, buffer);
}

/// The last field of data that an order does not have.
fn session(random: &mut SplitMix64, buffer: &mut Vec<u8>) {
    put(buffer, "\"session\":\"");
    push_hex(random.bits(), buffer);
    push_hex(random.bits(), buffer);
    put(buffer, "\"");
}

/// Appends `"name":"value",`.
fn text(buffer: &mut Vec<u8>, name: &str, value: &str) {
    for part in ["\"", name, "\":\"", value, "\","] {
        put(buffer, part);
    }
}

/// Appends `"name":"prefix_000123",`.
fn number(buffer: &mut Vec<u8>, name: &str, prefix: &str, number: u64, width: usize) {
    for part in ["\"", name, "\":\"", prefix, "_"] {
        put(buffer, part);
    }
    push_number(number, width, buffer);
    put(buffer, "\",");
}

fn put(buffer: &mut Vec<u8>, text: &str) {
    buffer.extend_from_slice(text.as_bytes());
}
