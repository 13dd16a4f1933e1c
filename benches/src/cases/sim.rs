//! The simulator against turmoil and madsim: a ring of nodes that pass messages on.

use crate::harness::{Case, Contender};
use dpat_model::{Cx, Digest, Input, Lsn, NodeIx, Nodes, Peer, Process, Script};
use dpat_sim::{Plan, Protocol, RunSpec, Setup, TraceMode};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::Ipv4Addr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;
use turmoil::net::UdpSocket;

pub(super) const NOTES: &str = "\
What each side does:

- Every node sends a message of 16 bytes to the next one and passes on what it receives, until it has received its \
share: as many messages are under way as there are nodes, each for 0.5 to 1.5 ms of simulated time, uniformly \
distributed with dpat-sim and madsim, exponentially with turmoil. Starting and ending the simulation is included, and is most of it where each node sends one message.
- *dpat-sim* runs pure state machines and keeps the hash of the trace, in which every delivery is with its content. \
*turmoil* and *madsim* run async code that was not written for simulation, which is what they are for: tasks, \
wakers, sockets.
- *turmoil* moves in steps, here of its default 1 ms, and polls every host in each. *madsim* stands in a program of its \
own, since it needs `--cfg madsim` in its whole build; it is started once and told what to run (left out if it was not \
built: `cargo xtask bench sim` builds it).";

/// Messages in all, spread over the nodes.
const MESSAGES: u64 = 30_000;
/// With a thousand nodes turmoil, which looks at every pair of hosts for each host in each step, takes seconds for a step.
const MESSAGES_OF_MANY: u64 = 1_000;
const EARLIEST: Duration = Duration::from_micros(500);
const LATEST: Duration = Duration::from_micros(1_500);
const SEED: u64 = 7;

pub(super) fn cases() -> Vec<Case> {
    let with_both = [3, 10, 100].map(|nodes| {
        let hops = MESSAGES / u64::from(nodes);
        let peers = [Some(turmoil(nodes, hops)), madsim(nodes, hops)];
        case(nodes, hops, peers)
    });
    let many = 1_000;
    let with_turmoil = {
        let hops = MESSAGES_OF_MANY / u64::from(many);
        case(many, hops, [Some(turmoil(many, hops)), None])
    };
    let with_madsim = {
        let hops = MESSAGES / u64::from(many);
        case(many, hops, [madsim(many, hops), None])
    };
    let mut cases: Vec<Case> = with_both.into();
    cases.extend([with_turmoil, with_madsim]);
    cases
}

fn case(nodes: u32, hops: u64, peers: [Option<Contender>; 2]) -> Case {
    Case::new(
        "sim",
        "message in a ring",
        "Delivers a message of 16 bytes and sends the next; time is given per delivered message.",
        Contender::single("dpat-sim", move || ring(nodes, hops)),
        peers.into_iter().flatten().collect(),
    )
    .param("nodes", nodes)
    .param("messages", u64::from(nodes) * hops)
    .items(u64::from(nodes) * hops)
}

fn turmoil(nodes: u32, hops: u64) -> Contender {
    Contender::single("turmoil", move || turmoil_ring(nodes, hops))
}

/// A node of the ring.
#[derive(Clone, Debug)]
struct Member {
    me: NodeIx,
    nodes: u32,
    hops: u64,
    received: u64,
}

impl Member {
    fn pass(&self, cx: &mut Cx<'_, Self>) {
        cx.send(
            NodeIx((self.me.0 + 1) % self.nodes),
            [self.received, u64::from(self.me.0)],
        );
    }
}

impl Process for Member {
    type Config = (u32, u64);
    type Snapshot = ();
    type Req = ();
    type Rep = ();
    type Msg = [u64; 2];
    type Rec = ();
    type Timer = ();
    type Work = ();
    type Done = ();

    fn boot(me: Peer, &(nodes, hops): &(u32, u64), _: Option<&()>) -> Self {
        Self {
            me: me.node,
            nodes,
            hops,
            received: 0,
        }
    }
    fn apply(&mut self, _: Lsn, (): &()) {}
    fn snapshot(&self) {}
    fn step(&mut self, input: Input<Self>, cx: &mut Cx<'_, Self>) {
        match input {
            Input::Start => self.pass(cx),
            Input::Msg { .. } => {
                self.received += 1;
                if self.received < self.hops {
                    self.pass(cx);
                }
            }
            _ => {}
        }
    }
    fn digest(&self, digest: &mut Digest) {
        digest.volatile(&self.received);
    }
}

/// The ring as a protocol: no clients, no faults, nothing to judge.
struct Ring {
    nodes: u32,
}

std::thread_local! {
    /// How far the ring of this thread goes; protocols are made from a seed and a number of nodes.
    static HOPS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

impl Protocol for Ring {
    type Process = Member;

    const NAME: &'static str = "ring";
    const ABOUT: &'static str = "passes messages on";
    const NODES: u32 = 3;
    const PROPERTIES: &'static [&'static str] = &[];
    const KINDS: &'static [&'static str] = &["token"];

    fn new(setup: &Setup) -> Self {
        Self { nodes: setup.nodes }
    }
    fn config(&self, _: NodeIx) -> (u32, u64) {
        (self.nodes, HOPS.get())
    }
    fn plan(&self) -> Plan {
        Plan {
            chaos: LATEST * u32::try_from(HOPS.get()).unwrap_or(u32::MAX),
            settle: Duration::ZERO,
            ..Plan::default()
        }
    }
    fn kind(_: &[u64; 2]) -> usize {
        0
    }
}

fn ring(nodes: u32, hops: u64) -> u64 {
    HOPS.set(hops);
    let spec = RunSpec {
        nodes: Some(nodes),
        script: Some(Script::new(Ring::NAME, Nodes::Count(nodes), SEED)),
        trace: TraceMode::Hash,
        events_max: u64::MAX,
        ..RunSpec::new(SEED)
    };
    let outcome = dpat_sim::run::<Ring>(&spec).expect("the ring runs");
    assert_eq!(outcome.delivered, u64::from(nodes) * hops);
    outcome.trace_hash
}

fn turmoil_ring(nodes: u32, hops: u64) {
    const PORT: u16 = 7_000;
    let mut sim = turmoil::Builder::new()
        .rng_seed(SEED)
        .min_message_latency(EARLIEST)
        .max_message_latency(LATEST)
        .simulation_duration(Duration::from_secs(86_400))
        .udp_capacity(1_024)
        .build();
    for node in 0..nodes {
        let next = format!("n{}", (node + 1) % nodes);
        sim.client(format!("n{node}"), async move {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT)).await?;
            // Once everybody listens.
            tokio::time::sleep(Duration::from_millis(2)).await;
            let next = (turmoil::lookup(next), PORT);
            let mut token = [0; 16];
            socket.send_to(&token, next).await?;
            for received in 1..=hops {
                socket.recv_from(&mut token).await?;
                token[..8].copy_from_slice(&received.to_le_bytes());
                if received < hops {
                    socket.send_to(&token, next).await?;
                }
            }
            Ok(())
        });
    }
    sim.run().expect("the ring runs");
}

/// The program of `benches/madsim`, told by lines what to run.
struct Madsim {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Madsim {
    fn start() -> Option<Self> {
        let program = std::env::var_os("DPAT_BENCH_MADSIM")?;
        let mut child = Command::new(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .ok()?;
        Some(Self {
            orders: child.stdin.take()?,
            answers: BufReader::new(child.stdout.take()?),
            child,
        })
    }

    /// Returns the nanoseconds of one run.
    fn run(&mut self, nodes: u32, hops: u64) -> std::io::Result<f64> {
        writeln!(self.orders, "{nodes} {hops}")?;
        self.orders.flush()?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        answer.trim().parse().map_err(std::io::Error::other)
    }
}

impl Drop for Madsim {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn madsim(nodes: u32, hops: u64) -> Option<Contender> {
    let mut program = Madsim::start()?;
    let version = crate::versions::in_lock(
        include_str!("../../madsim/Cargo.lock"),
        "dpat-bench-madsim",
        "madsim",
    );
    Some(Contender::told("madsim", version, move || {
        program.run(nodes, hops).expect("madsim's program answers")
    }))
}
