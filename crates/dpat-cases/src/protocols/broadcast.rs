//! Uniform reliable broadcast, first in, first out: what is acknowledged reaches everybody, whoever crashes.
//!
//! A node that is told a word logs it and sends it to all; whoever logs a word sends it on, so that no word depends on
//! its origin alone (Hadzilacos and Toueg 1994, "A Modular Approach to Fault-Tolerant Broadcasts"). Acknowledgements are
//! cumulative, per origin. The caller is answered once a majority has logged the word.

use std::collections::BTreeMap;
use std::time::Duration;

use dpat_model::{Cx, Digest, Input, Lsn, NodeIx, Peer, Process, ReqId};
use serde::{Deserialize, Serialize};

mod run;

pub use run::Broadcasts;

/// How often a node sends again what others lack.
const RESEND: Duration = Duration::from_millis(150);

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
    /// What is not acknowledged is sent again.
    SendsOnce,
    /// A word that is known is not delivered again; the mutant looks only at those that others send on.
    DeliversCopies,
    /// A word waits for those that its origin sent before.
    DeliversOutOfOrder,
    /// Whoever has a word sends it on.
    OnlyTheOriginSends,
    /// A caller is answered when a majority has its word.
    AnswersBeforeAMajorityHasIt,
}

/// A word and where it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Item {
    /// The node that was told it.
    pub origin: u32,
    /// Counts the words of that node from 0.
    pub number: u64,
    /// The word.
    pub word: u64,
}

/// A message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Msg {
    /// This was said.
    Data(Item),
    /// The sender has the words of this origin below a number.
    Have(u32, u64),
}

/// Durable state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Kept {
    /// What was delivered, in this order.
    delivered: Vec<Item>,
    words: BTreeMap<(u32, u64), u64>,
    /// By origin: it has the words below this number.
    upto: BTreeMap<u32, u64>,
}

impl Kept {
    fn upto(&self, origin: u32) -> u64 {
        self.upto.get(&origin).copied().unwrap_or(0)
    }
}

/// One node.
#[derive(Clone, Debug)]
pub struct Broadcast {
    me: u32,
    config: Config,
    kept: Kept,
    /// By node and origin: the node is known to have the words below this number.
    known: BTreeMap<(u32, u32), u64>,
    /// Who waits for which of this node's words.
    waiting: BTreeMap<u64, ReqId>,
}

impl Broadcast {
    /// Returns what the node has delivered, in this order.
    #[must_use]
    pub fn delivered(&self) -> &[Item] {
        &self.kept.delivered
    }

    fn is_broken(&self, rule: Broken) -> bool {
        self.config.broken == Some(rule)
    }

    fn others(&self) -> impl Iterator<Item = u32> + use<> {
        let me = self.me;
        (0..self.config.nodes).filter(move |node| *node != me)
    }

    fn origins(&self) -> std::ops::Range<u32> {
        if self.is_broken(Broken::OnlyTheOriginSends) {
            self.me..self.me + 1
        } else {
            0..self.config.nodes
        }
    }

    fn known(&self, node: u32, origin: u32) -> u64 {
        self.known.get(&(node, origin)).copied().unwrap_or(0)
    }

    fn lacks(&self, node: u32, origin: u32) -> bool {
        self.known(node, origin) < self.kept.upto(origin)
    }

    fn everybody_has_all(&self) -> bool {
        let lacks = |node| self.origins().any(|origin| self.lacks(node, origin));
        !self.others().any(lacks)
    }

    fn send(&self, to: u32, origin: u32, number: u64, cx: &mut Cx<'_, Self>) {
        if let Some(word) = self.kept.words.get(&(origin, number)).copied() {
            let item = Item {
                origin,
                number,
                word,
            };
            cx.send(NodeIx(to), Msg::Data(item));
        }
    }

    /// Sends to each node the first word of each origin that it is not known to have.
    fn send_again(&self, cx: &mut Cx<'_, Self>) {
        for node in self.others() {
            for origin in self.origins() {
                if self.lacks(node, origin) {
                    self.send(node, origin, self.known(node, origin), cx);
                }
            }
        }
        self.wait(cx);
    }

    fn wait(&self, cx: &mut Cx<'_, Self>) {
        if self.everybody_has_all() || self.is_broken(Broken::SendsOnce) {
            cx.disarm(());
        } else {
            cx.arm((), RESEND);
        }
    }

    fn tell(&mut self, word: u64, id: ReqId, cx: &mut Cx<'_, Self>) {
        let (origin, number) = (self.me, self.kept.upto(self.me));
        let item = Item {
            origin,
            number,
            word,
        };
        cx.log(self, item);
        self.waiting.insert(number, id);
        for node in self.others() {
            self.send(node, origin, number, cx);
        }
        self.wait(cx);
        self.answer(cx);
    }

    fn receive(&mut self, from: u32, item: Item, cx: &mut Cx<'_, Self>) {
        let upto = self.kept.upto(item.origin);
        let is_next = if self.is_broken(Broken::DeliversCopies) && from == item.origin {
            item.number <= upto
        } else if self.is_broken(Broken::DeliversOutOfOrder) {
            item.number >= upto
        } else {
            item.number == upto
        };
        if is_next {
            cx.log(self, item);
        }
        let have = self.kept.upto(item.origin);
        cx.send(NodeIx(from), Msg::Have(item.origin, have));
        // Whoever sends a word has it and all before it.
        self.has(from, item.origin, item.number + 1, cx);
        self.wait(cx);
    }

    /// Learns that a node has words, and sends it the next one.
    fn has(&mut self, node: u32, origin: u32, upto: u64, cx: &mut Cx<'_, Self>) {
        if upto <= self.known(node, origin) {
            return;
        }
        self.known.insert((node, origin), upto);
        if self.origins().contains(&origin) {
            self.send(node, origin, upto, cx);
        }
        self.answer(cx);
    }

    /// Answers those whose words a majority has.
    fn answer(&mut self, cx: &mut Cx<'_, Self>) {
        let majority = if self.is_broken(Broken::AnswersBeforeAMajorityHasIt) {
            1
        } else {
            self.config.nodes as usize / 2 + 1
        };
        while let Some((number, id)) = self.waiting.first_key_value() {
            let has = |node: &u32| *number < self.known(*node, self.me);
            if 1 + self.others().filter(has).count() < majority {
                return;
            }
            cx.reply(*id, true);
            self.waiting.pop_first();
        }
    }
}

impl Process for Broadcast {
    type Config = Config;
    type Snapshot = Kept;
    type Req = u64;
    /// Whether everybody will deliver the word; if not, nobody knows.
    type Rep = bool;
    type Msg = Msg;
    type Rec = Item;
    type Timer = ();
    type Work = ();
    type Done = ();

    fn boot(me: Peer, config: &Config, snapshot: Option<&Kept>) -> Self {
        Self {
            me: me.node.0,
            config: config.clone(),
            kept: snapshot.cloned().unwrap_or_default(),
            known: BTreeMap::new(),
            waiting: BTreeMap::new(),
        }
    }

    fn apply(&mut self, _at: Lsn, item: &Item) {
        self.kept.delivered.push(*item);
        self.kept
            .words
            .insert((item.origin, item.number), item.word);
        let upto = self.kept.upto.entry(item.origin).or_default();
        *upto = (*upto).max(item.number + 1);
    }

    fn snapshot(&self) -> Kept {
        self.kept.clone()
    }

    fn step(&mut self, input: Input<Self>, cx: &mut Cx<'_, Self>) {
        match input {
            Input::Start | Input::Timer(()) => self.send_again(cx),
            Input::Req { id, req, .. } => self.tell(req, id, cx),
            Input::Msg { from, msg } => match msg {
                Msg::Data(item) => self.receive(from.node.0, item, cx),
                Msg::Have(origin, upto) => {
                    self.has(from.node.0, origin, upto, cx);
                    self.wait(cx);
                }
            },
            Input::Cancel(id) => {
                let mut waiting = self.waiting.iter();
                let found = waiting.find(|(_, other)| **other == id);
                if let Some(number) = found.map(|(number, _)| *number) {
                    self.waiting.remove(&number);
                    cx.reply(id, false);
                }
            }
            Input::Drain { .. } => {
                for id in std::mem::take(&mut self.waiting).into_values() {
                    cx.reply(id, false);
                }
            }
            Input::PeerUp(_) | Input::PeerDown(_) | Input::Done { .. } | Input::Durable(_) => {}
        }
    }

    fn digest(&self, digest: &mut Digest) {
        digest.durable(&self.kept);
        digest.volatile(&self.known);
        digest.volatile(&self.waiting);
    }
}
