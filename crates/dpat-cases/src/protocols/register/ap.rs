//! The available register: every node answers alone, and the last writer wins.
//!
//! A write is stamped with a counter above all that its node knows (Lamport 1978) and its node; of two values the one with
//! the higher stamp counts (Thomas 1979, "A Majority Consensus Approach to Concurrency Control"). Nodes tell each other
//! what they have, again and again, until they agree. A caller that keeps to one node never sees it go back.

use std::time::Duration;

use dpat_model::{Cx, Digest, Input, Lsn, NodeIx, Peer, Process, ReqId};
use serde::{Deserialize, Serialize};

use super::{Op, Reply, Stamp};

/// How often a node tells the others what it has.
const GOSSIP: Duration = Duration::from_millis(50);

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
    /// A read waits until what it shows is durable; broken by the executor.
    ReadsBeforeTheLogIsDurable,
    /// A node tells what it has again and again.
    TellsOnce,
    /// A write is stamped higher than all that its node knows; the mutant takes the wall clock.
    StampsByTheWallClock,
    /// Equal counters are ordered by their nodes; the mutant keeps what came first.
    KeepsTheFirstOfEqualCounters,
    /// A node answers alone.
    AnswersWhenAnotherNodeHasIt,
}

/// A value with its stamp.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Version {
    /// Of two, the one with the higher stamp counts.
    pub stamp: Stamp,
    /// The value.
    pub value: Option<u64>,
}

/// One node.
#[derive(Clone, Debug)]
pub struct Register {
    me: u32,
    config: Config,
    kept: Version,
    /// Only the mutant's: who waits for another node to have a version.
    waiting: Vec<(ReqId, Stamp)>,
}

impl Register {
    /// Returns what the node has.
    #[must_use]
    pub const fn version(&self) -> Version {
        self.kept
    }

    fn is_broken(&self, rule: Broken) -> bool {
        self.config.broken == Some(rule)
    }

    fn tell(&self, cx: &mut Cx<'_, Self>) {
        for node in (0..self.config.nodes).filter(|node| *node != self.me) {
            cx.send(NodeIx(node), self.kept);
        }
    }

    fn write(&mut self, value: u64, cx: &mut Cx<'_, Self>) {
        let counter = if self.is_broken(Broken::StampsByTheWallClock) {
            cx.wall().as_nanos()
        } else {
            self.kept.stamp.counter + 1
        };
        let stamp = Stamp {
            counter,
            node: self.me,
        };
        let value = Some(value);
        self.merge(Version { stamp, value }, cx);
        self.tell(cx);
    }

    fn merge(&mut self, other: Version, cx: &mut Cx<'_, Self>) {
        let newer = if self.is_broken(Broken::KeepsTheFirstOfEqualCounters) {
            other.stamp.counter > self.kept.stamp.counter
        } else {
            other.stamp > self.kept.stamp
        };
        if newer {
            cx.log(self, other);
        }
    }
}

impl Process for Register {
    type Config = Config;
    type Snapshot = Version;
    type Req = Op;
    type Rep = Reply;
    type Msg = Version;
    type Rec = Version;
    type Timer = ();
    type Work = ();
    type Done = ();

    fn boot(me: Peer, config: &Config, snapshot: Option<&Version>) -> Self {
        Self {
            me: me.node.0,
            config: config.clone(),
            kept: snapshot.copied().unwrap_or_default(),
            waiting: Vec::new(),
        }
    }

    fn apply(&mut self, _at: Lsn, version: &Version) {
        self.kept = *version;
    }

    fn snapshot(&self) -> Version {
        self.kept
    }

    fn step(&mut self, input: Input<Self>, cx: &mut Cx<'_, Self>) {
        match input {
            Input::Start => cx.arm((), GOSSIP),
            Input::Timer(()) => {
                if !self.is_broken(Broken::TellsOnce) {
                    self.tell(cx);
                }
                cx.arm((), GOSSIP);
            }
            Input::Req { id, req, .. } => match req {
                Op::Read => cx.reply(id, Reply::Value(self.kept.value)),
                Op::Write(value) => {
                    self.write(value, cx);
                    if self.is_broken(Broken::AnswersWhenAnotherNodeHasIt) {
                        self.waiting.push((id, self.kept.stamp));
                    } else {
                        cx.reply(id, Reply::Written);
                    }
                }
            },
            Input::Msg { msg, .. } => {
                self.merge(msg, cx);
                for (id, _) in self.waiting.extract_if(.., |(_, it)| *it <= msg.stamp) {
                    cx.reply(id, Reply::Written);
                }
            }
            Input::Cancel(id) => {
                if let Some(at) = self.waiting.iter().position(|(other, _)| *other == id) {
                    self.waiting.remove(at);
                    cx.reply(id, Reply::Unknown);
                }
            }
            Input::Drain { .. }
            | Input::PeerUp(_)
            | Input::PeerDown(_)
            | Input::Done { .. }
            | Input::Durable(_) => {}
        }
    }

    fn digest(&self, digest: &mut Digest) {
        digest.durable(&self.kept);
        digest.volatile(&self.waiting);
    }
}
