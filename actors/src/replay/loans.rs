//! Messages that were handed out and not acknowledged, and finished objects.

use std::collections::VecDeque;

use crate::message::{Lease, LeaseMap, Message};
use crate::port::Room;

/// An object that could not be read to its end, or a log that has lost events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The object's name, or the source's.
    pub object: String,
    /// The first line that could not be read, from 1; 0 for a log.
    pub line: u64,
    /// The fault.
    pub reason: String,
}

/// How far a replay is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Objects found so far, without those done by an earlier run.
    pub objects: u64,
    /// Objects whose lines are all acknowledged.
    pub objects_done: u64,
    /// Their sizes in the store, in bytes.
    pub bytes: u64,
    /// Bytes of them that were read.
    pub bytes_read: u64,
    /// Lines handed out, each once.
    pub lines: u64,
    /// Objects that could not be read to their end.
    pub faults: Vec<Fault>,
}

/// An object's number in the order in which it was found.
pub(super) type ObjectNumber = usize;

struct Object {
    name: String,
    bytes: u64,
    bytes_read: u64,
    /// Lines under way, waiting here or on loan.
    open: u64,
    read_whole: bool,
}

/// The book of one replay. It knows nothing of tasks and stores.
#[derive(Default)]
pub(super) struct Loans {
    objects: Vec<Object>,
    waiting: VecDeque<(ObjectNumber, Message)>,
    /// Boxed, so that the table stays small enough for a processor's cache.
    lent: LeaseMap<Box<(ObjectNumber, Message)>>,
    last_lease: u64,
    done: Vec<String>,
    progress: Progress,
    /// What keeps an object from being read at present.
    pub(super) trouble: Option<String>,
}

impl Loans {
    /// Notes an object that is going to be read.
    pub(super) fn found(&mut self, name: String, bytes: u64) -> ObjectNumber {
        self.progress.objects += 1;
        self.progress.bytes += bytes;
        self.objects.push(Object { name, bytes, bytes_read: 0, open: 0, read_whole: false });
        self.objects.len() - 1
    }

    /// Notes lines that are about to be sent: from here on they keep their object from being done,
    /// wherever they are.
    pub(super) fn opened(&mut self, object: ObjectNumber, lines: usize) {
        self.progress.lines += lines as u64;
        self.objects[object].open += lines as u64;
    }

    /// Takes opened lines in; they wait to be handed out.
    pub(super) fn arrived(&mut self, object: ObjectNumber, messages: Vec<Message>) {
        self.waiting.extend(messages.into_iter().map(|message| (object, message)));
    }

    /// Notes that an object was read up to this byte.
    pub(super) fn read_to(&mut self, object: ObjectNumber, position: u64) {
        let object = &mut self.objects[object];
        let position = position.min(object.bytes).max(object.bytes_read);
        self.progress.bytes_read += position - object.bytes_read;
        object.bytes_read = position;
    }

    /// Notes that no more lines of an object will arrive.
    pub(super) fn read_whole(&mut self, object: ObjectNumber) {
        self.read_to(object, u64::MAX);
        self.objects[object].read_whole = true;
        self.count_if_done(object);
    }

    /// Notes that the rest of an object cannot be read: it never counts as done.
    pub(super) fn damaged(&mut self, object: ObjectNumber, line: u64, reason: String) {
        self.read_to(object, u64::MAX);
        let object = self.objects[object].name.clone();
        self.progress.faults.push(Fault { object, line, reason });
    }

    /// Lends what fits in `room`: at least one line, if any waits.
    pub(super) fn lend(&mut self, room: Room) -> Vec<Message> {
        let mut lent = Vec::new();
        let mut bytes = 0;
        while let Some((_, next)) = self.waiting.front() {
            bytes += next.payload.len() as u64;
            if lent.len() == room.messages || (bytes > room.bytes && !lent.is_empty()) {
                break;
            }
            let Some((object, mut message)) = self.waiting.pop_front() else { break };
            self.last_lease += 1;
            message.lease = Lease(self.last_lease);
            lent.push(message.clone());
            self.lent.insert(message.lease, Box::new((object, message)));
        }
        lent
    }

    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Takes acknowledgements; leases that are not lent are passed over.
    pub(super) fn acknowledge(&mut self, leases: &[Lease]) {
        for lease in leases {
            if let Some(loan) = self.lent.remove(lease) {
                let (object, _) = *loan;
                self.objects[object].open -= 1;
                self.count_if_done(object);
            }
        }
    }

    /// Takes messages back; they are handed out before the waiting ones, in the order of their leases.
    pub(super) fn give_back(&mut self, leases: &[Lease]) {
        let mut leases = leases.to_vec();
        leases.sort_unstable();
        for lease in leases.iter().rev() {
            if let Some(back) = self.lent.remove(lease) {
                self.waiting.push_front(*back);
            }
        }
    }

    /// The objects that became done since the last call.
    pub(super) fn take_done(&mut self) -> Vec<String> {
        std::mem::take(&mut self.done)
    }

    pub(super) fn progress(&self) -> Progress {
        self.progress.clone()
    }

    fn count_if_done(&mut self, object: ObjectNumber) {
        let object = &mut self.objects[object];
        if object.read_whole && object.open == 0 {
            self.done.push(std::mem::take(&mut object.name));
            self.progress.objects_done += 1;
        }
    }
}
