//! Echo: a node says a word to another one and hears it back. Requests, retransmission, and late answers; no disk.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dpat_model::{Answer, Cx, Digest, Input, Lsn, NodeIx, Peer, Process, ReqId};
use dpat_sim::{Call, ClientCx, Family, Judge, Mutant, Plan, Protocol, Setup, Wire, World};
use serde::{Deserialize, Serialize};

use super::harness;

/// How often a node that hears nothing says it again.
const RESEND: Duration = Duration::from_millis(100);

/// A rule of the protocol that a mutant breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// What is not echoed is said again.
    SaysItOnce,
    /// An echo answers the call whose name it bears; the mutant takes the oldest call to that node.
    TakesAnyEcho,
    /// The name of a call holds the life that made it; the mutant numbers the calls of each life anew.
    ForgetsTheLife,
}

/// Names a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Name {
    /// Which life of the node called.
    life: u64,
    /// Counts the calls of that life.
    number: u64,
}

/// A message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Msg {
    /// Say this back.
    Say(Name, u64),
    /// This was said.
    Back(Name, u64),
}

/// What a caller asks for: a word, said to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Say {
    /// Who shall say it back.
    pub to: NodeIx,
    /// The word.
    pub word: u64,
}

#[derive(Clone, Debug, Hash)]
struct Open {
    caller: ReqId,
    say: Say,
}

/// One node.
#[derive(Clone, Debug)]
pub struct Echo {
    me: Peer,
    broken: Option<Broken>,
    made: u64,
    open: BTreeMap<Name, Open>,
}

impl Echo {
    fn is_broken(&self, rule: Broken) -> bool {
        self.broken == Some(rule)
    }

    fn say(&self, name: Name, cx: &mut Cx<'_, Self>) {
        let Some(open) = self.open.get(&name) else {
            return;
        };
        cx.send(open.say.to, Msg::Say(name, open.say.word));
        if !self.is_broken(Broken::SaysItOnce) {
            cx.arm(name, RESEND);
        }
    }

    /// Returns the call that an echo answers.
    fn answered(&self, from: NodeIx, name: Name) -> Option<Name> {
        if !self.is_broken(Broken::TakesAnyEcho) {
            return Some(name);
        }
        let mut open = self.open.iter();
        open.find(|(_, open)| open.say.to == from)
            .map(|(name, _)| *name)
    }
}

impl Process for Echo {
    type Config = Option<Broken>;
    type Snapshot = ();
    type Req = Say;
    type Rep = Option<u64>;
    type Msg = Msg;
    type Rec = ();
    type Timer = Name;
    type Work = ();
    type Done = ();

    fn boot(me: Peer, broken: &Option<Broken>, _snapshot: Option<&()>) -> Self {
        Self {
            me,
            broken: *broken,
            made: 0,
            open: BTreeMap::new(),
        }
    }

    fn apply(&mut self, _at: Lsn, _record: &()) {}

    fn snapshot(&self) {}

    fn step(&mut self, input: Input<Self>, cx: &mut Cx<'_, Self>) {
        match input {
            Input::Req { id, req: say, .. } => {
                self.made += 1;
                let life = if self.is_broken(Broken::ForgetsTheLife) {
                    0
                } else {
                    self.me.incarnation
                };
                let number = self.made;
                let name = Name { life, number };
                self.open.insert(name, Open { caller: id, say });
                self.say(name, cx);
            }
            Input::Timer(name) => self.say(name, cx),
            Input::Msg { from, msg } => match msg {
                Msg::Say(name, word) => cx.send(from.node, Msg::Back(name, word)),
                Msg::Back(name, word) => {
                    let name = self.answered(from.node, name);
                    let Some(name) = name else { return };
                    // An echo that was heard already, or of an earlier life, answers nobody.
                    if let Some(open) = self.open.remove(&name) {
                        cx.disarm(name);
                        cx.reply(open.caller, Some(word));
                    }
                }
            },
            Input::Cancel(id) => {
                let mut open = self.open.iter();
                let found = open.find(|(_, open)| open.caller == id);
                if let Some(name) = found.map(|(name, _)| *name) {
                    self.open.remove(&name);
                    cx.disarm(name);
                    cx.reply(id, None);
                }
            }
            Input::Drain { .. } => {
                for (name, open) in std::mem::take(&mut self.open) {
                    cx.disarm(name);
                    cx.reply(open.caller, None);
                }
            }
            Input::Start
            | Input::PeerUp(_)
            | Input::PeerDown(_)
            | Input::Done { .. }
            | Input::Durable(_) => {}
        }
    }

    fn digest(&self, digest: &mut Digest) {
        digest.volatile(&self.made);
        digest.volatile(&self.open);
    }
}

const CLIENTS: u32 = 4;
const CALLS: u64 = 15;

/// One run: clients that say words through nodes, each with the patience to wait for ever.
#[derive(Debug)]
pub struct Echoes {
    broken: Option<Broken>,
    waiting: BTreeSet<(u32, u64)>,
}

impl Protocol for Echoes {
    type Process = Echo;

    const NAME: &'static str = "echo";
    const ABOUT: &'static str = "a word is said to a node and heard back";
    const NODES: u32 = 3;
    const NODES_MIN: u32 = 2;
    const PROPERTIES: &'static [&'static str] = &["same-word", "all-answered"];
    const MUTANTS: &'static [Mutant] = &[
        Mutant {
            name: "says-it-once",
            rule: "what is not echoed is said again",
            seeds_max: 10,
        },
        Mutant {
            name: "takes-any-echo",
            rule: "an echo answers the call whose name it bears",
            seeds_max: 10,
        },
        Mutant {
            name: "forgets-the-life",
            rule: "the name of a call holds the life that made it",
            seeds_max: 30,
        },
    ];
    const KINDS: &'static [&'static str] = &["Say", "Back"];
    const PHASES: &'static [&'static str] = &["idle", "waiting"];

    fn new(setup: &Setup) -> Self {
        let rules = [
            Broken::SaysItOnce,
            Broken::TakesAnyEcho,
            Broken::ForgetsTheLife,
        ];
        Self {
            broken: harness::broken(setup, Self::MUTANTS, &rules),
            waiting: BTreeSet::new(),
        }
    }

    fn config(&self, _node: NodeIx) -> Option<Broken> {
        self.broken
    }

    fn plan(&self) -> Plan {
        Plan {
            chaos: Duration::from_secs(4),
            settle: Duration::from_secs(8),
            ..Plan::default()
        }
        .without(Family::Disk)
    }

    fn kind(msg: &Msg) -> usize {
        match msg {
            Msg::Say(..) => 0,
            Msg::Back(..) => 1,
        }
    }

    fn phase(process: &Echo) -> usize {
        usize::from(!process.open.is_empty())
    }

    fn key(msg: &Msg) -> Option<String> {
        let (Msg::Say(_, word) | Msg::Back(_, word)) = msg;
        Some(word.to_string())
    }

    fn wire() -> Option<Wire<Echo>> {
        Some(harness::postcard())
    }

    fn clients(&self) -> u32 {
        CLIENTS
    }

    fn next(&mut self, client: u32, call: u64, cx: &mut ClientCx<'_>) -> Option<Call<Say>> {
        let nodes = u64::from(cx.nodes);
        let node = cx.rng.below(nodes);
        let to = (node + 1 + cx.rng.below(nodes - 1)) % nodes;
        (call < CALLS).then(|| Call {
            node: harness::node(node),
            req: Say {
                to: harness::node(to),
                word: u64::from(client) * CALLS + call,
            },
            after: Duration::from_millis(cx.rng.below(300)),
            patience: Duration::MAX,
        })
    }

    fn asked(&mut self, client: u32, call: u64, _say: &Say, _cx: &mut ClientCx<'_>) {
        self.waiting.insert((client, call));
    }

    fn answered(
        &mut self,
        client: u32,
        call: u64,
        say: &Say,
        answer: &Answer<Option<u64>>,
        cx: &mut ClientCx<'_>,
    ) {
        self.waiting.remove(&(client, call));
        let Answer::Reply(heard) = answer else { return };
        cx.judge.compared(1);
        cx.judge.always("same-word", *heard == Some(say.word), || {
            format!("{heard:?} came back from {} for {}", say.to, say.word)
        });
    }

    fn finish(&mut self, _world: &World<Echo>, judge: &mut Judge) {
        judge.always("all-answered", self.waiting.is_empty(), || {
            format!("(client, call) {:?} still wait", self.waiting)
        });
    }
}
