//! What would run, as text.

use std::io::{self, Write};

use kappa_actors::archive::{Compression, LineFormat};
use kappa_actors::processor::Processor as _;
use serde_json::{Value, json};

use super::Report;
use crate::backend::embedded::warehouse;
use crate::cli::output::table;
use crate::settings::{ArchiveBackend, EventLogBackend, WarehouseBackend};
use crate::wiring::Rule;

impl Report<'_> {
    /// One object.
    pub(super) fn json(&self) -> Value {
        let settings = self.settings;
        let processor = |Rule { plan, config, .. }: &Rule| {
            json!({
                "name": plan.name(),
                "match": config.r#match,
                "table": config.table,
                "key": config.key,
                "revision": config.revision,
                "explode": config.explode,
                "columns": plan.table().columns.len(),
            })
        };
        json!({
            "data_dir": settings.data_dir,
            "event_log": {
                "backend": settings.event_log.backend.name(),
                "subscription": settings.event_log.subscription,
            },
            "warehouse": { "backend": settings.warehouse.backend.name() },
            "archive": {
                "backend": settings.archive.backend.name(),
                "format": line_format(settings.archive.format),
                "compression": compression(settings.archive.compression),
            },
            "envelope": {
                "id": settings.envelope.id,
                "type": settings.envelope.r#type,
                "time": settings.envelope.time,
            },
            "status": {
                "listen": settings.status.listen,
                "ingest": settings.status.ingest,
                "token": !settings.status.token.0.is_empty(),
            },
            "processors": self.blueprint.processors.iter().map(processor).collect::<Vec<_>>(),
            "actors": self.limits(),
            "warnings": self.warnings,
        })
    }

    /// One fact a line.
    pub(super) fn plain(&self, out: &mut impl Write) -> io::Result<()> {
        for (name, fact) in self.facts() {
            writeln!(out, "{name}: {fact}")?;
        }
        for rule in &self.blueprint.processors {
            let [name, matches, table, key, revision, columns] = cells(rule);
            writeln!(
                out,
                "processor {name}: match {matches}, table {table}, key {key}, revision {revision}, \
                 {columns} columns"
            )?;
        }
        for (actor, limits) in self.limit_texts() {
            writeln!(out, "actors.{actor}: {limits}")?;
        }
        self.warnings.iter().try_for_each(|warning| writeln!(out, "warning: {warning}"))
    }

    /// Writes tables for people.
    pub(super) fn tables(&self, colour: bool, out: &mut impl Write) -> io::Result<()> {
        for (name, fact) in self.facts() {
            writeln!(out, "{name:10} {fact}")?;
        }
        let head = ["processor", "match", "table", "key", "revision", "columns"];
        let mut processors = table(&head, colour);
        processors.add_rows(self.blueprint.processors.iter().map(cells));
        let mut actors = table(&["actors", "limits"], colour);
        actors.add_rows(self.limit_texts().map(|(actor, limits)| [actor, limits]));
        writeln!(out, "\n{processors}\n\n{actors}")?;
        let label = if colour { "\x1b[1;33mwarning:\x1b[0m" } else { "warning:" };
        self.warnings.iter().try_for_each(|warning| writeln!(out, "{label} {warning}"))
    }

    fn facts(&self) -> [(&'static str, String); 5] {
        let settings = self.settings;
        let within = |name: &str| settings.data_dir.join(name).display().to_string();
        let (log, archive, envelope) = (&settings.event_log, &settings.archive, &settings.envelope);
        let log_at = match log.backend {
            EventLogBackend::Embedded => within("log.db"),
            EventLogBackend::PubSub => format!("topic {}", log.pubsub.topic),
        };
        let warehouse_at = match settings.warehouse.backend {
            WarehouseBackend::Embedded => within(warehouse::FILE),
            WarehouseBackend::BigQuery => {
                format!("dataset {}", settings.warehouse.bigquery.dataset)
            }
        };
        let archive_at = match archive.backend {
            ArchiveBackend::Embedded => within("archive"),
            ArchiveBackend::Gcs => format!("gs://{}/{}", archive.gcs.bucket, archive.gcs.prefix),
        };
        let ingest = if settings.status.ingest { "on" } else { "off" };
        [
            (
                "event log",
                format!("{}, {}, subscription {}", log.backend.name(), log_at, log.subscription),
            ),
            ("warehouse", format!("{}, {}", settings.warehouse.backend.name(), warehouse_at)),
            (
                "archive",
                format!(
                    "{}, {}, {} lines, compression {}",
                    archive.backend.name(),
                    archive_at,
                    line_format(archive.format),
                    compression(archive.compression)
                ),
            ),
            (
                "envelope",
                format!("id {}, type {}, time {}", envelope.id, envelope.r#type, envelope.time),
            ),
            ("status", format!("http://{}, ingest {ingest}", settings.status.listen)),
        ]
    }

    fn limit_texts(&self) -> impl Iterator<Item = (String, String)> {
        self.limits().into_iter().map(|(actor, limits)| {
            let limits = limits.into_iter().map(|(limit, value)| match value {
                toml::Value::String(text) => format!("{limit} {text}"),
                value => format!("{limit} {value}"),
            });
            (actor, limits.collect::<Vec<_>>().join(", "))
        })
    }
}

fn cells(Rule { plan, config, .. }: &Rule) -> [String; 6] {
    let list = |all: &[String]| match all {
        [] => "none".to_owned(),
        all => all.join(" "),
    };
    [
        plan.name().to_owned(),
        list(&config.r#match),
        config.table.clone(),
        list(&config.key),
        config.revision.to_string(),
        plan.table().columns.len().to_string(),
    ]
}

fn line_format(format: LineFormat) -> &'static str {
    match format {
        LineFormat::Annotated => "annotated",
        LineFormat::Envelope => "envelope",
        LineFormat::Payload => "payload",
    }
}

fn compression(compression: Compression) -> &'static str {
    match compression {
        Compression::None => "none",
        Compression::Gzip => "gzip",
        Compression::Zstd => "zstd",
    }
}
