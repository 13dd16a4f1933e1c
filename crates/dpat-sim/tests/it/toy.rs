//! A small protocol to test the simulator with: every node keeps what any node was told.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dpat_model::{Answer, CommitRule, Cx, Digest, Input, Lsn, NodeIx, Peer, Process};
use dpat_sim::{Call, ClientCx, Happened, Judge, Mutant, Plan, Protocol, Setup, What, World};

const RESEND: Duration = Duration::from_millis(200);

/// Which rule is broken, if one is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Broken {
    count_copies: bool,
    send_once: bool,
    panics: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Config {
    nodes: u32,
    broken: Broken,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Msg {
    /// Somebody was told this.
    Copy(u64),
    /// It is kept here.
    Kept(u64),
}

/// A node: what it keeps, and who is not known to keep it.
#[derive(Clone, Debug)]
pub(crate) struct Toy {
    me: Peer,
    config: Config,
    kept: BTreeSet<u64>,
    total: u64,
    missing: BTreeMap<u64, BTreeSet<u32>>,
}

impl Toy {
    fn keep(&mut self, id: u64, cx: &mut Cx<'_, Self>) {
        if !self.kept.contains(&id) || self.config.broken.count_copies {
            cx.log(self, id);
        }
    }

    fn spread(&mut self, id: u64, cx: &mut Cx<'_, Self>) {
        let me = self.me.node.0;
        let others = (0..self.config.nodes).filter(|node| *node != me);
        let others = self.missing.entry(id).or_insert_with(|| others.collect());
        for node in others.iter() {
            cx.send(NodeIx(*node), Msg::Copy(id));
        }
    }
}

impl Process for Toy {
    type Config = Config;
    type Snapshot = ();
    type Req = u64;
    type Rep = u64;
    type Msg = Msg;
    type Rec = u64;
    type Timer = ();
    type Work = ();
    type Done = ();

    fn boot(me: Peer, config: &Config, _snapshot: Option<&()>) -> Self {
        Self {
            me,
            config: config.clone(),
            kept: BTreeSet::new(),
            total: 0,
            missing: BTreeMap::new(),
        }
    }

    fn apply(&mut self, _at: Lsn, id: &u64) {
        self.kept.insert(*id);
        self.total += 1;
    }

    fn snapshot(&self) {}

    fn step(&mut self, input: Input<Self>, cx: &mut Cx<'_, Self>) {
        match input {
            Input::Start => {
                for id in self.kept.clone() {
                    self.spread(id, cx);
                }
                if !self.config.broken.send_once {
                    cx.arm((), RESEND);
                }
            }
            Input::Req { id, req, .. } => {
                self.keep(req, cx);
                cx.reply(id, req);
                self.spread(req, cx);
            }
            Input::Msg { from, msg } => match msg {
                Msg::Copy(id) => {
                    assert!(!self.config.broken.panics || id < 5, "told {id}");
                    self.keep(id, cx);
                    cx.send(from.node, Msg::Kept(id));
                }
                Msg::Kept(id) => {
                    if let Some(missing) = self.missing.get_mut(&id) {
                        missing.remove(&from.node.0);
                        if missing.is_empty() {
                            self.missing.remove(&id);
                        }
                    }
                }
            },
            Input::Timer(()) => {
                for id in self.missing.keys().copied().collect::<Vec<_>>() {
                    self.spread(id, cx);
                }
                cx.arm((), RESEND);
            }
            _ => {}
        }
    }

    fn digest(&self, digest: &mut Digest) {
        digest.durable(&self.kept);
        digest.durable(&self.total);
        digest.volatile(&self.missing);
    }
}

/// One run of the toy.
#[derive(Debug)]
pub(crate) struct Keepers {
    setup: Setup,
    /// What clients were told is kept.
    told: BTreeSet<u64>,
}

const CALLS: u64 = 10;

impl Protocol for Keepers {
    type Process = Toy;

    const NAME: &'static str = "keepers";
    const ABOUT: &'static str = "Every node keeps what any node was told";
    const NODES: u32 = 3;
    const NODES_MIN: u32 = 2;
    const PROPERTIES: &'static [&'static str] = &["kept", "exact", "spread"];
    const MUTANTS: &'static [Mutant] = &[
        Mutant {
            name: "answer-at-once",
            rule: "an answer waits for the log",
            seeds_max: 100,
        },
        Mutant {
            name: "count-copies",
            rule: "what is kept already is not logged again",
            seeds_max: 20,
        },
        Mutant {
            name: "send-once",
            rule: "what is not confirmed is sent again",
            seeds_max: 20,
        },
        Mutant {
            name: "panics",
            rule: "a process does not panic",
            seeds_max: 1,
        },
    ];
    const KINDS: &'static [&'static str] = &["Copy", "Kept"];
    const PHASES: &'static [&'static str] = &["waiting", "done"];

    fn new(setup: &Setup) -> Self {
        Self {
            setup: setup.clone(),
            told: BTreeSet::new(),
        }
    }

    fn config(&self, _node: NodeIx) -> Config {
        let broken = |name| self.setup.mutant == Some(name);
        Config {
            nodes: self.setup.nodes,
            broken: Broken {
                count_copies: broken("count-copies"),
                send_once: broken("send-once"),
                panics: broken("panics"),
            },
        }
    }

    fn plan(&self) -> Plan {
        Plan {
            chaos: Duration::from_secs(2),
            settle: Duration::from_secs(2),
            ..Plan::default()
        }
    }

    fn kind(msg: &Msg) -> usize {
        match msg {
            Msg::Copy(_) => 0,
            Msg::Kept(_) => 1,
        }
    }

    fn phase(process: &Toy) -> usize {
        usize::from(process.missing.is_empty())
    }

    fn commit_rule(&self) -> CommitRule {
        match self.setup.mutant {
            Some("answer-at-once") => CommitRule::Never,
            _ => CommitRule::ByPosition,
        }
    }

    fn clients(&self) -> u32 {
        2
    }

    fn next(&mut self, client: u32, call: u64, cx: &mut ClientCx<'_>) -> Option<Call<u64>> {
        (call < CALLS).then(|| Call {
            node: NodeIx(u32::try_from(cx.rng.below(u64::from(cx.nodes))).expect("below a u32")),
            req: u64::from(client) * CALLS + call,
            after: Duration::from_millis(cx.rng.below(300)),
            patience: Duration::from_millis(500),
        })
    }

    fn observe(&mut self, event: &Happened<'_, Toy>, world: &World<Toy>, judge: &mut Judge) {
        let Some(node) = event.node else { return };
        let Some(process) = world.process(node) else {
            return;
        };
        judge.always("exact", process.total == process.kept.len() as u64, || {
            format!(
                "{node:?} kept {} in {} records",
                process.kept.len(),
                process.total
            )
        });
        judge.sometimes(
            "recovered",
            matches!(event.what, What::Restart) && !process.kept.is_empty(),
        );
    }

    fn answered(
        &mut self,
        _client: u32,
        _call: u64,
        req: &u64,
        answer: &Answer<u64>,
        _cx: &mut ClientCx<'_>,
    ) {
        if answer.reply().is_some() {
            self.told.insert(*req);
        }
    }

    fn finish(&mut self, world: &World<Toy>, judge: &mut Judge) {
        let all: BTreeSet<u64> = world
            .processes()
            .flat_map(|(_, process)| process.kept.iter().copied())
            .collect();
        let told = &self.told;
        judge.compared(told.len() as u64);
        judge.always("kept", told.is_subset(&all), || {
            let lost: Vec<&u64> = told.difference(&all).collect();
            format!("{lost:?} was confirmed and is kept nowhere")
        });
        for (node, process) in world.processes() {
            judge.always("spread", process.kept == all, || {
                format!("{node:?} keeps {:?}, and {all:?} is known", process.kept)
            });
        }
    }
}
