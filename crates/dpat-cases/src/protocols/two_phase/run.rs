//! Runs of two-phase commit.

use std::time::Duration;

use dpat_model::{Answer, NodeIx};
use dpat_sim::{
    Call, ClientCx, Happened, Judge, Mutant, Plan, Protocol, Setup, Stream, Wire, World,
};

use super::super::harness;
use super::{Broken, Config, MANAGER, Msg, Outcome, State, TwoPhase};

/// One run: one transaction, and at each node a client that waits for its outcome.
#[derive(Debug)]
pub struct Transaction {
    setup: Setup,
    broken: Option<Broken>,
    /// Whoever was first to have an outcome that no crash can undo.
    outcome: Option<(NodeIx, State)>,
}

impl Transaction {
    fn end(&mut self, node: NodeIx, state: State, judge: &mut Judge) {
        let (other, first) = *self.outcome.get_or_insert((node, state));
        judge.always("consistency", state == first, || {
            format!("{node} {state:?}, but {other} {first:?}")
        });
    }
}

impl Protocol for Transaction {
    type Process = TwoPhase;

    const NAME: &'static str = "two-phase";
    const ABOUT: &'static str = "one transaction, committed everywhere or nowhere";
    const NODES: u32 = 4;
    const NODES_MIN: u32 = 2;
    const PROPERTIES: &'static [&'static str] =
        &["consistency", "committed-if-all-prepared", "outcome-known"];
    const MUTANTS: &'static [Mutant] = &[
        Mutant {
            name: "commits-when-all-but-one-are-prepared",
            rule: "the manager commits only when all are prepared",
            seeds_max: 10,
        },
        Mutant {
            name: "gives-up-although-prepared",
            rule: "a resource manager that is prepared waits for the decision",
            seeds_max: 50,
        },
        Mutant {
            name: "gives-up-after-a-restart",
            rule: "a resource manager that was prepared before a crash still is",
            seeds_max: 100,
        },
        Mutant {
            name: "asks-once",
            rule: "a resource manager that is prepared asks until it knows the decision",
            seeds_max: 10,
        },
        Mutant {
            name: "votes-before-the-log-is-durable",
            rule: "a vote leaves when it is durable",
            seeds_max: 100,
        },
    ];
    const KINDS: &'static [&'static str] = &["Prepared", "Commit", "Abort"];
    const PHASES: &'static [&'static str] = &["open", "prepared", "ended"];

    fn new(setup: &Setup) -> Self {
        let rules = [
            Broken::CommitsWhenAllButOneArePrepared,
            Broken::GivesUpAlthoughPrepared,
            Broken::GivesUpAfterARestart,
            Broken::AsksOnce,
            Broken::VotesBeforeTheLogIsDurable,
        ];
        Self {
            setup: setup.clone(),
            broken: harness::broken(setup, Self::MUTANTS, &rules),
            outcome: None,
        }
    }

    fn config(&self, node: NodeIx) -> Config {
        let mut drawn = Stream::new(self.setup.seed, "work", u64::from(node.0));
        let ms = |stream: &mut Stream, most| Duration::from_millis(1 + stream.below(most));
        Config {
            prepare_after: ms(&mut drawn, 150),
            give_up_after: Some(ms(&mut drawn, 600)),
            patience: ms(&mut drawn, 400),
            resend: Duration::from_millis(30),
            broken: self.broken,
            ..Config::new(self.setup.nodes - 1)
        }
    }

    fn plan(&self) -> Plan {
        Plan {
            chaos: Duration::from_millis(500),
            settle: Duration::from_secs(5),
            ..Plan::default()
        }
    }

    fn kind(msg: &Msg) -> usize {
        match msg {
            Msg::Prepared => 0,
            Msg::Commit => 1,
            Msg::Abort => 2,
        }
    }

    fn phase(process: &TwoPhase) -> usize {
        match process.state() {
            State::Init | State::Working => 0,
            State::Prepared => 1,
            State::Committed | State::Aborted => 2,
        }
    }

    fn wire() -> Option<Wire<TwoPhase>> {
        Some(harness::postcard())
    }

    fn clients(&self) -> u32 {
        self.setup.nodes
    }

    fn next(&mut self, client: u32, call: u64, cx: &mut ClientCx<'_>) -> Option<Call<()>> {
        (call < 3).then(|| Call {
            node: NodeIx(client),
            req: (),
            after: Duration::from_millis(cx.rng.below(200)),
            patience: Duration::from_secs(1),
        })
    }

    fn answered(
        &mut self,
        client: u32,
        _call: u64,
        _req: &(),
        answer: &Answer<Outcome>,
        cx: &mut ClientCx<'_>,
    ) {
        let state = match answer {
            Answer::Reply(Outcome::Committed) => State::Committed,
            Answer::Reply(Outcome::Aborted) => State::Aborted,
            _ => return,
        };
        cx.judge.compared(1);
        self.end(NodeIx(client), state, cx.judge);
    }

    fn observe(
        &mut self,
        event: &Happened<'_, TwoPhase>,
        world: &World<TwoPhase>,
        judge: &mut Judge,
    ) {
        let Some(node) = event.node else { return };
        let Some(process) = world.process(node) else {
            return;
        };
        let state = process.state();
        if !state.is_outcome() || process.since() > world.log(node).durable() {
            return;
        }
        self.end(node, state, judge);
        if node == MANAGER && state == State::Committed {
            for at in world.nodes().skip(1) {
                judge.always("committed-if-all-prepared", is_prepared(at, world), || {
                    format!("the transaction is committed, and {at} did not prepare")
                });
            }
        }
    }

    fn finish(&mut self, world: &World<TwoPhase>, judge: &mut Judge) {
        for (node, process) in world.processes() {
            let state = process.state();
            judge.sometimes("committed", state == State::Committed);
            judge.sometimes("aborted", state == State::Aborted);
            judge.always("outcome-known", state.is_outcome(), || {
                format!("{node} is {state:?} in the end")
            });
        }
    }
}

/// Says whether a node has promised to commit, as far as no crash can undo it.
fn is_prepared(node: NodeIx, world: &World<TwoPhase>) -> bool {
    let log = world.log(node);
    let durable = usize::try_from(log.durable().0).unwrap_or(usize::MAX);
    log.records().take(durable).any(|it| *it == State::Prepared)
}
