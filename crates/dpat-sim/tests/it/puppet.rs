//! A protocol that does what a test's scenario says, and tells what happened.

use std::cell::RefCell;
use std::time::Duration;

use dpat_model::{
    Answer, CommitRule, Cx, Digest, Fault, Input, Link, Lsn, NodeIx, Nodes, Op, Peer, Process,
    ReqId, Script, Token, Trigger,
};
use dpat_sim::{
    Call, ClientCx, Happened, Judge, Outcome, Plan, Protocol, RunSpec, Setup, Stream, TraceMode,
    What, Wire, World, run,
};

/// What a process does.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Do {
    Log(u64),
    Send(u32, u64),
    SendEarly(u32, u64),
    /// Sends on a session.
    SendSession(u32, u64),
    /// Answers with the sum of what was logged.
    Reply,
    /// Answers whichever request is open longest.
    ReplyOldest,
    Work(u64),
    /// Arms a timer for so many nanoseconds from now.
    Arm(u8, u64),
    Disarm(u8),
    Snapshot,
    /// Changes durable state without a record.
    Cheat,
    Choose(u32),
    /// Answers a request that never was.
    Breach,
}
pub(crate) use Do::*;

/// A number, sent on a session or not.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Note {
    pub(crate) number: u64,
    pub(crate) session: bool,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Puppet {
    pub(crate) me: Peer,
    pub(crate) sum: u64,
    /// What came in, in short.
    pub(crate) seen: Vec<String>,
    pub(crate) open: Vec<ReqId>,
    pub(crate) on_message: Vec<Do>,
}

impl Puppet {
    fn see(&mut self, what: String) {
        HEARD.with_borrow_mut(|heard| {
            let node = self.me.node.index();
            if heard.lives.len() <= node {
                heard.lives.resize(node + 1, Vec::new());
            }
            heard.lives[node].push(what.clone());
        });
        self.seen.push(what);
    }

    fn act(&mut self, id: Option<ReqId>, what: Do, cx: &mut Cx<'_, Self>) {
        match what {
            Log(number) => {
                cx.log(self, number);
            }
            Send(to, number) => cx.send(
                NodeIx(to),
                Note {
                    number,
                    session: false,
                },
            ),
            SendEarly(to, number) => cx.send_early(
                NodeIx(to),
                Note {
                    number,
                    session: false,
                },
            ),
            SendSession(to, number) => cx.send(
                NodeIx(to),
                Note {
                    number,
                    session: true,
                },
            ),
            Reply => {
                let id = id.expect("in a request");
                self.open.retain(|open| *open != id);
                cx.reply(id, self.sum);
            }
            ReplyOldest => {
                if !self.open.is_empty() {
                    cx.reply(self.open.remove(0), self.sum);
                }
            }
            Work(number) => {
                cx.work(number);
            }
            Arm(key, nanos) => cx.arm(key, Duration::from_nanos(nanos)),
            Disarm(key) => cx.disarm(key),
            Snapshot => cx.snapshot(),
            Cheat => self.sum += 1000,
            Choose(n) => {
                let chosen = cx.choose(n);
                self.see(format!("chose {chosen}"));
            }
            Breach => cx.reply(ReqId(u64::MAX), 0),
        }
    }
}

impl Process for Puppet {
    type Config = Vec<Do>;
    type Snapshot = u64;
    type Req = Vec<Do>;
    type Rep = u64;
    type Msg = Note;
    type Rec = u64;
    type Timer = u8;
    type Work = u64;
    type Done = u64;
    const CHOOSES: bool = true;

    fn boot(me: Peer, on_message: &Vec<Do>, snapshot: Option<&u64>) -> Self {
        Self {
            me,
            sum: snapshot.copied().unwrap_or(0),
            on_message: on_message.clone(),
            ..Self::default()
        }
    }
    fn apply(&mut self, _at: Lsn, record: &u64) {
        self.sum += record;
    }
    fn snapshot(&self) -> u64 {
        self.sum
    }
    fn step(&mut self, input: Input<Self>, cx: &mut Cx<'_, Self>) {
        match input {
            Input::Start => self.see("start".to_owned()),
            Input::Req { id, req, deadline } => {
                let left = (!deadline.is_never()).then(|| deadline.remaining(cx.now()));
                self.see(format!("req {left:?}"));
                self.open.push(id);
                for what in req {
                    self.act(Some(id), what, cx);
                }
            }
            Input::Cancel(id) => {
                self.see(format!("cancel {}", id.0));
            }
            Input::Msg { from, msg } => {
                self.see(format!("{} from {from}", msg.number));
                for what in self.on_message.clone() {
                    self.act(None, what, cx);
                }
            }
            Input::Timer(key) => {
                // Nodes have clocks of their own: only their wall clock can be compared.
                let wall = cx.wall().as_nanos() - dpat_sim::WALL_START_NS;
                self.see(format!("timer {key} at wall {wall}"));
            }
            Input::Done { result, .. } => self.see(format!("done {result}")),
            Input::Durable(at) => self.see(format!("durable {}", at.0)),
            Input::PeerUp(peer) => self.see(format!("up {peer}")),
            Input::PeerDown(peer) => self.see(format!("down {peer}")),
            Input::Drain { .. } => {}
        }
    }
    fn link(msg: &Note) -> Link {
        if msg.session {
            Link::Session
        } else {
            Link::Datagram
        }
    }
    fn digest(&self, digest: &mut Digest) {
        digest.durable(&self.sum);
        digest.volatile(&self.seen);
    }
}

/// A call of a client: when it begins to think, what it asks of which node, and for how long it waits.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) after_ns: u64,
    pub(crate) node: u32,
    pub(crate) what: Vec<Do>,
    pub(crate) patience: Duration,
}

pub(crate) fn ask(after_ns: u64, node: u32, what: &[Do]) -> Ask {
    Ask {
        after_ns,
        node,
        what: what.to_vec(),
        patience: Duration::MAX,
    }
}

/// What a run is about.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) seed: u64,
    pub(crate) nodes: u32,
    /// By client.
    pub(crate) clients: Vec<Vec<Ask>>,
    pub(crate) ops: Vec<Op>,
    pub(crate) on_message: Vec<Do>,
    pub(crate) plan: Plan,
    pub(crate) rule: CommitRule,
    pub(crate) wire: bool,
    pub(crate) bad_wire: bool,
    pub(crate) trace: TraceMode,
    pub(crate) events_max: u64,
}

impl Scenario {
    pub(crate) fn new(nodes: u32) -> Self {
        Self {
            seed: 7,
            nodes,
            clients: Vec::new(),
            ops: Vec::new(),
            on_message: Vec::new(),
            plan: Plan {
                chaos: Duration::from_secs(1),
                settle: Duration::from_secs(1),
                ..Plan::calm()
            },
            rule: CommitRule::ByPosition,
            wire: false,
            bad_wire: false,
            trace: TraceMode::Hash,
            events_max: 1_000_000,
        }
    }

    /// Runs with each of the first seeds.
    pub(crate) fn seeds(&self, count: u64) -> Vec<Ran> {
        let with = |seed| {
            Self {
                seed,
                ..self.clone()
            }
            .run()
        };
        (0..count).map(with).collect()
    }

    /// Adds a client.
    pub(crate) fn client(mut self, asks: &[Ask]) -> Self {
        self.clients.push(asks.to_vec());
        self
    }

    /// Adds a fault at a time in microseconds.
    pub(crate) fn at(self, us: u64, fault: Fault) -> Self {
        self.when(Trigger::At(us), fault)
    }

    pub(crate) fn when(mut self, when: Trigger, fault: Fault) -> Self {
        self.ops.push(Op { when, fault });
        self
    }

    /// Adds a fault at a named point.
    pub(crate) fn at_point(self, name: &str, nth: u64, fault: Fault) -> Self {
        let name = name.to_owned();
        self.when(Trigger::Point { name, nth }, fault)
    }

    pub(crate) fn spec(&self) -> RunSpec {
        let mut script = Script::new("puppet", Nodes::Count(self.nodes), self.seed);
        script.ops.clone_from(&self.ops);
        RunSpec {
            script: Some(script),
            trace: self.trace,
            events_max: self.events_max,
            ..RunSpec::new(self.seed)
        }
    }

    pub(crate) fn run(&self) -> Ran {
        self.run_as::<Datagrams>()
    }

    pub(crate) fn run_with_sessions(&self) -> Ran {
        self.run_as::<Sessions>()
    }

    fn run_as<L: Links>(&self) -> Ran {
        SCENARIO.set(Some(self.clone()));
        HEARD.take();
        let outcome = run::<Puppets<L>>(&self.spec()).expect("a scenario that can run");
        let heard = HEARD.take();
        Ran { outcome, heard }
    }
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) outcome: Outcome,
    pub(crate) heard: Heard,
}

/// What observers and clients heard.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// Every event: time, node, what.
    pub(crate) events: Vec<(u64, Option<u32>, String)>,
    /// Every answer: client, call, answer.
    pub(crate) answers: Vec<(u32, u64, String)>,
    /// By node: what its last life has seen.
    pub(crate) seen: Vec<Vec<String>>,
    /// By node: its sum at the end.
    pub(crate) sums: Vec<Option<u64>>,
    /// By node: everything that any life has seen.
    pub(crate) lives: Vec<Vec<String>>,
}

impl Ran {
    /// The events of a kind: those that begin with it.
    pub(crate) fn events(&self, what: &str) -> Vec<&(u64, Option<u32>, String)> {
        let events = self.heard.events.iter();
        events.filter(|event| event.2.starts_with(what)).collect()
    }

    pub(crate) fn property(&self) -> Option<&str> {
        let violation = self.outcome.violation.as_ref();
        violation.map(|violation| violation.property.as_str())
    }

    pub(crate) fn answers(&self) -> Vec<&str> {
        self.heard
            .answers
            .iter()
            .map(|answer| answer.2.as_str())
            .collect()
    }
}

thread_local! {
    static SCENARIO: RefCell<Option<Scenario>> = const { RefCell::new(None) };
    static HEARD: RefCell<Heard> = RefCell::default();
}

/// Whether there are sessions.
pub(crate) trait Links: 'static {
    const SESSIONS: bool;
}
pub(crate) struct Datagrams;
pub(crate) struct Sessions;
impl Links for Datagrams {
    const SESSIONS: bool = false;
}
impl Links for Sessions {
    const SESSIONS: bool = true;
}

pub(crate) struct Puppets<L> {
    scenario: Scenario,
    links: std::marker::PhantomData<L>,
}

fn encode(number: u64, bytes: &mut Vec<u8>) {
    bytes.extend(number.to_le_bytes());
}

fn decode(bytes: &[u8]) -> Result<u64, String> {
    let bytes: [u8; 8] = bytes.try_into().map_err(|_| "not 8 bytes".to_owned())?;
    Ok(u64::from_le_bytes(bytes))
}

fn wire() -> Wire<Puppet> {
    Wire {
        encode_msg: |note, bytes| {
            encode(note.number, bytes);
            bytes.push(u8::from(note.session));
        },
        decode_msg: |bytes| {
            let (session, number) = bytes.split_last().ok_or("empty")?;
            let (number, session) = (decode(number)?, *session == 1);
            Ok(Note { number, session })
        },
        encode_rec: |record, bytes| encode(*record, bytes),
        decode_rec: decode,
    }
}

fn bad_wire() -> Wire<Puppet> {
    Wire {
        // Forgets the upper half of numbers.
        encode_msg: |note, bytes| encode(note.number & 0xffff_ffff, bytes),
        decode_msg: |bytes| {
            let number = decode(bytes)?;
            if number == 13 {
                return Err("unlucky".to_owned());
            }
            // Reads 14 as what is written otherwise.
            Ok(Note {
                number: number + u64::from(number == 14),
                session: false,
            })
        },
        ..wire()
    }
}

impl<L: Links> Protocol for Puppets<L> {
    type Process = Puppet;
    const NAME: &'static str = "puppet";
    const ABOUT: &'static str = "Does what a test says";
    const NODES: u32 = 3;
    const PROPERTIES: &'static [&'static str] = &[];
    const KINDS: &'static [&'static str] = &["Note", "Session"];
    const PHASES: &'static [&'static str] = &["empty", "summed"];

    fn new(_setup: &Setup) -> Self {
        let scenario =
            SCENARIO.with_borrow(|scenario| scenario.clone().expect("a scenario that can run"));
        let links = std::marker::PhantomData;
        Self { scenario, links }
    }
    fn config(&self, _node: NodeIx) -> Vec<Do> {
        self.scenario.on_message.clone()
    }
    fn plan(&self) -> Plan {
        self.scenario.plan
    }
    fn kind(msg: &Note) -> usize {
        usize::from(msg.session)
    }
    fn phase(process: &Puppet) -> usize {
        usize::from(process.sum > 0)
    }
    fn key(msg: &Note) -> Option<String> {
        Some(format!("k{}", msg.number))
    }
    fn wire() -> Option<Wire<Puppet>> {
        SCENARIO.with_borrow(|scenario| {
            let scenario = scenario.as_ref().expect("a scenario that can run");
            match (scenario.wire, scenario.bad_wire) {
                (_, true) => Some(bad_wire()),
                (true, _) => Some(wire()),
                _ => None,
            }
        })
    }
    fn sessions() -> bool {
        L::SESSIONS
    }
    fn commit_rule(&self) -> CommitRule {
        self.scenario.rule
    }
    fn clients(&self) -> u32 {
        u32::try_from(self.scenario.clients.len()).expect("a scenario that can run")
    }
    fn next(&mut self, client: u32, call: u64, _cx: &mut ClientCx<'_>) -> Option<Call<Vec<Do>>> {
        let calls = &self.scenario.clients[client as usize];
        let ask = calls
            .get(usize::try_from(call).expect("a scenario that can run"))?
            .clone();
        Some(Call {
            node: NodeIx(ask.node),
            req: ask.what,
            after: Duration::from_nanos(ask.after_ns),
            patience: ask.patience,
        })
    }
    fn answered(
        &mut self,
        client: u32,
        call: u64,
        _req: &Vec<Do>,
        answer: &Answer<u64>,
        _cx: &mut ClientCx<'_>,
    ) {
        let text = match answer {
            Answer::Reply(sum) => sum.to_string(),
            Answer::NotDone(refusal) => refusal.to_string(),
            Answer::Unknown => "unknown".to_owned(),
        };
        HEARD.with_borrow_mut(|heard| heard.answers.push((client, call, text)));
    }
    fn work(&mut self, _node: NodeIx, work: &u64, _rng: &mut Stream) -> Option<(Duration, u64)> {
        (*work > 0).then(|| (Duration::from_nanos(*work), *work))
    }
    fn observe(&mut self, event: &Happened<'_, Puppet>, _: &World<Puppet>, _: &mut Judge) {
        let node = event.node.map(|node| node.0);
        let what = match &event.what {
            What::Deliver { from, copy, .. } => {
                format!("deliver {from}{}", if *copy { " again" } else { "" })
            }
            What::Lost { from, .. } => format!("lost {from}"),
            What::Timer(key) => format!("timer {key}"),
            What::Done(Token { number, .. }) => format!("done {number}"),
            What::Synced(at) => format!("synced {}", at.0),
            What::Durable(at) => format!("durable {}", at.0),
            What::Up(peer) => format!("up {peer}"),
            What::Down(peer) => format!("down {peer}"),
            What::Fault(fault) => format!("fault {}", fault.name()),
            What::Start => "start".to_owned(),
            What::Restart => "restart".to_owned(),
            What::Crash => "crash".to_owned(),
            What::Pause => "pause".to_owned(),
            What::Resume => "resume".to_owned(),
            What::Heal => "heal".to_owned(),
            What::Request { client, call } => format!("request {client}.{call}"),
            What::Cancel { client, call } => format!("cancel {client}.{call}"),
            What::Answer { client, call, .. } => format!("answer {client}.{call}"),
            _ => "other".to_owned(),
        };
        HEARD.with_borrow_mut(|heard| heard.events.push((event.now_ns, node, what)));
    }
    fn finish(&mut self, world: &World<Puppet>, _judge: &mut Judge) {
        HEARD.with_borrow_mut(|heard| {
            let process = |node| world.process(node);
            heard.sums = world
                .nodes()
                .map(|node| process(node).map(|p| p.sum))
                .collect();
            let seen = |node| process(node).map(|p| p.seen.clone()).unwrap_or_default();
            heard.seen = world.nodes().map(seen).collect();
        });
    }
}
