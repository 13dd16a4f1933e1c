//! Exhaustive exploration of protocols, through `stateright`: what `dpat mc` prints.

use std::fmt;

use dpat_model::NodeIx;
use dpat_model::explore::{Event, Explore, Network, World};
use serde::Serialize;
use stateright::{Checker, Model, Property};

use super::two_phase::{Broken, Config, MANAGER, Msg, State, Timer, TwoPhase};

/// The most resource managers that are explored.
///
/// Distinct states grow about sixfold with each: 296 448 for 7 and 1 745 408 for 8, all of them in memory.
pub const RMS_MAX: u32 = 8;

/// What an exploration found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explored {
    /// Different states.
    pub distinct_states: usize,
    /// Initial states and all successors, the equal ones included.
    pub generated_states: usize,
    /// States on the longest of the shortest paths; an initial state has depth 1.
    pub depth: usize,
    /// Properties that do not hold.
    pub violations: Vec<Violation>,
}

/// A property that does not hold, and how to get there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// The property.
    pub property: String,
    /// The fewest actions that lead to a bad state.
    pub actions: Vec<String>,
}

/// A system that is too large, or none at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SizeError {
    /// What was asked for.
    pub rms: u32,
}

impl fmt::Display for SizeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rms: {} is not between 1 and {RMS_MAX}", self.rms)
    }
}

impl std::error::Error for SizeError {}

/// Explores two-phase commit with `rms` resource managers, as the classic specification counts.
///
/// The process is the one that is simulated. Messages stay in the network, as the specification keeps its set of
/// messages; see [`two_phase_system`] for what is left out.
///
/// # Errors
/// [`SizeError`] if `rms` is 0 or above [`RMS_MAX`].
///
/// # Examples
/// ```
/// let explored = dpat_cases::protocols::mc::two_phase(3)?;
/// assert_eq!((explored.distinct_states, explored.generated_states, explored.depth), (288, 1146, 11));
/// # Ok::<(), dpat_cases::protocols::mc::SizeError>(())
/// ```
pub fn two_phase(rms: u32) -> Result<Explored, SizeError> {
    explore(rms, None)
}

/// Explores a mutant of two-phase commit.
///
/// # Errors
/// [`SizeError`] as for [`two_phase`].
pub fn two_phase_mutant(rms: u32, broken: Broken) -> Result<Explored, SizeError> {
    explore(rms, Some(broken))
}

/// Returns two-phase commit with everything that the process does, also what the specification does not have:
/// votes sent again and answered again once there is a decision. Those events change no state.
#[must_use]
pub fn two_phase_system(rms: u32, broken: Option<Broken>) -> Explore<TwoPhase> {
    let config = Config {
        broken,
        ..Config::new(rms)
    };
    let nodes = rms as usize + 1;
    Explore::new(vec![config; nodes])
        .network(Network::Duplicating)
        .property(Property::always("consistency", |_, world| {
            consistent(world)
        }))
        .property(Property::always(
            "commit only if all prepared",
            |_, world| commits_if_all_prepared(world),
        ))
}

/// Says whether an event is an action of the specification. TMRcvPrepared is one only before the decision, and
/// nothing is sent twice.
fn in_specification(world: &World<TwoPhase>, event: &Event<Msg, Timer>) -> bool {
    match event {
        Event::Deliver(_, to, Msg::Prepared) => world
            .processes()
            .nth(to.index())
            .is_some_and(|manager| manager.state() == State::Init),
        Event::Timer(_, Timer::Resend) => false,
        _ => true,
    }
}

/// TCConsistent of the specification: no two resource managers have different outcomes.
fn consistent(world: &World<TwoPhase>) -> bool {
    let has = |state| {
        let resource_managers = world.processes().skip(MANAGER.index() + 1);
        resource_managers.map(TwoPhase::state).any(|it| it == state)
    };
    !(has(State::Committed) && has(State::Aborted))
}

/// While the manager has just committed, no resource manager is still at work.
fn commits_if_all_prepared(world: &World<TwoPhase>) -> bool {
    let mut states = world.processes().map(TwoPhase::state);
    states.next() != Some(State::Committed) || states.all(|state| state != State::Working)
}

fn explore(rms: u32, broken: Option<Broken>) -> Result<Explored, SizeError> {
    if !(1..=RMS_MAX).contains(&rms) {
        return Err(SizeError { rms });
    }
    let system = || two_phase_system(rms, broken).enabled(in_specification);
    // One thread: the depth is that of a breadth-first search only then.
    let checker = system().checker().spawn_bfs().join();
    let mut violated: Vec<&'static str> = checker.discoveries().into_keys().collect();
    violated.sort_unstable();
    Ok(Explored {
        distinct_states: checker.unique_state_count(),
        generated_states: checker.state_count(),
        depth: checker.max_depth(),
        violations: violated
            .into_iter()
            .map(|property| shortest(&system, property))
            .collect(),
    })
}

/// Explores deeper and deeper until a property is violated: the checker keeps the last path that it finds.
fn shortest(system: &impl Fn() -> Explore<TwoPhase>, property: &'static str) -> Violation {
    let mut depth = 1;
    let path = loop {
        depth += 1; // states of less depth are judged
        let checker = system()
            .checker()
            .target_max_depth(depth)
            .spawn_bfs()
            .join();
        if let Some(path) = checker.discovery(property) {
            break path;
        }
    };
    let actions = path.into_actions();
    Violation {
        property: property.to_owned(),
        actions: actions.iter().map(|it| describe(&it.event)).collect(),
    }
}

/// Names an action as the specification does.
fn describe(event: &Event<Msg, Timer>) -> String {
    let rm = |node: &NodeIx| format!("(rm{})", node.0);
    match event {
        Event::Deliver(from, _, Msg::Prepared) => format!("TMRcvPrepared{}", rm(&from.node)),
        Event::Deliver(_, to, Msg::Commit) => format!("RMRcvCommitMsg{}", rm(to)),
        Event::Deliver(_, to, Msg::Abort) => format!("RMRcvAbortMsg{}", rm(to)),
        Event::Timer(_, Timer::Commit) => "TMCommit".to_owned(),
        Event::Timer(_, Timer::Abort) => "TMAbort".to_owned(),
        Event::Timer(node, Timer::Prepare) => format!("RMPrepare{}", rm(node)),
        Event::Timer(node, Timer::GiveUp) => format!("RMChooseToAbort{}", rm(node)),
        other => format!("{other:?}"),
    }
}
