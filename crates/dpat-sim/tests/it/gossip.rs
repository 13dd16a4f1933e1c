//! A small protocol that uses everything: requests, log, messages, timers, work and choices.

use std::collections::BTreeSet;
use std::time::Duration;

use dpat_model::{Answer, Cx, Digest, Input, Lsn, NodeIx, Peer, Process};
use dpat_sim::{Call, ClientCx, Happened, Judge, Plan, Protocol, Setup, Stream, What, World};

/// Stores numbers and spreads them to everybody, again and again.
#[derive(Clone, Debug)]
pub(crate) struct Gossip {
    me: Peer,
    nodes: u32,
    known: BTreeSet<u64>,
    checked: u64,
}

impl Process for Gossip {
    type Config = u32;
    type Snapshot = BTreeSet<u64>;
    type Req = u64;
    type Rep = usize;
    type Msg = u64;
    type Rec = u64;
    type Timer = ();
    type Work = u64;
    type Done = bool;
    const CHOOSES: bool = true;

    fn boot(me: Peer, nodes: &u32, snapshot: Option<&BTreeSet<u64>>) -> Self {
        Self {
            me,
            nodes: *nodes,
            known: snapshot.cloned().unwrap_or_default(),
            checked: 0,
        }
    }
    fn apply(&mut self, _at: Lsn, record: &u64) {
        self.known.insert(*record);
    }
    fn snapshot(&self) -> BTreeSet<u64> {
        self.known.clone()
    }
    fn step(&mut self, input: Input<Self>, cx: &mut Cx<'_, Self>) {
        match input {
            Input::Start => cx.arm((), Duration::from_millis(20)),
            Input::Req { id, req, .. } => {
                self.learn(req, cx);
                cx.reply(id, self.known.len());
            }
            Input::Msg { msg, .. } => self.learn(msg, cx),
            Input::Timer(()) => {
                cx.arm((), Duration::from_millis(20));
                let to = NodeIx(cx.choose(self.nodes));
                for number in &self.known {
                    cx.send(to, *number);
                }
            }
            Input::Done { result, .. } => self.checked += u64::from(result),
            _ => {}
        }
    }
    fn digest(&self, digest: &mut Digest) {
        digest.durable(&self.known);
        digest.volatile(&(self.me, self.checked));
    }
}

impl Gossip {
    fn learn(&mut self, number: u64, cx: &mut Cx<'_, Self>) {
        if !self.known.contains(&number) {
            cx.log(self, number);
            cx.work(number);
            if number % 8 == 0 {
                cx.snapshot();
            }
        }
    }
}

/// Whatever one node has acknowledged is known everywhere in the end.
pub(crate) struct Gossips {
    nodes: u32,
    acknowledged: BTreeSet<u64>,
    delivered: u64,
}

impl Protocol for Gossips {
    type Process = Gossip;
    const NAME: &'static str = "gossip";
    const ABOUT: &'static str = "Numbers spread to all nodes";
    const NODES: u32 = 4;
    const NODES_MIN: u32 = 2;
    const PROPERTIES: &'static [&'static str] = &["spread"];
    const KINDS: &'static [&'static str] = &["Number"];

    fn new(setup: &Setup) -> Self {
        Self {
            nodes: setup.nodes,
            acknowledged: BTreeSet::new(),
            delivered: 0,
        }
    }
    fn config(&self, _node: NodeIx) -> u32 {
        self.nodes
    }
    fn plan(&self) -> Plan {
        Plan {
            chaos: Duration::from_secs(1),
            settle: Duration::from_secs(2),
            ..Plan::default()
        }
    }
    fn kind(_msg: &u64) -> usize {
        0
    }
    fn clients(&self) -> u32 {
        3
    }
    fn next(&mut self, client: u32, call: u64, cx: &mut ClientCx<'_>) -> Option<Call<u64>> {
        (call < 8).then(|| Call {
            node: NodeIx(u32::try_from(cx.rng.below(u64::from(cx.nodes))).unwrap()),
            req: call * 3 + u64::from(client) + 1,
            after: Duration::from_nanos(cx.rng.below(100_000_000)),
            patience: Duration::from_millis(50),
        })
    }
    fn answered(
        &mut self,
        _client: u32,
        _call: u64,
        req: &u64,
        answer: &Answer<usize>,
        cx: &mut ClientCx<'_>,
    ) {
        if let Answer::Reply(_) = answer {
            self.acknowledged.insert(*req);
            cx.judge.compared(1);
        }
    }
    fn work(&mut self, _node: NodeIx, work: &u64, rng: &mut Stream) -> Option<(Duration, bool)> {
        let takes = Duration::from_nanos(rng.below(1_000_000));
        Some((takes, work % 2 == 0))
    }
    fn observe(&mut self, event: &Happened<'_, Gossip>, _: &World<Gossip>, judge: &mut Judge) {
        if let What::Deliver { .. } = event.what {
            self.delivered += 1;
            judge.sometimes("delivered", true);
        }
    }
    fn finish(&mut self, world: &World<Gossip>, judge: &mut Judge) {
        for (node, process) in world.processes() {
            let missing: Vec<_> = self.acknowledged.difference(&process.known).collect();
            judge.always("spread", missing.is_empty(), || {
                format!("{node} lacks {missing:?}")
            });
        }
    }
}
