//! The state of a run, and what happens in it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::task::Waker;

use bytes::Bytes;
use dpat_core::Instant;
use dpat_model::{Fault, NodeIx, Peer, Reading, Script, Trigger};

use super::net::{CallId, Calls, Carried, End, Envelope, Handler};
use super::node::Shared;
use super::queue::{Key, Queue};
use super::ready::{Ready, TaskId};
use super::record::{Record, What};
use super::sim::Struck;
use super::system::{AsyncLimits, Program};
use crate::disk::SimDisk;
use crate::{Coverage, Families, Family, Fate, Judge, Links, NodeClock, Stream};

/// What a message weighs beside its body, for links of limited capacity.
const HEADER_BYTES: usize = 32;

/// The nodes, the network between them, and everything that is still to happen.
pub(super) struct World {
    pub(super) now_ns: u64,
    pub(super) ready: Arc<Ready>,
    /// The nodes, and the clients after them.
    pub(super) places: Vec<Place>,
    /// How many of them are nodes.
    pub(super) nodes: u32,
    pub(super) links: Links,
    /// When the links are next looked at.
    links_at: u64,
    pub(super) calls: Calls,
    pub(super) tasks: Vec<Option<TaskState>>,
    live_tasks: usize,
    pub(super) queue: Queue<Item>,
    /// Messages that a link keeps.
    pub(super) held: Vec<Envelope>,
    /// Messages on their way, held, or waiting for a paused node.
    pub(super) messages: usize,
    pub(super) script: Script,
    /// Operations that wait for an event, the first one last.
    pub(super) at_events: Vec<(u64, usize)>,
    /// Operations that wait for a point, and how many passings are left.
    pub(super) at_points: Vec<(usize, u64)>,
    /// The task that is being polled.
    pub(super) running: Option<Running>,
    /// Operations of the script that have changed something.
    pub(super) struck: Vec<Struck>,
    pub(super) after: Box<After>,
    pub(super) record: Record,
    pub(super) judge: Judge,
    pub(super) coverage: Coverage,
    pub(super) delivered: u64,
    events: u64,
    events_max: u64,
    kinds: &'static [&'static str],
    limits: AsyncLimits,
    sites: BTreeMap<&'static str, Option<Stream>>,
    seed: u64,
    pub(super) healed: bool,
}

/// A node or a client: its lives, and what survives them.
pub(super) struct Place {
    pub(super) peer: Peer,
    pub(super) up: bool,
    pub(super) paused: bool,
    /// Whether its last life ended by a kill: its machine still answers that nobody serves.
    pub(super) killed: bool,
    /// Counts starts, ends, pauses and resumptions, so that the end of one does not end another.
    pub(super) turns: u64,
    pub(super) clock: NodeClock,
    /// What the monotonic clock showed at the start of the run.
    pub(super) origin: Instant,
    pub(super) handler: Option<Handler>,
    pub(super) disk: SimDisk,
    /// What came while the node was paused, in order.
    pub(super) backlog: VecDeque<Envelope>,
    /// Tasks that were woken meanwhile.
    pub(super) parked: Vec<(TaskId, u64)>,
    /// When its lives began and ended.
    pub(super) lives: Vec<(u64, Option<u64>)>,
}

/// A task.
pub(super) struct TaskState {
    pub(super) id: TaskId,
    pub(super) node: NodeIx,
    pub(super) role: Role,
    pub(super) waker: Waker,
    /// None while it is being polled.
    pub(super) program: Option<Program>,
}

/// A task that is being polled, and so not among the others.
#[derive(Clone, Copy, Debug)]
pub(super) struct Running {
    pub(super) id: TaskId,
    pub(super) node: NodeIx,
    pub(super) role: Role,
}

/// What a task is there for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Role {
    /// The program of a node.
    Main,
    /// Something that it spawned.
    Spawned,
    /// Serves a call.
    Serving {
        caller: NodeIx,
        kind: &'static str,
        call: CallId,
    },
    /// Serves a datagram.
    Taking,
    /// A call of a client.
    Calling { client: u32, call: u64 },
}

/// What is still to happen.
pub(super) enum Item {
    /// A timer of a node fires.
    Timer { node: NodeIx, waker: Waker },
    /// A message arrives.
    Arrive(Envelope),
    /// An operation of the script is due.
    Op(usize),
    /// A node that is down starts again, unless it has had another turn meanwhile.
    Restart { node: NodeIx, turn: u64 },
    /// A pause ends.
    Resume { node: NodeIx, turn: u64 },
    /// A fault of a disk ends.
    Disk { node: NodeIx, fault: Fault },
    /// A fault of links ends or changes.
    Links,
}

/// What is to be done once the lock is released: it runs code of the program's.
#[derive(Default)]
pub(super) struct After {
    pub(super) graves: Vec<Program>,
    pub(super) handlers: Vec<Handler>,
    pub(super) wakers: Vec<(Waker, u64)>,
    pub(super) serves: Vec<Serve>,
    pub(super) boots: Vec<NodeIx>,
    /// Clients whose next call may begin, if it is this one.
    pub(super) clients: Vec<(u32, u64)>,
}

/// A message that is handed to its node.
pub(super) struct Serve {
    pub(super) handler: Handler,
    pub(super) to: Peer,
    pub(super) envelope: Envelope,
    pub(super) event: u64,
}

impl After {
    pub(super) fn is_empty(&self) -> bool {
        self.graves.is_empty()
            && self.handlers.is_empty()
            && self.wakers.is_empty()
            && self.serves.is_empty()
            && self.boots.is_empty()
            && self.clients.is_empty()
    }
}

/// What a world is made of.
pub(super) struct Making {
    pub(super) ready: Arc<Ready>,
    pub(super) seed: u64,
    pub(super) nodes: u32,
    pub(super) clients: u32,
    pub(super) script: Script,
    pub(super) record: Record,
    pub(super) kinds: &'static [&'static str],
    pub(super) limits: AsyncLimits,
    pub(super) events_max: u64,
}

impl World {
    pub(super) fn new(making: Making) -> Self {
        let Making {
            seed,
            nodes,
            clients,
            ..
        } = making;
        let places = nodes + clients;
        Self {
            now_ns: 0,
            ready: making.ready,
            places: (0..places)
                .map(|node| Place::new(seed, NodeIx(node), node >= nodes))
                .collect(),
            nodes,
            links: Links::new(seed, places),
            links_at: u64::MAX,
            calls: Calls::default(),
            tasks: Vec::new(),
            live_tasks: 0,
            queue: Queue::default(),
            held: Vec::new(),
            messages: 0,
            script: making.script,
            at_events: Vec::new(),
            at_points: Vec::new(),
            running: None,
            struck: Vec::new(),
            after: Box::default(),
            record: making.record,
            judge: Judge::default(),
            coverage: Coverage::new(making.kinds, &["up"]),
            delivered: 0,
            events: 0,
            events_max: making.events_max,
            kinds: making.kinds,
            limits: making.limits,
            sites: BTreeMap::new(),
            seed,
            healed: false,
        }
    }

    pub(super) fn place(&mut self, node: NodeIx) -> &mut Place {
        &mut self.places[node.index()]
    }

    /// Says whether this life is the current one, and up.
    pub(super) fn is_current(&self, peer: Peer) -> bool {
        self.places
            .get(peer.node.index())
            .is_some_and(|place| place.up && place.peer == peer)
    }

    pub(super) fn reading(&mut self, node: NodeIx) -> Reading {
        let now = self.now_ns;
        self.place(node).clock.reading(now)
    }

    /// Returns what the monotonic clock of a node shows.
    pub(super) fn monotonic(&mut self, node: NodeIx) -> Instant {
        let now = self.now_ns;
        self.place(node).clock.monotonic(now)
    }

    /// Returns how many events there were.
    pub(super) const fn events(&self) -> u64 {
        self.events
    }

    /// Returns the event under way, or the last one.
    pub(super) const fn event(&self) -> u64 {
        self.events.saturating_sub(1)
    }

    /// Begins an event. Faults that wait for its number must have struck before.
    pub(super) fn begin(&mut self, what: What, node: Option<NodeIx>, cause: Option<u64>) -> u64 {
        let event = self.events;
        if event >= self.events_max {
            self.judge.fail(
                "event-limit",
                format!("more than {} events", self.events_max),
            );
        }
        self.events += 1;
        self.judge.at_event(event);
        self.ready.at_event(event);
        self.record.begin(event, self.now_ns, what, node, cause);
        event
    }

    /// Adds something to the queue.
    pub(super) fn push(&mut self, at_ns: u64, item: Item) -> Key {
        self.queue.push(at_ns, item)
    }

    /// Returns when something happens next.
    pub(super) fn next_at(&mut self) -> Option<u64> {
        // What is due at the end of time never happens.
        self.queue.first_at().filter(|at| *at != u64::MAX)
    }

    pub(super) fn add_timer(&mut self, node: NodeIx, at: Instant, waker: Waker) -> Key {
        let now = self.now_ns;
        let due = self.place(node).clock.true_time_of(at, now);
        self.push(due.max(now), Item::Timer { node, waker })
    }

    /// Returns the waker of a timer that has not fired.
    pub(super) fn timer(&mut self, key: Key) -> Option<&mut Waker> {
        match self.queue.get_mut(key)? {
            Item::Timer { waker, .. } => Some(waker),
            _ => None,
        }
    }

    pub(super) fn take_timer(&mut self, key: Key) -> Option<Waker> {
        match self.queue.remove(key)? {
            Item::Timer { waker, .. } => Some(waker),
            _ => None,
        }
    }

    /// Adds a task and returns its name; it is not woken yet.
    pub(super) fn add_task(&mut self, node: NodeIx, role: Role, program: Program) -> TaskId {
        let id = self.ready.open();
        let slot = id.slot as usize;
        if self.tasks.len() <= slot {
            self.tasks.resize_with(slot + 1, || None);
        }
        self.tasks[slot] = Some(TaskState {
            id,
            node,
            role,
            waker: self.ready.waker(id),
            program: Some(program),
        });
        self.live_tasks += 1;
        let limit = self.limits.tasks_max;
        if self.live_tasks > limit {
            self.judge
                .fail("task-limit", format!("more than {limit} tasks"));
        }
        id
    }

    pub(super) fn task(&mut self, id: TaskId) -> Option<&mut TaskState> {
        let task = self.tasks.get_mut(id.slot as usize)?.as_mut()?;
        (task.id == id).then_some(task)
    }

    /// Takes a task out of the world.
    pub(super) fn remove_task(&mut self, id: TaskId) -> Option<TaskState> {
        self.task(id)?;
        self.close_task(id);
        self.tasks[id.slot as usize].take()
    }

    /// Gives the slot of a task back.
    pub(super) fn close_task(&mut self, id: TaskId) {
        self.ready.close(id);
        self.live_tasks -= 1;
    }

    /// Counts the passing of a point; what waits for it strikes at once.
    pub(super) fn pass(&mut self, name: &str, key: Option<&str>) {
        self.pass_if(key, |wanted| wanted == name);
    }

    fn pass_if(&mut self, key: Option<&str>, is: impl Fn(&str) -> bool) {
        if self.at_points.is_empty() {
            return;
        }
        let mut due = Vec::new();
        let script = &self.script;
        self.at_points.retain_mut(|(op, left)| {
            let waiting = &script.ops[*op];
            let Trigger::Point { name, .. } = &waiting.when else {
                return false;
            };
            let meant = match &waiting.fault {
                Fault::Kill {
                    order_id: Some(id), ..
                } => key == Some(id),
                _ => true,
            };
            if !meant || !is(name) {
                return true;
            }
            *left -= 1;
            if *left == 0 {
                due.push(*op);
            }
            *left > 0
        });
        for op in due {
            self.strike(op);
        }
    }

    pub(super) fn buggify(&mut self, site: &'static str, per_million: u32) -> bool {
        let seed = self.seed;
        let stream = self.sites.entry(site).or_insert_with(|| {
            let mut stream = Stream::new(seed, site, 0);
            (stream.next_u64() & 1 == 0).then_some(stream)
        });
        match stream {
            Some(stream) => stream.chance(per_million),
            None => false,
        }
    }

    /// Sends a message.
    pub(super) fn post(&mut self, mut envelope: Envelope) {
        let (from, to, kind) = (envelope.from.node, envelope.to, envelope.kind);
        if to.index() >= self.places.len() {
            return; // nobody is there
        }
        let alive = self.is_current(envelope.from);
        self.pass_if(None, |name| name.strip_prefix("send.") == Some(kind));
        if alive && !self.is_current(envelope.from) {
            return;
        }
        envelope.sent_in = self.event();
        let bytes = envelope.body.len() + HEADER_BYTES;
        let route = self.links.route(self.now_ns, from, to, bytes);
        self.record.sent(to, kind, &envelope.body, route);
        if let Some(at) = route.copy {
            let mut copy = envelope.clone();
            copy.copy = true;
            self.under_way(at, copy);
        }
        match route.first {
            Fate::At(at) => self.under_way(at, envelope),
            Fate::Held => {
                self.count_message();
                self.held.push(envelope);
            }
            Fate::Lost(_) => {}
        }
    }

    fn under_way(&mut self, at: u64, envelope: Envelope) {
        self.count_message();
        self.push(at, Item::Arrive(envelope));
    }

    fn count_message(&mut self) {
        self.messages += 1;
        let limit = self.limits.messages_max;
        if self.messages > limit {
            self.judge.fail(
                "message-limit",
                format!("more than {limit} messages under way"),
            );
        }
    }

    /// Lets go what links keep no more.
    pub(super) fn look_at_held(&mut self) {
        for envelope in std::mem::take(&mut self.held) {
            if self
                .links
                .is_held(self.now_ns, envelope.from.node, envelope.to)
            {
                self.held.push(envelope);
                continue;
            }
            self.messages -= 1;
            let (sent_in, copy) = (envelope.sent_in, envelope.copy);
            let bytes = envelope.body.len() + HEADER_BYTES;
            let route = self
                .links
                .route(self.now_ns, envelope.from.node, envelope.to, bytes);
            if let Fate::At(at) = route.first {
                self.under_way(
                    at,
                    Envelope {
                        sent_in,
                        copy,
                        ..envelope
                    },
                );
            }
        }
    }

    /// Has everything happen that is due at a time.
    pub(super) fn happen_at(&mut self, at: u64) {
        while self.judge.violation().is_none() {
            let Some(item) = self.queue.pop_at(at) else {
                break;
            };
            self.strike_due();
            self.happen(item);
        }
    }

    fn happen(&mut self, item: Item) {
        match item {
            Item::Timer { node, waker } => {
                let event = self.begin(What::Timer, Some(node), None);
                self.after.wakers.push((waker, event));
            }
            Item::Arrive(envelope) => self.arrive(envelope),
            Item::Op(op) => self.strike(op),
            Item::Restart { node, turn } => {
                if self.place(node).turns == turn {
                    self.restart(node);
                }
            }
            Item::Resume { node, turn } => {
                if self.place(node).turns == turn {
                    self.resume(node);
                }
            }
            Item::Disk { node, fault } => {
                self.place(node).disk.undo(&fault);
            }
            Item::Links => {
                self.links.advance(self.now_ns);
                self.look_at_held();
                self.watch_links();
            }
        }
    }

    /// Hands a message to its node, if it gets there.
    fn arrive(&mut self, envelope: Envelope) {
        self.messages -= 1;
        let (from, to, kind) = (envelope.from, envelope.to, envelope.kind);
        let cause = Some(envelope.sent_in);
        if !matches!(envelope.what, Carried::Answer { .. }) {
            self.pass_if(None, |name| name.strip_prefix("deliver.") == Some(kind));
        }
        if self.links.is_cut(self.now_ns, from.node, to) {
            self.begin(What::Lost, Some(to), cause);
            self.record
                .message(from, envelope.sent_in, kind, &envelope.body);
            return;
        }
        if self.place(to).paused {
            self.count_message();
            self.place(to).backlog.push_back(envelope);
            return;
        }
        if let Carried::Answer { call, end } = envelope.what {
            let event = self.begin(What::Answer, Some(to), cause);
            self.record
                .message(from, envelope.sent_in, kind, &envelope.body);
            if let Some(waker) = self.calls.end(call, end, envelope.body) {
                self.after.wakers.push((waker, event));
            }
            return;
        }
        let place = &self.places[to.index()];
        let (peer, answers) = (place.peer, place.up || place.killed);
        let Some(handler) = place.handler.clone().filter(|_| place.up) else {
            self.begin(What::Lost, Some(to), cause);
            self.record
                .message(from, envelope.sent_in, kind, &envelope.body);
            if let (Carried::Request { call, .. }, true) = (envelope.what, answers) {
                self.post_end(peer, from.node, kind, call, End::Refused, Bytes::new());
            }
            return;
        };
        let event = self.begin(What::deliver(envelope.copy), Some(to), cause);
        self.record
            .message(from, envelope.sent_in, kind, &envelope.body);
        self.delivered += 1;
        if let Some(kind) = self.kinds.iter().position(|other| *other == kind) {
            let families = self.families();
            self.coverage.delivered(kind, 0, families);
        }
        self.after.serves.push(Serve {
            handler,
            to: peer,
            envelope,
            event,
        });
    }

    /// Returns the families of faults that are in force.
    fn families(&self) -> Families {
        let mut families = self.links.families();
        for place in &self.places {
            if !place.up {
                families.insert(Family::Crash);
            }
            if place.paused {
                families.insert(Family::Pause);
            }
            if place.clock.is_faulty(self.now_ns) {
                families.insert(Family::Clock);
            }
        }
        families
    }

    /// Makes sure that links are looked at when they change.
    pub(super) fn watch_links(&mut self) {
        let next = self.links.next_change();
        if next != u64::MAX && next != self.links_at {
            self.links_at = next;
            self.push(next.max(self.now_ns), Item::Links);
        }
    }
}

impl Place {
    fn new(seed: u64, node: NodeIx, client: bool) -> Self {
        let clock = NodeClock::new(seed, node);
        Self {
            peer: Peer {
                node,
                incarnation: 0,
            },
            up: client,
            paused: false,
            killed: true,
            turns: 0,
            origin: clock.reading(0).now,
            clock,
            handler: None,
            disk: SimDisk::new(seed ^ (u64::from(node.0) << 32)),
            backlog: VecDeque::new(),
            parked: Vec::new(),
            lives: Vec::new(),
        }
    }
}

const _: fn() = || {
    fn both<T: Send + Sync>() {}
    both::<Shared>();
};
