//! The oracle: an event knows the set of all events before it, and order is inclusion of these sets.

use dpat_core::CausalOrder::{After, Before, Concurrent, Equal};
use dpat_core::{
    CausalOrder, Hlc, HlcTimestamp, LamportClock, LamportTime, NodeId, VersionVector,
    VersionVectorError, Wall,
};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::time::Duration;

const NODES: usize = 4;

/// A step of a schedule.
#[derive(Clone, Debug)]
enum Step {
    /// Something happens on a node.
    Local(usize),
    /// A node hears of an earlier event (an index, taken modulo).
    Receive(usize, usize),
}

/// An event with everything that is said about it.
#[derive(Clone)]
struct Event {
    /// Itself and all events before it.
    known: BTreeSet<usize>,
    vector: VersionVector,
    lamport: LamportTime,
    hlc: HlcTimestamp,
}

struct Node {
    known: BTreeSet<usize>,
    vector: VersionVector,
    lamport: LamportClock,
    hlc: Hlc,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let local = (0..NODES).prop_map(Step::Local);
    let receive = (0..NODES, any::<usize>()).prop_map(|(node, event)| Step::Receive(node, event));
    prop::collection::vec(prop_oneof![local, receive], 1..60)
}

/// Runs a schedule; `walls` is what each node's (skewed, jumping) wall clock shows.
fn run(steps: &[Step], walls: &[u32]) -> Vec<Event> {
    let id = |index: usize| NodeId::new(index as u64);
    let mut nodes: Vec<Node> = (0..NODES)
        .map(|index| Node {
            known: BTreeSet::new(),
            vector: VersionVector::new(),
            lamport: LamportClock::new(id(index)),
            hlc: Hlc::new(Duration::from_secs(10)),
        })
        .collect();
    let mut events: Vec<Event> = Vec::new();
    for (number, step) in steps.iter().enumerate() {
        let wall = Wall::from_nanos(u64::from(walls[number % walls.len()]));
        let (index, heard) = match step {
            Step::Local(index) => (*index, None),
            Step::Receive(index, event) if !events.is_empty() => {
                (*index, Some(events[event % events.len()].clone()))
            }
            Step::Receive(index, _) => (*index, None),
        };
        let node = &mut nodes[index];
        let (lamport, hlc) = match heard {
            None => (node.lamport.tick(), node.hlc.tick(wall)),
            Some(event) => {
                node.known.extend(&event.known);
                node.vector.merge(&event.vector).unwrap();
                (
                    node.lamport.receive(event.lamport),
                    node.hlc.receive(wall, event.hlc),
                )
            }
        };
        node.known.insert(number);
        node.vector.increment(id(index)).unwrap();
        events.push(Event {
            known: node.known.clone(),
            vector: node.vector.clone(),
            lamport: lamport.unwrap(),
            hlc: hlc.unwrap(),
        });
    }
    events
}

fn inclusion<T: Ord>(left: &BTreeSet<T>, right: &BTreeSet<T>) -> CausalOrder {
    match (left.is_subset(right), right.is_subset(left)) {
        (true, true) => Equal,
        (true, false) => Before,
        (false, true) => After,
        (false, false) => Concurrent,
    }
}

proptest! {
    #[test]
    fn order_is_inclusion_of_event_sets(steps in steps(), walls in prop::collection::vec(any::<u32>(), 1..9)) {
        let events = run(&steps, &walls);
        for left in &events {
            for right in &events {
                let order = inclusion(&left.known, &right.known);
                prop_assert_eq!(left.vector.compare(&right.vector), order);
                prop_assert_eq!(left.vector.partial_cmp(&right.vector), order.to_ordering());
                prop_assert_eq!(left.vector.includes(&right.vector), matches!(order, Equal | After));
                // The scalar clocks are consistent with it, but not equivalent.
                if order == Before {
                    prop_assert!(left.lamport < right.lamport);
                    prop_assert!(left.hlc < right.hlc);
                }
                if order == Concurrent {
                    prop_assert_ne!(left.lamport, right.lamport, "nodes break ties");
                }
            }
        }
    }

    #[test]
    fn merge_is_union(left in entries(), right in entries()) {
        let (a, b) = (vector(&left), vector(&right));
        let mut merged = a.clone();
        merged.merge(&b).unwrap();
        let union: BTreeSet<_> = events(&a).union(&events(&b)).copied().collect();
        prop_assert_eq!(events(&merged), union);
        prop_assert!(merged.includes(&a) && merged.includes(&b));
        prop_assert!(merged.iter().is_sorted_by(|x, y| x.0 < y.0));
    }

    #[test]
    fn merge_is_associative_commutative_and_idempotent(a in entries(), b in entries(), c in entries()) {
        let (a, b, c) = (vector(&a), vector(&b), vector(&c));
        let join = |x: &VersionVector, y: &VersionVector| {
            let mut joined = x.clone();
            joined.merge(y).unwrap();
            joined
        };
        prop_assert_eq!(join(&a, &b), join(&b, &a));
        prop_assert_eq!(join(&join(&a, &b), &c), join(&a, &join(&b, &c)));
        prop_assert_eq!(join(&a, &a), a);
    }
}

type Entries = std::collections::BTreeMap<u64, u64>;

fn entries() -> impl Strategy<Value = Entries> {
    prop::collection::btree_map(0_u64..8, 1_u64..4, 0..8)
}

fn vector(entries: &Entries) -> VersionVector {
    let entries = entries
        .iter()
        .map(|(node, count)| (NodeId::new(*node), *count));
    VersionVector::from_sorted(entries).unwrap()
}

/// The events that a vector stands for.
fn events(vector: &VersionVector) -> BTreeSet<(NodeId, u64)> {
    vector
        .iter()
        .flat_map(|(node, count)| (1..=count).map(move |event| (node, event)))
        .collect()
}

/// § 2.3 of the source: its `isConcurrent` says so of ordered clocks.
#[test]
fn ordered_versions_are_not_concurrent() {
    let node = NodeId::new(1);
    let mut older = VersionVector::new();
    older.increment(node).unwrap();
    let mut newer = older.clone();
    newer.increment(node).unwrap();
    newer.increment(NodeId::new(2)).unwrap();
    assert_eq!(older.compare(&newer), Before);
    assert_eq!(newer.compare(&older), After);
    assert_eq!(older.compare(&older.clone()), Equal);
    older.increment(NodeId::new(3)).unwrap();
    assert_eq!(older.compare(&newer), Concurrent);
}

#[test]
fn reverse_is_the_view_from_the_other_side() {
    for (order, reversed) in [
        (Equal, Equal),
        (Before, After),
        (After, Before),
        (Concurrent, Concurrent),
    ] {
        assert_eq!(order.reverse(), reversed);
        assert_eq!(order.is_concurrent(), order.to_ordering().is_none());
    }
}

#[test]
fn a_vector_holds_at_most_nodes_max() {
    let nodes = (1..=VersionVector::NODES_MAX as u64).map(NodeId::new);
    let mut full = VersionVector::from_sorted(nodes.clone().map(|node| (node, 1))).unwrap();
    let one_more = nodes.chain([NodeId::new(u64::MAX)]).map(|node| (node, 1));
    let refused = Err(VersionVectorError::TooManyNodes);
    assert_eq!(VersionVector::from_sorted(one_more), refused);
    assert_eq!(
        full.increment(NodeId::new(0)),
        Err(VersionVectorError::TooManyNodes)
    );
    let mut stranger = VersionVector::new();
    stranger.increment(NodeId::new(0)).unwrap();
    let before = full.clone();
    assert_eq!(full.merge(&stranger), Err(VersionVectorError::TooManyNodes));
    assert_eq!(full, before, "unchanged");
    assert_eq!(full.increment(NodeId::new(7)), Ok(2), "known nodes go on");
}

#[test]
fn malformed_entries_are_refused() {
    let entry = |node, count| (NodeId::new(node), count);
    for (entries, at) in [
        (vec![entry(1, 0)], 1),
        (vec![entry(2, 1), entry(1, 1)], 1),
        (vec![entry(2, 1), entry(2, 1)], 2),
    ] {
        let refused = Err(VersionVectorError::Malformed(NodeId::new(at)));
        assert_eq!(VersionVector::from_sorted(entries), refused);
    }
}

#[test]
fn a_counter_at_its_end_is_an_error() {
    let node = NodeId::new(1);
    let mut vector = VersionVector::from_sorted([(node, u64::MAX)]).unwrap();
    assert_eq!(
        vector.increment(node),
        Err(VersionVectorError::Exhausted(node))
    );
    assert_eq!(vector.forget(node), u64::MAX);
    assert!(vector.is_empty());
}
