//! A wrong configuration starts nothing.

use std::fs;

use crate::support::Scene;

#[test]
fn a_wrong_configuration_exits_with_2_and_creates_nothing() {
    let scene = Scene::new("");
    let mistakes = [
        ("no.such.key=1", "no"),
        ("actors.writer.max_batch_rows=0", "actors.writer.max_batch_rows"),
        ("actors.reader.max_outstanding_bytes=0", "actors.reader.max_outstanding_bytes"),
        ("drain_timeout=soon", "drain_timeout"),
        ("archive.compression=rar", "archive.compression"),
        ("event_log.backend=kafka", "event_log.backend"),
        ("envelope.id=event_id", "envelope.id"),
        ("status.listen=0.0.0.0:0", "status.token"),
        ("logging.filter=info,=", "logging.filter"),
        ("processors.orders.key=['nothing']", "processors.orders.key"),
        ("processors.orders.table=users", "table"),
        ("processors.orders.table=dead_letters", "table"),
        ("processors.orders.columns.source.from=metadata", "processors.orders.columns.source"),
        ("processors.orders.columns.source.type=TEXT", "processors.orders.columns.source"),
        ("archive.format=json", "archive.format"),
        ("faults.fail={sink='writer.nothing',for='1s'}", "faults.fail"),
    ];
    // Two settings that do not go together.
    let column = "processors.orders.columns.at={type='TIMESTAMP',message='publish_time'}";
    let unfit = [("archive.format=payload", "archive.format = \"annotated\"")];
    let settings = mistakes.map(|(setting, named)| (vec![setting], named)).into_iter();
    let unfit = unfit.map(|(setting, named)| (vec![setting, column], named));
    for (settings, named) in settings.chain(unfit) {
        let setting = settings.join(" --set ");
        let run = settings.iter().flat_map(|setting| ["--set", *setting]);
        let (code, said) = scene.run(&["run"].into_iter().chain(run).collect::<Vec<_>>());
        assert_eq!(code, Some(2), "{setting}: {said}");
        assert!(said.starts_with("error: ") && said.contains(named), "{setting}: {said}");
        let found: Vec<_> =
            fs::read_dir(scene.root()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(found, ["kappa.toml"], "{setting}");
    }
}
