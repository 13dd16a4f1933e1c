//! The consistent register: a primary, and backups of which it needs a majority.
//!
//! A node that hears of no primary stands for election in a new epoch. A majority promises not to follow an older one
//! and tells what it stores; the newest of that is what the new primary starts with (Oki and Liskov 1988, "Viewstamped
//! Replication"; the rule of the newest value is that of Lamport 1998, "The Part-Time Parliament"). The primary orders
//! all operations. Each is answered after a round in which a majority has stored the primary's state and not promised
//! anything newer: then nobody else can have been primary when the round began.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use dpat_model::{Cx, Digest, Input, Lsn, NodeIx, Peer, Process, ReqId};
use serde::{Deserialize, Serialize};

use super::{Op, Reply, Stamp};

/// How often a primary is heard of, at least.
const BEAT: Duration = Duration::from_millis(50);
/// So long, and at most twice as long, a node hears nothing before it stands for election.
const PATIENCE_MS: u32 = 200;

/// What a node has to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// How many nodes there are.
    pub nodes: u32,
    /// The rule that a mutant breaks.
    pub broken: Option<Broken>,
}

/// A rule of the protocol that a mutant breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// A read asks a majority whether its node is still the primary.
    ReadsWithoutAsking,
    /// A write is answered when a majority stores it.
    WritesWithoutAMajority,
    /// A new primary takes the newest of what its majority stores.
    KeepsItsOwnValue,
    /// Who has promised an epoch follows no older primary.
    FollowsAnOlderPrimary,
    /// Who gets no majority stands again.
    StandsOnce,
}

/// A value of a primary.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Stored {
    /// The primary's.
    pub epoch: Stamp,
    /// Counts the values of the epoch.
    pub number: u64,
    /// The value.
    pub value: Option<u64>,
}

/// A message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Msg {
    /// The sender wants to be primary of this epoch.
    Stand(Stamp),
    /// The sender follows nothing older, and stores this.
    Promise(Stamp, Stored),
    /// The primary's state in one of its rounds.
    Store(Stored, u64),
    /// The sender has stored what the primary of this epoch had in this round.
    Ack(Stamp, u64),
    /// The sender has promised this epoch, and follows nothing older.
    Refuse(Stamp),
}

/// What a node must not forget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Record {
    /// It follows nothing older.
    Promise(Stamp),
    /// It stores this.
    Store(Stored),
}

/// Names a timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// Stand for election.
    Stand,
    /// Be heard of.
    Beat,
}

/// Durable state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Kept {
    promised: Stamp,
    stored: Stored,
}

#[derive(Clone, Debug, Hash)]
enum Role {
    /// Follows the primary of the promised epoch, if there is one.
    Backup,
    /// Stands for the promised epoch.
    Candidate(BTreeMap<u32, Stored>),
    Primary(Primary),
}

#[derive(Clone, Debug, Default, Hash)]
struct Primary {
    round: u64,
    /// By backup: the last round that it acknowledged.
    acked: BTreeMap<u32, u64>,
    /// In order of their rounds.
    waiting: VecDeque<Waiting>,
}

/// An operation with the round that answers it.
#[derive(Clone, Copy, Debug, Hash)]
struct Waiting {
    round: u64,
    id: ReqId,
    reply: Reply,
}

/// One node.
#[derive(Clone, Debug)]
pub struct Register {
    me: u32,
    config: Config,
    kept: Kept,
    role: Role,
    /// The newest epoch heard of, so that a candidacy does not fall behind it.
    heard: Stamp,
}

impl Register {
    /// Says whether the node is, or believes to be, the primary.
    #[must_use]
    pub const fn is_primary(&self) -> bool {
        matches!(self.role, Role::Primary(_))
    }

    /// Returns the epoch that the node has promised to follow.
    #[must_use]
    pub const fn promised(&self) -> Stamp {
        self.kept.promised
    }

    /// Returns what the node stores.
    #[must_use]
    pub const fn stored(&self) -> Stored {
        self.kept.stored
    }

    fn is_broken(&self, rule: Broken) -> bool {
        self.config.broken == Some(rule)
    }

    fn majority(&self) -> usize {
        self.config.nodes as usize / 2 + 1
    }

    fn broadcast(&self, msg: Msg, cx: &mut Cx<'_, Self>) {
        for node in (0..self.config.nodes).filter(|node| *node != self.me) {
            cx.send(NodeIx(node), msg);
        }
    }

    /// Waits to hear of a primary.
    fn wait(cx: &mut Cx<'_, Self>) {
        let after = PATIENCE_MS + cx.choose(PATIENCE_MS);
        cx.arm(Timer::Stand, Duration::from_millis(u64::from(after)));
    }

    /// Follows whoever has the promised epoch. What it was asked as a primary may still come to happen.
    fn follow(&mut self, cx: &mut Cx<'_, Self>) {
        if let Role::Primary(primary) = std::mem::replace(&mut self.role, Role::Backup) {
            cx.disarm(Timer::Beat);
            for waiting in primary.waiting {
                cx.reply(waiting.id, given_up(waiting.reply));
            }
        }
        Self::wait(cx);
    }

    fn stand(&mut self, cx: &mut Cx<'_, Self>) {
        let newest = self.heard.max(self.kept.promised);
        let epoch = Stamp {
            counter: newest.counter + 1,
            node: self.me,
        };
        cx.log(self, Record::Promise(epoch));
        self.role = Role::Candidate(BTreeMap::from([(self.me, self.kept.stored)]));
        self.broadcast(Msg::Stand(epoch), cx);
        if !self.is_broken(Broken::StandsOnce) {
            Self::wait(cx);
        }
        self.count(cx);
    }

    /// Becomes primary once a majority has promised.
    fn count(&mut self, cx: &mut Cx<'_, Self>) {
        let Role::Candidate(promises) = &self.role else {
            return;
        };
        if promises.len() < self.majority() {
            return;
        }
        let newest = if self.is_broken(Broken::KeepsItsOwnValue) {
            self.kept.stored
        } else {
            promises.values().max().copied().unwrap_or_default()
        };
        let first = Stored {
            epoch: self.kept.promised,
            number: 0,
            value: newest.value,
        };
        cx.log(self, Record::Store(first));
        self.role = Role::Primary(Primary::default());
        cx.disarm(Timer::Stand);
        self.beat(cx);
    }

    /// Is heard of, and sends again what may have been lost.
    fn beat(&self, cx: &mut Cx<'_, Self>) {
        if let Role::Primary(primary) = &self.role {
            self.broadcast(Msg::Store(self.kept.stored, primary.round), cx);
            cx.arm(Timer::Beat, BEAT);
        }
    }

    fn ask(&mut self, id: ReqId, op: Op, cx: &mut Cx<'_, Self>) {
        if !self.is_primary() {
            let primary = NodeIx(self.kept.promised.node);
            let other =
                (primary.0 != self.me && self.kept.promised != Stamp::default()).then_some(primary);
            return cx.reply(id, Reply::Refused(other));
        }
        let reply = match op {
            Op::Read => Reply::Value(self.kept.stored.value),
            Op::Write(value) => {
                let next = Stored {
                    number: self.kept.stored.number + 1,
                    value: Some(value),
                    ..self.kept.stored
                };
                cx.log(self, Record::Store(next));
                Reply::Written
            }
        };
        let at_once = match op {
            Op::Read => self.is_broken(Broken::ReadsWithoutAsking),
            Op::Write(_) => self.is_broken(Broken::WritesWithoutAMajority),
        };
        if at_once {
            cx.reply(id, reply);
        }
        let Role::Primary(primary) = &mut self.role else {
            return;
        };
        primary.round += 1;
        let round = primary.round;
        if !at_once {
            primary.waiting.push_back(Waiting { round, id, reply });
        }
        self.beat(cx);
        self.answer(cx);
    }

    /// Answers what a majority has taken part in.
    fn answer(&mut self, cx: &mut Cx<'_, Self>) {
        let majority = self.majority();
        let Role::Primary(primary) = &mut self.role else {
            return;
        };
        while let Some(first) = primary.waiting.front() {
            let acked = primary
                .acked
                .values()
                .filter(|acked| **acked >= first.round);
            if 1 + acked.count() < majority {
                return;
            }
            cx.reply(first.id, first.reply);
            primary.waiting.pop_front();
        }
    }

    fn receive(&mut self, from: NodeIx, msg: Msg, cx: &mut Cx<'_, Self>) {
        match msg {
            Msg::Stand(epoch) => {
                self.heard = self.heard.max(epoch);
                if epoch > self.kept.promised {
                    cx.log(self, Record::Promise(epoch));
                    self.follow(cx);
                }
                let answer = if epoch == self.kept.promised {
                    Msg::Promise(epoch, self.kept.stored)
                } else {
                    Msg::Refuse(self.kept.promised)
                };
                cx.send(from, answer);
            }
            Msg::Promise(epoch, stored) if epoch == self.kept.promised => {
                if let Role::Candidate(promises) = &mut self.role {
                    promises.insert(from.0, stored);
                    self.count(cx);
                }
            }
            Msg::Store(stored, round) => {
                self.heard = self.heard.max(stored.epoch);
                let older = stored.epoch < self.kept.promised;
                if older && !self.is_broken(Broken::FollowsAnOlderPrimary) {
                    return cx.send(from, Msg::Refuse(self.kept.promised));
                }
                if stored > self.kept.stored || older {
                    cx.log(self, Record::Store(stored));
                }
                self.follow(cx);
                cx.send(from, Msg::Ack(stored.epoch, round));
            }
            Msg::Ack(epoch, round) if epoch == self.kept.promised => {
                if let Role::Primary(primary) = &mut self.role {
                    let acked = primary.acked.entry(from.0).or_default();
                    *acked = round.max(*acked);
                    self.answer(cx);
                }
            }
            Msg::Refuse(epoch) => {
                self.heard = self.heard.max(epoch);
                // Nobody newer may ever become primary; this one cannot stay it.
                if epoch > self.kept.promised && self.is_primary() {
                    self.follow(cx);
                }
            }
            Msg::Promise(..) | Msg::Ack(..) => {} // of an epoch that is over
        }
    }
}

/// What is told to a caller whose operation no longer can be carried out here.
const fn given_up(reply: Reply) -> Reply {
    match reply {
        Reply::Written | Reply::Unknown => Reply::Unknown,
        Reply::Value(_) | Reply::Refused(_) => Reply::Refused(None),
    }
}

impl Process for Register {
    type Config = Config;
    type Snapshot = Kept;
    type Req = Op;
    type Rep = Reply;
    type Msg = Msg;
    type Rec = Record;
    type Timer = Timer;
    type Work = ();
    type Done = ();
    const CHOOSES: bool = true;

    fn boot(me: Peer, config: &Config, snapshot: Option<&Kept>) -> Self {
        Self {
            me: me.node.0,
            config: config.clone(),
            kept: snapshot.copied().unwrap_or_default(),
            role: Role::Backup,
            heard: Stamp::default(),
        }
    }

    fn apply(&mut self, _at: Lsn, record: &Record) {
        match *record {
            Record::Promise(epoch) => self.kept.promised = epoch,
            Record::Store(stored) => {
                self.kept.promised = self.kept.promised.max(stored.epoch);
                self.kept.stored = stored;
            }
        }
    }

    fn snapshot(&self) -> Kept {
        self.kept
    }

    fn step(&mut self, input: Input<Self>, cx: &mut Cx<'_, Self>) {
        match input {
            Input::Start => Self::wait(cx),
            Input::Timer(Timer::Stand) => self.stand(cx),
            Input::Timer(Timer::Beat) => self.beat(cx),
            Input::Req { id, req, .. } => self.ask(id, req, cx),
            Input::Msg { from, msg } => self.receive(from.node, msg, cx),
            Input::Cancel(id) => {
                let Role::Primary(primary) = &mut self.role else {
                    return;
                };
                let found = primary.waiting.iter().position(|other| other.id == id);
                if let Some(waiting) = found.and_then(|at| primary.waiting.remove(at)) {
                    cx.reply(id, given_up(waiting.reply));
                }
            }
            Input::Drain { .. } => self.follow(cx),
            Input::PeerUp(_) | Input::PeerDown(_) | Input::Done { .. } | Input::Durable(_) => {}
        }
    }

    fn digest(&self, digest: &mut Digest) {
        digest.durable(&self.kept);
        digest.volatile(&self.role);
        digest.volatile(&self.heard);
    }
}
