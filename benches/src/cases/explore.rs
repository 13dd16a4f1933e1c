//! Exploration through stateright: a process of ours against an actor of stateright's own.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use dpat_model::explore::{Explore, Network, World};
use dpat_model::{Cx, Digest, Input, Lsn, NodeIx, Peer, Process};
use stateright::actor::{self, Actor, ActorModel, Id, Out};
use stateright::{Checker, Expectation, Model, Property};

use crate::harness::{Case, Contender};

pub(super) const NOTES: &str = "\
What each side does:

- Two-phase commit of Gray and Lamport, breadth first on one thread, with the property that no two resource managers \
have different outcomes. The search, its queue and its table of states are stateright's on both sides.
- *dpat-model* explores a process with everything that a node has: its log, answers, outside work. *stateright* explores \
an actor of its own framework with the same rules; its network remembers which message came last, so that it has \
more states. Time is given per generated state.";

/// 8 832 states of the specification.
const RMS: u32 = 5;
const MANAGER: u32 = 0;
/// A run is many states, which are not timed one by one.
const STATES: u64 = 1_000;

pub(super) fn cases() -> Vec<Case> {
    let case = Case::new(
        "explore",
        "generated state",
        "Explores two-phase commit with 5 resource managers; time is given per generated state.",
        Contender::told("dpat-model", crate::versions::of("dpat-model"), ours),
        vec![Contender::told(
            "stateright",
            crate::versions::of("stateright"),
            theirs,
        )],
    );
    vec![case.param("rms", RMS).items(STATES)]
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Msg {
    Prepared,
    Commit,
    Abort,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Timer {
    /// Of the manager.
    Commit,
    Abort,
    /// Of a resource manager.
    Prepare,
    GiveUp,
}

/// The manager's too: it begins at work and ends committed or aborted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Phase {
    Working,
    Prepared,
    Committed,
    Aborted,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    phase: Phase,
    /// Whom the manager knows to be prepared, a bit each.
    prepared: u64,
}

impl State {
    const START: Self = Self {
        phase: Phase::Working,
        prepared: 0,
    };

    fn is_final(&self) -> bool {
        matches!(self.phase, Phase::Committed | Phase::Aborted)
    }
}

/// What a node wants done, whoever runs it.
trait Door {
    fn send(&mut self, to: u32, msg: Msg);
    fn arm(&mut self, timer: Timer);
    fn disarm(&mut self, timer: Timer);
}

fn start(me: u32, door: &mut impl Door) {
    if me == MANAGER {
        door.arm(Timer::Abort);
    } else {
        door.arm(Timer::Prepare);
        door.arm(Timer::GiveUp);
    }
}

/// Returns whether anything has changed.
fn receive(me: u32, state: &State, from: u32, msg: Msg, door: &mut impl Door) -> Option<State> {
    if state.is_final() {
        return None;
    }
    let mut next = state.clone();
    match msg {
        Msg::Prepared if me == MANAGER => {
            next.prepared |= 1 << from;
            if next.prepared.count_ones() == RMS && next.prepared != state.prepared {
                door.arm(Timer::Commit);
            }
        }
        Msg::Commit | Msg::Abort if me != MANAGER => {
            if state.phase == Phase::Working {
                door.disarm(Timer::Prepare);
                door.disarm(Timer::GiveUp);
            }
            next.phase = if msg == Msg::Commit {
                Phase::Committed
            } else {
                Phase::Aborted
            };
        }
        _ => {}
    }
    (next != *state).then_some(next)
}

fn fire(me: u32, state: &mut State, timer: Timer, door: &mut impl Door) {
    match timer {
        Timer::Prepare => {
            state.phase = Phase::Prepared;
            door.disarm(Timer::GiveUp);
            door.send(MANAGER, Msg::Prepared);
        }
        Timer::GiveUp => {
            state.phase = Phase::Aborted;
            door.disarm(Timer::Prepare);
        }
        Timer::Commit | Timer::Abort => {
            debug_assert_eq!(me, MANAGER);
            let (phase, msg, other) = if timer == Timer::Commit {
                (Phase::Committed, Msg::Commit, Timer::Abort)
            } else {
                (Phase::Aborted, Msg::Abort, Timer::Commit)
            };
            state.phase = phase;
            door.disarm(other);
            for to in 1..=RMS {
                door.send(to, msg);
            }
        }
    }
}

/// No two resource managers have different outcomes.
fn consistent<'a>(states: impl Iterator<Item = &'a State> + Clone) -> bool {
    let has = |phase| states.clone().skip(1).any(|state| state.phase == phase);
    !(has(Phase::Committed) && has(Phase::Aborted))
}

#[derive(Clone, Debug)]
struct Node {
    me: u32,
    state: State,
}

impl Door for Cx<'_, Node> {
    fn send(&mut self, to: u32, msg: Msg) {
        Cx::send(self, NodeIx(to), msg);
    }
    fn arm(&mut self, timer: Timer) {
        Cx::arm(self, timer, Duration::from_secs(1));
    }
    fn disarm(&mut self, timer: Timer) {
        Cx::disarm(self, timer);
    }
}

impl Process for Node {
    type Config = ();
    type Snapshot = ();
    type Req = ();
    type Rep = ();
    type Msg = Msg;
    type Rec = ();
    type Timer = Timer;
    type Work = ();
    type Done = ();

    fn boot(me: Peer, (): &(), _: Option<&()>) -> Self {
        Self {
            me: me.node.0,
            state: State::START,
        }
    }
    fn apply(&mut self, _: Lsn, (): &()) {}
    fn snapshot(&self) {}
    fn step(&mut self, input: Input<Self>, cx: &mut Cx<'_, Self>) {
        match input {
            Input::Start => start(self.me, cx),
            Input::Msg { from, msg } => {
                if let Some(next) = receive(self.me, &self.state, from.node.0, msg, cx) {
                    self.state = next;
                }
            }
            Input::Timer(timer) => fire(self.me, &mut self.state, timer, cx),
            _ => {}
        }
    }
    fn digest(&self, digest: &mut Digest) {
        digest.volatile(&self.state);
    }
}

fn ours() -> f64 {
    let system = Explore::<Node>::new(vec![(); RMS as usize + 1])
        .network(Network::Duplicating)
        .property(Property::always("consistency", |_, world: &World<Node>| {
            let states: Vec<&State> = world.processes().map(|node| &node.state).collect();
            consistent(states.iter().copied())
        }));
    explored(system)
}

/// The same node as an actor.
#[derive(Clone, Debug)]
struct Theirs;

impl Door for Out<Theirs> {
    fn send(&mut self, to: u32, msg: Msg) {
        Out::send(self, Id::from(to as usize), msg);
    }
    fn arm(&mut self, timer: Timer) {
        self.set_timer(timer, actor::model_timeout());
    }
    fn disarm(&mut self, timer: Timer) {
        self.cancel_timer(timer);
    }
}

fn number(id: Id) -> u32 {
    u32::try_from(usize::from(id)).expect("few nodes")
}

impl Actor for Theirs {
    type Msg = Msg;
    type Timer = Timer;
    type State = State;
    type Storage = ();
    type Random = ();

    fn on_start(&self, id: Id, _: &Option<()>, o: &mut Out<Self>) -> State {
        start(number(id), o);
        State::START
    }
    fn on_msg(&self, id: Id, state: &mut Cow<'_, State>, src: Id, msg: Msg, o: &mut Out<Self>) {
        if let Some(next) = receive(number(id), state, number(src), msg, o) {
            *state = Cow::Owned(next);
        }
    }
    fn on_timeout(&self, id: Id, state: &mut Cow<'_, State>, timer: &Timer, o: &mut Out<Self>) {
        fire(number(id), state.to_mut(), *timer, o);
    }
}

fn theirs() -> f64 {
    let system = ActorModel::new((), ())
        .actors((0..=RMS).map(|_| Theirs))
        .init_network(actor::Network::new_unordered_duplicating([]))
        .property(Expectation::Always, "consistency", |_, state| {
            consistent(state.actor_states.iter().map(AsRef::as_ref))
        });
    explored(system)
}

/// Explores and returns the nanoseconds of so many generated states.
#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn explored<M>(system: M) -> f64
where
    M: Model + Send + Sync + 'static,
    M::State: Clone + PartialEq + std::fmt::Debug + std::hash::Hash + Send + Sync,
    M::Action: Clone + std::fmt::Debug + PartialEq + Send + Sync,
{
    let begun = Instant::now();
    let checker = system.checker().spawn_bfs().join();
    let took = begun.elapsed().as_nanos() as f64;
    checker.assert_properties();
    took * STATES as f64 / checker.state_count() as f64
}
