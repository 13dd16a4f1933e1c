//! Abstract two-phase commit, the specification TwoPhase of Gray and Lamport 2006, "Consensus on Transaction Commit".
//!
//! Node 0 is the transaction manager, every other node a resource manager of one transaction. The spontaneous actions
//! of the specification are timers, which exploration fires at any moment and simulation at theirs. Beyond the
//! specification, and invisible in its states: records, retransmission, and callers that wait for the outcome.

use std::time::Duration;

use dpat_model::{Cx, Digest, Input, Lsn, NodeIx, Peer, Process, ReqId};
use serde::{Deserialize, Serialize};

mod run;

pub use run::Transaction;

/// The transaction manager's node.
pub const MANAGER: NodeIx = NodeIx(0);

/// What a node has to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// How many resource managers there are.
    pub rms: u32,
    /// When a resource manager has done its work and prepares.
    pub prepare_after: Duration,
    /// When a resource manager that has not prepared aborts by itself; never if absent.
    pub give_up_after: Option<Duration>,
    /// When the manager stops waiting for resource managers to prepare.
    pub patience: Duration,
    /// How often a prepared resource manager asks for the decision.
    pub resend: Duration,
    /// The rule that a mutant breaks.
    pub broken: Option<Broken>,
}

impl Config {
    /// Returns what all nodes of an undisturbed system of `rms` resource managers have.
    #[must_use]
    pub const fn new(rms: u32) -> Self {
        Self {
            rms,
            prepare_after: Duration::from_millis(5),
            give_up_after: Some(Duration::from_millis(500)),
            patience: Duration::from_millis(300),
            resend: Duration::from_millis(50),
            broken: None,
        }
    }
}

/// A rule of the protocol that a mutant breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The manager commits only when *all* are prepared.
    CommitsWhenAllButOneArePrepared,
    /// A resource manager that is prepared waits for the decision.
    GivesUpAlthoughPrepared,
    /// A resource manager that was prepared before a crash still is.
    GivesUpAfterARestart,
    /// A resource manager that is prepared asks until it knows the decision.
    AsksOnce,
    /// A vote leaves when it is durable.
    VotesBeforeTheLogIsDurable,
}

/// Where a node stands: tmState and rmState of the specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum State {
    /// The manager has not decided.
    Init,
    /// The resource manager does its work.
    Working,
    /// It has promised to commit if told so.
    Prepared,
    /// Committed.
    Committed,
    /// Aborted.
    Aborted,
}

impl State {
    /// Says whether this is an outcome.
    #[must_use]
    pub const fn is_outcome(self) -> bool {
        matches!(self, Self::Committed | Self::Aborted)
    }
}

/// A message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Msg {
    /// A resource manager is prepared.
    Prepared,
    /// The manager has decided to commit.
    Commit,
    /// The manager has decided to abort.
    Abort,
}

/// Names a timer: a spontaneous action of the specification, or a retransmission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// RMPrepare.
    Prepare,
    /// RMChooseToAbort.
    GiveUp,
    /// TMCommit.
    Commit,
    /// TMAbort.
    Abort,
    /// A vote is sent again.
    Resend,
}

/// What a caller is told who waits for the outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// The transaction is committed.
    Committed,
    /// The transaction is aborted.
    Aborted,
    /// This node did not know when the caller stopped waiting.
    Open,
}

/// One node: the manager or a resource manager.
#[derive(Clone, Debug)]
pub struct TwoPhase {
    config: Config,
    me: NodeIx,
    state: State,
    /// Where the record of the state stands.
    since: Lsn,
    /// The manager's: which resource managers are prepared, by node less one.
    prepared: Vec<bool>,
    waiting: Vec<ReqId>,
}

impl TwoPhase {
    /// Returns where the node stands.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// Returns the position of the record that brought the node where it stands.
    #[must_use]
    pub const fn since(&self) -> Lsn {
        self.since
    }

    fn is_broken(&self, rule: Broken) -> bool {
        self.config.broken == Some(rule)
    }

    /// Goes to a state and, if it is an outcome, tells those who wait.
    fn become_(&mut self, state: State, cx: &mut Cx<'_, Self>) {
        if self.state != state {
            cx.log(self, state);
        }
        if !state.is_outcome() {
            return;
        }
        for timer in [
            Timer::Prepare,
            Timer::GiveUp,
            Timer::Commit,
            Timer::Abort,
            Timer::Resend,
        ] {
            cx.disarm(timer);
        }
        for id in std::mem::take(&mut self.waiting) {
            cx.reply(id, outcome(state));
        }
    }

    fn vote(&self, cx: &mut Cx<'_, Self>) {
        if self.is_broken(Broken::VotesBeforeTheLogIsDurable) {
            cx.send_early(MANAGER, Msg::Prepared);
        } else {
            cx.send(MANAGER, Msg::Prepared);
        }
        if !self.is_broken(Broken::AsksOnce) {
            cx.arm(Timer::Resend, self.config.resend);
        }
    }

    fn decide(&mut self, state: State, cx: &mut Cx<'_, Self>) {
        self.become_(state, cx);
        for rm in 1..=self.config.rms {
            self.tell(NodeIx(rm), cx);
        }
    }

    /// Sends the manager's decision.
    fn tell(&self, to: NodeIx, cx: &mut Cx<'_, Self>) {
        let msg = match self.state {
            State::Committed => Msg::Commit,
            State::Aborted => Msg::Abort,
            _ => return,
        };
        cx.send(to, msg);
    }

    fn start(&mut self, cx: &mut Cx<'_, Self>) {
        match self.state {
            State::Init => cx.arm(Timer::Abort, self.config.patience),
            State::Working => {
                cx.arm(Timer::Prepare, self.config.prepare_after);
                if let Some(after) = self.config.give_up_after {
                    cx.arm(Timer::GiveUp, after);
                }
            }
            State::Prepared if self.is_broken(Broken::GivesUpAfterARestart) => {
                self.become_(State::Aborted, cx);
            }
            State::Prepared => self.vote(cx),
            State::Committed | State::Aborted => {}
        }
    }

    fn receive(&mut self, from: NodeIx, msg: Msg, cx: &mut Cx<'_, Self>) {
        match (self.me == MANAGER, msg) {
            (true, Msg::Prepared) if self.state == State::Init => {
                let Some(prepared) = self.prepared.get_mut(from.index().wrapping_sub(1)) else {
                    return; // no resource manager of this transaction
                };
                *prepared = true;
                let missing = self.prepared.iter().filter(|prepared| !**prepared).count();
                let allowed = self.is_broken(Broken::CommitsWhenAllButOneArePrepared);
                if missing <= usize::from(allowed) {
                    cx.arm(Timer::Commit, Duration::ZERO);
                }
            }
            (true, Msg::Prepared) => self.tell(from, cx),
            (false, Msg::Commit) => self.become_(State::Committed, cx),
            (false, Msg::Abort) => self.become_(State::Aborted, cx),
            _ => {}
        }
    }

    fn fire(&mut self, timer: Timer, cx: &mut Cx<'_, Self>) {
        match timer {
            Timer::Prepare => {
                self.become_(State::Prepared, cx);
                if !self.is_broken(Broken::GivesUpAlthoughPrepared) {
                    cx.disarm(Timer::GiveUp);
                }
                self.vote(cx);
            }
            Timer::GiveUp => self.become_(State::Aborted, cx),
            Timer::Commit => self.decide(State::Committed, cx),
            Timer::Abort => self.decide(State::Aborted, cx),
            Timer::Resend => self.vote(cx),
        }
    }
}

const fn outcome(state: State) -> Outcome {
    match state {
        State::Committed => Outcome::Committed,
        State::Aborted => Outcome::Aborted,
        State::Init | State::Working | State::Prepared => Outcome::Open,
    }
}

impl Process for TwoPhase {
    type Config = Config;
    type Snapshot = State;
    type Req = ();
    type Rep = Outcome;
    type Msg = Msg;
    type Rec = State;
    type Timer = Timer;
    type Work = ();
    type Done = ();

    fn boot(me: Peer, config: &Config, snapshot: Option<&State>) -> Self {
        let first = if me.node == MANAGER {
            State::Init
        } else {
            State::Working
        };
        let prepared = if me.node == MANAGER { config.rms } else { 0 };
        Self {
            config: config.clone(),
            me: me.node,
            state: snapshot.copied().unwrap_or(first),
            since: Lsn::ZERO,
            prepared: vec![false; prepared as usize],
            waiting: Vec::new(),
        }
    }

    fn apply(&mut self, at: Lsn, record: &State) {
        self.state = *record;
        self.since = at;
    }

    fn snapshot(&self) -> State {
        self.state
    }

    fn step(&mut self, input: Input<Self>, cx: &mut Cx<'_, Self>) {
        match input {
            Input::Start => self.start(cx),
            Input::Msg { from, msg } => self.receive(from.node, msg, cx),
            Input::Timer(timer) => self.fire(timer, cx),
            Input::Req { id, .. } if self.state.is_outcome() => {
                cx.reply(id, outcome(self.state));
            }
            Input::Req { id, .. } => self.waiting.push(id),
            Input::Cancel(id) => {
                if let Some(at) = self.waiting.iter().position(|other| *other == id) {
                    self.waiting.remove(at);
                    cx.reply(id, Outcome::Open);
                }
            }
            Input::Drain { .. } => {
                for id in std::mem::take(&mut self.waiting) {
                    cx.reply(id, Outcome::Open);
                }
            }
            Input::PeerUp(_) | Input::PeerDown(_) | Input::Done { .. } | Input::Durable(_) => {}
        }
    }

    fn digest(&self, digest: &mut Digest) {
        digest.durable(&self.state);
        digest.volatile(&self.prepared);
        digest.volatile(&self.waiting);
    }
}
