//! The nodes of a run.

use std::collections::VecDeque;
use std::fmt;

use dpat_model::{MemLog, Node, NodeIx, Peer, Process};

use super::item::Item;
use super::log::Disk;
use super::queue::Due;
use super::timers::Timers;
use crate::{NodeClock, Stream};

/// The nodes of a run, as properties see them.
pub struct World<P: Process> {
    pub(super) nodes: Vec<Place<P>>,
    pub(super) now_ns: u64,
    pub(super) healed: bool,
}

/// A node: its lives, and what survives them.
pub(super) struct Place<P: Process> {
    /// None while the node is down.
    pub(super) node: Option<Node<P>>,
    /// The current life, or the last one.
    pub(super) peer: Peer,
    pub(super) clock: NodeClock,
    pub(super) choose: Stream,
    /// Has had a life.
    pub(super) started: bool,
    pub(super) paused: bool,
    /// Counts the pauses, so that the end of one does not end another.
    pub(super) pauses: u64,
    /// Something was written since the last sync began.
    pub(super) dirty: bool,
    pub(super) syncing: bool,
    pub(super) timers: Timers<P::Timer>,
    pub(super) log: MemLog<P>,
    pub(super) disk: Disk,
    /// What came while the node could not take it, in order.
    pub(super) backlog: VecDeque<Due<Item<P>>>,
    pub(super) work: Stream,
}

impl<P: Process> Place<P> {
    /// A node that has not started yet.
    pub(super) fn new(seed: u64, node: NodeIx) -> Self {
        let index = u64::from(node.0);
        Self {
            node: None,
            peer: Peer {
                node,
                incarnation: 0,
            },
            clock: NodeClock::new(seed, node),
            choose: Stream::new(seed, "choose", index),
            started: false,
            paused: false,
            pauses: 0,
            dirty: false,
            syncing: false,
            timers: Timers::new(),
            log: MemLog::default(),
            disk: Disk::new(seed, index),
            backlog: VecDeque::new(),
            work: Stream::new(seed, "work", index),
        }
    }

    /// Says whether this life is the current one, and up.
    pub(super) fn is_life(&self, peer: Peer) -> bool {
        self.node.is_some() && self.peer == peer
    }
}

impl<P: Process> fmt::Debug for World<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let processes: Vec<Option<&P>> = self.nodes().map(|node| self.process(node)).collect();
        f.debug_struct("World")
            .field("now_ns", &self.now_ns)
            .field("healed", &self.healed)
            .field("processes", &processes)
            .finish()
    }
}

impl<P: Process> World<P> {
    /// Returns the nodes.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = NodeIx> + use<P> {
        (0..self.len()).map(NodeIx)
    }

    /// Returns how many nodes there are.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, reason = "at most 10 000 nodes")]
    #[allow(clippy::len_without_is_empty, reason = "there is always a node")]
    pub fn len(&self) -> u32 {
        self.nodes.len() as u32
    }

    /// Returns the process of a node, or none while it is down.
    #[must_use]
    pub fn process(&self, node: NodeIx) -> Option<&P> {
        self.node(node).map(Node::process)
    }

    /// Returns the processes that are up, with their nodes.
    pub fn processes(&self) -> impl Iterator<Item = (NodeIx, &P)> {
        let up = |node| Some((node, self.process(node)?));
        self.nodes().filter_map(up)
    }

    /// Returns a node with its requests and timers, or none while it is down.
    #[must_use]
    pub fn node(&self, node: NodeIx) -> Option<&Node<P>> {
        self.nodes.get(node.index())?.node.as_ref()
    }

    /// Says whether a node is up; a paused one is.
    #[must_use]
    pub fn is_up(&self, node: NodeIx) -> bool {
        self.node(node).is_some()
    }

    /// Says whether a node does nothing at the moment.
    #[must_use]
    pub fn is_paused(&self, node: NodeIx) -> bool {
        self.nodes
            .get(node.index())
            .is_some_and(|place| place.paused)
    }

    /// Returns which life of a node is the current one, or was the last one; 0 is the first.
    #[must_use]
    pub fn incarnation(&self, node: NodeIx) -> u64 {
        self.nodes
            .get(node.index())
            .map_or(0, |place| place.peer.incarnation)
    }

    /// Returns the log of a node, which outlives it.
    ///
    /// # Panics
    /// If there is no such node.
    #[must_use]
    pub fn log(&self, node: NodeIx) -> &MemLog<P> {
        &self.nodes[node.index()].log
    }

    /// Returns the clock of a node.
    ///
    /// # Panics
    /// If there is no such node.
    #[must_use]
    pub fn clock(&self, node: NodeIx) -> &NodeClock {
        &self.nodes[node.index()].clock
    }

    /// Returns the time, in nanoseconds of the simulation.
    #[must_use]
    pub const fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// Says whether the faults are over.
    #[must_use]
    pub const fn healed(&self) -> bool {
        self.healed
    }
}
