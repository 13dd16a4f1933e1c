//! What the theorems of the README say, on systems small enough to try everything.

use std::collections::BTreeSet;

use dpat_model::explore::{Explore, World};
use dpat_model::{Answer, Cx, Digest, Input, Lsn, NodeIx, Peer, Process, ReqId};
use stateright::{Checker, Model, Property};

/// A replica that merges what it is told, by a rule.
#[derive(Clone, Debug)]
struct Replica {
    merge: fn(u64, u64) -> u64,
    state: u64,
    delivered: BTreeSet<u64>,
}

impl Process for Replica {
    type Config = fn(u64, u64) -> u64;
    type Snapshot = ();
    type Req = u64;
    type Rep = ();
    type Msg = u64;
    type Rec = ();
    type Timer = ();
    type Work = ();
    type Done = ();

    fn boot(_me: Peer, merge: &Self::Config, _snapshot: Option<&()>) -> Self {
        Self {
            merge: *merge,
            state: 0,
            delivered: BTreeSet::new(),
        }
    }
    fn apply(&mut self, _at: Lsn, _record: &()) {}
    fn snapshot(&self) {}
    fn step(&mut self, input: Input<Self>, cx: &mut Cx<'_, Self>) {
        let update = match input {
            Input::Req { id, req, .. } => {
                cx.send(NodeIx(1 - cx.me().node.0), req);
                cx.reply(id, ());
                req
            }
            Input::Msg { msg, .. } => msg,
            _ => return,
        };
        self.delivered.insert(update);
        self.state = (self.merge)(self.state, update);
    }
    fn digest(&self, digest: &mut Digest) {
        digest.volatile(&(self.state, &self.delivered));
    }
}

/// Strong convergence: replicas that have delivered the same updates have the same state.
fn converges(merge: fn(u64, u64) -> u64) -> bool {
    let convergence = Property::always("strong convergence", |_, world: &World<Replica>| {
        let replicas: Vec<_> = world.processes().collect();
        replicas[0].delivered != replicas[1].delivered || replicas[0].state == replicas[1].state
    });
    let checker = Explore::new(vec![merge, merge])
        .request(NodeIx(0), 3)
        .request(NodeIx(1), 5)
        .request(NodeIx(0), 6)
        .property(convergence)
        .checker()
        .spawn_bfs()
        .join();
    checker.discovery("strong convergence").is_none()
}

#[test]
fn equal_updates_give_equal_states_only_if_merging_ignores_order() {
    assert!(converges(|state, update| state | update));
    assert!(converges(u64::max));
    // the last to arrive wins: after updates stop the replicas differ for ever
    assert!(!converges(|_, update| update));
}

/// A register on two nodes. A consistent one answers when the other node has the write; an available one at once.
#[derive(Clone, Debug)]
struct Register {
    available: bool,
    value: u64,
    waiting: Vec<(ReqId, u64)>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Talk {
    Store(u64),
    Stored,
}

#[derive(Clone, Debug)]
enum Call {
    Write(u64),
    Read,
}

impl Process for Register {
    type Config = bool;
    type Snapshot = ();
    type Req = Call;
    type Rep = u64;
    type Msg = Talk;
    type Rec = ();
    type Timer = ();
    type Work = ();
    type Done = ();

    fn boot(_me: Peer, available: &bool, _snapshot: Option<&()>) -> Self {
        Self {
            available: *available,
            value: 0,
            waiting: Vec::new(),
        }
    }
    fn apply(&mut self, _at: Lsn, _record: &()) {}
    fn snapshot(&self) {}
    fn step(&mut self, input: Input<Self>, cx: &mut Cx<'_, Self>) {
        match input {
            Input::Req { id, req, .. } => {
                if let Call::Write(value) = req {
                    self.value = value;
                    cx.send(NodeIx(1 - cx.me().node.0), Talk::Store(value));
                    if !self.available {
                        self.waiting.push((id, value));
                        return;
                    }
                }
                cx.reply(id, self.value);
            }
            Input::Msg { from, msg } => match msg {
                Talk::Store(value) => {
                    self.value = value;
                    cx.send(from.node, Talk::Stored);
                }
                Talk::Stored => {
                    for (id, value) in self.waiting.drain(..) {
                        cx.reply(id, value);
                    }
                }
            },
            _ => {}
        }
    }
    fn digest(&self, digest: &mut Digest) {
        digest.volatile(&(self.value, &self.waiting));
    }
}

/// Which of the two properties a register loses: (atomic, available).
fn keeps(available: bool, lossy: bool) -> (bool, bool) {
    // A write at node 0, a read at node 1. Reads are answered in the step that asks, so a read whose answer comes after
    // the write's was asked after it, and must be new.
    let atomic = Property::always("atomic", |_, world: &World<Register>| {
        let written = (ReqId(0), Answer::Reply(7));
        let stale = (ReqId(1), Answer::Reply(0));
        let place = |answer| world.answers().iter().position(|other| *other == answer);
        match (place(written), place(stale)) {
            (Some(write), Some(read)) => read < write,
            _ => true,
        }
    });
    let answered = Property::eventually("available", |_, world: &World<Register>| {
        world.answers().len() == 2
    });
    let mut system = Explore::new(vec![available, available])
        .request(NodeIx(0), Call::Write(7))
        .request(NodeIx(1), Call::Read)
        .property(atomic)
        .property(answered);
    if lossy {
        system = system.lossy();
    }
    let checker = system.checker().spawn_bfs().join();
    let kept = |name| checker.discovery(name).is_none();
    (kept("atomic"), kept("available"))
}

#[test]
fn a_register_is_atomic_or_available_when_messages_may_be_lost() {
    assert_eq!(keeps(false, true), (true, false));
    assert_eq!(keeps(true, true), (false, true));
    // without loss waiting costs nothing but time; answering at once is still not atomic, since messages are slow
    assert_eq!(keeps(false, false), (true, true));
    assert_eq!(keeps(true, false), (false, true));
}

/// Two nodes exchange votes and decide the lower one. A patient one waits; the other decides its own vote when its
/// timer fires first.
#[derive(Clone, Debug)]
struct Voter {
    vote: u64,
    patient: bool,
    decided: Option<u64>,
}

impl Process for Voter {
    type Config = (u64, bool);
    type Snapshot = ();
    type Req = ();
    type Rep = ();
    type Msg = u64;
    type Rec = ();
    type Timer = ();
    type Work = ();
    type Done = ();

    fn boot(_me: Peer, &(vote, patient): &(u64, bool), _snapshot: Option<&()>) -> Self {
        Self {
            vote,
            patient,
            decided: None,
        }
    }
    fn apply(&mut self, _at: Lsn, _record: &()) {}
    fn snapshot(&self) {}
    fn step(&mut self, input: Input<Self>, cx: &mut Cx<'_, Self>) {
        let decision = match input {
            Input::Start => {
                cx.send(NodeIx(1 - cx.me().node.0), self.vote);
                if !self.patient {
                    cx.arm((), std::time::Duration::from_secs(1));
                }
                return;
            }
            Input::Msg { msg, .. } => self.vote.min(msg),
            Input::Timer(()) => self.vote,
            _ => return,
        };
        self.decided.get_or_insert(decision);
    }
    fn digest(&self, digest: &mut Digest) {
        digest.volatile(&self.decided);
    }
}

/// Which properties a consensus has when a node may be silent, as a crashed one is: (agreement, termination).
fn consensus(patient: bool, silent: bool) -> (bool, bool) {
    let agreement = Property::always("agreement", |_, world: &World<Voter>| {
        let decided: BTreeSet<_> = world
            .processes()
            .filter_map(|voter| voter.decided)
            .collect();
        decided.len() < 2
    });
    let termination = Property::eventually("termination", |_, world: &World<Voter>| {
        world.processes().all(|voter| voter.decided.is_some())
    });
    let mut system = Explore::new(vec![(0, patient), (1, patient)])
        .property(agreement)
        .property(termination);
    if silent {
        system = system.lossy();
    }
    let checker = system.checker().spawn_bfs().join();
    let kept = |name| checker.discovery(name).is_none();
    (kept("agreement"), kept("termination"))
}

#[test]
fn a_deterministic_consensus_waits_for_ever_or_disagrees() {
    // without a fault it is possible: the theorem needs the one crash
    assert_eq!(consensus(true, false), (true, true));
    assert_eq!(consensus(true, true), (true, false));
    assert_eq!(consensus(false, true), (false, true));
}
