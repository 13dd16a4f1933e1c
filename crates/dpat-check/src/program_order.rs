//! Sequential consistency: one order of all operations that keeps the order of each process.

use std::collections::HashMap;

use crate::error::BadOperation;
use crate::hash::Set;
use crate::history::History;
use crate::limits::{Limits, Meter, Stopped};
use crate::linear::check;
use crate::model::Model;
use crate::object::{Counter, Elements, Lock, Object, Queue, Register, Stack, Store, read_all};
use crate::verdict::{Verdict, Violation};
use crate::wgl::{States, small};

/// Decides whether a history is sequentially consistent for one of the objects.
///
/// Lamport 1979, "How to Make a Multiprocessor Computer That Correctly Executes Multiprocess Programs". Real time
/// between processes does not count. A model that is no object is decided as [`check`] does.
///
/// In the violation, `longest_prefix` is the longest order that was found, and `blocked` is the first operation that
/// it leaves out.
///
/// # Errors
/// [`BadOperation`] if the model does not have an operation of the history.
///
/// # Complexity
/// Exponential in the number of processes, in the worst case; the problem is NP-complete, and a whole key–value store
/// is searched at once, since sequential consistency is not local.
pub fn check_sequential(
    history: &History,
    model: Model,
    limits: &Limits<'_>,
) -> Result<Verdict, BadOperation> {
    let meter = &mut limits.meter();
    match model {
        Model::Register => decide(&Register { cas: false }, history, meter),
        Model::CasRegister => decide(&Register { cas: true }, history, meter),
        Model::Kv => decide(&Store, history, meter),
        Model::Queue => decide(&Queue, history, meter),
        Model::Set => decide(&Elements, history, meter),
        Model::Stack => decide(&Stack, history, meter),
        Model::Counter => decide(&Counter, history, meter),
        Model::Lock => decide(&Lock, history, meter),
        Model::ListAppend | Model::RwRegister | Model::Delivery => check(history, model, limits),
    }
}

/// A step of a process.
#[derive(Clone, Copy)]
struct Step {
    /// Its place among the invocations.
    index: usize,
    content: u32,
    required: bool,
    reads_only: bool,
}

/// How far each process is, and what is left to try there.
struct Frame {
    positions: Box<[u32]>,
    state: u32,
    next: usize,
    placed: usize,
}

fn decide<T: Object>(
    object: &T,
    history: &History,
    meter: &mut Meter<'_>,
) -> Result<Verdict, BadOperation> {
    let items = read_all(object, history)?;
    let mut contents = Vec::new();
    let mut content_of = HashMap::new();
    let mut lane_of = HashMap::new();
    let mut lanes: Vec<Vec<Step>> = Vec::new();
    for item in &items {
        let content = *content_of.entry(&item.op).or_insert_with(|| {
            contents.push(&item.op);
            small(contents.len() - 1)
        });
        let process = history.operations()[item.index].process;
        let lane = *lane_of.entry(process).or_insert_with(|| {
            lanes.push(Vec::new());
            lanes.len() - 1
        });
        lanes[lane].push(Step {
            index: item.index,
            content,
            required: item.returned.is_some(),
            reads_only: object.reads_only(&item.op),
        });
    }
    let states = States::new(object, &contents);
    Ok(match search(&lanes, states, meter) {
        Err(stopped) => Verdict::Unknown(stopped),
        Ok(None) => Verdict::Ok,
        Ok(Some(longest_prefix)) => {
            let placed: Set<usize> = longest_prefix.iter().copied().collect();
            let mut left = lanes.iter().flatten().filter(|step| step.required);
            let blocked = left.find(|step| !placed.contains(&step.index));
            Verdict::violated(Violation {
                blocked: blocked.map_or(0, |step| step.index),
                longest_prefix,
                ..Violation::default()
            })
        }
    })
}

/// Returns the longest order, unless there is one of everything.
fn search<T: Object>(
    lanes: &[Vec<Step>],
    mut states: States<'_, '_, T>,
    meter: &mut Meter<'_>,
) -> Result<Option<Vec<usize>>, Stopped> {
    let mut seen: Set<(Box<[u32]>, u32)> = Set::default();
    let mut placed = Vec::new();
    let mut longest = Vec::new();
    let mut stack = Vec::new();
    let mut fresh = Some(Frame {
        positions: vec![0; lanes.len()].into(),
        state: states.initial(),
        next: 0,
        placed: 0,
    });
    loop {
        meter.tick()?;
        if let Some(mut frame) = fresh.take() {
            read(lanes, &mut states, &mut frame, &mut placed);
            if finished(lanes, &frame.positions) {
                return Ok(None);
            }
            if placed.len() > longest.len() {
                longest.clone_from(&placed);
            }
            if seen.insert((frame.positions.clone(), frame.state)) {
                meter.remembers(seen.len() + states.remembered())?;
                stack.push(frame);
            } else {
                placed.truncate(frame.placed);
            }
        }
        let Some(frame) = stack.last_mut() else {
            return Ok(Some(longest));
        };
        let Some(lane) = lanes.get(frame.next) else {
            placed.truncate(frame.placed);
            stack.pop();
            continue;
        };
        let at = frame.next;
        frame.next += 1;
        let Some(step) = lane.get(frame.positions[at] as usize) else {
            continue;
        };
        let after = (!step.reads_only)
            .then(|| states.step(frame.state, step.content))
            .flatten()
            .filter(|after| step.required || *after != frame.state);
        if let Some(state) = after {
            let mut positions = frame.positions.clone();
            positions[at] += 1;
            fresh = Some(Frame {
                positions,
                state,
                next: 0,
                placed: placed.len(),
            });
            placed.push(step.index);
        }
    }
}

/// Places the reads that fit, since nothing after them sees a difference.
fn read<T: Object>(
    lanes: &[Vec<Step>],
    states: &mut States<'_, '_, T>,
    frame: &mut Frame,
    placed: &mut Vec<usize>,
) {
    for (lane, position) in lanes.iter().zip(&mut frame.positions) {
        while let Some(step) = lane.get(*position as usize) {
            if !step.reads_only || states.step(frame.state, step.content).is_none() {
                break;
            }
            placed.push(step.index);
            *position += 1;
        }
    }
}

fn finished(lanes: &[Vec<Step>], positions: &[u32]) -> bool {
    lanes
        .iter()
        .zip(positions)
        .all(|(lane, position)| lane[*position as usize..].iter().all(|step| !step.required))
}
