//! Runs of consensus, with a coin and without.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::time::Duration;

use dpat_model::{Answer, NodeIx};
use dpat_sim::{
    Call, ClientCx, Happened, Judge, Mutant, Plan, Protocol, Setup, Stream, What, Wire, World,
};

use super::super::harness;
use super::series::{At, Series};
use super::{Broken, Coin, Config, Fair, Msg, Parity, Phase};

/// What tells the two protocols apart when they run.
pub trait Contest: Coin {
    /// The name of the protocol.
    const NAME: &'static str;
    /// One line about it.
    const ABOUT: &'static str;
    /// How many nodes it has.
    const NODES: u32;
    /// Its known-bad variants.
    const MUTANTS: &'static [Mutant];
    /// The rules that they break.
    const RULES: &'static [Broken];
}

impl Contest for Fair {
    const NAME: &'static str = "ben-or";
    const ABOUT: &'static str = "binary consensus with a fair coin";
    const NODES: u32 = 5;
    const MUTANTS: &'static [Mutant] = &[
        Mutant {
            name: "decides-on-one-proposal-less",
            rule: "a node decides on t + 1 equal proposals",
            seeds_max: 650,
        },
        Mutant {
            name: "proposes-what-most-of-the-heard-report",
            rule: "a proposal needs more than half of all nodes",
            seeds_max: 30,
        },
        Mutant {
            name: "counts-votes-twice",
            rule: "of each node one vote counts",
            seeds_max: 10,
        },
        Mutant {
            name: "flips-although-it-saw-a-proposal",
            rule: "a node keeps to a proposal that it has seen",
            seeds_max: 200,
        },
        Mutant {
            name: "asks-once",
            rule: "a node that waits asks again",
            seeds_max: 10,
        },
    ];
    const RULES: &'static [Broken] = &[
        Broken::DecidesOnOneProposalLess,
        Broken::ProposesWhatMostOfTheHeardReport,
        Broken::CountsVotesTwice,
        Broken::FlipsAlthoughItSawAProposal,
        Broken::AsksOnce,
    ];
}

impl Contest for Parity {
    const NAME: &'static str = "flp-victim";
    const ABOUT: &'static str =
        "binary consensus by a fixed rule, which an adversary can keep undecided";
    const NODES: u32 = 3;
    const MUTANTS: &'static [Mutant] = &[
        Mutant {
            name: "decides-on-one-proposal-less",
            rule: "a node decides on t + 1 equal proposals",
            seeds_max: 20,
        },
        Mutant {
            name: "flips-although-it-saw-a-proposal",
            rule: "a node keeps to a proposal that it has seen",
            seeds_max: 30,
        },
        Mutant {
            name: "asks-once",
            rule: "a node that waits asks again",
            seeds_max: 10,
        },
    ];
    const RULES: &'static [Broken] = &[
        Broken::DecidesOnOneProposalLess,
        Broken::FlipsAlthoughItSawAProposal,
        Broken::AsksOnce,
    ];
}

/// So many decisions a run.
const DECISIONS: u32 = 10;

/// One run: nodes with drawn inputs, each with a client that waits for its decisions, one after the other.
#[derive(Debug)]
pub struct Decisions<C> {
    setup: Setup,
    broken: Option<Broken>,
    /// By decision: what each node proposes.
    inputs: Vec<Vec<bool>>,
    /// By decision: what is decided first, and by whom, as far as no crash can undo it.
    decided: BTreeMap<u32, (NodeIx, bool)>,
    coin: PhantomData<C>,
}

impl<C> Decisions<C> {
    fn decide(&mut self, index: u32, node: NodeIx, value: bool, judge: &mut Judge) {
        let (other, first) = *self.decided.entry(index).or_insert((node, value));
        judge.always("agreement", value == first, || {
            format!("decision {index}: {node} took {value}, and {other} {first}")
        });
        let inputs = self.inputs.get(index as usize);
        let proposed = inputs.is_some_and(|inputs| inputs.contains(&value));
        judge.always("validity", proposed, || {
            format!("decision {index}: {node} took {value}, which nobody proposed")
        });
    }
}

/// Draws what nodes propose: as many of each, the hardest case, but for every fourth decision.
fn inputs(setup: &Setup, index: u32) -> Vec<bool> {
    let mut drawn = Stream::new(setup.seed, "inputs", u64::from(index));
    let all = drawn.chance(250_000).then(|| drawn.chance(500_000));
    let first = u32::from(drawn.chance(500_000));
    let input = |node| all.unwrap_or((node + first) % 2 == 0);
    (0..setup.nodes).map(input).collect()
}

impl<C: Contest> Protocol for Decisions<C> {
    type Process = Series<C>;

    const NAME: &'static str = C::NAME;
    const ABOUT: &'static str = C::ABOUT;
    const NODES: u32 = C::NODES;
    const NODES_MIN: u32 = 2;
    const PROPERTIES: &'static [&'static str] = &["agreement", "validity", "termination"];
    const MUTANTS: &'static [Mutant] = C::MUTANTS;
    const KINDS: &'static [&'static str] = &["Report", "Propose", "Decided", "Ask"];
    const PHASES: &'static [&'static str] = &["undecided", "decided"];

    fn new(setup: &Setup) -> Self {
        Self {
            setup: setup.clone(),
            broken: harness::broken(setup, C::MUTANTS, C::RULES),
            inputs: (0..DECISIONS).map(|index| inputs(setup, index)).collect(),
            decided: BTreeMap::new(),
            coin: PhantomData,
        }
    }

    fn config(&self, node: NodeIx) -> Vec<Config> {
        let config = |inputs: &Vec<bool>| Config {
            nodes: self.setup.nodes,
            input: inputs.get(node.index()).copied().unwrap_or_default(),
            resend: Some(Duration::from_millis(5)),
            broken: self.broken,
        };
        self.inputs.iter().map(config).collect()
    }

    fn plan(&self) -> Plan {
        Plan {
            chaos: Duration::from_millis(200),
            settle: Duration::from_secs(5),
            ..Plan::default()
        }
    }

    fn kind((_, msg): &At<Msg>) -> usize {
        match msg {
            Msg::Vote((_, Phase::Report), _) => 0,
            Msg::Vote((_, Phase::Propose), _) => 1,
            Msg::Decided(_) => 2,
            Msg::Ask(_) => 3,
        }
    }

    fn phase(process: &Series<C>) -> usize {
        let all = process.joined().iter().all(|it| it.decided().is_some());
        usize::from(all)
    }

    fn key((index, _): &At<Msg>) -> Option<String> {
        Some(format!("decision {index}"))
    }

    fn wire() -> Option<Wire<Series<C>>> {
        Some(harness::postcard())
    }

    fn clients(&self) -> u32 {
        self.setup.nodes
    }

    fn next(&mut self, client: u32, call: u64, cx: &mut ClientCx<'_>) -> Option<Call<u32>> {
        let index = u32::try_from(call).ok().filter(|it| *it < DECISIONS)?;
        Some(Call {
            node: NodeIx(client),
            req: index,
            after: Duration::from_millis(cx.rng.below(20)),
            patience: Duration::from_millis(100),
        })
    }

    fn answered(
        &mut self,
        client: u32,
        _call: u64,
        index: &u32,
        answer: &Answer<Option<bool>>,
        cx: &mut ClientCx<'_>,
    ) {
        if let Answer::Reply(Some(value)) = answer {
            cx.judge.compared(1);
            self.decide(*index, NodeIx(client), *value, cx.judge);
        }
    }

    fn observe(
        &mut self,
        event: &Happened<'_, Series<C>>,
        world: &World<Series<C>>,
        judge: &mut Judge,
    ) {
        // What a node knows to be durable, no crash undoes.
        let (Some(node), What::Durable(durable)) = (event.node, &event.what) else {
            return;
        };
        let Some(process) = world.process(node) else {
            return;
        };
        for (index, one) in (0..).zip(process.joined()) {
            judge.sometimes("second-round", one.place().0 > 1);
            let durable = one.decided_at() <= *durable;
            if let Some(value) = one.decided().filter(|_| durable) {
                self.decide(index, node, value, judge);
            }
        }
    }

    fn finish(&mut self, world: &World<Series<C>>, judge: &mut Judge) {
        for (node, process) in world.processes() {
            for (index, one) in (0_u32..).zip(process.joined()) {
                judge.always("termination", one.decided().is_some(), || {
                    format!("decision {index}: {node} waits at {:?}", one.place())
                });
            }
        }
    }
}
