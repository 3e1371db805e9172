//! Random batches, versions and restarts, against the port's rule in ten lines.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Action {
    /// Rows of (key, version, text) to each of the tables in one call.
    Write(Vec<(u8, i64, u16)>),
    Reopen,
}

fn action() -> impl Strategy<Value = Action> {
    let rows = prop::collection::vec((0..6_u8, 0..4_i64, any::<u16>()), 0..20);
    prop_oneof![6 => rows.prop_map(Action::Write), 1 => Just(Action::Reopen)]
}

fn made((key, at, says): (u8, i64, u16)) -> Row {
    row([text(&key.to_string()), text(&says.to_string()), version(at)])
}

/// What three tables must hold: with a version, without, and without a key.
#[derive(Default)]
struct Model {
    newest: BTreeMap<u8, (u8, i64, u16)>,
    first: BTreeMap<u8, (u8, i64, u16)>,
    all: Vec<(u8, i64, u16)>,
}

impl Model {
    fn write(&mut self, rows: &[(u8, i64, u16)]) {
        for &row in rows {
            let newest = self.newest.entry(row.0).or_insert(row);
            if newest.1 < row.1 {
                *newest = row;
            }
            self.first.entry(row.0).or_insert(row);
            self.all.push(row);
        }
    }

    fn tables(&self) -> [Vec<Row>; 3] {
        let rows = |rows: Vec<_>| sorted(rows.into_iter().map(made).collect());
        [
            rows(self.newest.values().copied().collect()),
            rows(self.first.values().copied().collect()),
            rows(self.all.clone()),
        ]
    }
}

fn sorted(mut rows: Vec<Row>) -> Vec<Row> {
    rows.sort_by_cached_key(|row| format!("{row:?}"));
    rows
}

fn specs() -> [Arc<TableSpec>; 3] {
    let unversioned = TableSpec { version: None, ..(*table("first", &VERSIONED, 1)).clone() };
    [table("newest", &VERSIONED, 1), Arc::new(unversioned), table("all", &VERSIONED, 0)]
}

async fn follows_the_model(actions: Vec<Action>) {
    let (dir, mut warehouse) = fresh();
    let mut model = Model::default();
    for spec in &specs() {
        warehouse.ensure_table(spec).await.unwrap();
    }
    for action in actions {
        match action {
            Action::Write(rows) => {
                model.write(&rows);
                let rows: Arc<Vec<_>> = Arc::new(rows.into_iter().map(made).collect());
                for spec in &specs() {
                    assert_eq!(warehouse.write(spec, Arc::clone(&rows)).await.unwrap(), []);
                }
            }
            Action::Reopen => {
                drop(warehouse);
                warehouse = EmbeddedWarehouse::open(dir.path()).unwrap();
            }
        }
        for (spec, rows) in specs().iter().zip(model.tables()) {
            assert_eq!(sorted(warehouse.read_back(spec).await), rows, "{}", spec.name);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn the_tables_follow_the_rule(actions in prop::collection::vec(action(), 1..12)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(follows_the_model(actions));
    }
}
