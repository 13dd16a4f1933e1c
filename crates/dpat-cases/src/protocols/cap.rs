//! The CAP theorem, run: one partition, and a register that stays consistent beside one that stays available.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use dpat_check::{History, Value, Verdict};
use dpat_model::{Answer, Fault, NodeIx, Nodes, Op as Step, Process, Script, Trigger};
use dpat_sim::{
    Call, ClientCx, Judge, Plan, Protocol, RunSpec, Setup, SpecError, TraceMode, World, hex,
    run_keeping,
};
use serde::Serialize;

use super::register::history::{self, Calls};
use super::register::{Available, Consistent, Op, Reply, ap, cp};

const NODES: u32 = 3;
/// Half of them on each side of the partition.
const CLIENTS: u32 = 4;
/// The partition, in milliseconds of the run.
const FROM_MS: u64 = 1_000;
const UNTIL_MS: u64 = 3_000;
const END_MS: u64 = 4_000;
/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_millis(200);

/// What the two registers did under the same partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cap {
    /// The seed of both runs.
    pub seed: u64,
    /// What was cut.
    pub partition: Partition,
    /// The consistent register.
    pub cp: Shown,
    /// The available register.
    pub ap: Shown,
}

/// One node cut off from the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Partition {
    /// How many nodes there are.
    pub nodes: u32,
    /// The minority: this node.
    pub alone: u32,
    /// When it began, in simulated time.
    pub from_ms: u64,
    /// When it healed.
    pub until_ms: u64,
}

/// What one register did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Shown {
    /// The protocol.
    pub protocol: &'static str,
    /// Whether what the clients saw is linearizable: `ok`, `violation`, or `unknown`.
    pub linearizable: &'static str,
    /// The operation that has no place in any order.
    pub blocked: Option<Blocked>,
    /// Operations of the whole run that the verdict is about.
    pub operations: usize,
    /// On the side of one node, during the partition.
    pub minority: Answered,
    /// On the other side, during the partition.
    pub majority: Answered,
    /// Whether all nodes hold the same value after the partition healed.
    pub converged: bool,
    /// Repeats the run: 16 hexadecimal digits.
    pub trace_hash: String,
}

/// How available a side was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Answered {
    /// Operations that clients asked for.
    pub asked: u64,
    /// Those that were carried out and answered in time.
    pub answered: u64,
}

/// An operation of a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Blocked {
    /// Its place among the invocations, counted from 0.
    pub index: usize,
    /// The client.
    pub process: u64,
    /// `read` or `write`.
    pub f: String,
    /// The value that was read or written.
    pub value: Value,
}

impl Cap {
    /// Says whether it came as the theorem has it: each register kept one of the two and lost the other.
    #[must_use]
    pub fn holds(&self) -> bool {
        let all = |side: Answered| side.asked > 0 && side.answered == side.asked;
        let consistent = self.cp.linearizable == "ok" && self.cp.minority.answered == 0;
        let available = all(self.ap.minority) && all(self.ap.majority);
        consistent
            && self.cp.minority.asked > 0
            && self.cp.majority.answered > 0
            && available
            && self.ap.linearizable == "violation"
            && self.cp.converged
            && self.ap.converged
    }
}

/// Runs both registers under the same partition, with clients on both sides.
///
/// # Errors
/// [`SpecError`] never, unless a register no longer runs on three nodes.
///
/// # Examples
/// ```
/// use dpat_cases::protocols::cap::show;
///
/// let cap = show(7)?;
/// assert!(cap.holds(), "{cap}");
/// # Ok::<(), dpat_sim::SpecError>(())
/// ```
pub fn show(seed: u64) -> Result<Cap, SpecError> {
    let alone = u32::try_from(seed % u64::from(NODES)).unwrap_or(0);
    Ok(Cap {
        seed,
        partition: Partition {
            nodes: NODES,
            alone,
            from_ms: FROM_MS,
            until_ms: UNTIL_MS,
        },
        cp: shown::<Consistent>(seed, NodeIx(alone))?,
        ap: shown::<Available>(seed, NodeIx(alone))?,
    })
}

/// A process that holds a value.
pub trait Holds {
    /// Returns the value.
    fn value(&self) -> Option<u64>;
}

impl Holds for cp::Register {
    fn value(&self) -> Option<u64> {
        self.stored().value
    }
}

impl Holds for ap::Register {
    fn value(&self) -> Option<u64> {
        self.version().value
    }
}

fn shown<Pr>(seed: u64, alone: NodeIx) -> Result<Shown, SpecError>
where
    Pr: Protocol<Process: Process<Req = Op, Rep = Reply> + Holds>,
{
    let mut script = Script::new(Watched::<Pr>::NAME, Nodes::Count(NODES), seed);
    script.ops.push(Step {
        when: Trigger::At(FROM_MS * 1_000),
        fault: Fault::Halves {
            group: vec![alone],
            for_us: Some((UNTIL_MS - FROM_MS) * 1_000),
        },
    });
    let spec = RunSpec {
        script: Some(script),
        trace: TraceMode::Hash,
        ..RunSpec::new(seed)
    };
    let (outcome, watched) = run_keeping::<Watched<Pr>>(&spec)?;
    let history = watched.calls.history().unwrap_or_default();
    // A history that is none cannot be judged.
    let verdict = history::linearizable(&history).ok();
    let verdict = verdict.filter(|_| outcome.violation.is_none());
    let violation = verdict.as_ref().and_then(Verdict::violation);
    Ok(Shown {
        protocol: Pr::NAME,
        linearizable: verdict.as_ref().map_or("unknown", Verdict::name),
        blocked: violation.and_then(|found| blocked(&history, found.blocked)),
        operations: history.operations().len(),
        minority: watched.minority,
        majority: watched.majority,
        converged: watched.converged,
        trace_hash: hex(outcome.trace_hash),
    })
}

fn blocked(history: &History, index: usize) -> Option<Blocked> {
    let operation = history.operations().get(index)?;
    Some(Blocked {
        index,
        process: operation.process,
        f: operation.f.to_string(),
        value: operation.final_value().clone(),
    })
}

/// A register with clients on both sides of a partition.
struct Watched<Pr> {
    register: Pr,
    alone: NodeIx,
    calls: Calls,
    /// When each client asked.
    asked_ns: BTreeMap<u32, u64>,
    /// Where each client was last sent.
    primary: BTreeMap<u32, NodeIx>,
    minority: Answered,
    majority: Answered,
    converged: bool,
}

impl<Pr> Watched<Pr> {
    /// Clients with even numbers are with the node that is cut off.
    fn is_alone(client: u32) -> bool {
        client.is_multiple_of(2)
    }

    /// Clients reach the nodes of their own side.
    fn node(&self, client: u32, cx: &mut ClientCx<'_>) -> NodeIx {
        if Self::is_alone(client) {
            return self.alone;
        }
        let others: Vec<NodeIx> = (0..cx.nodes)
            .map(NodeIx)
            .filter(|node| *node != self.alone)
            .collect();
        let known = self.primary.get(&client).filter(|it| others.contains(it));
        let drawn = cx.rng.below(others.len() as u64);
        known.copied().unwrap_or_else(|| {
            let drawn = usize::try_from(drawn).unwrap_or(0);
            others.get(drawn).copied().unwrap_or(self.alone)
        })
    }
}

impl<Pr> Protocol for Watched<Pr>
where
    Pr: Protocol<Process: Process<Req = Op, Rep = Reply> + Holds>,
{
    type Process = Pr::Process;

    const NAME: &'static str = "cap";
    const ABOUT: &'static str = "a register with clients on both sides of a partition";
    const NODES: u32 = NODES;
    const PROPERTIES: &'static [&'static str] = &[];
    const KINDS: &'static [&'static str] = Pr::KINDS;

    fn new(setup: &Setup) -> Self {
        let alone = u32::try_from(setup.seed % u64::from(setup.nodes)).unwrap_or(0);
        Self {
            register: Pr::new(setup),
            alone: NodeIx(alone),
            calls: Calls::new(CLIENTS),
            asked_ns: BTreeMap::new(),
            primary: BTreeMap::new(),
            minority: Answered::default(),
            majority: Answered::default(),
            converged: false,
        }
    }

    fn config(&self, node: NodeIx) -> <Pr::Process as Process>::Config {
        self.register.config(node)
    }

    fn plan(&self) -> Plan {
        Plan {
            chaos: Duration::from_millis(END_MS),
            settle: Duration::from_secs(1),
            ..Plan::calm()
        }
    }

    fn kind(msg: &<Pr::Process as Process>::Msg) -> usize {
        Pr::kind(msg)
    }

    fn clients(&self) -> u32 {
        CLIENTS
    }

    fn next(&mut self, client: u32, call: u64, cx: &mut ClientCx<'_>) -> Option<Call<Op>> {
        if cx.now_ns > END_MS * 1_000_000 {
            return None;
        }
        let node = self.node(client, cx);
        let req = match cx.rng.below(2) {
            0 => Op::Read,
            _ => Op::Write(u64::from(client) * 1_000_000 + call),
        };
        Some(Call {
            node,
            req,
            after: Duration::from_millis(5 + cx.rng.below(20)),
            patience: PATIENCE,
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
        let done = matches!(answer, Answer::Reply(Reply::Value(_) | Reply::Written));
        match answer {
            Answer::Reply(Reply::Refused(Some(primary))) => self.primary.insert(client, *primary),
            _ if done => None,
            _ => self.primary.remove(&client),
        };
        let asked_ms = self.asked_ns.get(&client).copied().unwrap_or(0) / 1_000_000;
        // Without the calls that may outlive the partition, and with it what keeps them from being answered.
        let patience_ms = u64::try_from(PATIENCE.as_millis()).unwrap_or(0);
        if (FROM_MS..UNTIL_MS - patience_ms).contains(&asked_ms) {
            let side = if Self::is_alone(client) {
                &mut self.minority
            } else {
                &mut self.majority
            };
            side.asked += 1;
            side.answered += u64::from(done);
        }
    }

    fn finish(&mut self, world: &World<Pr::Process>, judge: &mut Judge) {
        judge.compared(self.minority.asked + self.majority.asked);
        let mut values = world.processes().map(|(_, process)| process.value());
        let first = values.next();
        self.converged = values.all(|value| Some(value) == first);
    }
}

impl fmt::Display for Cap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Partition {
            nodes,
            alone,
            from_ms,
            until_ms,
        } = self.partition;
        writeln!(
            f,
            "{} nodes; from {from_ms} ms to {until_ms} ms n{alone} is cut off from the others (seed {})\n",
            nodes, self.seed
        )?;
        let mut row = |name: &str, show: &dyn Fn(&Shown) -> String| {
            writeln!(f, "{name:<24}{:<28}{}", show(&self.cp), show(&self.ap))
        };
        row("", &|it| it.protocol.to_owned())?;
        row("linearizable", &|it| match (&it.blocked, it.linearizable) {
            (Some(blocked), _) => format!(
                "no: {} {} of process {}",
                blocked.f, blocked.value, blocked.process
            ),
            (None, "ok") => "yes".to_owned(),
            (None, other) => other.to_owned(),
        })?;
        let of = |side: Answered| format!("{} of {}", side.answered, side.asked);
        row(&format!("answered at n{alone}"), &|it| of(it.minority))?;
        row("answered at the others", &|it| of(it.majority))?;
        row("same value in the end", &|it| {
            if it.converged { "yes" } else { "no" }.to_owned()
        })
    }
}
