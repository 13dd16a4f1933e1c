//! A system whose programs are closures of a test.

use std::future::Future;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use bytes::Bytes;
use dpat_core::{Clock, Deadline, Sleep};
use dpat_model::{Fault, NodeIx, Nodes, Op, Script, Trigger};
use dpat_sim::async_node::{
    AsyncLimits, AsyncNode, AsyncSim, AsyncSystem, CallError, Program, Schedule, Stop,
};
use dpat_sim::{Judge, RunSpec, Setup, Stream, TraceMode};

type Start = Box<dyn FnMut(AsyncNode) -> Program>;
type Call = Box<dyn FnMut(u32, u64, AsyncNode, Stream) -> Option<Program>>;

/// Programs given by a test.
pub(crate) struct Bench {
    pub(crate) start: Start,
    pub(crate) call: Call,
    pub(crate) clients: u32,
    pub(crate) schedule: Schedule,
    pub(crate) limits: AsyncLimits,
}

impl Bench {
    /// Every node runs this program.
    pub(crate) fn new<F>(mut start: impl FnMut(AsyncNode) -> F + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self {
            start: Box::new(move |node| Box::pin(start(node))),
            call: Box::new(|_, _, _, _| None),
            clients: 0,
            schedule: Schedule::Random,
            limits: AsyncLimits::default(),
        }
    }

    /// So many clients make these calls.
    pub(crate) fn clients<F>(
        mut self,
        clients: u32,
        calls: u64,
        mut call: impl FnMut(u32, u64, AsyncNode, Stream) -> F + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.clients = clients;
        self.call = Box::new(move |client, number, node, rng| {
            let call = (number < calls).then(|| call(client, number, node, rng))?;
            Some(Box::pin(call))
        });
        self
    }

    pub(crate) fn sim(self, spec: &RunSpec) -> AsyncSim<Self> {
        AsyncSim::with(self, spec).unwrap()
    }
}

impl AsyncSystem for Bench {
    const NAME: &'static str = "bench";
    const ABOUT: &'static str = "Whatever a test wants";
    const NODES: u32 = 3;
    const PROPERTIES: &'static [&'static str] = &["right"];
    const KINDS: &'static [&'static str] = &["ask", "tell"];

    fn new(_setup: &Setup) -> Self {
        Self::new(async |_| {})
    }

    fn node(&mut self, node: AsyncNode) -> Program {
        (self.start)(node)
    }

    fn clients(&self) -> u32 {
        self.clients
    }

    fn call(&mut self, client: u32, call: u64, node: AsyncNode, rng: Stream) -> Option<Program> {
        (self.call)(client, call, node, rng)
    }

    fn schedule(&self) -> Schedule {
        self.schedule
    }

    fn limits(&self) -> AsyncLimits {
        self.limits
    }

    fn finish(&mut self, judge: &mut Judge) {
        judge.compared(1);
    }
}

/// A specification with these faults and no others.
pub(crate) fn spec(seed: u64, nodes: u32, ops: Vec<(Trigger, Fault)>) -> RunSpec {
    let mut script = Script::new("bench", Nodes::Count(nodes), seed);
    script.ops = ops
        .into_iter()
        .map(|(when, fault)| Op { when, fault })
        .collect();
    script.validate().unwrap();
    RunSpec {
        script: Some(script),
        events_max: 100_000,
        ..RunSpec::new(seed)
    }
}

/// A specification without faults.
pub(crate) fn calm(seed: u64, nodes: u32) -> RunSpec {
    spec(seed, nodes, Vec::new())
}

pub(crate) fn full(spec: RunSpec) -> RunSpec {
    let trace = TraceMode::Full {
        events_max: 100_000,
    };
    RunSpec { trace, ..spec }
}

/// What programs tell a test, in the order in which they do.
#[derive(Clone)]
pub(crate) struct Log(Sender<String>);

impl Log {
    pub(crate) fn new() -> (Self, Receiver<String>) {
        let (sender, receiver) = channel();
        (Self(sender), receiver)
    }

    pub(crate) fn add(&self, line: impl Into<String>) {
        let _ = self.0.send(line.into());
    }
}

pub(crate) const MS: u64 = 1_000_000;
pub(crate) const SECOND: u64 = 1_000 * MS;

/// Runs to the end of what can happen within an hour.
pub(crate) fn exhaust(sim: &mut AsyncSim<Bench>) {
    assert_eq!(sim.run_until(3_600 * SECOND), Stop::Idle);
}

pub(crate) async fn sleep(node: &AsyncNode, ms: u64) {
    node.time().sleep(Duration::from_millis(ms)).await;
}

pub(crate) async fn ask(
    node: &AsyncNode,
    to: u32,
    body: &'static str,
    wait_ms: u64,
) -> Result<String, CallError> {
    let deadline = Deadline::after(node.time().now(), Duration::from_millis(wait_ms));
    let answer = node.call(
        NodeIx(to),
        "ask",
        Bytes::from_static(body.as_bytes()),
        deadline,
    );
    answer
        .await
        .map(|body| String::from_utf8(body.to_vec()).unwrap())
}

/// Completes at the second poll.
pub(crate) async fn give_way() {
    let mut first = true;
    std::future::poll_fn(|cx| {
        if std::mem::take(&mut first) {
            cx.waker().wake_by_ref();
            return std::task::Poll::Pending;
        }
        std::task::Poll::Ready(())
    })
    .await;
}
