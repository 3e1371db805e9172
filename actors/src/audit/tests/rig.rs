//! An archive, a warehouse and rules.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::super::*;
use crate::archive::{
    Compression, Incarnation, IndexName, Limits, LineFormat, Part, WINDOW, Window, close,
    objects_between, store_part,
};
use crate::dead_letter_table::{DeadLetter, Stage};
use crate::envelope::EnvelopeConfig;
use crate::message::{Lease, Message};
use crate::port::{ObjectRef, Warehouse};
use crate::processor::{EventLimits, EventView, Matcher, ProcessorPlan, make_rows};
use crate::row::{Row, Value};
use crate::testing::memory::archive_store::MemoryArchive;
use crate::testing::memory::warehouse::MemoryWarehouse;
use crate::time::Timestamp;
use crate::version::Version;

const LIMITS: EventLimits = EventLimits { max_rows: 10, max_bytes: 1 << 20 };

pub(super) const EVER: ReplayRange =
    ReplayRange { from: Timestamp::from_micros(0), to: Timestamp::from_micros(i64::MAX / 2) };

pub(super) const ALL: Selection = Selection { published: EVER, event_time: None };

/// The start of window 0, in microseconds.
const START: i64 = 1_771_338_600_000_000;

pub(super) fn window(number: i64) -> Window {
    Window::of(Timestamp::from_micros(START + number * 300_000_000))
}

pub(super) fn number(time: Timestamp) -> i64 {
    (time.micros() - START).div_euclid(300_000_000)
}

pub(super) fn event(id: &str, kind: &str) -> Vec<u8> {
    format!(r#"{{"event_id":"{id}","event_type":"{kind}","timestamp":"2026-02-17T14:30:00Z"}}"#)
        .into_bytes()
}

/// A rule for the table `orders`.
pub(super) fn orders(kind: &str) -> String {
    format!(
        "match = [\"{kind}\"]\ntable = \"orders\"\nkey = [\"id\"]\n[columns.id]\n\
         type = \"STRING\"\nfrom = \"/event_id\""
    )
}

/// The results of an audit.
pub(super) struct Audited {
    pub(super) findings: Vec<Finding>,
    pub(super) windows: Vec<Tally>,
    pub(super) left_out: Vec<LeftOut>,
    pub(super) summary: Summary,
}

/// Findings as short lines.
pub(super) fn shown(findings: &[Finding]) -> Vec<String> {
    let of = |finding: &Finding| {
        let row = |it: &Standing, what: &str| {
            let Value::Text(key) = &it.key.0[0] else { panic!("{it:?}") };
            format!("{} {key} {what}", it.table.name)
        };
        let what = match &finding.what {
            What::Missing(it) => row(it, "missing"),
            What::Twice(it) => row(it, "twice"),
            What::Stale { row: it, .. } => row(it, "stale"),
            What::OlderRule { row: it, expected, found } => {
                row(it, &format!("revision {found}, not {expected}"))
            }
            What::Differs { row: it, columns } => {
                let differs = columns.iter().map(|it_differs| {
                    let column = &it.table.columns[it_differs.column].name;
                    format!("{column}: {} instead of {}", it_differs.found, it_differs.expected)
                });
                row(it, &differs.collect::<Vec<_>>().join(", "))
            }
            What::Unaccounted { event, processor, reason } => {
                let processor = processor.as_deref().unwrap_or("-");
                format!("{processor} {} ({reason})", event.as_deref().unwrap_or("-"))
            }
            What::Damaged(reason) => format!("damaged ({reason})"),
        };
        format!("{} {what} :{}", number(finding.window.start()), finding.line)
    };
    findings.iter().map(of).collect()
}

pub(super) struct Rig {
    store: MemoryArchive,
    pub(super) warehouse: Arc<MemoryWarehouse>,
    format: LineFormat,
    envelope: Arc<EnvelopePlan>,
    processors: Vec<Arc<ProcessorPlan>>,
}

impl Rig {
    /// Makes the tables of these rules. They are named p0, p1, … except `orders` and `others`, whose rules have the
    /// names of their tables.
    pub(super) async fn new(format: LineFormat, rules: &[String]) -> Self {
        let config = EnvelopeConfig {
            id: "/event_id".into(),
            r#type: "/event_type".into(),
            time: "/timestamp".into(),
        };
        let empty = Self {
            store: MemoryArchive::new(),
            warehouse: Arc::new(MemoryWarehouse::new()),
            format,
            envelope: Arc::new(EnvelopePlan::compile(&config, 1 << 20).unwrap()),
            processors: Vec::new(),
        };
        let rig = empty.with(rules);
        for plan in &rig.processors {
            rig.warehouse.ensure_table(plan.table()).await.unwrap();
        }
        rig.warehouse.ensure_table(&dead_letter_table::spec()).await.unwrap();
        rig
    }

    /// Returns a copy with other rules, for which no tables are made.
    pub(super) fn with(&self, rules: &[String]) -> Self {
        let compile = |(number, rule): (usize, &String)| {
            let both = rules.len() > 1;
            let name = ["orders", "others"]
                .into_iter()
                .find(|name| both && rule.contains(&format!("table = \"{name}\"")));
            let name = name.map_or_else(|| format!("p{number}"), str::to_owned);
            let config = toml::from_str(rule).unwrap();
            Arc::new(ProcessorPlan::compile(&name, &config, &self.envelope, LIMITS).unwrap())
        };
        Self {
            store: self.store.clone(),
            warehouse: Arc::clone(&self.warehouse),
            format: self.format,
            envelope: Arc::clone(&self.envelope),
            processors: rules.iter().enumerate().map(compile).collect(),
        }
    }

    fn message(window: i64, payload: &[u8]) -> Message {
        Message {
            id: format!("m-{}", blake3::hash(payload)).into(),
            payload: Bytes::copy_from_slice(payload),
            publish_time: self::window(window).start().after(Duration::from_secs(1)),
            attributes: None,
            ordering_key: "".into(),
            attempt: None,
            archived: false,
            suspect: None,
            lease: Lease(0),
        }
    }

    async fn store(
        &self,
        window: i64,
        compression: Compression,
        payloads: &[Vec<u8>],
    ) -> Incarnation {
        let incarnation = Incarnation::random();
        let mut part = Part::new(self.format, compression);
        payloads.iter().for_each(|payload| part.append(&Self::message(window, payload)));
        let encoded = part.encode().unwrap();
        store_part(&self.store, self::window(window), &incarnation, 0, &encoded).await.unwrap();
        incarnation
    }

    /// Archives events in a final of their own.
    pub(super) async fn archive(
        &self,
        window: i64,
        compression: Compression,
        payloads: &[Vec<u8>],
    ) {
        let incarnation = self.store(window, compression, payloads).await;
        let limits = Limits { final_bytes: 1 << 30, parts: 10 };
        close(&self.store, self::window(window), &incarnation, limits).await.unwrap();
    }

    /// Archives events in a part that is not composed.
    pub(super) async fn part(&self, window: i64, payloads: &[Vec<u8>]) {
        self.store(window, Compression::None, payloads).await;
    }

    /// Cuts the window's only final short.
    pub(super) async fn cut(&self, window: i64) {
        self.edit(window, |body| Some(body[..body.len() - 10].to_vec())).await;
    }

    /// Replaces the bytes of the window's only final, or removes it.
    pub(super) async fn edit(&self, window: i64, edit: impl Fn(&[u8]) -> Option<Vec<u8>>) {
        let start = self::window(window);
        let object = objects_between(&self.store, start.start(), start.start().after(WINDOW));
        let name = object.await.unwrap().remove(0).name;
        self.replace(&name, edit).await;
    }

    /// Removes the index of the window's final.
    pub(super) async fn lose_index(&self, window: i64) {
        let objects = self.store.list("index/").await.unwrap();
        let of = |name: &str| name.parse::<IndexName>().unwrap().0.window;
        let index = objects.iter().find(|it| of(&it.name) == self::window(window)).unwrap();
        self.replace(&index.name, |_| None).await;
    }

    async fn replace(&self, name: &str, edit: impl Fn(&[u8]) -> Option<Vec<u8>>) {
        let info = self.store.info(name).await.unwrap();
        let mut stream = self.store.read(name).await.unwrap();
        let mut body = Vec::new();
        while let Some(chunk) = futures::StreamExt::next(&mut stream).await {
            body.extend_from_slice(&chunk.unwrap());
        }
        let old = ObjectRef { name: name.to_owned(), generation: info.generation };
        self.store.delete(&old).await.unwrap();
        if let Some(body) = edit(&body) {
            self.store.put_if_absent(name, body.into()).await.unwrap();
        }
    }

    /// Writes the rows that the rules make of the events.
    pub(super) async fn process(&self, payloads: &[Vec<u8>]) {
        self.process_at(0, payloads).await;
    }

    /// Writes the rows of events that were published in a window.
    pub(super) async fn process_at(&self, window: i64, payloads: &[Vec<u8>]) {
        let matcher = Matcher::new(self.processors.iter().map(|plan| plan.patterns()));
        let mut ways = Vec::new();
        for payload in payloads {
            let message = Self::message(window, payload);
            let envelope = self.envelope.read(payload).unwrap();
            matcher.ways(&envelope.kind, &mut ways);
            for plan in ways.iter().map(|&way| &self.processors[way]) {
                let (mut rows, event) =
                    (Vec::new(), EventView { message: &message, envelope: &envelope });
                make_rows(&**plan, &event, Timestamp::now(), &mut rows).unwrap();
                self.warehouse.write(plan.table(), Arc::new(rows)).await.unwrap();
            }
        }
    }

    /// Writes one row.
    pub(super) async fn put(&self, table: &str, values: &[Value]) {
        let plan = self.processors.iter().find(|plan| plan.table().name == table).unwrap();
        let rows = Arc::new(vec![Row(values.into())]);
        self.warehouse.write(plan.table(), rows).await.unwrap();
    }

    /// The version of the row that a revision of a rule makes of an event.
    pub(super) fn version(window: i64, payload: &[u8], revision: u16) -> Value {
        let position = Self::message(window, payload).position();
        Value::Version(Box::new(Version::new(None, position, revision)))
    }

    /// Stores a dead letter of an event.
    pub(super) async fn letter(
        &self,
        window: i64,
        payload: &[u8],
        stage: Stage,
        processor: Option<&str>,
    ) {
        self.letter_with(window, payload, stage, processor, |_| {}).await;
    }

    /// Stores a dead letter that `change` has changed.
    pub(super) async fn letter_with(
        &self,
        window: i64,
        payload: &[u8],
        stage: Stage,
        processor: Option<&str>,
        change: impl Fn(&mut DeadLetter),
    ) {
        let message = Self::message(window, payload);
        let json: serde_json::Value = serde_json::from_slice(payload).unwrap();
        let mut letter = DeadLetter {
            id: DeadLetter::id(
                (&message.id, message.publish_time),
                stage,
                processor.unwrap_or("route"),
                None,
            ),
            event_id: json["event_id"].as_str().map(Into::into),
            event_type: None,
            stage,
            actor: String::new(),
            processor: processor.map(str::to_owned),
            duty: processor.unwrap_or("route").to_owned(),
            reason: String::new(),
            payload: message.payload,
            attributes: None,
            message_id: message.id,
            publish_time: message.publish_time,
            failed_at: Timestamp::now(),
            attempts: 1,
            requeued_at: None,
            replay_id: None,
            ordering_key: "".into(),
            class: None,
            payload_object: None,
            purged_at: None,
        };
        change(&mut letter);
        let spec = Arc::new(dead_letter_table::spec());
        self.warehouse.write(&spec, Arc::new(vec![letter.row()])).await.unwrap();
    }

    pub(super) fn engine(&self) -> Audit {
        let processors = self.processors.iter();
        Audit {
            archive: Arc::new(self.store.clone()),
            warehouse: Arc::clone(&self.warehouse) as Arc<dyn Auditable>,
            envelope: Arc::clone(&self.envelope),
            processors: processors.map(|plan| Arc::clone(plan) as Arc<dyn Processor>).collect(),
            values: None,
        }
    }

    pub(super) async fn audit(&self, acknowledged: Acknowledged) -> Audited {
        self.audit_with(&self.engine(), ALL, acknowledged).await
    }

    pub(super) async fn audit_with(
        &self,
        engine: &Audit,
        selection: Selection,
        acknowledged: Acknowledged,
    ) -> Audited {
        let (mut findings, mut windows, mut left_out) = (Vec::new(), Vec::new(), Vec::new());
        let mut tell = |told| {
            match told {
                Told::LeftOut(left) => left_out.push(left),
                Told::Found(finding) => findings.push(finding),
                Told::Window(tally) => windows.push(tally),
            }
            true
        };
        let log = async { Ok(acknowledged) };
        let summary = engine.run(selection, log, &mut tell).await.unwrap();
        Audited { findings, windows, left_out, summary }
    }
}
