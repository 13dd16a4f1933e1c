//! Executes a protocol: what happens next, and what comes of it.

mod clients;
mod faults;
pub(crate) mod hash;
mod item;
mod log;
mod messages;
mod points;
mod queue;
mod record;
mod sessions;
mod start;
mod timers;
mod world;

use std::hash::{Hash, Hasher};

use dpat_model::{Answer, Breach, CommitRule, Input, NodeIx, Output, Process, Script};

use crate::{
    Coverage, Families, Family, Happened, Judge, Links, Outcome, Plan, Protocol, What, Wire,
};
use clients::Client;
use hash::TraceHash;
use item::Item;
use messages::Held;
use points::{Point, Points};
use queue::{Due, Queue};
use record::{Scribe, Text};
use sessions::Sessions;

pub use log::{SYNC_MAX_NS, SYNC_MIN_NS};
pub use start::{run, run_keeping, script_of};
pub use world::World;

type Proc<Pr> = <Pr as Protocol>::Process;
type Msg<Pr> = <Proc<Pr> as Process>::Msg;
type Req<Pr> = <Proc<Pr> as Process>::Req;

/// A run with more than so many waiting messages, timers and other things ends with the violation `queue-limit`.
pub const QUEUE_MAX: usize = 1_000_000;
const _: () = assert!(QUEUE_MAX < queue::ENTRIES_MAX);

/// The cause of what no event caused.
const NO_EVENT: u64 = u64::MAX;

/// A run.
struct Engine<Pr: Protocol> {
    protocol: Pr,
    world: World<Proc<Pr>>,
    queue: Queue<Item<Proc<Pr>>>,
    links: Links,
    /// What nodes and disks suffer from; links know for themselves.
    suffered: Families,
    /// Outputs of the step under way.
    out: Vec<Output<Proc<Pr>>>,
    /// The event under way, or the last one.
    current: u64,
    events: u64,
    delivered: u64,
    /// The event before which something else is to be done than the next item.
    stop_at: u64,
    hash: TraceHash,
    hashing: bool,
    judge: Judge,
    coverage: Coverage,
    points: Points,
    clients: Vec<Client<Req<Pr>>>,
    sessions: Option<Sessions>,
    held: Vec<Held<Msg<Pr>>>,
    /// Held messages and what waits for paused nodes.
    aside: usize,
    wire: Option<Wire<Proc<Pr>>>,
    bytes: (Vec<u8>, Vec<u8>),
    scribe: Option<Box<Scribe>>,
    rule: CommitRule,
    script: Script,
    plan: Plan,
    seed: u64,
    mutant: Option<&'static str>,
    events_max: u64,
    ended: bool,
}

/// The kinds of events in traces and hashes.
#[derive(Clone, Copy, Debug)]
enum Tag {
    Start,
    Restart,
    Deliver,
    Duplicate,
    Lost,
    Timer,
    Request,
    Cancel,
    Answer,
    Done,
    Synced,
    Durable,
    Up,
    Down,
    Fault,
    Crash,
    Pause,
    Resume,
    Heal,
}

impl Tag {
    const fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Restart => "restart",
            Self::Deliver => "deliver",
            Self::Duplicate => "duplicate",
            Self::Lost => "lost",
            Self::Timer => "timer",
            Self::Request => "request",
            Self::Cancel => "cancel",
            Self::Answer => "answer",
            Self::Done => "done",
            Self::Synced => "synced",
            Self::Durable => "durable",
            Self::Up => "up",
            Self::Down => "down",
            Self::Fault => "fault",
            Self::Crash => "crash",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Heal => "heal",
        }
    }
}

impl<Pr: Protocol> Engine<Pr> {
    /// Runs to the end, or to the first violation.
    fn run(&mut self) {
        while self.judge.violation().is_none() && !self.ended {
            if self.events >= self.stop_at {
                self.stop();
                continue;
            }
            let Some(due) = self.queue.pop() else { break };
            // What waited for a paused node is due since an earlier time.
            self.world.now_ns = self.world.now_ns.max(due.key.at_ns);
            if self.world.now_ns >= self.links.next_change() {
                self.links_change();
            }
            self.happen(due);
        }
    }

    /// Does what is to be done before an event.
    #[cold]
    fn stop(&mut self) {
        if let Some(op) = self.points.due_at(self.events) {
            self.strike(op);
        } else if self.events >= self.events_max {
            let max = self.events_max;
            self.judge.at_event(self.events);
            let message = format!("the run has more than events_max = {max} events");
            self.judge.fail("event-limit", message);
        }
        self.stop_at = self.points.next_event().min(self.events_max);
    }

    #[inline]
    fn happen(&mut self, due: Due<Item<Proc<Pr>>>) {
        let Due { key, cause, item } = due;
        match item {
            Item::Message { to, from, how, msg } => self.message(key, cause, to, from, how, msg),
            Item::Timer { peer, key: timer } => self.timer(key, cause, peer, timer),
            Item::Durable { peer, upto } => {
                let place = &self.world.nodes[peer.node.index()];
                if !place.is_life(peer) {
                    return;
                }
                if place.paused {
                    let item = Item::Durable { peer, upto };
                    return self.put_aside(peer.node, Due { key, cause, item });
                }
                self.pass(Point::Durable);
                if self.world.nodes[peer.node.index()].is_life(peer) {
                    self.begin(Tag::Durable, Some(peer.node), cause, || Text::of(upto.0));
                    self.digest(&upto);
                    self.feed(peer.node, Input::Durable(upto));
                    self.take_up_if_ready(peer.node);
                    self.end(Some(peer.node), What::Durable(upto));
                }
            }
            Item::Synced { peer, upto } => self.synced(cause, peer, upto),
            Item::Start(node) => self.start(node, Tag::Start, NO_EVENT),
            Item::Request { client, call } => self.request(key, cause, client, call),
            Item::Patience { client, call } => self.lose_patience(cause, client, call),
            Item::Cancel { peer, id } => {
                let place = &self.world.nodes[peer.node.index()];
                if place.is_life(peer) && place.paused {
                    let item = Item::Cancel { peer, id };
                    self.put_aside(peer.node, Due { key, cause, item });
                } else if place.is_life(peer) {
                    self.feed(peer.node, Input::Cancel(id));
                }
            }
            Item::Answer {
                client,
                call,
                answer,
            } => self.answer(cause, client, call, answer),
            Item::Done {
                node,
                token,
                result,
            } => {
                let place = &self.world.nodes[node.index()];
                if place.node.is_none() || place.peer.incarnation != token.incarnation {
                    return;
                }
                if place.paused {
                    let item = Item::Done {
                        node,
                        token,
                        result,
                    };
                    return self.put_aside(node, Due { key, cause, item });
                }
                self.begin(Tag::Done, Some(node), cause, || Text::debug(&result));
                self.digest(&(token, &result));
                self.feed(node, Input::Done { token, result });
                self.end(Some(node), What::Done(token));
            }
            Item::Open { nodes, pair, epoch } => self.open_session(nodes, pair, epoch),
            Item::Up { to, from, epoch } => self.session_up(key, cause, to, from, epoch),
            Item::Down { to, from } => self.session_down(key, cause, to, from),
            Item::Op(op) => {
                if !self.world.healed {
                    self.strike(op);
                }
            }
            Item::Restart(peer) => {
                let place = &self.world.nodes[peer.node.index()];
                if place.node.is_none() && place.peer == peer {
                    self.start(peer.node, Tag::Restart, cause);
                }
            }
            Item::Resume { node, pause } => {
                let place = &self.world.nodes[node.index()];
                if place.paused && place.pauses == pause {
                    self.resume(node);
                }
            }
            Item::Change => self.recount(),
            Item::Heal => self.heal(),
            Item::End => self.ended = true,
        }
    }

    /// Begins an event. `text` is called for full traces only.
    #[inline]
    fn begin(&mut self, tag: Tag, node: Option<NodeIx>, cause: u64, text: impl FnOnce() -> Text) {
        self.current = self.events;
        self.events += 1;
        self.judge.at_event(self.current);
        if self.hashing {
            let at = node.map_or(u64::from(u32::MAX), |node| u64::from(node.0));
            self.hash.write_u64(self.world.now_ns);
            self.hash.write_u64(at << 8 | tag as u64);
        }
        if let Some(scribe) = &mut self.scribe {
            scribe.begin(
                self.current,
                self.world.now_ns,
                tag.name(),
                node,
                cause,
                text(),
            );
        }
    }

    /// Ends an event: properties look at the world.
    #[inline]
    fn end(&mut self, node: Option<NodeIx>, what: What<'_, Proc<Pr>>) {
        let happened = Happened {
            event: self.current,
            now_ns: self.world.now_ns,
            node,
            what,
        };
        self.protocol
            .observe(&happened, &self.world, &mut self.judge);
        if let Some(scribe) = &mut self.scribe {
            scribe.end(self.current, node.and_then(|node| self.world.process(node)));
        }
    }

    /// Does something that is an event of its own in the middle of another one.
    #[cold]
    fn nested<R>(&mut self, event: impl FnOnce(&mut Self) -> R) -> R {
        let outer = self.current;
        let result = event(self);
        self.current = outer;
        self.judge.at_event(outer);
        result
    }

    /// Feeds something to the trace hash.
    #[inline]
    fn digest(&mut self, payload: &impl Hash) {
        if self.hashing {
            payload.hash(&mut self.hash);
        }
    }

    /// Queues something that the event under way causes.
    #[inline]
    fn push(&mut self, at_ns: u64, item: Item<Proc<Pr>>) {
        if self.queue.len() + self.aside >= QUEUE_MAX {
            self.overflow();
        }
        self.queue.push(at_ns, self.current, item);
    }

    #[cold]
    fn overflow(&mut self) {
        let message = format!("more than {QUEUE_MAX} messages, timers and other things wait");
        self.judge.fail("queue-limit", message);
    }

    /// Steps a node that is up, and does what it wants done.
    #[inline]
    fn feed(&mut self, at: NodeIx, input: Input<Proc<Pr>>) {
        let place = &mut self.world.nodes[at.index()];
        let Some(node) = &mut place.node else { return };
        let reading = place.clock.reading(self.world.now_ns);
        let stepped = node.step(reading, input, &mut place.choose, &mut self.out);
        self.carry_out(at);
        if let Err(breach) = stepped {
            self.breach(at, breach);
        }
    }

    #[cold]
    fn breach(&mut self, at: NodeIx, breach: Breach) {
        self.judge.fail("breach", format!("{at} {breach}"));
    }

    /// Does what the node wants done, in order; what comes after its crash is not done.
    #[inline]
    fn carry_out(&mut self, at: NodeIx) {
        let mut out = std::mem::take(&mut self.out);
        let mut outputs = out.drain(..);
        for output in outputs.by_ref() {
            match output {
                Output::Send { to, msg, .. } => {
                    if !self.send(at, to, msg) {
                        break;
                    }
                }
                Output::Log { .. } | Output::Snapshot { .. } => {
                    if !self.write(at, output) {
                        break;
                    }
                }
                Output::Reply { id, answer } => self.reply(id, answer),
                Output::Work { token, work, .. } => {
                    let place = &mut self.world.nodes[at.index()];
                    let done = self.protocol.work(at, &work, &mut place.work);
                    if let Some((takes, result)) = done {
                        let at_ns = after(self.world.now_ns, takes);
                        let node = at;
                        let item = Item::Done {
                            node,
                            token,
                            result,
                        };
                        self.push(at_ns, item);
                    }
                }
                Output::Arm { key, at: local, .. } => self.arm(at, key, local),
                Output::Disarm { key } => self.world.nodes[at.index()].timers.disarm(key),
            }
        }
        // What a crash forestalled has left the node's hands: nobody else will answer.
        for output in outputs {
            if let Output::Reply { id, .. } = output {
                self.reply(id, Answer::Unknown);
            }
        }
        self.out = out;
        self.sync_if_dirty(at);
    }

    /// Keeps something for a node that cannot take it now.
    #[cold]
    fn put_aside(&mut self, at: NodeIx, due: Due<Item<Proc<Pr>>>) {
        self.aside += 1;
        self.world.nodes[at.index()].backlog.push_back(due);
    }

    /// Queues again what waited, before everything else.
    fn take_up(&mut self, at: NodeIx) {
        let place = &mut self.world.nodes[at.index()];
        self.aside -= place.backlog.len();
        for due in place.backlog.drain(..) {
            self.queue.push_at(due.key, due.cause, due.item);
        }
    }

    /// Takes up what waited for the log.
    #[inline]
    fn take_up_if_ready(&mut self, at: NodeIx) {
        let place = &self.world.nodes[at.index()];
        let ready = place
            .node
            .as_ref()
            .is_some_and(|node| !node.is_backlogged());
        if !place.backlog.is_empty() && !place.paused && ready {
            self.take_up(at);
        }
    }

    /// Looks again at which families of faults are in force.
    fn recount(&mut self) {
        let now_ns = self.world.now_ns;
        let mut families = Families::NONE;
        for place in &self.world.nodes {
            let suffers = [
                (Family::Crash, place.node.is_none()),
                (Family::Pause, place.paused),
                (Family::Disk, place.disk.is_faulty(now_ns)),
                (Family::Clock, place.clock.is_faulty(now_ns)),
            ];
            for (family, suffers) in suffers {
                if suffers {
                    families.insert(family);
                }
            }
        }
        self.suffered = families;
    }

    /// Judges the end and puts everything together.
    fn finish(mut self) -> (Outcome, Pr) {
        if self.judge.violation().is_none() {
            self.audit_all();
        }
        if self.judge.violation().is_none() {
            self.protocol.finish(&self.world, &mut self.judge);
        }
        let trace_hash = if self.hashing {
            self.hash.write_u64(self.events);
            self.hash.finish()
        } else {
            0
        };
        let violation = self.judge.finish(&mut self.coverage);
        let trace = self.scribe.map(|scribe| {
            let heading = record::Heading {
                protocol: Pr::NAME,
                mutant: self.mutant,
                seed: self.seed,
                trace_hash,
                end_ns: self.world.now_ns,
            };
            scribe.finish(heading, violation.as_ref(), &self.script)
        });
        let outcome = Outcome {
            seed: self.seed,
            events: self.events,
            delivered: self.delivered,
            trace_hash,
            violation,
            coverage: self.coverage,
            script: self.script,
            calls: self.clients.iter().map(Client::begun).collect(),
            trace,
        };
        (outcome, self.protocol)
    }
}

/// The time after a duration; a time that cannot be is the end of time.
#[inline]
fn after(now_ns: u64, duration: std::time::Duration) -> u64 {
    let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    now_ns.saturating_add(ns)
}
