//! The actor tree: the tables of children of the root and of each group.

use std::sync::Arc;

use tokio::sync::watch;

use super::{ArchivePlan, OtherGroups, Plan, Ports, ProcessorSpec};
use crate::actor::archive::{
    Directory, Keeper, KeeperMessage, KeeperPorts, Recovery, RecoveryMessage, Sweep, WindowPorts,
};
use crate::actor::dead_letter::DeadLetters;
use crate::actor::parser::{Parse, Parser};
use crate::actor::processor::{Process, ProcessorActor};
use crate::actor::reader::{GoOn, Idle, Intake, Reader, ReaderPorts};
use crate::actor::router::{Route, Router};
use crate::actor::writer::{OnRefusal, Writer, WriterMessage, WriterPorts};
use crate::dead_letter_table;
use crate::delivery::Ledger;
use crate::port::{watched_archive, watched_pulls, watched_warehouse};
use crate::processor::Matcher;
use crate::settings::WatchdogSettings;
use crate::supervision::{Address, Child, Order, group, worker};
use crate::vitals::{Board, Step, Vitals};

/// Path of the root.
const ROOT: &str = "kappa";

/// The addresses of a pipeline's actors, and all that it takes to make them.
pub(super) struct Tree {
    plan: Plan,
    ports: Ports,
    ledger: Arc<Ledger>,
    board: Arc<Board>,
    intake: (watch::Receiver<Intake>, watch::Sender<Option<Idle>>),
    others: OtherGroups,
    root: Arc<Vitals>,
    reader: Address<GoOn>,
    parsers: Vec<Address<Parse>>,
    router: Address<Route>,
    processors: Vec<Address<Process>>,
    writers: Vec<Address<WriterMessage>>,
    dead_letter: Address<WriterMessage>,
    dead_letters: DeadLetters,
    archive: Option<Archive>,
}

/// The archive's branch of the tree.
#[derive(Clone)]
pub(super) struct Archive {
    plan: ArchivePlan,
    supervisor: Address<Order>,
    keeper: Address<KeeperMessage>,
    recovery: Address<RecoveryMessage>,
    sweep: Sweep,
}

impl Tree {
    pub(super) fn plant(
        plan: Plan,
        ports: Ports,
        ledger: Arc<Ledger>,
        board: Arc<Board>,
        intake: (watch::Receiver<Intake>, watch::Sender<Option<Idle>>),
        others: OtherGroups,
    ) -> Arc<Self> {
        let names: Vec<_> = plan.processors.iter().map(|spec| spec.processor.name()).collect();
        let tables: Vec<_> =
            plan.processors.iter().map(|spec| &spec.processor.table().name).collect();
        let dead_letter = address(&board, "dead-letter/dead-letter", "dead-letter");
        let staging = plan.staging_replay.as_deref().map(Arc::from);
        Arc::new(Self {
            root: board.actor(ROOT, "supervisor"),
            reader: address(&board, "intake/reader", "reader"),
            parsers: (0..plan.actors.parser.pool_size)
                .map(|one| address(&board, &format!("intake/parser.{one}"), "parser"))
                .collect(),
            router: address(&board, "intake/router", "router"),
            processors: names
                .iter()
                .map(|name| address(&board, &format!("processors/processor.{name}"), "processor"))
                .collect(),
            writers: tables
                .iter()
                .map(|name| address(&board, &format!("warehouse/writer.{name}"), "writer"))
                .collect(),
            dead_letters: DeadLetters {
                address: dead_letter.clone(),
                payloads: watched_archive(&ports.archive, &board.calls("archive (dead letters)")),
                staging,
                requeued: plan.requeued.clone(),
                abort_on: plan.faults.abort_on_letter.clone(),
            },
            dead_letter,
            archive: plan.archive.map(|form| Archive::plant(&plan, form, &ports, &board)),
            plan,
            ports,
            ledger,
            board,
            intake,
            others,
        })
    }

    /// The root's children.
    pub(super) fn groups(self: &Arc<Self>) -> Vec<Child> {
        // Sinks before sources: a receiver exists before its sender.
        let mut groups = vec![
            self.group("dead-letter", Self::dead_letter_children),
            self.group("warehouse", Self::warehouse_children),
            self.group("processors", Self::processor_children),
        ];
        if let Some(archive) = &self.archive {
            let (tree, branch) = (Arc::clone(self), archive.clone());
            let policy = &self.plan.actors.supervisor.restart;
            groups.push(group(&archive.supervisor, policy, move || branch.children(&tree)));
        }
        groups.push(self.group("intake", Self::intake_children));
        groups.extend((self.others)());
        groups
    }

    fn group(self: &Arc<Self>, name: &str, children: fn(&Self) -> Vec<Child>) -> Child {
        let tree = Arc::clone(self);
        let policy = &self.plan.actors.supervisor.restart;
        group(&address(&self.board, name, "supervisor"), policy, move || children(&tree))
    }

    fn dead_letter_children(&self) -> Vec<Child> {
        let calls = self.dead_letter.vitals().calls();
        let table = dead_letter_table::spec();
        let ports = WriterPorts {
            warehouse: watched_warehouse(&self.ports.warehouse, calls),
            meter: self.board.table(&table.name, None),
            board: Arc::clone(&self.board),
            step: Step::DeadLetter,
            table: Arc::new(table),
            ledger: Arc::clone(&self.ledger),
            on_refusal: OnRefusal::Again,
            // Counted by class when it is settled.
            count_written: Arc::new(|_| {}),
            superseded: Arc::default(),
        };
        let settings = self.plan.actors.dead_letter.clone();
        vec![worker(&self.dead_letter, &settings.restart.clone(), move || {
            Writer::new(ports.clone(), &settings)
        })]
    }

    fn warehouse_children(&self) -> Vec<Child> {
        let specs = self.plan.processors.iter().zip(&self.writers);
        specs.map(|(spec, address)| self.writer(spec, address)).collect()
    }

    fn writer(&self, spec: &ProcessorSpec, address: &Address<WriterMessage>) -> Child {
        let table = spec.processor.table();
        let written = self.board.counters().rows(&table.name);
        let ports = WriterPorts {
            warehouse: watched_warehouse(&self.ports.warehouse, address.vitals().calls()),
            table: Arc::clone(table),
            ledger: Arc::clone(&self.ledger),
            on_refusal: OnRefusal::Condemn {
                dead_letters: self.dead_letters.clone(),
                processor: spec.processor.name().to_owned(),
            },
            count_written: Arc::new(move |rows| written.add(rows)),
            superseded: self.board.counters().rows_superseded(&table.name),
            meter: self.board.table(&table.name, spec.freshness),
            board: Arc::clone(&self.board),
            step: Step::Commit,
        };
        let settings = spec.writer.clone();
        worker(address, &spec.writer.restart, move || Writer::new(ports.clone(), &settings))
    }

    fn processor_children(&self) -> Vec<Child> {
        let faults = Arc::new(self.plan.faults.clone());
        let specs = self.plan.processors.iter().zip(&self.processors).zip(&self.writers);
        specs
            .map(|((spec, address), writer)| {
                let role = ProcessorActor {
                    processor: Arc::clone(&spec.processor),
                    writer: writer.clone(),
                    ledger: Arc::clone(&self.ledger),
                    dead_letters: self.dead_letters.clone(),
                    faults: Arc::clone(&faults),
                    board: Arc::clone(&self.board),
                };
                worker(address, &spec.restart, move || role.clone())
            })
            .collect()
    }

    fn intake_children(&self) -> Vec<Child> {
        let actors = &self.plan.actors;
        let router = Router {
            matcher: Arc::new(self.matcher()),
            observers: self.observers(),
            requeued: self.plan.requeued.clone(),
            names: self.plan.processors.iter().map(|it| it.processor.name().to_owned()).collect(),
            processors: self.processors.clone(),
            archive: self.archive.as_ref().map(|archive| archive.keeper.clone()),
            board: Arc::clone(&self.board),
        };
        let parser = Parser {
            envelope: Arc::clone(&self.plan.envelope),
            event_time: self.plan.event_time,
            router: self.router.clone(),
            dead_letters: self.dead_letters.clone(),
            board: Arc::clone(&self.board),
        };
        let mut children =
            vec![worker(&self.router, &actors.router.restart, move || router.clone())];
        children.extend(self.parsers.iter().map(|address| {
            let parser = parser.clone();
            worker(address, &actors.parser.restart, move || parser.clone())
        }));
        let (ports, settings) = (self.reader_ports(), actors.reader.clone());
        children.push(worker(&self.reader, &actors.reader.restart, move || {
            Reader::new(ports.clone(), &settings)
        }));
        children
    }

    /// Over the processors here, by their index, and behind them those that run elsewhere.
    fn matcher(&self) -> Matcher {
        let here = self
            .plan
            .processors
            .iter()
            .map(|spec| if spec.observes { &[] } else { spec.processor.patterns() });
        Matcher::new(here.chain(self.plan.elsewhere.iter().map(Vec::as_slice)))
    }

    fn observers(&self) -> Vec<usize> {
        let specs = self.plan.processors.iter().enumerate();
        specs.filter(|(_, spec)| spec.observes).map(|(index, _)| index).collect()
    }

    fn reader_ports(&self) -> ReaderPorts {
        let sinks: Vec<_> = self.writers.iter().chain([&self.dead_letter]).cloned().collect();
        let keeper = self.archive.as_ref().map(|archive| archive.keeper.clone());
        // A sink that is dead holds nothing that could be flushed.
        let flush_sinks = move || {
            for sink in &sinks {
                let _ = sink.send(WriterMessage::Flush);
            }
            if let Some(keeper) = &keeper {
                let _ = keeper.send(KeeperMessage::Flush);
            }
        };
        let ledger = Arc::clone(&self.ledger);
        // A log may hold events back until those in flight are settled.
        let may_wait = Arc::new(move || ledger.account().messages() > 0);
        ReaderPorts {
            log: watched_pulls(&self.ports.log, self.reader.vitals().calls(), may_wait),
            ledger: Arc::clone(&self.ledger),
            board: Arc::clone(&self.board),
            parsers: self.parsers.clone(),
            dead_letters: self.dead_letters.clone(),
            flush_sinks: Arc::new(flush_sinks),
            intake: self.intake.0.clone(),
            idle: self.intake.1.clone(),
        }
    }

    pub(super) fn root_vitals(&self) -> &Arc<Vitals> {
        &self.root
    }

    pub(super) fn watchdog(&self) -> &WatchdogSettings {
        &self.plan.actors.watchdog
    }

    pub(super) fn board(&self) -> &Arc<Board> {
        &self.board
    }

    pub(super) fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    pub(super) fn ports(&self) -> &Ports {
        &self.ports
    }

    pub(super) fn archive(&self) -> Option<&Archive> {
        self.archive.as_ref()
    }
}

impl Archive {
    fn plant(plan: &Plan, form: ArchivePlan, ports: &Ports, board: &Board) -> Self {
        let sweep = Sweep {
            store: Arc::clone(&ports.archive),
            directory: Directory::new(),
            exclusive: form.exclusive,
            grace: plan.actors.archive_window.grace,
        };
        Self {
            plan: form,
            supervisor: address(board, "archive", "supervisor"),
            keeper: address(board, "archive/keeper", "archive"),
            recovery: address(board, "archive/recovery", "recovery"),
            sweep,
        }
    }

    fn children(&self, tree: &Tree) -> Vec<Child> {
        let settings = tree.plan.actors.archive_window.clone();
        // The windows of the group's last life died with it.
        self.sweep.directory.forget_all();
        let ports = KeeperPorts {
            directory: Arc::clone(&self.sweep.directory),
            supervisor: self.supervisor.clone(),
            path: format!("{ROOT}/archive"),
            of_requeue: tree.plan.requeued.is_some(),
            window: WindowPorts {
                store: Arc::clone(&self.sweep.store),
                ledger: Arc::clone(&tree.ledger),
                board: Arc::clone(&tree.board),
                keeper: self.keeper.clone(),
                format: self.plan.format,
                compression: self.plan.compression,
            },
        };
        let store = watched_archive(&self.sweep.store, self.recovery.vitals().calls());
        let (sweep, restart) = (Sweep { store, ..self.sweep() }, settings.restart.clone());
        vec![
            worker(&self.keeper, &restart, move || Keeper::new(ports.clone(), &settings)),
            worker(&self.recovery, &restart, move || Recovery::new(sweep.clone())),
        ]
    }

    /// Has all windows stored and composed.
    pub(super) async fn close_all(&self) {
        self.sweep.directory.drain();
        // A dead keeper looks by itself when it is back.
        let _ = self.keeper.send(KeeperMessage::Tick);
        self.sweep.directory.drained().await;
    }

    pub(super) fn sweep(&self) -> Sweep {
        self.sweep.clone()
    }
}

fn address<M: ractor::Message>(board: &Board, name: &str, kind: &'static str) -> Address<M> {
    Address::new(board.actor(&format!("{ROOT}/{name}"), kind))
}

impl std::fmt::Debug for Tree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tree").field("board", &self.board).finish_non_exhaustive()
    }
}
