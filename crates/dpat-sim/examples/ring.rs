//! Measures the engine: messages a second on a ring, an idle hour, and the cost of an event by the number of nodes.
//!
//! `cargo run --release -p dpat-sim --example ring [-- SECONDS-OF-EACH-ROW]`

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::time::{Duration, Instant};

use dpat_model::{Cx, Digest, Input, Lsn, NodeIx, Peer, Process};
use dpat_sim::{Plan, Protocol, RunSpec, Setup, TraceMode, run};

/// Passes on what it gets to the next node.
#[derive(Clone, Debug)]
struct Hop {
    me: u32,
    nodes: u32,
    seen: u64,
}

/// A token and how often it was passed on.
#[derive(Clone, Copy, Debug, Hash)]
struct Token {
    token: u32,
    hops: u64,
}

/// Tokens that every node begins with.
const TOKENS: u32 = 4;

impl Process for Hop {
    type Config = u32;
    type Snapshot = ();
    type Req = ();
    type Rep = ();
    type Msg = Token;
    type Rec = ();
    type Timer = ();
    type Work = ();
    type Done = ();

    fn boot(me: Peer, nodes: &u32, _snapshot: Option<&()>) -> Self {
        let (me, nodes) = (me.node.0, *nodes);
        Self { me, nodes, seen: 0 }
    }
    fn apply(&mut self, _at: Lsn, _record: &()) {}
    fn snapshot(&self) {}
    fn step(&mut self, input: Input<Self>, cx: &mut Cx<'_, Self>) {
        let next = NodeIx((self.me + 1) % self.nodes);
        match input {
            Input::Start => {
                for token in 0..TOKENS {
                    cx.send(next, Token { token, hops: 0 });
                }
            }
            Input::Msg { msg, .. } => {
                self.seen += 1;
                let hops = msg.hops + 1;
                cx.send(next, Token { hops, ..msg });
            }
            _ => {}
        }
    }
    fn digest(&self, digest: &mut Digest) {
        digest.volatile(&self.seen);
    }
}

struct Ring {
    nodes: u32,
}

impl Protocol for Ring {
    type Process = Hop;
    const NAME: &'static str = "ring";
    const ABOUT: &'static str = "Tokens go round";
    const NODES: u32 = 3;
    const PROPERTIES: &'static [&'static str] = &[];
    const KINDS: &'static [&'static str] = &["Token"];

    fn new(setup: &Setup) -> Self {
        Self { nodes: setup.nodes }
    }
    fn config(&self, _node: NodeIx) -> u32 {
        self.nodes
    }
    fn plan(&self) -> Plan {
        Plan {
            chaos: Duration::from_secs(1_000_000),
            ..Plan::calm()
        }
    }
    fn kind(_msg: &Token) -> usize {
        0
    }
}

/// Wakes up once a second.
#[derive(Clone, Debug)]
struct Sleeper;

impl Process for Sleeper {
    type Config = ();
    type Snapshot = ();
    type Req = ();
    type Rep = ();
    type Msg = ();
    type Rec = ();
    type Timer = ();
    type Work = ();
    type Done = ();

    fn boot(_me: Peer, (): &(), _snapshot: Option<&()>) -> Self {
        Self
    }
    fn apply(&mut self, _at: Lsn, _record: &()) {}
    fn snapshot(&self) {}
    fn step(&mut self, _input: Input<Self>, cx: &mut Cx<'_, Self>) {
        cx.arm((), Duration::from_secs(1));
    }
    fn digest(&self, _digest: &mut Digest) {}
}

struct Idle;

impl Protocol for Idle {
    type Process = Sleeper;
    const NAME: &'static str = "idle";
    const ABOUT: &'static str = "Nothing happens";
    const NODES: u32 = 5;
    const PROPERTIES: &'static [&'static str] = &[];
    const KINDS: &'static [&'static str] = &[];

    fn new(_setup: &Setup) -> Self {
        Self
    }
    fn config(&self, _node: NodeIx) {}
    fn plan(&self) -> Plan {
        Plan {
            chaos: Duration::from_secs(3600),
            settle: Duration::ZERO,
            ..Plan::calm()
        }
    }
    fn kind(_msg: &()) -> usize {
        0
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "a measurement reads a real clock"
)]
fn timed<R>(work: impl FnOnce() -> R) -> (R, Duration) {
    let begin = Instant::now();
    let result = work();
    (result, begin.elapsed())
}

#[allow(clippy::cast_precision_loss, reason = "for people")]
fn main() -> io::Result<()> {
    let events_max: u64 = match std::env::args().nth(1) {
        Some(events) => events.parse().map_err(io::Error::other)?,
        None => 300_000,
    };
    let mut text = String::new();
    for trace in [TraceMode::Off, TraceMode::Hash] {
        for nodes in [3, 10, 100, 1000] {
            let spec = RunSpec {
                nodes: Some(nodes),
                trace,
                events_max,
                ..RunSpec::new(7)
            };
            let mut best = Duration::MAX;
            let mut delivered = 0;
            for _ in 0..5 {
                let (outcome, took) = timed(|| run::<Ring>(&spec));
                delivered = outcome.map_err(io::Error::other)?.delivered;
                best = best.min(took);
            }
            let ns = best.as_nanos() as f64 / delivered as f64;
            let millions = 1e3 / ns;
            writeln!(
                text,
                "{trace:?} {nodes:>5} nodes: {ns:6.1} ns a message, {millions:5.2} M/s"
            )
            .map_err(io::Error::other)?;
        }
    }
    let (outcome, took) = timed(|| run::<Idle>(&RunSpec::new(7)));
    let events = outcome.map_err(io::Error::other)?.events;
    writeln!(text, "an idle hour of 5 nodes: {took:?}, {events} events")
        .map_err(io::Error::other)?;
    io::stdout().write_all(text.as_bytes())
}
