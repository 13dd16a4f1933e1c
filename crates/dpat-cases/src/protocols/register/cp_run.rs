//! Runs of the consistent register.

use std::time::Duration;

use dpat_check::Verdict;
use dpat_model::{Answer, NodeIx};
use dpat_sim::{Call, ClientCx, Judge, Mutant, Plan, Protocol, Setup, Wire, World};

use super::super::harness;
use super::cp::{Broken, Config, Msg, Register};
use super::history::{self, Calls};
use super::{Op, Reply};

const CLIENTS: u32 = 4;
const CHAOS: Duration = Duration::from_secs(4);
const SETTLE: Duration = Duration::from_secs(4);

/// One run: clients that read and write through whatever node they last heard to be the primary, or any.
#[derive(Debug)]
pub struct Consistent {
    setup: Setup,
    broken: Option<Broken>,
    calls: Calls,
}

impl Protocol for Consistent {
    type Process = Register;

    const NAME: &'static str = "register-cp";
    const ABOUT: &'static str = "a linearizable register: a primary, and a majority of backups";
    const NODES: u32 = 3;
    const NODES_MIN: u32 = 2;
    const PROPERTIES: &'static [&'static str] = &["linearizable", "primary-in-the-end"];
    const MUTANTS: &'static [Mutant] = &[
        Mutant {
            name: "reads-without-asking",
            rule: "a read asks a majority whether its node is still the primary",
            seeds_max: 80,
        },
        Mutant {
            name: "writes-without-a-majority",
            rule: "a write is answered when a majority stores it",
            seeds_max: 50,
        },
        Mutant {
            name: "keeps-its-own-value",
            rule: "a new primary takes the newest of what its majority stores",
            seeds_max: 40,
        },
        Mutant {
            name: "follows-an-older-primary",
            rule: "who has promised an epoch follows no older primary",
            seeds_max: 20,
        },
        Mutant {
            name: "stands-once",
            rule: "who gets no majority stands again",
            seeds_max: 10,
        },
    ];
    const KINDS: &'static [&'static str] = &["Stand", "Promise", "Store", "Ack", "Refuse"];
    const PHASES: &'static [&'static str] = &["no primary", "primary"];

    fn new(setup: &Setup) -> Self {
        let rules = [
            Broken::ReadsWithoutAsking,
            Broken::WritesWithoutAMajority,
            Broken::KeepsItsOwnValue,
            Broken::FollowsAnOlderPrimary,
            Broken::StandsOnce,
        ];
        Self {
            setup: setup.clone(),
            broken: harness::broken(setup, Self::MUTANTS, &rules),
            calls: Calls::new(CLIENTS),
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

    fn kind(msg: &Msg) -> usize {
        match msg {
            Msg::Stand(_) => 0,
            Msg::Promise(..) => 1,
            Msg::Store(..) => 2,
            Msg::Ack(..) => 3,
            Msg::Refuse(_) => 4,
        }
    }

    fn phase(process: &Register) -> usize {
        usize::from(process.is_primary())
    }

    fn wire() -> Option<Wire<Register>> {
        Some(harness::postcard())
    }

    fn clients(&self) -> u32 {
        CLIENTS
    }

    fn next(&mut self, client: u32, call: u64, cx: &mut ClientCx<'_>) -> Option<Call<Op>> {
        // Until shortly before the end.
        let enough = CHAOS + SETTLE / 2;
        if u128::from(cx.now_ns) > enough.as_nanos() {
            return None;
        }
        let req = match cx.rng.below(2) {
            0 => Op::Read,
            _ => Op::Write(u64::from(client) * 1_000_000 + call),
        };
        Some(Call {
            node: harness::node(cx.rng.below(u64::from(cx.nodes))),
            req,
            after: Duration::from_millis(cx.rng.below(60)),
            patience: Duration::from_millis(300),
        })
    }

    fn asked(&mut self, client: u32, _call: u64, op: &Op, cx: &mut ClientCx<'_>) {
        self.calls.asked(cx.now_ns, client, *op);
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
    }

    fn finish(&mut self, world: &World<Register>, judge: &mut Judge) {
        match self.calls.history() {
            Err(error) => judge.fail("linearizable", error),
            Ok(calls) => {
                judge.compared(history::happened(&calls));
                match history::linearizable(&calls) {
                    Ok(Verdict::Ok) => {}
                    Ok(Verdict::Violation(found)) => {
                        let blocked = history::told(&calls, found.blocked);
                        judge.fail("linearizable", format!("{blocked} has no place"));
                    }
                    Ok(Verdict::Unknown(why)) => judge.fail("linearizable", why.to_string()),
                    Err(error) => judge.fail("linearizable", error),
                }
            }
        }
        let epochs = || world.processes().map(|(_, process)| process.promised());
        let newest = epochs().max().unwrap_or_default();
        let followers = epochs().filter(|epoch| *epoch == newest).count();
        let mut processes = world.processes();
        let led = processes.any(|(_, it)| it.is_primary() && it.promised() == newest);
        let majority = followers > self.setup.nodes as usize / 2;
        judge.always("primary-in-the-end", led && majority, || {
            format!("{followers} nodes follow {newest:?}, and it is led: {led}")
        });
    }
}
