//! A protocol with what it takes to run and judge it.

use std::fmt;
use std::hash::Hash;
use std::time::Duration;

use dpat_model::{Answer, CommitRule, Fault, Lsn, NodeIx, Peer, Process, Token};

use crate::{Judge, Plan, Stream, World};

/// What the simulator asks of a process beyond [`Process`]: hashes for traces. Implemented for all that have them.
pub trait Simulable:
    Process<Req: Hash, Rep: Hash, Msg: Hash, Rec: Hash, Timer: Hash, Work: Hash, Done: Hash> + 'static
{
}

impl<P> Simulable for P where
    P: Process<Req: Hash, Rep: Hash, Msg: Hash, Rec: Hash, Timer: Hash, Work: Hash, Done: Hash>
        + 'static
{
}

/// What a run starts with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setup {
    /// How many nodes.
    pub nodes: u32,
    /// The seed of the run.
    pub seed: u64,
    /// The mutant to run instead of the protocol, one of [`Protocol::MUTANTS`].
    pub mutant: Option<&'static str>,
}

/// A known-bad variant of a protocol: a one-line change of a real rule, to show that the simulator finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mutant {
    /// Its name, after the rule that it breaks.
    pub name: &'static str,
    /// The rule that it breaks, in a sentence.
    pub rule: &'static str,
    /// Within so many seeds, from 0, it is found.
    pub seeds_max: u64,
}

/// How messages and records become bytes and come back.
pub struct Wire<P: Process> {
    /// Appends the bytes of a message.
    pub encode_msg: fn(&P::Msg, &mut Vec<u8>),
    /// Reads a message back.
    pub decode_msg: fn(&[u8]) -> Result<P::Msg, String>,
    /// Appends the bytes of a record.
    pub encode_rec: fn(&P::Rec, &mut Vec<u8>),
    /// Reads a record back.
    pub decode_rec: fn(&[u8]) -> Result<P::Rec, String>,
}

impl<P: Process> Clone for Wire<P> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P: Process> Copy for Wire<P> {}

impl<P: Process> fmt::Debug for Wire<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").finish_non_exhaustive()
    }
}

/// A call that a client makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call<R> {
    /// The node that is asked.
    pub node: NodeIx,
    /// What is asked.
    pub req: R,
    /// How long the client thinks before it asks.
    pub after: Duration,
    /// How long it waits for the answer; [`Duration::MAX`] waits for ever. Then it goes on with
    /// [`Answer::Unknown`], and the node gets [`Input::Cancel`](dpat_model::Input::Cancel).
    pub patience: Duration,
}

/// The surroundings of a client.
#[derive(Debug)]
pub struct ClientCx<'a> {
    /// The time, in nanoseconds of the simulation.
    pub now_ns: u64,
    /// How many nodes there are.
    pub nodes: u32,
    /// Whether the faults are over.
    pub healed: bool,
    /// A fresh stream of the seed, the client and the call.
    pub rng: &'a mut Stream,
    /// What the run is judged by.
    pub judge: &'a mut Judge,
}

/// The event that has just been done.
#[derive(Debug)]
pub struct Happened<'a, P: Process> {
    /// Counts the events of the run from 0.
    pub event: u64,
    /// The time, in nanoseconds of the simulation.
    pub now_ns: u64,
    /// Where, if it was at a node.
    pub node: Option<NodeIx>,
    /// What.
    pub what: What<'a, P>,
}

/// The kinds of events.
#[derive(Debug)]
#[non_exhaustive]
pub enum What<'a, P: Process> {
    /// A node started for the first time.
    Start,
    /// A node started again.
    Restart,
    /// A message reached a process.
    Deliver {
        /// The life that sent it.
        from: Peer,
        /// Its kind, an index into [`Protocol::KINDS`].
        kind: usize,
        /// Whether it is the second copy of a duplicated message.
        copy: bool,
    },
    /// A message was lost on arrival: the node was down, or a partition had begun.
    Lost {
        /// The life that sent it.
        from: Peer,
        /// Its kind.
        kind: usize,
    },
    /// A timer fired.
    Timer(P::Timer),
    /// A client's request reached a node, or found it down.
    Request {
        /// The client.
        client: u32,
        /// Which of its calls.
        call: u64,
    },
    /// A client lost patience.
    Cancel {
        /// The client.
        client: u32,
        /// Which of its calls.
        call: u64,
    },
    /// A client got its answer.
    Answer {
        /// The client.
        client: u32,
        /// Which of its calls.
        call: u64,
        /// The answer.
        answer: &'a Answer<P::Rep>,
    },
    /// Outside work came to an end.
    Done(Token),
    /// The disk has made the log durable up to here; the process does not know yet.
    Synced(Lsn),
    /// The process was told that its log is durable up to here.
    Durable(Lsn),
    /// A session began.
    Up(Peer),
    /// A session ended.
    Down(Peer),
    /// A fault struck, other than those with a kind of their own.
    Fault(&'a Fault),
    /// A node crashed, was killed or wiped, or was halted by an I/O error.
    Crash,
    /// A node began to do nothing.
    Pause,
    /// A node went on.
    Resume,
    /// Every fault ended, and the liveness phase began.
    Heal,
}

/// A protocol with what it takes to run and judge it; a value is the state of one run: workload and judge.
///
/// A run has a *safety phase* of [`Plan::chaos`], in which the script's faults strike; then everything heals, and after
/// [`Plan::settle`] more [`finish`](Self::finish) judges what must have happened by then.
pub trait Protocol: Sized + 'static {
    /// The process that every node runs.
    type Process: Simulable;

    /// The name on command lines and in scripts.
    const NAME: &'static str;
    /// One line about it.
    const ABOUT: &'static str;
    /// How many nodes it has unless somebody asks for another number.
    const NODES: u32;
    /// How many it needs.
    const NODES_MIN: u32 = 1;
    /// The names of its properties.
    const PROPERTIES: &'static [&'static str];
    /// Its known-bad variants.
    const MUTANTS: &'static [Mutant] = &[];
    /// The kinds of its messages. A batch of runs in which one is never delivered is vacuous.
    const KINDS: &'static [&'static str];
    /// The coarse states of a node, for coverage.
    const PHASES: &'static [&'static str] = &["up"];

    /// Starts a run.
    fn new(setup: &Setup) -> Self;

    /// Returns what a node is started with, the same at every start.
    fn config(&self, node: NodeIx) -> <Self::Process as Process>::Config;

    /// Returns how long a run is, and which faults may be drawn for it.
    fn plan(&self) -> Plan {
        Plan::default()
    }

    /// Returns the kind of a message, an index into [`KINDS`](Self::KINDS).
    fn kind(msg: &<Self::Process as Process>::Msg) -> usize;

    /// Returns the coarse state of a node, an index into [`PHASES`](Self::PHASES).
    fn phase(_process: &Self::Process) -> usize {
        0
    }

    /// Returns the transaction or key that a message is about, for filters; called only for full traces.
    fn key(_msg: &<Self::Process as Process>::Msg) -> Option<String> {
        None
    }

    /// Returns how messages and records become bytes. With it, in half of the seeds all of them pass as bytes.
    #[must_use]
    fn wire() -> Option<Wire<Self::Process>> {
        None
    }

    /// Says whether the engine opens sessions between all pairs of live, connected nodes.
    ///
    /// Without them, messages of [`Link::Session`](dpat_model::Link::Session) travel as datagrams.
    #[must_use]
    fn sessions() -> bool {
        false
    }

    /// Returns what outputs wait for; mutants only.
    fn commit_rule(&self) -> CommitRule {
        CommitRule::ByPosition
    }

    /// Returns the number of clients. A client makes one call after the other.
    fn clients(&self) -> u32 {
        0
    }

    /// Returns the next call of a client, or none if it makes no more.
    ///
    /// The stream of `cx` is fresh for every (seed, client, call), so that a call which a script leaves out does not
    /// change the others.
    fn next(
        &mut self,
        _client: u32,
        _call: u64,
        _cx: &mut ClientCx<'_>,
    ) -> Option<Call<<Self::Process as Process>::Req>> {
        None
    }

    /// Hears that a client's request leaves for its node: the invocation of a history. It may find the node down.
    fn asked(
        &mut self,
        _client: u32,
        _call: u64,
        _req: &<Self::Process as Process>::Req,
        _cx: &mut ClientCx<'_>,
    ) {
    }

    /// Hears the answer that a client got.
    fn answered(
        &mut self,
        _client: u32,
        _call: u64,
        _req: &<Self::Process as Process>::Req,
        _answer: &Answer<<Self::Process as Process>::Rep>,
        _cx: &mut ClientCx<'_>,
    ) {
    }

    /// Does outside work: returns how long it takes and what it comes to, or none if it never ends.
    fn work(
        &mut self,
        _node: NodeIx,
        _work: &<Self::Process as Process>::Work,
        _rng: &mut Stream,
    ) -> Option<(Duration, <Self::Process as Process>::Done)> {
        None
    }

    /// Looks at the world after every event.
    #[inline]
    fn observe(
        &mut self,
        _event: &Happened<'_, Self::Process>,
        _world: &World<Self::Process>,
        _judge: &mut Judge,
    ) {
    }

    /// Judges the end of a run: liveness and histories.
    fn finish(&mut self, _world: &World<Self::Process>, _judge: &mut Judge) {}
}
