//! The search for a linearization.
//!
//! Wing and Gong 1993, "Testing and Verifying Concurrent Objects", with the memory of Lowe 2017, "Testing for
//! Linearizability". A configuration is not the set of all operations placed so far, but what is left of it at the
//! *frontier*, the first return whose operation is not placed: everything that returned before is placed, nothing
//! called later can be, so that one bit for each open call says it all.
//!
//! Three exchanges cut the search without losing a linearization:
//! - an operation that only reads is placed at once where it fits, since nothing after it sees a difference;
//! - of two equal operations, of which one is called and returns no later than the other, it goes first;
//! - an operation of unknown outcome is not placed where it changes nothing, since it need not happen.

use std::collections::HashMap;
use std::hash::Hash;
use std::rc::Rc;

use crate::hash::{Map, Set};
use crate::limits::{Limits, Meter, Stopped};
use crate::sequential::{Sequential, Timed};
use crate::verdict::{Verdict, Violation};

/// Decides whether timed operations are linearizable.
///
/// Calls are taken as open from `called` to `returned`, both included. Herlihy and Wing 1990, "Linearizability: A
/// Correctness Condition for Concurrent Objects".
///
/// In the violation, operations are named by their place in `operations`.
///
/// # Complexity
/// Linear without concurrency; exponential in the number of calls open at once, in the worst case.
#[must_use]
pub fn linearize<S: Sequential>(
    model: &S,
    operations: &[Timed<S::Op>],
    limits: &Limits<'_>,
) -> Verdict {
    let calls: Vec<_> = operations
        .iter()
        .map(|timed| Call {
            op: &timed.op,
            called: timed.called,
            returned: timed.returned,
        })
        .collect();
    match search(model, &calls, &mut limits.meter()) {
        Err(stopped) => Verdict::Unknown(stopped),
        Ok(Search::Linearizable(_)) => Verdict::Ok,
        Ok(Search::Stuck { prefix, blocked }) => Verdict::violated(Violation {
            longest_prefix: prefix,
            blocked,
            ..Violation::default()
        }),
    }
}

/// An operation and the time it was open; without a return it need not happen.
#[derive(Debug)]
pub(crate) struct Call<'a, O> {
    pub(crate) op: &'a O,
    pub(crate) called: u64,
    pub(crate) returned: Option<u64>,
}

impl<O> Clone for Call<'_, O> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<O> Copy for Call<'_, O> {}

/// How a search ended; operations are indices of the calls.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Search {
    Linearizable(Vec<usize>),
    Stuck { prefix: Vec<usize>, blocked: usize },
}

pub(crate) fn search<S: Sequential>(
    model: &S,
    calls: &[Call<'_, S::Op>],
    meter: &mut Meter<'_>,
) -> Result<Search, Stopped> {
    let plan = Plan::new(model, calls);
    let slots = plan.required_slots + plan.optional.len();
    if slots <= 64 {
        Searcher::<S, u64>::new(model, &plan, meter).run()
    } else if slots <= 128 {
        Searcher::<S, u128>::new(model, &plan, meter).run()
    } else {
        Searcher::<S, Box<[u64]>>::new(model, &plan, meter).run()
    }
}

/// Which open calls are placed.
trait Bits: Clone + Eq + Hash {
    fn none(slots: usize) -> Self;
    fn has(&self, slot: usize) -> bool;
    fn set(&mut self, slot: usize);
    fn clear(&mut self, slot: usize);
}

macro_rules! word {
    ($word:ty) => {
        impl Bits for $word {
            fn none(_slots: usize) -> Self {
                0
            }
            fn has(&self, slot: usize) -> bool {
                self >> slot & 1 == 1
            }
            fn set(&mut self, slot: usize) {
                *self |= 1 << slot;
            }
            fn clear(&mut self, slot: usize) {
                *self &= !(1 << slot);
            }
        }
    };
}
word!(u64);
word!(u128);

impl Bits for Box<[u64]> {
    fn none(slots: usize) -> Self {
        vec![0; slots.div_ceil(64)].into()
    }
    fn has(&self, slot: usize) -> bool {
        self[slot / 64] >> (slot % 64) & 1 == 1
    }
    fn set(&mut self, slot: usize) {
        self[slot / 64] |= 1 << (slot % 64);
    }
    fn clear(&mut self, slot: usize) {
        self[slot / 64] &= !(1 << (slot % 64));
    }
}

const NONE: u32 = u32::MAX;

/// A call as the search sees it.
#[derive(Clone, Copy, Debug)]
struct Planned {
    /// Equal for equal operations.
    content: u32,
    slot: u32,
    /// An equal operation that goes first, or `NONE`.
    twin: u32,
    /// The position of the return, or `NONE` if it need not happen.
    returned: u32,
    reads_only: bool,
}

/// Opens or closes a slot.
#[derive(Clone, Copy, Debug)]
struct Step {
    call: u32,
    returns: bool,
}

/// The history cut into calls and returns.
struct Plan<'a, O> {
    steps: Vec<Step>,
    calls: Vec<Planned>,
    /// One operation of each content.
    contents: Vec<&'a O>,
    /// Slots of calls that return; they are used again.
    required_slots: usize,
    /// Calls of unknown outcome in their order; each keeps its slot.
    optional: Vec<u32>,
}

pub(crate) fn small(index: usize) -> u32 {
    u32::try_from(index).expect("a history has fewer than 2^32 events")
}

impl<'a, O: Eq + Hash> Plan<'a, O> {
    fn new<S: Sequential<Op = O>>(model: &S, calls: &[Call<'a, O>]) -> Self {
        let mut ends = Vec::with_capacity(calls.len() * 2);
        let last = calls
            .iter()
            .filter_map(|call| Some(call.returned?.max(call.called)))
            .max();
        for (index, call) in calls.iter().enumerate() {
            // What is called after the last return changes nothing.
            if Some(call.called) <= last {
                ends.push((call.called, false, small(index)));
            }
            if let Some(returned) = call.returned {
                // A return before its call is a clock's fault: then it is open for a moment.
                ends.push((returned.max(call.called), true, small(index)));
            }
        }
        ends.sort_unstable();

        let mut contents = Vec::new();
        let mut content_of: HashMap<&O, u32> = HashMap::new();
        let mut planned: Vec<Planned> = calls
            .iter()
            .map(|call| {
                let next = small(contents.len());
                let content = *content_of.entry(call.op).or_insert_with(|| {
                    contents.push(call.op);
                    next
                });
                Planned {
                    content,
                    slot: NONE,
                    twin: NONE,
                    returned: NONE,
                    reads_only: model.reads_only(call.op),
                }
            })
            .collect();

        let mut steps = Vec::with_capacity(ends.len());
        let mut free = Vec::new();
        let mut required_slots = 0;
        let mut optional = Vec::new();
        for (_, returns, call) in ends {
            let entry = &mut planned[call as usize];
            if returns {
                entry.returned = small(steps.len());
                free.push(entry.slot);
            } else if calls[call as usize].returned.is_some() {
                entry.slot = free.pop().unwrap_or_else(|| {
                    required_slots += 1;
                    small(required_slots - 1)
                });
            } else if entry.reads_only {
                continue; // it need not happen, and nobody would see it
            } else {
                entry.slot = small(optional.len());
                optional.push(call);
            }
            steps.push(Step { call, returns });
        }
        for call in &optional {
            planned[*call as usize].slot += small(required_slots);
        }

        let mut twins: Vec<u32> = vec![NONE; contents.len()];
        for step in &steps {
            if step.returns {
                continue;
            }
            let index = step.call as usize;
            let twin = &mut twins[planned[index].content as usize];
            if *twin != NONE && planned[*twin as usize].returned <= planned[index].returned {
                planned[index].twin = *twin;
            }
            *twin = step.call;
        }
        Self {
            steps,
            calls: planned,
            contents,
            required_slots,
            optional,
        }
    }
}

/// A place to which the search may come back.
struct Frame<B> {
    /// The first return whose operation is not placed.
    frontier: u32,
    /// Optional calls before the frontier.
    optional: u32,
    state: u32,
    bits: B,
    /// The next candidate to try.
    next: u32,
    /// How much was placed before the choice that led here.
    placed: u32,
}

struct Searcher<'p, 'a, 'm, 'c, S: Sequential, B> {
    plan: &'p Plan<'a, S::Op>,
    meter: &'m mut Meter<'c>,
    states: States<'p, 'a, S>,
    seen: Set<(u32, u32, B)>,
    /// By slot of a required call: the call that is open at the frontier.
    open: Vec<u32>,
    placed: Vec<u32>,
    best: Best,
}

impl<'p, 'a, 'm, 'c, S: Sequential, B: Bits> Searcher<'p, 'a, 'm, 'c, S, B> {
    fn new(model: &'p S, plan: &'p Plan<'a, S::Op>, meter: &'m mut Meter<'c>) -> Self {
        Self {
            plan,
            meter,
            states: States::new(model, &plan.contents),
            seen: Set::default(),
            open: vec![NONE; plan.required_slots],
            placed: Vec::new(),
            best: Best::default(),
        }
    }

    fn run(mut self) -> Result<Search, Stopped> {
        let mut stack = Vec::new();
        let root = Frame {
            frontier: 0,
            optional: 0,
            state: self.states.initial(),
            bits: B::none(self.plan.required_slots + self.plan.optional.len()),
            next: 0,
            placed: 0,
        };
        let mut found = self.enter(root, &mut stack)?;
        while let (false, Some(frame)) = (found, stack.last_mut()) {
            self.meter.tick()?;
            if let Some(child) = self.choose(frame) {
                found = self.enter(child, &mut stack)?;
            } else if let Some(frame) = stack.pop() {
                self.leave(&frame, stack.last());
            }
        }
        let calls = |calls: Vec<u32>| calls.into_iter().map(|call| call as usize).collect();
        Ok(if found {
            Search::Linearizable(calls(self.placed))
        } else {
            Search::Stuck {
                blocked: self.plan.steps[self.best.frontier as usize].call as usize,
                prefix: calls(self.best.placed),
            }
        })
    }

    /// Goes to a configuration unless it was seen; says whether everything is placed.
    fn enter(&mut self, mut frame: Frame<B>, stack: &mut Vec<Frame<B>>) -> Result<bool, Stopped> {
        if self.settle(&mut frame) {
            return Ok(true);
        }
        self.best.reached(frame.frontier);
        let key = (frame.frontier, frame.state, frame.bits.clone());
        if self.seen.insert(key) {
            self.meter
                .remembers(self.seen.len() + self.states.remembered())?;
            stack.push(frame);
        } else {
            self.leave(&frame, stack.last());
        }
        Ok(false)
    }

    /// Places the reads that fit and moves the frontier; says whether everything is placed.
    fn settle(&mut self, frame: &mut Frame<B>) -> bool {
        for slot in 0..self.open.len() {
            let call = self.open[slot];
            if call != NONE && !frame.bits.has(slot) {
                self.place_read(call, frame);
            }
        }
        while let Some(step) = self.plan.steps.get(frame.frontier as usize) {
            let planned = self.plan.calls[step.call as usize];
            let slot = planned.slot as usize;
            if step.returns {
                if !frame.bits.has(slot) {
                    return false;
                }
                frame.bits.clear(slot);
                self.open[slot] = NONE;
            } else if planned.returned == NONE {
                frame.optional += 1;
            } else {
                self.open[slot] = step.call;
                self.place_read(step.call, frame);
            }
            frame.frontier += 1;
        }
        true
    }

    fn place_read(&mut self, call: u32, frame: &mut Frame<B>) {
        let planned = self.plan.calls[call as usize];
        if planned.reads_only && self.states.step(frame.state, planned.content).is_some() {
            frame.bits.set(planned.slot as usize);
            self.placed.push(call);
        }
    }

    /// Places the next candidate: the call at the frontier, then the other open ones.
    fn choose(&mut self, frame: &mut Frame<B>) -> Option<Frame<B>> {
        let plan = self.plan;
        let urgent = plan.steps[frame.frontier as usize].call;
        let required = self.open.len();
        loop {
            let cursor = frame.next as usize;
            let call = match cursor.checked_sub(1) {
                None => urgent,
                Some(slot) if slot < required => self.open[slot],
                Some(after) if after - required < frame.optional as usize => {
                    plan.optional[after - required]
                }
                Some(_) => return None,
            };
            frame.next += 1;
            if call == NONE || (call == urgent && cursor > 0) {
                continue;
            }
            let planned = plan.calls[call as usize];
            let slot = planned.slot as usize;
            if planned.reads_only || frame.bits.has(slot) || !self.is_placed(planned.twin, frame) {
                continue;
            }
            let Some(state) = self.states.step(frame.state, planned.content) else {
                continue;
            };
            if planned.returned == NONE && state == frame.state {
                continue;
            }
            let mut child = Frame {
                frontier: frame.frontier,
                optional: frame.optional,
                state,
                bits: frame.bits.clone(),
                next: 0,
                placed: small(self.placed.len()),
            };
            child.bits.set(slot);
            self.placed.push(call);
            return Some(child);
        }
    }

    fn is_placed(&self, call: u32, frame: &Frame<B>) -> bool {
        if call == NONE {
            return true;
        }
        let planned = self.plan.calls[call as usize];
        planned.returned < frame.frontier || frame.bits.has(planned.slot as usize)
    }

    /// Takes back what was placed since the parent.
    fn leave(&mut self, frame: &Frame<B>, parent: Option<&Frame<B>>) {
        self.best.save(frame.frontier, &self.placed);
        self.placed.truncate(frame.placed as usize);
        self.best.kept = self.best.kept.min(self.placed.len());
        let frontier = parent.map_or(0, |parent| parent.frontier);
        for step in self.plan.steps[frontier as usize..frame.frontier as usize]
            .iter()
            .rev()
        {
            let planned = self.plan.calls[step.call as usize];
            if planned.returned != NONE {
                self.open[planned.slot as usize] = if step.returns { step.call } else { NONE };
            }
        }
    }
}

/// The order that reached the furthest frontier.
#[derive(Debug, Default)]
struct Best {
    frontier: u32,
    placed: Vec<u32>,
    saved: bool,
    /// How much of `placed` the current order still begins with.
    kept: usize,
}

impl Best {
    fn reached(&mut self, frontier: u32) {
        if frontier > self.frontier {
            self.frontier = frontier;
            self.saved = false;
        }
    }

    /// Copies the order when the search turns back, and only what has changed.
    fn save(&mut self, frontier: u32, placed: &[u32]) {
        if self.saved || frontier != self.frontier {
            return;
        }
        self.saved = true;
        self.placed.truncate(self.kept);
        self.placed.extend_from_slice(&placed[self.kept..]);
        self.kept = placed.len();
    }
}

/// The states that were reached, each once, and the steps between them.
pub(crate) struct States<'p, 'a, S: Sequential> {
    model: &'p S,
    contents: &'p [&'a S::Op],
    ids: HashMap<Rc<S::State>, u32>,
    states: Vec<Rc<S::State>>,
    steps: Map<(u32, u32), u32>,
    weight: usize,
}

impl<'p, 'a, S: Sequential> States<'p, 'a, S> {
    pub(crate) fn new(model: &'p S, contents: &'p [&'a S::Op]) -> Self {
        Self {
            model,
            contents,
            ids: HashMap::new(),
            states: Vec::new(),
            steps: Map::default(),
            weight: 0,
        }
    }

    pub(crate) fn initial(&mut self) -> u32 {
        self.id(self.model.initial())
    }

    fn id(&mut self, state: S::State) -> u32 {
        if let Some(id) = self.ids.get(&state) {
            return *id;
        }
        let id = small(self.states.len());
        self.weight = self.weight.saturating_add(self.model.weight(&state));
        let state = Rc::new(state);
        self.states.push(Rc::clone(&state));
        self.ids.insert(state, id);
        id
    }

    pub(crate) fn step(&mut self, state: u32, content: u32) -> Option<u32> {
        let next = match self.steps.get(&(state, content)) {
            Some(next) => *next,
            None => {
                let op = self.contents[content as usize];
                let next = self.model.step(&self.states[state as usize], op);
                let next = next.map_or(NONE, |next| self.id(next));
                self.steps.insert((state, content), next);
                next
            }
        };
        (next != NONE).then_some(next)
    }

    pub(crate) fn remembered(&self) -> usize {
        self.weight.saturating_add(self.steps.len())
    }
}
