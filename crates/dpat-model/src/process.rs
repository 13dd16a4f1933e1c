//! The transition function, what goes in and what comes out.

use std::fmt::{self, Debug};
use std::time::Duration;

use dpat_core::{Class, Classify, Deadline, Effect};

use crate::{Cx, Digest, Lsn, NodeIx, Peer, ReqId, Token};

/// One node of a protocol as a pure state machine: δ : N × S × M → S of the formal model.
///
/// A process never does I/O, never reads a clock, and never draws a random number: all of that comes in through
/// [`Input`] and [`Cx`]. So the same code runs under a simulator, a model checker and a network.
///
/// Rules that the executors rely on:
/// - State that must survive a crash changes in [`apply`](Self::apply) and nowhere else.
///   [`MemLog::audit`](crate::MemLog::audit) finds a breach.
/// - Every request gets exactly one answer, also a cancelled one.
/// - No iteration over maps with random order.
///
/// `Clone` lets links duplicate and a model checker branch; `Debug` lets traces be printed.
///
/// # Examples
/// ```
/// use dpat_model::{Answer, Cx, Digest, Input, Lsn, Output, Peer, Process};
///
/// /// Counts requests and survives crashes.
/// #[derive(Clone, Debug)]
/// struct Counter {
///     count: u64,
/// }
///
/// impl Process for Counter {
///     type Config = ();
///     type Snapshot = u64;
///     type Req = ();
///     type Rep = u64;
///     type Msg = ();
///     type Rec = ();
///     type Timer = ();
///     type Work = ();
///     type Done = ();
///
///     fn boot(_me: Peer, _config: &(), snapshot: Option<&u64>) -> Self {
///         Self { count: snapshot.copied().unwrap_or(0) }
///     }
///     fn apply(&mut self, _at: Lsn, _record: &()) {
///         self.count += 1;
///     }
///     fn snapshot(&self) -> u64 {
///         self.count
///     }
///     fn step(&mut self, input: Input<Self>, cx: &mut Cx<'_, Self>) {
///         if let Input::Req { id, .. } = input {
///             cx.log(self, ());
///             cx.reply(id, self.count); // leaves once the record is durable
///         }
///     }
///     fn digest(&self, digest: &mut Digest) {
///         digest.durable(&self.count);
///     }
/// }
/// ```
pub trait Process: Sized + Clone + Debug {
    /// What a node is started with; the same at every start.
    type Config;
    /// Durable state that replaces a prefix of the log; `()` if the process never asks for one.
    type Snapshot: Clone + Debug;
    /// A request of a local caller or a simulated client.
    type Req: Clone + Debug;
    /// The answer to a request.
    type Rep: Clone + Debug;
    /// A message between nodes: a versioned wire type, large parts as shared bytes.
    type Msg: Clone + Debug;
    /// A log record: a versioned stored type.
    type Rec: Clone + Debug;
    /// Names a timer.
    type Timer: Copy + Ord + Debug;
    /// An effect outside the protocol: a user's future, a database call, reading the log.
    type Work: Clone + Debug;
    /// What outside work came to, its failure included.
    type Done: Clone + Debug;

    /// Whether the process may call [`Cx::choose`]; a call without it does not compile.
    ///
    /// Exploration runs the steps of a process that chooses twice, to see how many ways there are.
    const CHOOSES: bool = false;

    /// Makes the state before the first logged record, or that of a snapshot.
    ///
    /// Records follow through [`apply`](Self::apply), then [`Input::Start`].
    fn boot(me: Peer, config: &Self::Config, snapshot: Option<&Self::Snapshot>) -> Self;

    /// Changes durable state; called by [`Cx::log`] and, at recovery, for every surviving record.
    fn apply(&mut self, at: Lsn, record: &Self::Rec);

    /// Returns the durable state; called only after a step that asked for it by [`Cx::snapshot`].
    fn snapshot(&self) -> Self::Snapshot;

    /// Takes one input and emits effects through `cx`.
    fn step(&mut self, input: Input<Self>, cx: &mut Cx<'_, Self>);

    /// Says whether a request may enter, before it becomes a step.
    fn admit(&self, _req: &Self::Req) -> Admit {
        Admit::Yes
    }

    /// Says on which kind of link a message travels. A datagram by default, which promises least.
    fn link(_msg: &Self::Msg) -> Link {
        Link::Datagram
    }

    /// Feeds the state to a digest: the model checker's view, without times and statistics.
    fn digest(&self, digest: &mut Digest);
}

/// One event at one node. A list of inputs is a trace.
#[derive(Clone, Debug)]
pub enum Input<P: Process> {
    /// The first input of every life, after recovery.
    Start,
    /// A caller asks; answer once with [`Cx::reply`].
    Req {
        /// Names the request in the answer.
        id: ReqId,
        /// When the caller stops waiting.
        deadline: Deadline,
        /// What is asked.
        req: P::Req,
    },
    /// The caller of an open request stopped waiting, or its deadline passed. One answer is still owed.
    ///
    /// A process ignores requests that it does not hold.
    Cancel(ReqId),
    /// A message arrived.
    Msg {
        /// The life that sent it.
        from: Peer,
        /// What was sent.
        msg: P::Msg,
    },
    /// A session to a peer begins.
    PeerUp(Peer),
    /// The session to a peer ended: of what was sent on it, a prefix arrived.
    PeerDown(Peer),
    /// An armed timer is due; it is no longer armed.
    Timer(P::Timer),
    /// Outside work came to an end.
    Done {
        /// Names the work.
        token: Token,
        /// What it came to.
        result: P::Done,
    },
    /// The log is durable up to here.
    Durable(Lsn),
    /// The node shuts down: finish or refuse what is open, by the deadline.
    Drain {
        /// When the node stops.
        deadline: Deadline,
    },
}

/// What a node wants done by its executor.
#[derive(Clone, Debug)]
pub enum Output<P: Process> {
    /// Append this record to the log. Already applied.
    Log {
        /// Its position.
        at: Lsn,
        /// The record.
        record: P::Rec,
    },
    /// Store this snapshot; once durable it replaces all records up to its position.
    Snapshot {
        /// The last record that it contains.
        at: Lsn,
        /// The state.
        snapshot: P::Snapshot,
    },
    /// Send a message to whichever life of the node is up.
    Send {
        /// The destination.
        to: NodeIx,
        /// The message.
        msg: P::Msg,
        /// Whether it may overtake the log.
        early: bool,
    },
    /// Hand the one answer to the caller.
    Reply {
        /// The request.
        id: ReqId,
        /// Its answer.
        answer: Answer<P::Rep>,
    },
    /// Start outside work; its end comes back as [`Input::Done`].
    Work {
        /// Names the work.
        token: Token,
        /// What to do.
        work: P::Work,
        /// Whether it may overtake the log.
        early: bool,
    },
    /// Feed [`Input::Timer`] at this time; replaces an earlier arming of the same key.
    Arm {
        /// The timer.
        key: P::Timer,
        /// When it is due.
        at: dpat_core::Instant,
        /// Counts the armings of the node: equal times fire in this order, and a replaced arming is known by it.
        seq: u64,
    },
    /// Forget the timer.
    Disarm {
        /// The timer.
        key: P::Timer,
    },
}

impl<P: Process> Output<P> {
    /// Lifts the effect of a child into that of its parent.
    ///
    /// The functions are usually the constructors of the parent's enums. A child's snapshot has no lifted form: the
    /// parent's [`Process::snapshot`] contains it.
    pub fn lift<Q: Process>(
        self,
        record: impl FnOnce(P::Rec) -> Q::Rec,
        message: impl FnOnce(P::Msg) -> Q::Msg,
        reply: impl FnOnce(P::Rep) -> Q::Rep,
        outside: impl FnOnce(P::Work) -> Q::Work,
        timer: impl FnOnce(P::Timer) -> Q::Timer,
    ) -> Option<Output<Q>> {
        Some(match self {
            Self::Log { at, record: rec } => Output::Log {
                at,
                record: record(rec),
            },
            Self::Snapshot { .. } => return None,
            Self::Send { to, msg, early } => Output::Send {
                to,
                msg: message(msg),
                early,
            },
            Self::Reply { id, answer } => Output::Reply {
                id,
                answer: answer.map(reply),
            },
            Self::Work { token, work, early } => Output::Work {
                token,
                work: outside(work),
                early,
            },
            Self::Arm { key, at, seq } => Output::Arm {
                key: timer(key),
                at,
                seq,
            },
            Self::Disarm { key } => Output::Disarm { key: timer(key) },
        })
    }
}

/// What a caller gets, exactly once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Answer<R> {
    /// The process answered.
    Reply(R),
    /// The request never became a step: surely nothing happened.
    NotDone(Refusal),
    /// The node crashed or halted: it may have happened.
    Unknown,
}

impl<R> Answer<R> {
    /// Returns the reply, if there is one.
    #[must_use]
    pub const fn reply(&self) -> Option<&R> {
        match self {
            Self::Reply(reply) => Some(reply),
            _ => None,
        }
    }

    /// Changes the reply.
    pub fn map<S>(self, change: impl FnOnce(R) -> S) -> Answer<S> {
        match self {
            Self::Reply(reply) => Answer::Reply(change(reply)),
            Self::NotDone(refusal) => Answer::NotDone(refusal),
            Self::Unknown => Answer::Unknown,
        }
    }
}

/// Why a request was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// Too much is open.
    Busy {
        /// When to ask again.
        retry_after: Duration,
    },
    /// The node shuts down.
    Draining,
    /// The deadline had passed before the request came.
    Expired,
    /// The node is down.
    Down,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy { retry_after } => write!(f, "busy, retry after {retry_after:?}"),
            Self::Draining => f.write_str("the node shuts down"),
            Self::Expired => f.write_str("the deadline had passed"),
            Self::Down => f.write_str("the node is down"),
        }
    }
}

impl std::error::Error for Refusal {}

impl Classify for Refusal {
    fn class(&self) -> Class {
        match self {
            Self::Busy { .. } => Class::Overloaded,
            Self::Draining | Self::Down => Class::Unavailable,
            Self::Expired => Class::Timeout,
        }
    }

    fn effect(&self) -> Effect {
        Effect::NotDone
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Busy { retry_after } => Some(*retry_after),
            _ => None,
        }
    }
}

/// Whether a request may enter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Admit {
    /// It may.
    Yes,
    /// Not now.
    Busy {
        /// When to ask again.
        retry_after: Duration,
    },
}

/// How a message travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Link {
    /// Between two lives, between [`Input::PeerUp`] and [`Input::PeerDown`]: in order, at most once, a prefix
    /// arrives.
    Session,
    /// May be lost, duplicated, delayed and reordered.
    Datagram,
}
