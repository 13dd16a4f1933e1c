//! Sets that only grow and are read as a whole.

use std::collections::{BTreeSet, HashMap};

use super::NEVER;
use crate::object::Item;
use crate::object::set::Op;

/// Decides by levels: the reads form a chain by inclusion, each element comes in just before the first read that has
/// it, and real time never leads to a lower level.
///
/// O(n log n) beside the elements that were read.
pub(crate) fn set(items: &[Item<Op>]) -> Option<bool> {
    let mut reads = Vec::new();
    let mut adds = HashMap::new();
    for item in items {
        let open = (item.called, item.returned.unwrap_or(NEVER));
        match &item.op {
            Op::Add(element, None) => {
                if adds.insert(*element, open).is_some() {
                    return None;
                }
            }
            // A read that need not happen constrains nothing.
            Op::Read(_) if item.returned.is_none() => {}
            Op::Read(elements) => reads.push((elements, open)),
            Op::Add(_, Some(_)) | Op::Remove(..) | Op::Contains(..) => return None,
        }
    }
    reads.sort_unstable_by_key(|(elements, _)| elements.len());

    // Reads have odd levels, additions even ones.
    let mut placed = Vec::new();
    let mut level = 1;
    let nothing = BTreeSet::new();
    let mut before = &nothing;
    for (elements, open) in reads {
        if !before.is_subset(elements) {
            return Some(false);
        }
        if before.len() < elements.len() {
            level += 2;
            for element in elements.difference(before) {
                match adds.remove(element) {
                    Some(added) => placed.push((level - 1, added)),
                    None => return Some(false),
                }
            }
        }
        placed.push((level, open));
        before = elements;
    }
    // What nobody read came after all reads, or not at all.
    placed.extend(
        adds.into_values()
            .filter(|open| open.1 != NEVER)
            .map(|open| (level + 1, open)),
    );

    let mut by_return = placed.clone();
    by_return.sort_unstable_by_key(|(_, open)| open.1);
    placed.sort_unstable_by_key(|(_, open)| open.0);
    let mut earlier = by_return.into_iter().peekable();
    let mut highest = 0;
    Some(placed.into_iter().all(|(level, open)| {
        while let Some((level, _)) = earlier.next_if(|(_, before)| before.1 < open.0) {
            highest = highest.max(level);
        }
        highest <= level
    }))
}
