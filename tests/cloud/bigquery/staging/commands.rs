//! `kappa diff` and `kappa merge` on BigQuery.

use std::process::{Command, Output};

use kappa::settings::{Settings, Sources};
use kappa::wiring::Blueprint;
use kappa_actors::processor::Processor as _;

use super::*;

struct Shell {
    cloud: Cloud,
    folder: tempfile::TempDir,
}

impl Shell {
    /// Two live orders; staging has the first with another `item_count`, and not the second.
    async fn new(mode: WriteMode) -> Self {
        let shell = Self::empty(mode).await;
        let cloud = &shell.cloud;
        let settings = Settings::load(&Sources::default()).unwrap();
        let blueprint = Blueprint::of(&settings).unwrap();
        let rule = blueprint.processors.iter().find(|it| it.plan.table().name == "orders");
        let table = rule.unwrap().plan.table();
        let order = |id: &str, items, micros| {
            let values = table.columns.iter().map(|column| match column.name.as_str() {
                "event_id" => text(id),
                "item_count" => Value::Integer(items),
                "event_timestamp" => {
                    Value::Timestamp(Timestamp::parse_rfc3339("2026-02-17T14:30:00Z").unwrap())
                }
                "_version" => version(micros),
                _ => Value::Null,
            });
            row(values)
        };
        cloud.ensure_table(table).await.unwrap();
        let live = vec![order("a", 1, 1), order("b", 1, 2)];
        cloud.write(table, Arc::new(live)).await.unwrap();
        let staging = staging(cloud);
        let tables = staging.stage(table, "r1", 0).await.unwrap();
        let to = staging.warehouse();
        to.write(&tables.rows, Arc::new(vec![order("a", 7, 3)])).await.unwrap();
        let events = [1, 2, 3].map(replayed);
        to.write(&tables.events, Arc::new(events.to_vec())).await.unwrap();
        staging.complete("orders", "r1").await.unwrap();
        shell
    }

    async fn empty(mode: WriteMode) -> Self {
        Self { cloud: Cloud::start(mode).await, folder: tempfile::tempdir().unwrap() }
    }

    /// Exit code, stdout and stderr.
    async fn run(&self, arguments: &str) -> (Option<i32>, String, String) {
        let mode = if self.cloud.mode == WriteMode::Append { "append" } else { "upsert" };
        let mut command = Command::new(env!("CARGO_BIN_EXE_kappa"));
        command.current_dir(self.folder.path());
        for set in [
            "gcp.project=p",
            "warehouse.backend=bigquery",
            "status.listen=127.0.0.1:0",
            "warehouse.bigquery.dataset=d",
            &format!("warehouse.bigquery.mode={mode}"),
            &format!("warehouse.bigquery.endpoint={}", self.cloud.server.rest_endpoint()),
            &format!("warehouse.bigquery.write_endpoint={}", self.cloud.server.grpc_endpoint()),
        ] {
            command.args(["--set", set]);
        }
        command.args(arguments.split_whitespace());
        let run = tokio::task::spawn_blocking(move || command.output().unwrap());
        let Output { status, stdout, stderr } = run.await.unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (status.code(), text(stdout), text(stderr))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn diff_and_merge_work_and_note_whether_a_merge_is_atomic() {
    for mode in [WriteMode::Append, WriteMode::Upsert] {
        let shell = Shell::new(mode).await;
        let upserts = mode == WriteMode::Upsert;
        let (code, out, err) = shell.run("diff orders").await;
        assert_eq!(code, Some(0), "{err}");
        let hides = format!("may hide an older row\t{}\n", u8::from(upserts));
        let counts =
            format!("added\t0\nmissing\t1\tb/2026-02-17T14:30:00.000000Z\n{hides}changed\t1\n");
        assert!(out.starts_with(&counts), "{out}");
        assert!(
            out.contains("column item_count\t1\n  a/2026-02-17T14:30:00.000000Z\t1 -> 7\n"),
            "{out}"
        );
        assert!(err.contains("1 rows of the replay r1, ended"), "{err}");
        assert_eq!(err.contains("as it stood up to 10m ago, its max_staleness"), upserts, "{err}");
        assert_eq!(shell.run("diff orders --exit-code --json").await.0, Some(1));

        let said = "inserted\t0\nreplaced\t1\nunchanged\t0\nkept because live is newer\t0\n";
        let (code, out, err) = shell.run("merge orders --remove-missing --dry-run").await;
        assert_eq!((code, out), (Some(0), format!("{said}removed\t1\n{hides}")), "{err}");
        assert!(!err.contains("not one step"), "{err}");
        let (code, out, err) = shell.run("merge orders --remove-missing").await;
        assert_eq!((code, out), (Some(0), format!("{said}removed\t1\n{hides}")), "{err}");
        assert_eq!(err.contains("this is not one step"), upserts, "{err}");
        let rows = shell.cloud.control().rows("p.d.orders");
        let [order] = &rows[..] else { panic!("{rows:?}") };
        assert_eq!((&order["event_id"], &order["item_count"]), (&json!("a"), &json!(7)));

        let (code, _, err) = shell.run("diff orders").await;
        assert_eq!(code, Some(1));
        assert!(err.contains("orders has no staging table"), "{err}");
        assert!(err.contains("hint: fill it with `kappa replay --into staging`"), "{err}");
        assert!(shell.cloud.control().resource("p.d.replayed_events_r1").is_none());
    }
}

/// The way of a mended rule, with the log and the archive on this machine.
#[tokio::test(flavor = "multi_thread")]
async fn history_is_replayed_into_staging_compared_and_merged() {
    for mode in [WriteMode::Append, WriteMode::Upsert] {
        let shell = Shell::empty(mode).await;
        let done = async |arguments: &str| {
            let (code, out, err) = shell.run(arguments).await;
            assert_eq!(code, Some(0), "{arguments}\n{out}{err}");
            out
        };
        let event = |id: usize| {
            format!(
                r#"{{"event_id":"{id}","event_type":"order.placed","timestamp":"2026-02-17T14:30:00Z","data":{{}}}}"#
            )
        };
        let events: Vec<_> = (0..50).map(event).collect();
        std::fs::write(shell.folder.path().join("events"), events.join("\n")).unwrap();
        done("publish events").await;
        done("run --until-idle").await;
        let mended = "--set processors.orders.columns.currency.default=EUR \
                      --set processors.orders.revision=1";
        let range = "--from 2020-01-01 --to 2100-01-01";
        done(&format!("replay {range} {mended}")).await;
        let out = done(&format!("diff orders {mended}")).await;
        assert!(out.starts_with("added\t0\nmissing\t0\nmay hide an older row\t0\nchanged\t50\n"));
        assert!(out.contains("column currency\t50\n"), "{out}");
        assert_eq!(out.matches("column ").count(), 1, "{out}");
        let out = done(&format!("merge orders --remove-missing {mended}")).await;
        assert!(out.contains("replaced\t50\n") && out.contains("removed\t0\n"), "{out}");
        let rows = shell.cloud.control().rows("p.d.orders");
        assert_eq!(rows.len(), 50);
        assert!(rows.iter().all(|row| row["currency"] == json!("EUR")), "{rows:?}");
        assert_eq!(shell.cloud.control().violations(), [""; 0]);
    }
}
