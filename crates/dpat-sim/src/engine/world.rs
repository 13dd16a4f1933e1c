//! The nodes of a run.

use std::fmt;

use dpat_model::{MemLog, Node, NodeIx, Peer, Process};

use crate::NodeClock;

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
    pub(super) peer: Peer,
    pub(super) log: MemLog<P>,
    pub(super) clock: NodeClock,
    pub(super) paused: bool,
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
