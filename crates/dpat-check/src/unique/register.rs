//! Registers: zones of writes and their reads.

use std::collections::HashMap;

use super::{NEVER, holder};
use crate::object::register::Op;
use crate::object::{Item, NIL};

/// A write and the reads of it.
#[derive(Debug)]
struct Cluster {
    /// When the write was called; none while only reads are known.
    written: Option<u64>,
    required: bool,
    first_return: u64,
    last_call: u64,
}

/// Decides by the zones of Gibbons and Korach 1997, "Testing Shared Memories".
///
/// O(n log n).
pub(crate) fn register(items: &[Item<Op>]) -> Option<bool> {
    let mut clusters: HashMap<u32, Cluster> = HashMap::new();
    let empty = || Cluster {
        written: None,
        required: false,
        first_return: NEVER,
        last_call: 0,
    };
    // Times are moved by one, so that the beginning has a place.
    clusters.insert(
        NIL,
        Cluster {
            written: Some(0),
            first_return: 0,
            ..empty()
        },
    );
    for item in items {
        let (value, writes) = match item.op {
            Op::Read(value) => (value, false),
            Op::Write(value) => (value, true),
            Op::Cas(..) | Op::Differs(_) => return None,
        };
        let cluster = clusters.entry(value).or_insert_with(empty);
        let (called, returned) = (item.called + 1, item.returned.map_or(NEVER, |at| at + 1));
        if writes && cluster.written.replace(called).is_some() {
            return None;
        }
        cluster.required |= item.returned.is_some();
        cluster.first_return = cluster.first_return.min(returned);
        cluster.last_call = cluster.last_call.max(called);
    }

    let mut forward = Vec::new();
    let mut backward = Vec::new();
    for cluster in clusters.values().filter(|cluster| cluster.required) {
        // A read of what nobody wrote, or that returned before the write was called.
        match cluster.written {
            Some(written) if written <= cluster.first_return => {}
            _ => return Some(false),
        }
        if cluster.first_return < cluster.last_call {
            forward.push((cluster.first_return, cluster.last_call));
        } else {
            backward.push((cluster.last_call, cluster.first_return));
        }
    }
    forward.sort_unstable();
    let disjoint = forward.windows(2).all(|pair| pair[0].1 < pair[1].0);
    let free = |zone: &(u64, u64)| holder(&forward, zone.0, zone.1).is_none();
    Some(disjoint && backward.iter().all(free))
}
