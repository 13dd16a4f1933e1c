//! A small protocol under faults: clean as it is, found out when a rule is broken, and shrunk.
//!
//! `cargo run -p dpat-sim --example sim_basic`
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::time::Duration;

use dpat_model::{Answer, Cx, Digest, Input, Lsn, NodeIx, Peer, Process};
use dpat_sim::{
    Call, ClientCx, Judge, Mutant, Of, Plan, Protocol, RunSpec, Setup, ShrinkLimits, World, batch,
    coverage_table, first_failure, replay_line, shrink,
};

/// How often what is not confirmed is sent again.
const RESEND: Duration = Duration::from_millis(200);

#[derive(Clone, Debug, Hash)]
enum Msg {
    Copy(u64),
    Kept(u64),
}

/// A node keeps what any node was told.
#[derive(Clone, Debug)]
struct Keeper {
    me: Peer,
    nodes: u32,
    resends: bool,
    kept: BTreeSet<u64>,
    unconfirmed: BTreeMap<u64, BTreeSet<u32>>,
}

impl Keeper {
    fn spread(&mut self, id: u64, cx: &mut Cx<'_, Self>) {
        let others = (0..self.nodes).filter(|node| *node != self.me.node.0);
        let others = self
            .unconfirmed
            .entry(id)
            .or_insert_with(|| others.collect());
        for node in others.iter() {
            cx.send(NodeIx(*node), Msg::Copy(id));
        }
    }
}

impl Process for Keeper {
    type Config = (u32, bool);
    type Snapshot = ();
    type Req = u64;
    type Rep = ();
    type Msg = Msg;
    type Rec = u64;
    type Timer = ();
    type Work = ();
    type Done = ();

    fn boot(me: Peer, (nodes, resends): &(u32, bool), _snapshot: Option<&()>) -> Self {
        Self {
            me,
            nodes: *nodes,
            resends: *resends,
            kept: BTreeSet::new(),
            unconfirmed: BTreeMap::new(),
        }
    }

    fn apply(&mut self, _at: Lsn, id: &u64) {
        self.kept.insert(*id);
    }

    fn snapshot(&self) {}

    fn step(&mut self, input: Input<Self>, cx: &mut Cx<'_, Self>) {
        match input {
            Input::Start => {
                for id in self.kept.clone() {
                    self.spread(id, cx);
                }
                if self.resends {
                    cx.arm((), RESEND);
                }
            }
            Input::Timer(()) => {
                for id in self.unconfirmed.keys().copied().collect::<Vec<_>>() {
                    self.spread(id, cx);
                }
                cx.arm((), RESEND);
            }
            Input::Req { id, req, .. } => {
                cx.log(self, req);
                cx.reply(id, ());
                self.spread(req, cx);
            }
            Input::Msg { from, msg } => match msg {
                Msg::Copy(id) => {
                    if !self.kept.contains(&id) {
                        cx.log(self, id);
                    }
                    cx.send(from.node, Msg::Kept(id)); // leaves once the record is durable
                }
                Msg::Kept(id) => {
                    if let Some(others) = self.unconfirmed.get_mut(&id) {
                        others.remove(&from.node.0);
                        if others.is_empty() {
                            self.unconfirmed.remove(&id);
                        }
                    }
                }
            },
            _ => {}
        }
    }

    fn digest(&self, digest: &mut Digest) {
        digest.durable(&self.kept);
        digest.volatile(&self.unconfirmed);
    }
}

/// One run: workload and judge.
struct Keepers {
    setup: Setup,
    told: BTreeSet<u64>,
}

impl Protocol for Keepers {
    type Process = Keeper;
    const NAME: &'static str = "keepers";
    const ABOUT: &'static str = "Every node keeps what any node was told";
    const NODES: u32 = 3;
    const PROPERTIES: &'static [&'static str] = &["spread"];
    const MUTANTS: &'static [Mutant] = &[Mutant {
        name: "send-once",
        rule: "what is not confirmed is sent again",
        seeds_max: 100,
    }];
    const KINDS: &'static [&'static str] = &["Copy", "Kept"];
    const PHASES: &'static [&'static str] = &["waiting", "done"];

    fn new(setup: &Setup) -> Self {
        Self {
            setup: setup.clone(),
            told: BTreeSet::new(),
        }
    }

    fn config(&self, _node: NodeIx) -> (u32, bool) {
        (self.setup.nodes, self.setup.mutant != Some("send-once"))
    }

    fn plan(&self) -> Plan {
        Plan {
            chaos: Duration::from_secs(2),
            settle: Duration::from_secs(2),
            ..Plan::default()
        }
    }

    fn kind(msg: &Msg) -> usize {
        usize::from(matches!(msg, Msg::Kept(_)))
    }

    fn phase(process: &Keeper) -> usize {
        usize::from(process.unconfirmed.is_empty())
    }

    fn clients(&self) -> u32 {
        2
    }

    fn next(&mut self, client: u32, call: u64, cx: &mut ClientCx<'_>) -> Option<Call<u64>> {
        let nodes = u64::from(cx.nodes);
        (call < 10).then(|| Call {
            node: NodeIx(u32::try_from(cx.rng.below(nodes)).unwrap_or_default()),
            req: u64::from(client) * 10 + call,
            after: Duration::from_millis(cx.rng.below(300)),
            patience: Duration::from_millis(500),
        })
    }

    fn answered(
        &mut self,
        _client: u32,
        _call: u64,
        req: &u64,
        answer: &Answer<()>,
        _cx: &mut ClientCx<'_>,
    ) {
        if answer.reply().is_some() {
            self.told.insert(*req);
        }
    }

    fn finish(&mut self, world: &World<Keeper>, judge: &mut Judge) {
        judge.compared(self.told.len() as u64);
        for (node, keeper) in world.processes() {
            judge.always("spread", self.told.is_subset(&keeper.kept), || {
                let lacks: Vec<&u64> = self.told.difference(&keeper.kept).collect();
                format!("node {} lacks {lacks:?}", node.0)
            });
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let sim = Of::<Keepers>::new();
    let report = batch(&sim, 0..50, &RunSpec::new(0), 2)?;
    print!("{}", report.to_text(None, None));
    print!("{}", coverage_table(&report.coverage, report.drawn));
    assert_eq!(report.exit_code(), 0);

    let mutant = RunSpec {
        mutant: Some("send-once".to_owned()),
        ..RunSpec::new(0)
    };
    let failed = first_failure(&sim, 0..100, &mutant, 2)?.ok_or("the mutant was not found")?;
    println!(
        "\n{}",
        replay_line("keepers@send-once", failed.seed, None, None)
    );
    let spec = RunSpec {
        seed: failed.seed,
        ..mutant
    };
    let shrunk = shrink(&sim, &spec, &ShrinkLimits::default())?;
    println!(
        "{} faults and calls, of which {} are needed:\n{}",
        shrunk.units_before,
        shrunk.units,
        shrunk.script.to_json()
    );
    if let Some(violation) = shrunk.outcome.violation {
        println!("{}: {}", violation.property, violation.message);
    }
    Ok(())
}
