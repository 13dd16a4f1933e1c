//! Runs of the available register.

use std::collections::BTreeMap;
use std::time::Duration;

use dpat_check::{Causal, check_causal};
use dpat_model::{Answer, CommitRule, NodeIx};
use dpat_sim::{Call, ClientCx, Happened, Judge, Mutant, Plan, Protocol, Setup, What, Wire, World};

use super::super::harness;
use super::ap::{Broken, Config, Register, Version};
use super::history::{self, Calls};
use super::{Op, Reply};

const CLIENTS: u32 = 6;
const CHAOS: Duration = Duration::from_millis(400);
const SETTLE: Duration = Duration::from_secs(2);
/// Longer than a few syncs take. A node that is up and goes on answers within it, whatever else happens.
const AT_ONCE: Duration = Duration::from_millis(50);

/// One run: clients that read and write, each at a node of its own choice.
#[derive(Debug)]
pub struct Available {
    setup: Setup,
    broken: Option<Broken>,
    calls: Calls,
    /// When each client asked.
    asked_ns: BTreeMap<u32, u64>,
    /// When a pause of a node ended; none while it lasts.
    paused: BTreeMap<NodeIx, Option<u64>>,
}

impl Available {
    /// Clients keep to their nodes: elsewhere they may find an older value.
    fn node_of(&self, client: u32) -> NodeIx {
        NodeIx(client % self.setup.nodes)
    }

    fn was_paused(&self, node: NodeIx, since_ns: u64) -> bool {
        match self.paused.get(&node) {
            None => false,
            Some(None) => true,
            Some(Some(until_ns)) => *until_ns >= since_ns,
        }
    }
}

impl Protocol for Available {
    type Process = Register;

    const NAME: &'static str = "register-ap";
    const ABOUT: &'static str = "a register that every node answers alone; the last writer wins";
    const NODES: u32 = 3;
    const NODES_MIN: u32 = 2;
    const PROPERTIES: &'static [&'static str] = &["available", "causal", "converged"];
    const MUTANTS: &'static [Mutant] = &[
        Mutant {
            name: "reads-before-the-log-is-durable",
            rule: "a read waits until what it shows is durable",
            seeds_max: 130,
        },
        Mutant {
            name: "tells-once",
            rule: "a node tells what it has again and again",
            seeds_max: 10,
        },
        Mutant {
            name: "stamps-by-the-wall-clock",
            rule: "a write is stamped higher than all that its node knows",
            seeds_max: 10,
        },
        Mutant {
            name: "keeps-the-first-of-equal-counters",
            rule: "equal counters are ordered by their nodes",
            seeds_max: 25,
        },
        Mutant {
            name: "answers-when-another-node-has-it",
            rule: "a node answers alone",
            seeds_max: 10,
        },
    ];
    const KINDS: &'static [&'static str] = &["Version"];

    fn new(setup: &Setup) -> Self {
        let rules = [
            Broken::ReadsBeforeTheLogIsDurable,
            Broken::TellsOnce,
            Broken::StampsByTheWallClock,
            Broken::KeepsTheFirstOfEqualCounters,
            Broken::AnswersWhenAnotherNodeHasIt,
        ];
        Self {
            setup: setup.clone(),
            broken: harness::broken(setup, Self::MUTANTS, &rules),
            calls: Calls::new(CLIENTS),
            asked_ns: BTreeMap::new(),
            paused: BTreeMap::new(),
        }
    }

    fn config(&self, _node: NodeIx) -> Config {
        Config {
            nodes: self.setup.nodes,
            broken: self.broken,
        }
    }

    fn plan(&self) -> Plan {
        Plan {
            chaos: CHAOS,
            settle: SETTLE,
            ..Plan::default()
        }
    }

    fn kind(_: &Version) -> usize {
        0
    }

    fn wire() -> Option<Wire<Register>> {
        Some(harness::postcard())
    }

    fn commit_rule(&self) -> CommitRule {
        match self.broken {
            Some(Broken::ReadsBeforeTheLogIsDurable) => CommitRule::ByStep,
            _ => CommitRule::ByPosition,
        }
    }

    fn clients(&self) -> u32 {
        CLIENTS
    }

    fn next(&mut self, client: u32, call: u64, cx: &mut ClientCx<'_>) -> Option<Call<Op>> {
        if u128::from(cx.now_ns) > CHAOS.as_nanos() {
            return None;
        }
        // Often so soon that the value is read while it is being written to the disk.
        let after_us = match cx.rng.below(8) {
            0 => cx.rng.below(20_000),
            _ => cx.rng.below(300),
        };
        let req = match cx.rng.below(3) {
            0 => Op::Write(u64::from(client) * 1_000_000 + call),
            _ => Op::Read,
        };
        Some(Call {
            node: self.node_of(client),
            req,
            after: Duration::from_micros(after_us),
            patience: AT_ONCE,
        })
    }

    fn asked(&mut self, client: u32, _call: u64, op: &Op, cx: &mut ClientCx<'_>) {
        self.calls.asked(cx.now_ns, client, *op);
        self.asked_ns.insert(client, cx.now_ns);
    }

    fn answered(
        &mut self,
        client: u32,
        _call: u64,
        op: &Op,
        answer: &Answer<Reply>,
        cx: &mut ClientCx<'_>,
    ) {
        self.calls.answered(cx.now_ns, client, *op, answer);
        let since_ns = self.asked_ns.get(&client).copied().unwrap_or(0);
        let node = self.node_of(client);
        let took = Duration::from_nanos(cx.now_ns - since_ns);
        let at_once = took < AT_ONCE || self.was_paused(node, since_ns);
        cx.judge.always("available", at_once, || {
            format!("{node} was up and answered {op:?} not within {AT_ONCE:?}")
        });
    }

    fn observe(&mut self, event: &Happened<'_, Register>, _: &World<Register>, _: &mut Judge) {
        let Some(node) = event.node else { return };
        match event.what {
            What::Pause => self.paused.insert(node, None),
            What::Resume => self.paused.insert(node, Some(event.now_ns)),
            _ => return,
        };
    }

    fn finish(&mut self, world: &World<Register>, judge: &mut Judge) {
        match self.calls.history() {
            Err(error) => judge.fail("causal", error),
            Ok(calls) => {
                judge.compared(history::happened(&calls));
                match check_causal(&calls, Causal::Convergent) {
                    Err(error) => judge.fail("causal", error.to_string()),
                    Ok(verdict) => {
                        if let Some(found) = verdict.violation() {
                            let last = history::told(&calls, found.blocked);
                            let rule = found.rule.unwrap_or("causality");
                            judge.fail("causal", format!("{rule} at {last}"));
                        }
                    }
                }
            }
        }
        let versions = || world.processes().map(|(_, process)| process.version());
        let first = versions().next().unwrap_or_default();
        let agree = versions().all(|version| version == first);
        judge.always("converged", agree, || {
            format!("in the end there are {:?}", versions().collect::<Vec<_>>())
        });
    }
}
