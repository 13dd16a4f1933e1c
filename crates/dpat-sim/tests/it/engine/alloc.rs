//! A run in steady state allocates nothing.

use std::time::Duration;

use dpat_model::{
    Cx, Delay, Digest, Fault, Input, LinkSet, Lsn, NodeIx, Nodes, Op, Peer, Process, Script,
    Trigger,
};
use dpat_sim::{Plan, Protocol, RunSpec, Setup, run};
use dpat_testkit::allocations;

/// Answers each message, logs it, arms a timer, and takes a snapshot now and then.
#[derive(Clone, Debug)]
struct Busy(u64);

impl Process for Busy {
    type Config = ();
    type Snapshot = u64;
    type Req = ();
    type Rep = ();
    type Msg = u64;
    type Rec = u64;
    type Timer = u8;
    type Work = ();
    type Done = ();

    fn boot(_me: Peer, (): &(), snapshot: Option<&u64>) -> Self {
        Self(snapshot.copied().unwrap_or(0))
    }
    fn apply(&mut self, _at: Lsn, record: &u64) {
        self.0 ^= record;
    }
    fn snapshot(&self) -> u64 {
        self.0
    }
    fn step(&mut self, input: Input<Self>, cx: &mut Cx<'_, Self>) {
        match input {
            Input::Start => {
                (0..20).for_each(|number| cx.send(NodeIx((cx.me().node.0 + 1) % 3), number));
            }
            Input::Msg { from, msg } => {
                cx.log(self, msg);
                if msg % 16 == 0 {
                    cx.snapshot();
                }
                cx.arm((msg % 4) as u8, Duration::from_micros(msg % 500));
                cx.send(from.node, msg + 1);
            }
            _ => {}
        }
    }
    fn digest(&self, digest: &mut Digest) {
        digest.durable(&self.0);
    }
}

struct Steady;

impl Protocol for Steady {
    type Process = Busy;
    const NAME: &'static str = "steady";
    const ABOUT: &'static str = "Goes on and on";
    const NODES: u32 = 3;
    const PROPERTIES: &'static [&'static str] = &[];
    const KINDS: &'static [&'static str] = &["Number"];

    fn new(_setup: &Setup) -> Self {
        Self
    }
    fn config(&self, _node: NodeIx) {}
    fn plan(&self) -> Plan {
        Plan {
            chaos: Duration::from_secs(1000),
            ..Plan::calm()
        }
    }
    fn kind(_msg: &u64) -> usize {
        0
    }
}

fn count(events_max: u64, ops: &[Fault]) -> u64 {
    let mut script = Script::new("steady", Nodes::Count(3), 1);
    let op = |fault: &Fault| Op {
        when: Trigger::At(0),
        fault: fault.clone(),
    };
    script.ops = ops.iter().map(op).collect();
    let spec = RunSpec {
        script: Some(script),
        events_max,
        ..RunSpec::new(1)
    };
    let (outcome, count) = allocations(|| run::<Steady>(&spec).unwrap());
    assert_eq!(outcome.events, events_max);
    count
}

#[test]
fn a_run_in_steady_state_allocates_nothing() {
    let link = LinkSet::one(NodeIx(0), NodeIx(1));
    let (all, for_us) = (LinkSet::ALL, None);
    let faults = [
        Fault::Loss {
            link,
            per_million: 10,
            for_us,
        },
        Fault::Duplicate {
            link,
            per_million: 10,
            for_us,
        },
        Fault::Delay {
            link: all,
            delay: Delay::Uniform(10, 100),
            for_us,
        },
        Fault::ClockDrift {
            node: NodeIx(1),
            drift_per_million: 100,
        },
    ];
    for ops in [&[][..], &faults] {
        let (short, long) = (count(100_000, ops), count(200_000, ops));
        // A queue may still grow when more waits than ever before.
        assert!(long - short < 10, "{short} {long}");
    }
}
