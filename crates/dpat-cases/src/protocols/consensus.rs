//! Binary consensus in rounds of two phases: Ben-Or 1983, "Another Advantage of Free Choice", § 3, and the same
//! protocol with a rule instead of the coin.
//!
//! Tolerates that fewer than half of the nodes crash. With the coin every undisturbed run ends with probability one;
//! with the rule there are schedules under which nobody ever decides, as Fischer, Lynch and Paterson 1985 prove for
//! every deterministic protocol.

use std::collections::BTreeMap;
use std::fmt::{self, Debug};
use std::marker::PhantomData;
use std::time::Duration;

use dpat_model::{Cx, Digest, Input, Lsn, NodeIx, Peer, Process, ReqId};
use serde::{Deserialize, Serialize};

mod run;
mod series;

pub use run::{Contest, Decisions};
pub use series::{At, Series};

/// What a node takes for its next vote when a round leaves it open.
pub trait Coin: Clone + Debug + Send + Sync + 'static {
    /// Whether the vote is random.
    const CHOOSES: bool;

    /// Returns the vote.
    fn flip(round: u32, cx: &mut Cx<'_, Consensus<Self>>) -> bool;
}

/// A fair coin: Ben-Or's protocol.
#[derive(Clone, Copy, Debug)]
pub struct Fair;

impl Coin for Fair {
    const CHOOSES: bool = true;

    fn flip(_round: u32, cx: &mut Cx<'_, Consensus<Self>>) -> bool {
        cx.choose(2) == 1
    }
}

/// No coin: 1 after odd rounds, 0 after even ones. The same at all nodes, so that they agree when nothing interferes.
#[derive(Clone, Copy, Debug)]
pub struct Parity;

impl Coin for Parity {
    const CHOOSES: bool = false;

    fn flip(round: u32, _cx: &mut Cx<'_, Consensus<Self>>) -> bool {
        round % 2 == 1
    }
}

/// What a node has to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// How many nodes there are.
    pub nodes: u32,
    /// What this node proposes.
    pub input: bool,
    /// How often a node that waits asks again. Absent where no message is lost: then there is no timer at all.
    pub resend: Option<Duration>,
    /// The rule that a mutant breaks.
    pub broken: Option<Broken>,
}

/// A rule of the protocol that a mutant breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// A node decides on t + 1 equal proposals; the mutant on t.
    DecidesOnOneProposalLess,
    /// A proposal needs more than half of *all* nodes; the mutant takes most of those heard.
    ProposesWhatMostOfTheHeardReport,
    /// A node counts one vote of each node; the mutant counts what comes.
    CountsVotesTwice,
    /// A node keeps to a proposal that it has seen; the mutant flips the coin.
    FlipsAlthoughItSawAProposal,
    /// A node that waits asks again.
    AsksOnce,
}

/// Half of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Phase {
    /// Nodes report their votes.
    Report,
    /// Nodes propose what most have reported, or nothing.
    Propose,
}

/// A place in the protocol, in order of time.
pub type Place = (u32, Phase);

/// A report always has a value; a proposal may have none.
pub type Vote = Option<bool>;

/// A message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Msg {
    /// The vote of a node at a place.
    Vote(Place, Vote),
    /// The sender has decided.
    Decided(bool),
    /// The sender waits here for votes.
    Ask(Place),
}

impl fmt::Display for Msg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vote((round, Phase::Report), vote) => write!(f, "report {round} {}", Bit(*vote)),
            Self::Vote((round, Phase::Propose), vote) => {
                write!(f, "propose {round} {}", Bit(*vote))
            }
            Self::Decided(value) => write!(f, "decided {}", u8::from(*value)),
            Self::Ask((round, phase)) => write!(f, "ask {round} {phase:?}"),
        }
    }
}

struct Bit(Vote);

impl fmt::Display for Bit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(value) => write!(f, "{}", u8::from(value)),
            None => f.write_str("?"),
        }
    }
}

/// What a node must not forget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Record {
    /// It voted at its next place.
    Vote(Vote),
    /// It decided.
    Decided(bool),
}

/// Durable state: the node's own votes, in order of their places, and its decision.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    votes: Vec<Vote>,
    decided: Option<bool>,
    /// A hash of the votes, kept along so that a digest costs the same in every round.
    hash: u64,
}

/// One node.
#[derive(Clone, Debug)]
pub struct Consensus<C> {
    config: Config,
    me: NodeIx,
    kept: Kept,
    /// Where the decision's record stands.
    decided_at: Lsn,
    /// Votes of the others from the present place on.
    heard: BTreeMap<Place, Vec<(NodeIx, Vote)>>,
    waiting: Vec<ReqId>,
    coin: PhantomData<C>,
}

/// The place of the n-th vote, counted from 0.
fn place(n: usize) -> Place {
    let round = u32::try_from(n / 2 + 1).unwrap_or(u32::MAX);
    let phase = [Phase::Report, Phase::Propose][n % 2];
    (round, phase)
}

/// Which vote, counted from 0, is given at a place.
const fn index((round, phase): Place) -> usize {
    let proposal = matches!(phase, Phase::Propose) as usize;
    (round as usize).saturating_sub(1) * 2 + proposal
}

impl<C: Coin> Consensus<C> {
    /// Returns what the node decided.
    #[must_use]
    pub const fn decided(&self) -> Option<bool> {
        self.kept.decided
    }

    /// Returns the position of the decision's record.
    #[must_use]
    pub const fn decided_at(&self) -> Lsn {
        self.decided_at
    }

    /// Returns the place at which the node waits for votes.
    #[must_use]
    pub fn place(&self) -> Place {
        place(self.kept.votes.len().saturating_sub(1))
    }

    /// Returns what the node proposes.
    #[must_use]
    pub const fn input(&self) -> bool {
        self.config.input
    }

    /// How many nodes may crash.
    const fn faults(&self) -> usize {
        (self.config.nodes as usize).saturating_sub(1) / 2
    }

    fn is_broken(&self, rule: Broken) -> bool {
        self.config.broken == Some(rule)
    }

    fn broadcast(&self, msg: Msg, cx: &mut Cx<'_, Self>) {
        for node in (0..self.config.nodes).map(NodeIx) {
            if node == self.me {
                continue;
            }
            cx.send(node, msg);
        }
    }

    /// Votes at the next place.
    fn vote(&mut self, vote: Vote, cx: &mut Cx<'_, Self>) {
        cx.log(self, Record::Vote(vote));
        let here = self.place();
        self.heard = self.heard.split_off(&here);
        self.broadcast(Msg::Vote(here, vote), cx);
        self.wait(cx);
    }

    fn wait(&self, cx: &mut Cx<'_, Self>) {
        match self.config.resend {
            Some(after) if !self.is_broken(Broken::AsksOnce) => cx.arm((), after),
            _ => {}
        }
    }

    fn decide(&mut self, value: bool, cx: &mut Cx<'_, Self>) {
        if self.kept.decided.is_some() {
            return;
        }
        cx.log(self, Record::Decided(value));
        self.heard.clear();
        cx.disarm(());
        self.broadcast(Msg::Decided(value), cx);
        for id in std::mem::take(&mut self.waiting) {
            cx.reply(id, Some(value));
        }
    }

    /// Goes on as long as enough votes are there.
    fn advance(&mut self, cx: &mut Cx<'_, Self>) {
        while self.kept.decided.is_none() {
            let here = self.place();
            let heard = self.heard.get(&here).map_or(&[][..], Vec::as_slice);
            let mine = self.kept.votes.last().copied().flatten();
            let count = |value: bool| {
                let theirs = heard.iter().filter(|(_, vote)| *vote == Some(value));
                theirs.count() + usize::from(mine == Some(value))
            };
            let all = self.config.nodes as usize;
            let voters = heard.len() + 1;
            if voters < all - self.faults() {
                return;
            }
            let (zeros, ones) = (count(false), count(true));
            let (most, value) = if ones > zeros {
                (ones, true)
            } else {
                (zeros, false)
            };
            match here.1 {
                Phase::Report => {
                    let of = if self.is_broken(Broken::ProposesWhatMostOfTheHeardReport) {
                        voters
                    } else {
                        all
                    };
                    self.vote((2 * most > of).then_some(value), cx);
                }
                Phase::Propose => {
                    let one_less = self.is_broken(Broken::DecidesOnOneProposalLess);
                    if most + usize::from(one_less) > self.faults() {
                        return self.decide(value, cx);
                    }
                    let flips = most == 0 || self.is_broken(Broken::FlipsAlthoughItSawAProposal);
                    let next = if flips { C::flip(here.0, cx) } else { value };
                    self.vote(Some(next), cx);
                }
            }
        }
    }

    fn receive(&mut self, from: NodeIx, msg: Msg, cx: &mut Cx<'_, Self>) {
        if let Some(value) = self.kept.decided {
            // Where messages are lost, whoever still asks has missed the news.
            if matches!(msg, Msg::Ask(_)) {
                cx.send(from, Msg::Decided(value));
            }
            return;
        }
        match msg {
            Msg::Decided(value) => self.decide(value, cx),
            Msg::Vote(there, vote) if there >= self.place() => {
                let heard = self.heard.entry(there).or_default();
                let known = heard.iter().any(|(node, _)| *node == from);
                if !known || self.is_broken(Broken::CountsVotesTwice) {
                    self.heard.entry(there).or_default().push((from, vote));
                }
                self.advance(cx);
            }
            Msg::Vote(..) => {} // too late to matter
            Msg::Ask(there) => {
                if let Some(vote) = self.kept.votes.get(index(there)) {
                    cx.send(from, Msg::Vote(there, *vote));
                }
            }
        }
    }
}

impl<C: Coin> Process for Consensus<C> {
    type Config = Config;
    type Snapshot = Kept;
    type Req = ();
    type Rep = Option<bool>;
    type Msg = Msg;
    type Rec = Record;
    type Timer = ();
    type Work = ();
    type Done = ();
    const CHOOSES: bool = C::CHOOSES;

    fn boot(me: Peer, config: &Config, snapshot: Option<&Kept>) -> Self {
        Self {
            config: config.clone(),
            me: me.node,
            kept: snapshot.cloned().unwrap_or_default(),
            decided_at: Lsn::ZERO,
            heard: BTreeMap::new(),
            waiting: Vec::new(),
            coin: PhantomData,
        }
    }

    fn apply(&mut self, at: Lsn, record: &Record) {
        match *record {
            Record::Vote(vote) => {
                self.kept.votes.push(vote);
                self.kept.hash = Digest::of(&(self.kept.hash, vote));
            }
            Record::Decided(value) => {
                self.kept.decided = Some(value);
                self.decided_at = at;
            }
        }
    }

    fn snapshot(&self) -> Kept {
        self.kept.clone()
    }

    fn step(&mut self, input: Input<Self>, cx: &mut Cx<'_, Self>) {
        match input {
            Input::Start if self.kept.votes.is_empty() => {
                self.vote(Some(self.config.input), cx);
                self.advance(cx); // alone it has all votes
            }
            Input::Start | Input::Timer(()) => {
                let here = self.place();
                if let (None, Some(vote)) = (self.kept.decided, self.kept.votes.last()) {
                    self.broadcast(Msg::Vote(here, *vote), cx);
                    self.broadcast(Msg::Ask(here), cx);
                    self.wait(cx);
                }
            }
            Input::Msg { from, msg } => self.receive(from.node, msg, cx),
            Input::Req { id, .. } => match self.kept.decided {
                Some(value) => cx.reply(id, Some(value)),
                None => self.waiting.push(id),
            },
            Input::Cancel(id) => {
                if let Some(at) = self.waiting.iter().position(|other| *other == id) {
                    self.waiting.remove(at);
                    cx.reply(id, None);
                }
            }
            Input::Drain { .. } => {
                for id in std::mem::take(&mut self.waiting) {
                    cx.reply(id, None);
                }
            }
            Input::PeerUp(_) | Input::PeerDown(_) | Input::Done { .. } | Input::Durable(_) => {}
        }
    }

    fn digest(&self, digest: &mut Digest) {
        digest.durable(&(self.kept.hash, self.kept.decided));
        digest.volatile(&self.heard);
        digest.volatile(&self.waiting);
    }
}
