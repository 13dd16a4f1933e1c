//! A system of asynchronous programs, and what it takes to run and judge it.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::time::Duration;

use dpat_model::{Fault, Script};

use super::node::AsyncNode;
use super::sim::AsyncSim;
use crate::{Info, Judge, Mutant, Outcome, Plan, RunSpec, Setup, Simulation, SpecError, Stream};

/// A program or a call: a future that the executor polls to its end.
pub type Program = Pin<Box<dyn Future<Output = ()> + Send>>;

/// In which order tasks that are ready are polled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Schedule {
    /// An order drawn from the seed, so that seeds explore interleavings.
    #[default]
    Random,
    /// First come, first served, as most runtimes do on one thread.
    Fifo,
}

/// What a run may use at most. A program that asks for more has a leak, or no backpressure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct AsyncLimits {
    /// Tasks at once, of all nodes; more is the violation `task-limit`. 100 000 by default.
    pub tasks_max: usize,
    /// Messages on their way, held by links or waiting for paused nodes; more is the violation `message-limit`.
    /// 100 000 by default.
    pub messages_max: usize,
    /// Calls under way; further ones are refused with [`CallError::TooMany`](super::CallError::TooMany). 100 000 by
    /// default.
    pub calls_max: usize,
    /// The longest that one call waits for its answer. 60 s by default.
    pub call_max: Duration,
}

impl Default for AsyncLimits {
    fn default() -> Self {
        Self {
            tasks_max: 100_000,
            messages_max: 100_000,
            calls_max: 100_000,
            call_max: Duration::from_secs(60),
        }
    }
}

/// A system of restartable asynchronous programs; a value is the state of one run: programs, workload and judge.
///
/// A run has a *safety phase* of [`Plan::chaos`], in which the script's faults strike; then everything heals, and after
/// [`Plan::settle`] more, or once it [is settled](Self::is_settled), [`finish`](Self::finish) judges the end.
pub trait AsyncSystem: Sized + 'static {
    /// The name on command lines and in scripts.
    const NAME: &'static str;
    /// One line about it.
    const ABOUT: &'static str;
    /// How many nodes it has unless somebody asks for another number.
    const NODES: u32;
    /// How many it needs.
    const NODES_MIN: u32 = 1;
    /// How many it may have.
    const NODES_MAX: u32 = 1_000;
    /// The names of its properties. `panic`, `event-limit`, `task-limit` and `message-limit` are judged everywhere.
    const PROPERTIES: &'static [&'static str];
    /// Its known-bad variants.
    const MUTANTS: &'static [Mutant] = &[];
    /// The kinds of its messages. A batch of runs in which one is never delivered is vacuous.
    const KINDS: &'static [&'static str];
    /// The names of its nodes, for scripts and traces; none for a system whose nodes are numbered.
    const NAMES: &'static [&'static str] = &[];

    /// Starts a run.
    fn new(setup: &Setup) -> Self;

    /// Hears the script of the run, before anything starts: for systems whose programs spoil requests by themselves.
    fn scripted(&mut self, _script: &Script) {}

    /// Starts a life of a node: returns its program.
    ///
    /// When the program ends, what it spawned and serves goes on. A panic of any task is the violation `panic`.
    fn node(&mut self, node: AsyncNode) -> Program;

    /// Returns the number of clients. A client makes one call after the other, or [sooner](AsyncNode::next_call).
    fn clients(&self) -> u32 {
        0
    }

    /// Returns the next call of a client, or none if it makes no more.
    ///
    /// The stream is fresh for every (seed, client, call), so that a call which a script leaves out does not change the
    /// others.
    fn call(
        &mut self,
        _client: u32,
        _call: u64,
        _node: AsyncNode,
        _rng: Stream,
    ) -> Option<Program> {
        None
    }

    /// Returns how long a run is, and which faults may be drawn for it.
    #[must_use]
    fn plan() -> Plan {
        Plan::default()
    }

    /// Returns the script that a seed draws.
    #[must_use]
    fn draw(setup: &Setup) -> Script {
        Self::plan().script(Self::NAME, setup.nodes, Self::KINDS, setup.seed)
    }

    /// Returns in which order ready tasks are polled.
    fn schedule(&self) -> Schedule {
        Schedule::Random
    }

    /// Returns what the run may use at most.
    fn limits(&self) -> AsyncLimits {
        AsyncLimits::default()
    }

    /// Refuses a fault that the system cannot have, with the reason. By default the faults of single requests, which
    /// programs would have to produce by themselves.
    #[must_use]
    fn refuses(fault: &Fault) -> Option<&'static str> {
        match fault {
            Fault::Error { .. }
            | Fault::Drop { .. }
            | Fault::Garble { .. }
            | Fault::Latency { .. }
            | Fault::Hang { .. } => {
                Some("is for requests that the system's programs would have to spoil")
            }
            _ => None,
        }
    }

    /// Says whether the healed system has nothing more to do, so that the run may end early; asked now and then.
    fn is_settled(&mut self) -> bool {
        false
    }

    /// Judges the end of a run: what must have happened by now, and histories.
    fn finish(&mut self, _judge: &mut Judge) {}
}

/// Runs a system once.
///
/// # Errors
/// [`SpecError`]; nothing was run.
pub fn run_async<S: AsyncSystem>(spec: &RunSpec) -> Result<Outcome, SpecError> {
    Ok(AsyncSim::<S>::start(spec)?.complete())
}

/// An [`AsyncSystem`] as a [`Simulation`], for batches, replays, the shrinker and the lab.
pub struct AsyncOf<S>(PhantomData<fn() -> S>);

impl<S> AsyncOf<S> {
    /// Makes the simulation.
    #[must_use]
    pub const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<S> Default for AsyncOf<S> {
    fn default() -> Self {
        Self::new()
    }
}

impl<S: AsyncSystem> fmt::Debug for AsyncOf<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AsyncOf").field(&S::NAME).finish()
    }
}

impl<S: AsyncSystem> Simulation for AsyncOf<S> {
    fn info(&self) -> Info {
        Info {
            name: S::NAME,
            about: S::ABOUT,
            nodes_default: S::NODES,
            nodes_min: S::NODES_MIN,
            properties: S::PROPERTIES,
            mutants: S::MUTANTS,
            kinds: S::KINDS,
            phases: &["up"],
            plan: S::plan(),
        }
    }

    fn script(&self, spec: &RunSpec) -> Result<Script, SpecError> {
        AsyncSim::<S>::script_of(spec)
    }

    fn run(&self, spec: &RunSpec) -> Result<Outcome, SpecError> {
        run_async::<S>(spec)
    }
}
