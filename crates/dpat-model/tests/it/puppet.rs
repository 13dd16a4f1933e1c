//! A process that does what its inputs say, and a driver for one node.

use std::time::Duration;

use dpat_core::{Deadline, Instant, Wall};
use dpat_model::{
    Admit, Answer, Branch, Breach, Cx, Digest, Input, Limits, Lsn, MemLog, Node, NodeIx, Output,
    Peer, Process, Reading, ReqId,
};

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Do {
    Log(u64),
    Send(u64),
    SendEarly(u64),
    Reply(u64),
    ReplyTo(ReqId, u64),
    Sum(ReqId),
    Work(u64),
    WorkEarly(u64),
    Arm(u8, u64),
    Disarm(u8),
    Snapshot,
    Choose(u32),
    /// Changes durable state without a record.
    Cheat,
}
pub(crate) use Do::*;

/// Logs numbers, whose sum is its durable state.
#[derive(Clone, Debug, Default)]
pub(crate) struct Puppet {
    pub(crate) sum: u64,
    pub(crate) last: Lsn,
    pub(crate) seen: Vec<String>,
}

impl Process for Puppet {
    type Config = ();
    type Snapshot = (u64, Lsn);
    type Req = Vec<Do>;
    type Rep = u64;
    type Msg = Vec<u64>;
    type Rec = u64;
    type Timer = u8;
    type Work = u64;
    type Done = Vec<u64>;
    const CHOOSES: bool = true;

    fn boot(_me: Peer, _config: &(), snapshot: Option<&(u64, Lsn)>) -> Self {
        let (sum, last) = snapshot.copied().unwrap_or_default();
        let seen = Vec::new();
        Self { sum, last, seen }
    }

    fn apply(&mut self, at: Lsn, record: &u64) {
        assert!(at > self.last, "positions rise");
        self.last = at;
        self.sum += record;
    }

    fn snapshot(&self) -> (u64, Lsn) {
        (self.sum, self.last)
    }

    fn step(&mut self, input: Input<Self>, cx: &mut Cx<'_, Self>) {
        let Input::Req { id, req, .. } = input else {
            self.seen.push(format!("{input:?}"));
            return;
        };
        for what in req {
            match what {
                Log(number) => assert_eq!(cx.log(self, number), cx.position()),
                Send(number) => cx.send(NodeIx(1), vec![number]),
                SendEarly(number) => cx.send_early(NodeIx(1), vec![number]),
                Reply(number) => cx.reply(id, number),
                ReplyTo(id, number) => cx.reply(id, number),
                Sum(id) => cx.reply(id, self.sum),
                Work(number) => assert_eq!(cx.work(number).incarnation, cx.me().incarnation),
                WorkEarly(number) => assert_ne!(cx.work_early(number), cx.work_early(number)),
                Arm(key, nanos) => cx.arm(key, Duration::from_nanos(nanos)),
                Disarm(key) => cx.disarm(key),
                Snapshot => cx.snapshot(),
                Choose(n) => self.seen.push(format!("chose {}", cx.choose(n))),
                Cheat => self.sum += 1000,
            }
        }
    }

    fn admit(&self, req: &Vec<Do>) -> Admit {
        let retry_after = Duration::from_secs(7);
        if req.first() == Some(&Reply(404)) {
            Admit::Busy { retry_after }
        } else {
            Admit::Yes
        }
    }

    fn digest(&self, digest: &mut Digest) {
        digest.durable(&self.sum);
        digest.durable(&self.last);
        digest.volatile(&self.seen.len());
    }
}

/// One node with its log.
pub(crate) struct Stage<P: Process> {
    pub(crate) node: Node<P>,
    pub(crate) log: MemLog<P>,
    pub(crate) now: Instant,
    /// Outputs apart from records and snapshots.
    pub(crate) out: Vec<Output<P>>,
    requests: u64,
}

impl<P: Process> Stage<P> {
    pub(crate) fn with(config: &P::Config, limits: Limits) -> Self {
        Self::recover(MemLog::default(), 0, config, limits)
    }

    pub(crate) fn recover(
        log: MemLog<P>,
        incarnation: u64,
        config: &P::Config,
        limits: Limits,
    ) -> Self {
        let node = NodeIx(0);
        let node = log.boot(Peer { node, incarnation }, config, limits);
        let mut stage = Self {
            node,
            log,
            now: Instant::from_nanos(1000),
            out: Vec::new(),
            requests: 0,
        };
        assert_eq!(stage.step(Input::Start), Ok(true));
        stage
    }

    pub(crate) fn step(&mut self, input: Input<P>) -> Result<bool, Breach> {
        let (now, wall) = (self.now, Wall::MIN);
        let mut out = Vec::new();
        let reading = Reading { now, wall };
        let stepped = self
            .node
            .step(reading, input, &mut Branch::default(), &mut out);
        let log = &mut self.log;
        self.out.extend(out.drain(..).filter_map(|o| log.take(o)));
        stepped
    }

    pub(crate) fn ask(&mut self, req: P::Req) -> Result<bool, Breach> {
        let id = ReqId(self.requests);
        self.requests += 1;
        let deadline = Deadline::NEVER;
        self.step(Input::Req { id, deadline, req })
    }

    pub(crate) fn sync(&mut self, upto: u64) -> Result<bool, Breach> {
        self.log.sync(Lsn(upto));
        self.step(Input::Durable(Lsn(upto)))
    }

    /// Loses the records after `kept` and starts again.
    pub(crate) fn crash(mut self, kept: u64, config: &P::Config) -> Self {
        self.node.halt(&mut self.out);
        self.log.crash(Lsn(kept));
        let incarnation = self.node.me().incarnation + 1;
        let mut next = Self::recover(self.log, incarnation, config, Limits::default());
        next.requests = self.requests;
        next
    }

    /// What came out since the last call, in short: `reply 0=7`, `send 7`, `work 7`.
    pub(crate) fn left(&mut self) -> Vec<String> {
        let short = |output| match output {
            Output::Send { msg, .. } => format!("send {msg:?}"),
            Output::Reply { id, answer } => match answer {
                Answer::Reply(reply) => format!("reply {}={reply:?}", id.0),
                Answer::NotDone(refusal) => format!("refused {}: {refusal}", id.0),
                Answer::Unknown => format!("unknown {}", id.0),
            },
            Output::Work { work, .. } => format!("work {work:?}"),
            Output::Arm { key, at, .. } => format!("arm {key:?}@{}", at.as_nanos()),
            Output::Disarm { key } => format!("disarm {key:?}"),
            other => format!("{other:?}"),
        };
        self.out.drain(..).map(short).collect()
    }
}

pub(crate) fn puppet() -> Stage<Puppet> {
    Stage::with(&(), Limits::default())
}
