//! Version vectors.

use super::CausalOrder;
use crate::{Class, Classify, Effect, NodeId};
use std::cmp::Ordering;
use std::fmt;

/// How many events of each node are known.
///
/// A sorted array of the nodes that have any (Parker et al. 1983, "Detection of Mutual Inconsistency in Distributed
/// Systems"; as vector clock, Fidge 1988 and Mattern 1989). At most [`VersionVector::NODES_MAX`] nodes: a vector comes
/// from peers, and grows with whatever they name.
///
/// # Examples
/// ```
/// use dpat_core::{CausalOrder, NodeId, VersionVector};
///
/// let mut left = VersionVector::new();
/// left.increment(NodeId::new(1))?;
/// let mut right = left.clone();
/// right.increment(NodeId::new(2))?;
/// assert_eq!(left.compare(&right), CausalOrder::Before);
/// left.increment(NodeId::new(1))?;
/// assert_eq!(left.compare(&right), CausalOrder::Concurrent);
/// left.merge(&right)?;
/// assert_eq!(left.compare(&right), CausalOrder::After);
/// # Ok::<(), dpat_core::VersionVectorError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct VersionVector {
    /// Sorted by node, no node twice, no zero.
    entries: Vec<(NodeId, u64)>,
}

/// Why a vector was not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum VersionVectorError {
    /// More than [`VersionVector::NODES_MAX`] nodes.
    TooManyNodes,
    /// The node's counter is at its end.
    Exhausted(NodeId),
    /// The entries of a vector from outside are not sorted by node, name a node twice, or have a zero.
    Malformed(NodeId),
}

impl fmt::Display for VersionVectorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooManyNodes => {
                write!(
                    f,
                    "version vector: more than {} nodes",
                    VersionVector::NODES_MAX
                )
            }
            Self::Exhausted(node) => {
                write!(f, "version vector: the counter of {node} is at its end")
            }
            Self::Malformed(node) => {
                write!(f, "version vector: entry of {node} is zero or out of order")
            }
        }
    }
}

impl std::error::Error for VersionVectorError {}

impl Classify for VersionVectorError {
    fn class(&self) -> Class {
        match self {
            Self::TooManyNodes | Self::Malformed(_) => Class::InvalidInput,
            Self::Exhausted(_) => Class::Permanent,
        }
    }

    fn effect(&self) -> Effect {
        Effect::NotDone
    }
}

impl VersionVector {
    /// The most nodes a vector can name.
    pub const NODES_MAX: usize = 4096;

    /// Knows nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            entries: Vec::new(),
        }
    }

    /// Takes entries in order of their nodes, as they come from a file or a peer.
    ///
    /// # Errors
    /// [`VersionVectorError::Malformed`], [`VersionVectorError::TooManyNodes`].
    pub fn from_sorted(
        entries: impl IntoIterator<Item = (NodeId, u64)>,
    ) -> Result<Self, VersionVectorError> {
        let mut vector = Self::new();
        for (node, count) in entries {
            let in_order = vector.entries.last().is_none_or(|(last, _)| *last < node);
            if count == 0 || !in_order {
                return Err(VersionVectorError::Malformed(node));
            }
            if vector.entries.len() == Self::NODES_MAX {
                return Err(VersionVectorError::TooManyNodes);
            }
            vector.entries.push((node, count));
        }
        Ok(vector)
    }

    /// Returns how many events of `node` are known. O(log nodes).
    #[must_use]
    pub fn get(&self, node: NodeId) -> u64 {
        self.find(node).map_or(0, |at| self.entries[at].1)
    }

    fn find(&self, node: NodeId) -> Result<usize, usize> {
        self.entries.binary_search_by_key(&node, |(node, _)| *node)
    }

    /// Counts one more event of `node` and returns its number.
    ///
    /// # Errors
    /// [`VersionVectorError::TooManyNodes`], [`VersionVectorError::Exhausted`]; the vector is unchanged.
    ///
    /// # Complexity
    /// O(log nodes) for a known node, O(nodes) for a new one.
    pub fn increment(&mut self, node: NodeId) -> Result<u64, VersionVectorError> {
        match self.find(node) {
            Ok(at) => {
                let count = &mut self.entries[at].1;
                *count = count
                    .checked_add(1)
                    .ok_or(VersionVectorError::Exhausted(node))?;
                Ok(*count)
            }
            Err(_) if self.entries.len() >= Self::NODES_MAX => {
                Err(VersionVectorError::TooManyNodes)
            }
            Err(at) => {
                self.entries.insert(at, (node, 1));
                Ok(1)
            }
        }
    }

    /// Learns everything that `other` knows.
    ///
    /// # Errors
    /// [`VersionVectorError::TooManyNodes`]; the vector is unchanged.
    ///
    /// # Complexity
    /// O(nodes of both); allocates only to hold new nodes.
    pub fn merge(&mut self, other: &Self) -> Result<(), VersionVectorError> {
        let new = self.count_missing(other);
        let old = self.entries.len();
        if old + new > Self::NODES_MAX {
            return Err(VersionVectorError::TooManyNodes);
        }
        self.entries.resize(old + new, (NodeId::default(), 0));
        // From the back, so that every entry moves at most once and none is overwritten before it was read.
        let (mut ours, mut theirs) = (old, other.entries.len());
        let mut to = old + new;
        while theirs > 0 {
            to -= 1;
            let their = other.entries[theirs - 1];
            let order = match ours.checked_sub(1) {
                Some(last) => self.entries[last].0.cmp(&their.0),
                None => Ordering::Less,
            };
            self.entries[to] = match order {
                Ordering::Less => {
                    theirs -= 1;
                    their
                }
                Ordering::Equal => {
                    ours -= 1;
                    theirs -= 1;
                    (their.0, their.1.max(self.entries[ours].1))
                }
                Ordering::Greater => {
                    ours -= 1;
                    self.entries[ours]
                }
            };
        }
        Ok(())
    }

    /// Counts the nodes of `other` that are not here.
    fn count_missing(&self, other: &Self) -> usize {
        let mut ours = self.entries.iter().map(|(node, _)| *node).peekable();
        let mut missing = 0;
        for (node, _) in &other.entries {
            while ours.next_if(|own| own < node).is_some() {}
            missing += usize::from(ours.next_if_eq(node).is_none());
        }
        missing
    }

    /// Tells how the two stand to each other: the order of inclusion of the sets of known events.
    ///
    /// # Complexity
    /// O(nodes of both).
    #[must_use]
    pub fn compare(&self, other: &Self) -> CausalOrder {
        let (mut left, mut right) = (self.entries.as_slice(), other.entries.as_slice());
        let (mut more, mut less) = (false, false);
        loop {
            match (left, right) {
                ([], []) => break,
                ([_, ..], []) => {
                    more = true;
                    break;
                }
                ([], [_, ..]) => {
                    less = true;
                    break;
                }
                ([ours, left_rest @ ..], [theirs, right_rest @ ..]) => {
                    match ours.0.cmp(&theirs.0) {
                        Ordering::Less => {
                            more = true;
                            left = left_rest;
                        }
                        Ordering::Greater => {
                            less = true;
                            right = right_rest;
                        }
                        Ordering::Equal => {
                            more |= ours.1 > theirs.1;
                            less |= ours.1 < theirs.1;
                            (left, right) = (left_rest, right_rest);
                        }
                    }
                }
            }
            if more && less {
                return CausalOrder::Concurrent;
            }
        }
        match (more, less) {
            (false, false) => CausalOrder::Equal,
            (false, true) => CausalOrder::Before,
            (true, false) => CausalOrder::After,
            (true, true) => CausalOrder::Concurrent,
        }
    }

    /// Says whether everything that `other` knows is known here.
    #[must_use]
    pub fn includes(&self, other: &Self) -> bool {
        matches!(self.compare(other), CausalOrder::Equal | CausalOrder::After)
    }

    /// Forgets a node that has left for good, and returns how many of its events were known.
    ///
    /// Right only once every replica knows the same of that node: a replica that still names it would look newer.
    pub fn forget(&mut self, node: NodeId) -> u64 {
        self.find(node).map_or(0, |at| self.entries.remove(at).1)
    }

    /// Returns the number of nodes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Says whether no event is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Goes through the nodes in their order.
    #[must_use]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (NodeId, u64)> + '_ {
        self.entries.iter().copied()
    }
}

/// The causal order; none if concurrent.
impl PartialOrd for VersionVector {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.compare(other).to_ordering()
    }
}

#[cfg(feature = "serde")]
mod serde_impl {
    use super::{NodeId, VersionVector};
    use serde::de::{Error, SeqAccess, Visitor};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use std::fmt;

    impl Serialize for VersionVector {
        /// A sequence of (node, count), sorted by node.
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            self.entries.serialize(serializer)
        }
    }

    impl<'de> Deserialize<'de> for VersionVector {
        /// Refuses what is not sorted, has a zero, or is too long, before it is held in memory.
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Entries;

            impl<'de> Visitor<'de> for Entries {
                type Value = VersionVector;

                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("pairs of node and count, sorted by node")
                }

                fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                    let mut failed = None;
                    let entries = std::iter::from_fn(|| {
                        seq.next_element::<(NodeId, u64)>().unwrap_or_else(|error| {
                            failed = Some(error);
                            None
                        })
                    });
                    let vector = VersionVector::from_sorted(entries).map_err(A::Error::custom);
                    failed.map_or(vector, Err)
                }
            }

            deserializer.deserialize_seq(Entries)
        }
    }
}
