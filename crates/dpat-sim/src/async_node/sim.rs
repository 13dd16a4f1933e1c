//! The executor.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use dpat_model::{Fault, NodeIx, Script};

use super::net::{Carried, Incoming};
use super::node::{AsyncNode, Shared};
use super::ready::{Ready, Woken};
use super::record::{Ending, Record, What};
use super::sync::Mutex;
use super::system::{AsyncSystem, Program, Schedule};
use super::world::{After, Making, Role, Running, Serve, TaskState, World};
use crate::{Outcome, RunSpec, Setup, Shade, SpecError, Stream, Violation};

/// How often a healed run asks its system whether it is settled.
const SETTLED_EVERY: Duration = Duration::from_millis(100);

/// A run of an [`AsyncSystem`] that can be stopped at any time and looked at.
///
/// [`run_async`](super::run_async) does all of it in one call.
pub struct AsyncSim<S: AsyncSystem> {
    system: S,
    shared: Arc<Shared>,
    ready: Arc<Ready>,
    order: Option<Stream>,
    /// The present life of each node, and the clients after them.
    handles: Vec<Option<AsyncNode>>,
    /// Empty lists, which the next events fill.
    spare: Option<Box<After>>,
    clients: Vec<Client>,
    nodes: u32,
    seed: u64,
    mutant: Option<&'static str>,
}

/// What a client has done.
#[derive(Debug, Default)]
struct Client {
    next: u64,
    /// Of these calls only, by the script.
    keep: Vec<Vec<u64>>,
    /// It makes no more.
    over: bool,
}

impl Client {
    /// Returns the first call from the next on that the script does not leave out.
    fn kept(&self) -> Option<u64> {
        let mut call = self.next;
        loop {
            let later = |keep: &Vec<u64>| keep.iter().copied().find(|kept| *kept >= call);
            let mut wanted = call;
            for keep in &self.keep {
                wanted = wanted.max(later(keep)?);
            }
            if wanted == call {
                return Some(call);
            }
            call = wanted;
        }
    }
}

/// Why a run stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The time that was asked for has come.
    Reached,
    /// Nothing is left that could happen.
    Idle,
    /// A property does not hold.
    Violated,
}

/// An operation of the script that has changed something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Struck {
    /// Its index in the script.
    pub op: usize,
    /// When it struck, in nanoseconds of the simulation.
    pub at_ns: u64,
}

/// One life of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// When it began, in nanoseconds of the simulation.
    pub from_ns: u64,
    /// When it ended; none if it goes on.
    pub until_ns: Option<u64>,
}

impl<S: AsyncSystem> fmt::Debug for AsyncSim<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncSim")
            .field("system", &S::NAME)
            .field("seed", &self.seed)
            .finish_non_exhaustive()
    }
}

impl<S: AsyncSystem> AsyncSim<S> {
    /// Returns the script of a run: the one given, or what the seed draws.
    ///
    /// # Errors
    /// [`SpecError`] if there is no such run.
    pub fn script_of(spec: &RunSpec) -> Result<Script, SpecError> {
        let setup = setup::<S>(spec)?;
        script::<S>(spec, &setup)
    }

    /// Starts a run: every node is up, and nothing has happened yet.
    ///
    /// # Errors
    /// [`SpecError`] if there is no such run.
    pub fn start(spec: &RunSpec) -> Result<Self, SpecError> {
        let setup = setup::<S>(spec)?;
        let script = script::<S>(spec, &setup)?;
        let system = S::new(&setup);
        Ok(Self::begin(system, &setup, script, spec))
    }

    /// Starts a run of a system that was made otherwise than by [`AsyncSystem::new`].
    ///
    /// # Errors
    /// [`SpecError`] if there is no such run.
    pub fn with(system: S, spec: &RunSpec) -> Result<Self, SpecError> {
        let setup = setup::<S>(spec)?;
        let script = script::<S>(spec, &setup)?;
        Ok(Self::begin(system, &setup, script, spec))
    }

    fn begin(mut system: S, setup: &Setup, script: Script, spec: &RunSpec) -> Self {
        system.scripted(&script);
        let ready = Arc::new(Ready::default());
        let (seed, nodes, clients) = (setup.seed, setup.nodes, system.clients());
        let limits = system.limits();
        let keep = |client: u32| {
            let lists = script.ops.iter().filter_map(move |op| match &op.fault {
                Fault::Calls { client: of, keep } if *of == u64::from(client) => Some(keep.clone()),
                _ => None,
            });
            Client {
                keep: lists.collect(),
                ..Client::default()
            }
        };
        let states = (0..clients).map(keep).collect();
        let world = World::new(Making {
            ready: Arc::clone(&ready),
            seed,
            nodes,
            clients,
            script,
            record: Record::new(spec.trace, seed),
            kinds: S::KINDS,
            limits,
            events_max: spec.events_max,
        });
        let order = match system.schedule() {
            Schedule::Random => Some(Stream::new(seed, "schedule", 0)),
            Schedule::Fifo => None,
        };
        let mut sim = Self {
            system,
            shared: Arc::new(Shared {
                world: Mutex::new(world),
                limits,
            }),
            ready,
            order,
            handles: Vec::new(),
            spare: None,
            clients: states,
            nodes,
            seed,
            mutant: setup.mutant,
        };
        sim.handles.resize_with((nodes + clients) as usize, || None);
        {
            let mut world = sim.shared.world.lock();
            world.schedule();
            for node in 0..nodes {
                world.strike_due();
                world.restart(NodeIx(node));
            }
            // What the script does at once it does before any program runs.
            world.happen_at(0);
            world.after.clients = (0..clients).map(|client| (client, 0)).collect();
        }
        for client in 0..clients {
            sim.take_handle(NodeIx(nodes + client));
        }
        sim
    }

    /// Makes the handle of a node's present life.
    fn take_handle(&mut self, node: NodeIx) -> AsyncNode {
        let (peer, disk) = {
            let mut world = self.shared.world.lock();
            let place = world.place(node);
            (place.peer, place.disk.clone())
        };
        let handle = AsyncNode::new(&self.shared, self.seed, self.nodes, peer, disk);
        self.handles[node.index()] = Some(handle.clone());
        handle
    }

    /// Runs until a time, in nanoseconds of the simulation, everything that is due at it included.
    pub fn run_until(&mut self, until_ns: u64) -> Stop {
        self.settle();
        loop {
            if self.shared.world.lock().judge.violation().is_some() {
                return Stop::Violated;
            }
            if let Some(woken) = self.ready.next(self.order.as_mut()) {
                self.poll(woken);
                continue;
            }
            let mut guard = self.shared.world.lock();
            let world = &mut *guard;
            let Some(at) = world.next_at().filter(|at| *at <= until_ns) else {
                let idle = world.next_at().is_none();
                if until_ns != u64::MAX {
                    world.now_ns = world.now_ns.max(until_ns);
                }
                return if idle { Stop::Idle } else { Stop::Reached };
            };
            world.now_ns = at;
            world.happen_at(at);
            drop(guard);
            self.settle();
        }
    }

    /// Polls a task, unless its node is gone or paused.
    fn poll(&mut self, woken: Woken) {
        let taken = {
            let mut world = self.shared.world.lock();
            world.strike_due();
            world.take_to_poll(woken)
        };
        if let Some((mut task, mut program)) = taken {
            let mut cx = Context::from_waker(&task.waker);
            let polled = catch_unwind(AssertUnwindSafe(|| program.as_mut().poll(&mut cx)));
            match polled {
                Ok(Poll::Pending) => {
                    task.program = Some(program);
                    let (rest, quiet) = {
                        let mut world = self.shared.world.lock();
                        (world.put_back(task), world.after.is_empty())
                    };
                    match rest {
                        None if quiet => return,
                        None => {}
                        rest => drop(self.guard(|_| drop(rest))),
                    }
                }
                Ok(Poll::Ready(())) => {
                    self.shared.world.lock().ended();
                    self.guard(|_| drop((program, task)));
                }
                Err(panic) => {
                    self.shared.world.lock().ended();
                    self.fail(&*panic);
                    self.guard(|_| drop((program, task)));
                }
            }
        }
        self.settle();
    }

    /// Does what runs code of the programs, outside the lock, until nothing of it is left.
    fn settle(&mut self) {
        // The lists are swapped, so that they keep what they have allocated.
        let mut after = self.spare.take().unwrap_or_default();
        loop {
            let event = {
                let mut world = self.shared.world.lock();
                if world.after.is_empty() {
                    break;
                }
                std::mem::swap(&mut world.after, &mut after);
                world.event()
            };
            empty(&mut after.graves, |program| {
                self.guard(|_| drop(program));
            });
            empty(&mut after.handlers, |handler| {
                self.guard(|_| drop(handler));
            });
            empty(&mut after.wakers, |(waker, cause)| {
                self.ready.at_event(cause);
                self.guard(|_| waker.wake());
            });
            self.ready.at_event(event);
            empty(&mut after.boots, |node| self.boot(node));
            empty(&mut after.serves, |serve| self.serve(serve));
            empty(&mut after.clients, |(client, call)| {
                self.next_call(client, call);
            });
        }
        self.spare = Some(after);
    }

    fn boot(&mut self, node: NodeIx) {
        if !self.shared.world.lock().place(node).up {
            return; // it crashed at once
        }
        let handle = self.take_handle(node);
        let given = handle.clone();
        if let Some(program) = self.guard(|sim| sim.system.node(given)) {
            handle.start_boxed(Role::Main, program, None);
        }
    }

    fn serve(&mut self, serve: Serve) {
        let Serve {
            handler,
            to,
            envelope,
            event,
        } = serve;
        let current = self.shared.world.lock().is_current(to);
        let Some(node) = self.handles[to.node.index()].clone().filter(|_| current) else {
            return;
        };
        let (call, patience) = match envelope.what {
            Carried::Request { call, patience } => (Some(call), Some(patience)),
            Carried::Datagram | Carried::Answer { .. } => (None, None),
        };
        let incoming = Incoming {
            from: envelope.from,
            kind: envelope.kind,
            body: envelope.body,
            patience,
        };
        let role = match call {
            Some(call) => Role::Serving {
                caller: incoming.from.node,
                kind: incoming.kind,
                call,
            },
            None => Role::Taking,
        };
        if let Some(program) = self.guard(|_| node.serving(&handler, incoming, call)) {
            node.start_boxed(role, program, Some(event));
        }
    }

    /// Begins the next call of a client, if that is this one or one that the script leaves out for it.
    fn next_call(&mut self, client: u32, least: u64) {
        let index = (self.nodes + client) as usize;
        let state = &mut self.clients[client as usize];
        if state.over || state.next != least {
            return; // it has begun already
        }
        let Some(call) = state.kept() else {
            state.over = true;
            return;
        };
        state.next = call;
        let Some(node) = self.handles[index].clone() else {
            return;
        };
        let rng = Stream::new(self.seed, "client", u64::from(client) << 40 ^ call);
        let given = node.clone();
        let program = self.guard(|sim| sim.system.call(client, call, given, rng));
        let state = &mut self.clients[client as usize];
        match program.flatten() {
            Some(program) => {
                state.next += 1;
                node.start_boxed(Role::Calling { client, call }, program, None);
            }
            None => state.over = true,
        }
    }

    /// Runs code of the programs; a panic of it is the run's violation.
    fn guard<T>(&mut self, code: impl FnOnce(&mut Self) -> T) -> Option<T> {
        match catch_unwind(AssertUnwindSafe(|| code(self))) {
            Ok(value) => Some(value),
            Err(panic) => {
                self.fail(&*panic);
                None
            }
        }
    }

    fn fail(&self, panic: &(dyn Any + Send)) {
        let text = panic
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        let message = text.unwrap_or("a panic without a text");
        self.shared.world.lock().judge.fail("panic", message);
    }

    /// Ends every fault; nodes that are down start again if the plan says so. What is left of the script never strikes.
    pub fn heal(&mut self) {
        self.shared.world.lock().heal(S::plan().restarts_at_heal());
        self.settle();
    }

    /// Returns the time, in nanoseconds of the simulation.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        self.shared.world.lock().now_ns
    }

    /// Returns how many events there were.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.shared.world.lock().events()
    }

    /// Returns the first property that did not hold.
    #[must_use]
    pub fn violation(&self) -> Option<Violation> {
        self.shared.world.lock().judge.violation().cloned()
    }

    /// Returns the operations of the script that have changed something, in order.
    #[must_use]
    pub fn struck(&self) -> Vec<Struck> {
        self.shared.world.lock().struck.clone()
    }

    /// Returns the lives of a node so far.
    ///
    /// # Panics
    /// If there is no such node.
    #[must_use]
    pub fn lives(&self, node: NodeIx) -> Vec<Life> {
        assert!(node.0 < self.nodes, "there are only {} nodes", self.nodes);
        let mut world = self.shared.world.lock();
        let lives = world.place(node).lives.iter();
        lives
            .map(|(from_ns, until_ns)| Life {
                from_ns: *from_ns,
                until_ns: *until_ns,
            })
            .collect()
    }

    /// Returns the system.
    #[must_use]
    pub const fn system(&self) -> &S {
        &self.system
    }

    /// Returns the system, to be changed between two steps.
    #[must_use]
    pub const fn system_mut(&mut self) -> &mut S {
        &mut self.system
    }

    /// Runs both phases and judges the end.
    #[must_use]
    pub fn complete(mut self) -> Outcome {
        let plan = S::plan();
        let ns = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let chaos = ns(plan.chaos);
        let end = chaos.saturating_add(ns(plan.settle));
        if self.run_until(chaos) != Stop::Violated {
            self.heal();
            let mut until = chaos;
            while until < end && !self.system.is_settled() {
                until = until.saturating_add(ns(SETTLED_EVERY)).min(end);
                if self.run_until(until) == Stop::Violated {
                    break;
                }
            }
        }
        self.finish()
    }

    /// Ends the run here and judges it.
    #[must_use]
    pub fn finish(mut self) -> Outcome {
        let mut judge = std::mem::take(&mut self.shared.world.lock().judge);
        judge.at_event(self.shared.world.lock().event());
        if judge.violation().is_none() {
            let judged = catch_unwind(AssertUnwindSafe(|| self.system.finish(&mut judge)));
            if judged.is_err() {
                judge.fail("panic", "the judge of the end panicked");
            }
        }
        self.shared.world.lock().judge = judge;
        self.stop()
    }

    /// Ends the run here, without [`AsyncSystem::finish`]: for a caller that judges it by itself.
    #[must_use]
    pub fn stop(mut self) -> Outcome {
        self.bury_all();
        let mut world = self.shared.world.lock();
        let mut coverage = world.coverage.clone();
        let violation = std::mem::take(&mut world.judge).finish(&mut coverage);
        let record = std::mem::replace(&mut world.record, Record::new(crate::TraceMode::Off, 0));
        let trace_hash = record.hash();
        let trace = record.finish(Ending {
            protocol: S::NAME,
            mutant: self.mutant,
            seed: self.seed,
            names: self.names(),
            now_ns: world.now_ns,
            down: world.times_down(),
            violation: violation.clone(),
            script: world.script.clone(),
        });
        Outcome {
            seed: self.seed,
            events: world.events(),
            delivered: world.delivered,
            trace_hash,
            violation,
            coverage,
            script: world.script.clone(),
            calls: self.clients.iter().map(|client| client.next).collect(),
            trace,
        }
    }

    fn names(&self) -> Vec<String> {
        let node = |index: u32| match S::NAMES.get(index as usize) {
            Some(name) => (*name).to_owned(),
            None => NodeIx(index).to_string(),
        };
        let clients = (0..self.clients.len()).map(|client| format!("client {client}"));
        (0..self.nodes).map(node).chain(clients).collect()
    }

    /// Drops whatever the programs still own.
    fn bury_all(&mut self) {
        loop {
            let (tasks, after, handlers, queue): (Vec<TaskState>, _, Vec<_>, _) = {
                let mut world = self.shared.world.lock();
                let mut handlers = Vec::new();
                for place in &mut world.places {
                    place.up = false;
                    handlers.extend(place.handler.take());
                }
                (
                    world.tasks.iter_mut().filter_map(Option::take).collect(),
                    std::mem::take(&mut world.after),
                    handlers,
                    std::mem::take(&mut world.queue),
                )
            };
            if tasks.is_empty() && after.is_empty() && handlers.is_empty() && queue.is_empty() {
                break;
            }
            for task in tasks {
                let _ = catch_unwind(AssertUnwindSafe(|| drop(task)));
            }
            let _ = catch_unwind(AssertUnwindSafe(|| drop((after, handlers, queue))));
        }
        self.handles.clear();
    }
}

impl<S: AsyncSystem> Drop for AsyncSim<S> {
    fn drop(&mut self) {
        // Programs own handles, and handles own the world: nothing of it would go by itself.
        self.bury_all();
    }
}

/// Takes everything out of a list, which keeps its memory; most are empty.
#[inline]
fn empty<T>(list: &mut Vec<T>, each: impl FnMut(T)) {
    if !list.is_empty() {
        list.drain(..).for_each(each);
    }
}

/// Returns with what a run starts.
fn setup<S: AsyncSystem>(spec: &RunSpec) -> Result<Setup, SpecError> {
    let mutant = match &spec.mutant {
        None => None,
        Some(name) => {
            let found = S::MUTANTS.iter().find(|mutant| mutant.name == name);
            let mutant = found.ok_or_else(|| SpecError::NoMutant {
                protocol: S::NAME,
                name: name.clone(),
            })?;
            Some(mutant.name)
        }
    };
    let of_script = spec.script.as_ref().map(|script| script.nodes.count());
    let asked = spec.nodes.or(of_script).unwrap_or(S::NODES);
    let fits = (S::NODES_MIN..=S::NODES_MAX).contains(&asked);
    if !fits || of_script.is_some_and(|count| count != asked) {
        return Err(SpecError::Nodes {
            asked,
            min: of_script.unwrap_or(S::NODES_MIN),
            max: of_script.unwrap_or(S::NODES_MAX),
        });
    }
    Ok(Setup {
        nodes: asked,
        seed: spec.seed,
        mutant,
    })
}

fn script<S: AsyncSystem>(spec: &RunSpec, setup: &Setup) -> Result<Script, SpecError> {
    let Some(script) = &spec.script else {
        return Ok(S::draw(setup));
    };
    if script.protocol != S::NAME {
        return Err(SpecError::OtherProtocol {
            script: script.protocol.clone(),
            protocol: S::NAME,
        });
    }
    script.validate()?;
    for (op, what) in script.ops.iter().enumerate() {
        if let Some(reason) = S::refuses(&what.fault) {
            return Err(SpecError::Refused {
                op,
                fault: what.fault.name(),
                reason,
            });
        }
    }
    Ok(script.clone())
}

impl World {
    /// Takes a task out to be polled; none if it is gone, or its node paused.
    fn take_to_poll(&mut self, woken: Woken) -> Option<(TaskState, Program)> {
        let node = self.task(woken.task)?.node;
        if self.place(node).paused {
            self.place(node).parked.push((woken.task, woken.cause));
            return None;
        }
        self.begin(What::Poll, Some(node), Some(woken.cause));
        let mut task = self.tasks[woken.task.slot as usize].take()?;
        let program = task.program.take()?;
        let (role, kind) = match task.role {
            Role::Main => ("program", None),
            Role::Spawned => ("spawned", None),
            Role::Serving { kind, .. } => ("serving", Some(kind)),
            Role::Taking => ("taking", None),
            Role::Calling { .. } => ("calling", None),
        };
        self.record.polled(task.id.slot, role, kind);
        self.running = Some(Running {
            id: task.id,
            node,
            role: task.role,
        });
        Some((task, program))
    }

    /// Puts a task back after a poll; returns it if its node did not survive the poll.
    fn put_back(&mut self, task: TaskState) -> Option<TaskState> {
        if self.running.take().is_none() {
            return Some(task);
        }
        let slot = task.id.slot as usize;
        self.tasks[slot].replace(task)
    }

    /// Notes that the task has come to its end that was polled.
    fn ended(&mut self) {
        let Some(running) = self.running.take() else {
            return; // its node did not survive the poll
        };
        self.close_task(running.id);
        self.call_is_over(running.role);
    }

    /// Lets the next call of a client begin.
    pub(super) fn call_is_over(&mut self, role: Role) {
        if let Role::Calling { client, call } = role {
            self.after.clients.push((client, call + 1));
        }
    }

    /// Returns when nodes were down.
    fn times_down(&self) -> Vec<Shade> {
        let mut shades = Vec::new();
        for place in &self.places[..self.nodes as usize] {
            for (index, (_, until)) in place.lives.iter().enumerate() {
                let next = place.lives.get(index + 1).map(|(from, _)| *from);
                let Some(from_ns) = *until else { continue };
                shades.push(Shade {
                    what: "down".to_owned(),
                    nodes: Some(vec![place.peer.node.0]),
                    links: None,
                    from_ns,
                    until_ns: next.unwrap_or(self.now_ns),
                });
            }
        }
        shades
    }
}
