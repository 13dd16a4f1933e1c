//! Exhaustive exploration of small systems through `stateright`.
//!
//! [`Explore`] is a stateright [`Model`] whose states are systems of [`Node`]s: every order of deliveries, timers,
//! syncs, crashes and choices is tried. Time stands still, and an armed timer may fire at any moment, as in an
//! asynchronous system. The fingerprint of a state is taken from [`Process::digest`].
//!
//! Sessions are not explored: there are no [`Input::PeerUp`] and [`Input::PeerDown`], no cancels and no drains, and
//! what a crashed life has sent stays under way. Messages to nodes that are not there are dropped.
//!
//! # Examples
//! ```
//! use dpat_model::explore::{Explore, World};
//! # use dpat_model::{Cx, Digest, Input, Lsn, NodeIx, Peer, Process};
//! use stateright::{Checker, Model, Property};
//! # #[derive(Clone, Debug)]
//! # struct Counter(u64);
//! # impl Process for Counter {
//! #     type Config = (); type Snapshot = u64; type Req = u64; type Rep = u64; type Msg = ();
//! #     type Rec = u64; type Timer = (); type Work = (); type Done = ();
//! #     fn boot(_: Peer, _: &(), snapshot: Option<&u64>) -> Self { Self(snapshot.copied().unwrap_or(0)) }
//! #     fn apply(&mut self, _: Lsn, add: &u64) { self.0 += add; }
//! #     fn snapshot(&self) -> u64 { self.0 }
//! #     fn step(&mut self, input: Input<Self>, cx: &mut Cx<'_, Self>) {
//! #         if let Input::Req { id, req: add, .. } = input { cx.log(self, add); cx.reply(id, self.0); }
//! #     }
//! #     fn digest(&self, digest: &mut Digest) { digest.durable(&self.0); }
//! # }
//!
//! // the counter of the crate's first example: whatever crashes when, an answered request has counted
//! let counted = Property::always("answered is counted", |_, world: &World<Counter>| {
//!     let replies = world.answers().iter().filter(|(_, answer)| answer.reply().is_some());
//!     world.processes().all(|counter| counter.0 >= replies.clone().count() as u64)
//! });
//! Explore::<Counter>::new(vec![()])
//!     .request(NodeIx(0), 1)
//!     .request(NodeIx(0), 1)
//!     .explore_syncs()
//!     .crashes(2)
//!     .property(counted)
//!     .checker()
//!     .spawn_bfs()
//!     .join()
//!     .assert_properties();
//! ```

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use stateright::{Model, Property};

use crate::{
    Answer, Branch, Breach, Digest, Input, Limits, Lsn, MemLog, Node, NodeIx, Output, Peer,
    Process, Reading, ReqId, Token,
};

/// What exploration asks of a process beyond [`Process`]; implemented for all that have it.
pub trait Explorable: Process<Msg: Hash + Ord, Rep: Hash, Work: Hash, Timer: Hash> {}

impl<P: Process<Msg: Hash + Ord, Rep: Hash, Work: Hash, Timer: Hash>> Explorable for P {}

/// How messages travel during exploration; stateright's network semantics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// Unordered; each message is delivered at most once.
    #[default]
    Unordered,
    /// Unordered; a message that was sent can be delivered again and again.
    Duplicating,
    /// In order between each pair of nodes, whatever [`Process::link`] says.
    Ordered,
}

/// Outside work during exploration: all results that a piece of work may have.
type Results<P> = fn(&<P as Process>::Work) -> Vec<<P as Process>::Done>;

/// Whether an event may happen in a world.
type Enabled<P> = fn(&World<P>, &Event<<P as Process>::Msg, <P as Process>::Timer>) -> bool;

/// A system to explore, and how far.
pub struct Explore<P: Explorable> {
    configs: Vec<P::Config>,
    requests: Vec<(NodeIx, P::Req)>,
    network: Network,
    lossy: bool,
    crashes: u32,
    explore_syncs: bool,
    results: Option<Results<P>>,
    enabled: Option<Enabled<P>>,
    #[cfg(feature = "test-util")]
    rule: crate::CommitRule,
    properties: Vec<Property<Self>>,
}

/// One step of exploration.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Action<M, T> {
    /// What happens.
    pub event: Event<M, T>,
    /// What the process chose during it.
    pub choices: Vec<u32>,
}

/// What can happen next.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event<M, T> {
    /// The next request reaches its node.
    Request(usize),
    /// A message arrives.
    Deliver(Peer, NodeIx, M),
    /// A message is lost.
    Lose(Peer, NodeIx, M),
    /// A timer fires.
    Timer(NodeIx, T),
    /// Outside work ends with its n-th result.
    Result(NodeIx, Token, usize),
    /// A node's log becomes durable.
    Sync(NodeIx),
    /// A node crashes, keeps its log up to a position, and starts again.
    Crash(NodeIx, Lsn),
}

/// A state of the explored system. Nodes are shared between states until they change.
#[derive(Clone, Debug)]
pub struct World<P: Process> {
    slots: Vec<Arc<Slot<P>>>,
    /// What is under way, by sender and receiver, and between those in order of sending or of value. Flat, since a
    /// world is copied for every event.
    network: Vec<Message<P::Msg>>,
    /// Digest of it.
    under_way: u64,
    asked: Vec<bool>,
    answers: Vec<(ReqId, Answer<P::Rep>)>,
    crashes: u32,
    breach: Option<Breach>,
}

/// From which life, to which node, and what.
type Message<M> = (Peer, NodeIx, M);

#[derive(Clone, Debug)]
struct Slot<P: Process> {
    node: Node<P>,
    log: MemLog<P>,
    works: Vec<(Token, P::Work)>,
    /// Digest of all of it.
    digest: u64,
}

impl<P: Process> World<P> {
    /// Returns the processes in order of their nodes.
    pub fn processes(&self) -> impl Iterator<Item = &P> {
        self.slots.iter().map(|slot| slot.node.process())
    }

    /// Returns the node helpers in order of their indices.
    pub fn nodes(&self) -> impl Iterator<Item = &Node<P>> {
        self.slots.iter().map(|slot| &slot.node)
    }

    /// Returns the messages that are under way: from which life to which node, in this order.
    pub fn under_way(&self) -> impl Iterator<Item = (Peer, NodeIx, &P::Msg)> {
        let messages = self.network.iter();
        messages.map(|(from, to, msg)| (*from, *to, msg))
    }

    /// Returns the answers that callers have, in the order in which they left. The id is the index of the request.
    #[must_use]
    pub fn answers(&self) -> &[(ReqId, Answer<P::Rep>)] {
        &self.answers
    }

    /// Returns the rule that was broken on the way here.
    #[must_use]
    pub const fn breach(&self) -> Option<Breach> {
        self.breach
    }
}

impl<P: Explorable> Hash for World<P> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for slot in &self.slots {
            state.write_u64(slot.digest);
        }
        (self.under_way, &self.asked, &self.answers, self.crashes).hash(state);
        self.breach.is_some().hash(state);
    }
}

impl<P: Explorable> PartialEq for World<P> {
    /// Compares what the fingerprint is taken from.
    fn eq(&self, other: &Self) -> bool {
        Digest::of(self) == Digest::of(other)
    }
}

impl<P: Explorable> Explore<P> {
    /// Explores nodes with these configurations, nothing lost and nothing crashing.
    ///
    /// The one property so far, `no breach`, says that the process keeps the rules of requests, timers and work.
    #[must_use]
    pub fn new(configs: Vec<P::Config>) -> Self {
        Self {
            configs,
            requests: Vec::new(),
            network: Network::default(),
            lossy: false,
            crashes: 0,
            explore_syncs: false,
            results: None,
            enabled: None,
            #[cfg(feature = "test-util")]
            rule: crate::CommitRule::ByPosition,
            properties: vec![Property::always("no breach", |_, world: &World<P>| {
                world.breach.is_none()
            })],
        }
    }

    /// Adds a request that a client makes at any moment.
    #[must_use]
    pub fn request(mut self, node: NodeIx, request: P::Req) -> Self {
        self.requests.push((node, request));
        self
    }

    /// Sets how messages travel.
    #[must_use]
    pub const fn network(mut self, network: Network) -> Self {
        self.network = network;
        self
    }

    /// Lets any message be lost.
    #[must_use]
    pub const fn lossy(mut self) -> Self {
        self.lossy = true;
        self
    }

    /// Allows so many crashes in all; the node starts again at once with what its log kept.
    #[must_use]
    pub const fn crashes(mut self, crashes: u32) -> Self {
        self.crashes = crashes;
        self
    }

    /// Makes syncs of the log events of their own. Otherwise a step's records are durable when it ends.
    #[must_use]
    pub const fn explore_syncs(mut self) -> Self {
        self.explore_syncs = true;
        self
    }

    /// Says what outside work may come to. Otherwise it never ends.
    #[must_use]
    pub fn results(mut self, results: Results<P>) -> Self {
        self.results = Some(results);
        self
    }

    /// Leaves out events for which `enabled` is false, such as retransmissions where nothing is lost.
    ///
    /// So a process can be compared with a specification that has fewer actions. Whatever only a left-out event
    /// reaches is not explored.
    #[must_use]
    pub const fn enabled(mut self, enabled: Enabled<P>) -> Self {
        self.enabled = Some(enabled);
        self
    }

    /// Adds a property.
    #[must_use]
    pub fn property(mut self, property: Property<Self>) -> Self {
        self.properties.push(property);
        self
    }

    /// Runs every node with a wrong commit rule, to show that a property finds it.
    #[cfg(feature = "test-util")]
    #[must_use]
    pub const fn rule(mut self, rule: crate::CommitRule) -> Self {
        self.rule = rule;
        self
    }

    /// Carries out one action in place: [`Model::next_state`] without a copy of the world.
    ///
    /// The action must be one of [`Model::actions`]; of one that is not, the process still takes its input.
    pub fn act(&self, world: &mut World<P>, action: &Action<P::Msg, P::Timer>) {
        let mut branch = Branch::replay(&action.choices);
        self.run(world, &action.event, &mut branch);
    }

    fn boot(&self, me: Peer, log: MemLog<P>) -> Slot<P> {
        let node = log.boot(me, &self.configs[me.node.index()], Limits::default());
        #[cfg(feature = "test-util")]
        let node = node.with_rule(self.rule);
        Slot {
            node,
            log,
            works: Vec::new(),
            digest: 0,
        }
    }

    /// Carries out one event with the choices of `branch`.
    fn run(&self, world: &mut World<P>, event: &Event<P::Msg, P::Timer>, branch: &mut Branch) {
        match event {
            Event::Request(index) => {
                let (node, req) = self.requests[*index].clone();
                let input = Input::Req {
                    id: ReqId(*index as u64),
                    deadline: dpat_core::Deadline::NEVER,
                    req,
                };
                world.asked[*index] = true;
                self.step(world, node, input, branch);
            }
            Event::Deliver(from, to, msg) => {
                if self.network != Network::Duplicating {
                    world.remove(*from, *to, msg);
                }
                let (from, msg) = (*from, msg.clone());
                self.step(world, *to, Input::Msg { from, msg }, branch);
            }
            Event::Lose(from, to, msg) => world.remove(*from, *to, msg),
            Event::Timer(node, key) => self.step(world, *node, Input::Timer(*key), branch),
            Event::Result(node, token, index) => {
                let slot = Arc::make_mut(&mut world.slots[node.index()]);
                let found = slot.works.iter().position(|(other, _)| other == token);
                let work = found.map(|at| slot.works.remove(at).1);
                let results = work.and_then(|work| self.results.map(|results| results(&work)));
                if let Some(result) = results.and_then(|all| all.into_iter().nth(*index)) {
                    let token = *token;
                    self.step(world, *node, Input::Done { token, result }, branch);
                }
            }
            Event::Sync(node) => self.sync(world, *node, branch),
            Event::Crash(node, kept) => {
                world.crashes += 1;
                let slot = Arc::make_mut(&mut world.slots[node.index()]);
                let mut out = Vec::new();
                slot.node.halt(&mut out);
                let mut log = std::mem::take(&mut slot.log);
                log.crash(*kept);
                let me = Peer {
                    node: *node,
                    incarnation: slot.node.me().incarnation + 1,
                };
                *slot = self.boot(me, log);
                self.carry_out(world, *node, out);
                self.step(world, *node, Input::Start, branch);
            }
        }
    }

    fn step(&self, world: &mut World<P>, at: NodeIx, input: Input<P>, branch: &mut Branch) {
        let mut out = Vec::new();
        let slot = Arc::make_mut(&mut world.slots[at.index()]);
        let stepped = slot.node.step(Reading::default(), input, branch, &mut out);
        if let Err(breach) = stepped {
            world.breach.get_or_insert(breach);
        }
        self.carry_out(world, at, out);
        if !self.explore_syncs {
            self.sync(world, at, branch);
        }
    }

    fn sync(&self, world: &mut World<P>, at: NodeIx, branch: &mut Branch) {
        let slot = Arc::make_mut(&mut world.slots[at.index()]);
        let last = slot.node.last();
        slot.log.sync(last);
        if slot.node.durable() < last {
            self.step(world, at, Input::Durable(last), branch);
        }
    }

    fn carry_out(&self, world: &mut World<P>, at: NodeIx, out: Vec<Output<P>>) {
        let slot = Arc::make_mut(&mut world.slots[at.index()]);
        let mut has_sent = false;
        for output in out {
            match slot.log.take(output) {
                Some(Output::Send { to, msg, .. }) if to.index() < self.configs.len() => {
                    let (network, from) = (&mut world.network, slot.node.me());
                    let link = (from, to);
                    let of = |message: &Message<P::Msg>| (message.0, message.1);
                    let place = match self.network {
                        Network::Ordered => Ok(network.partition_point(|one| of(one) <= link)),
                        Network::Unordered => {
                            Ok(network.partition_point(|one| (of(one), &one.2) < (link, &msg)))
                        }
                        Network::Duplicating => {
                            let found = network
                                .binary_search_by(|one| (of(one), &one.2).cmp(&(link, &msg)));
                            found.map_or_else(Ok, Err)
                        }
                    };
                    if let Ok(place) = place {
                        network.insert(place, (from, to, msg));
                        has_sent = true;
                    }
                }
                Some(Output::Reply { id, answer }) => world.answers.push((id, answer)),
                Some(Output::Work { token, work, .. }) => slot.works.push((token, work)),
                _ => {} // timers are in the node, records in the log
            }
        }
        let mut digest = Digest::new();
        slot.node.digest(&mut digest);
        slot.works.hash(&mut digest);
        slot.log.durable().hash(&mut digest);
        slot.digest = digest.finish();
        if has_sent {
            world.note_network();
        }
    }

    /// Lists what can happen.
    fn events(&self, world: &World<P>) -> Vec<Event<P::Msg, P::Timer>> {
        let mut events = Vec::new();
        let asked = world.asked.iter().enumerate();
        events.extend(
            asked
                .filter(|(_, asked)| !**asked)
                .map(|(index, _)| Event::Request(index)),
        );
        for (index, message) in world.network.iter().enumerate() {
            let before = index.checked_sub(1).map(|before| &world.network[before]);
            let (from, to, msg) = message;
            let hidden = before.is_some_and(|(sender, receiver, other)| {
                let same_link = (sender, receiver) == (from, to);
                same_link && (self.network == Network::Ordered || other == msg)
            });
            if hidden {
                continue;
            }
            events.push(Event::Deliver(*from, *to, msg.clone()));
            if self.lossy {
                events.push(Event::Lose(*from, *to, msg.clone()));
            }
        }
        for slot in &world.slots {
            let at = slot.node.me().node;
            events.extend(slot.node.timers().map(|key| Event::Timer(at, key)));
            for (token, work) in &slot.works {
                let results = self.results.map_or(0, |results| results(work).len());
                events.extend((0..results).map(|index| Event::Result(at, *token, index)));
            }
            let (durable, last) = (slot.node.durable(), slot.node.last());
            if durable < last {
                events.push(Event::Sync(at));
            }
            if world.crashes < self.crashes {
                events.extend((durable.0..=last.0).map(|kept| Event::Crash(at, Lsn(kept))));
            }
        }
        if let Some(enabled) = self.enabled {
            events.retain(|event| enabled(world, event));
        }
        events
    }
}

impl<P: Process> World<P> {
    fn note_network(&mut self)
    where
        P::Msg: Hash,
    {
        self.under_way = match &self.network[..] {
            [] => 0,
            messages => Digest::of(messages),
        };
    }

    fn remove(&mut self, from: Peer, to: NodeIx, msg: &P::Msg)
    where
        P::Msg: Hash + PartialEq,
    {
        let is = |one: &Message<P::Msg>| one.0 == from && one.1 == to && one.2 == *msg;
        if let Some(index) = self.network.iter().position(is) {
            self.network.remove(index);
            self.note_network();
        }
    }
}

impl<P: Explorable> Model for Explore<P> {
    type State = World<P>;
    type Action = Action<P::Msg, P::Timer>;

    fn init_states(&self) -> Vec<World<P>> {
        let peers = (0..).zip(&self.configs).map(|(index, _)| Peer {
            node: NodeIx(index),
            incarnation: 0,
        });
        let mut worlds = vec![World {
            slots: peers
                .map(|me| Arc::new(self.boot(me, MemLog::default())))
                .collect(),
            network: Vec::new(),
            under_way: 0,
            asked: vec![false; self.requests.len()],
            answers: Vec::new(),
            crashes: 0,
            breach: None,
        }];
        for index in 0..self.configs.len() {
            let mut started = Vec::new();
            for world in &worlds {
                let mut branch = Branch::default();
                loop {
                    let mut next = world.clone();
                    let at = next.slots[index].node.me().node;
                    self.step(&mut next, at, Input::Start, &mut branch);
                    started.push(next);
                    if !branch.advance() {
                        break;
                    }
                }
            }
            worlds = started;
        }
        worlds
    }

    fn actions(&self, world: &World<P>, actions: &mut Vec<Self::Action>) {
        for event in self.events(world) {
            let mut branch = Branch::default();
            loop {
                // A step shows how many choices it has only by being made.
                if P::CHOOSES {
                    self.run(&mut world.clone(), &event, &mut branch);
                }
                actions.push(Action {
                    event: event.clone(),
                    choices: branch.choices().to_vec(),
                });
                if !branch.advance() {
                    break;
                }
            }
        }
    }

    fn next_state(&self, world: &World<P>, action: Self::Action) -> Option<World<P>> {
        let mut next = world.clone();
        self.act(&mut next, &action);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        self.properties.clone()
    }
}
