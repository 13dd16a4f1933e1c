//! Queues and stacks: values that are put once and taken at most once.

use std::collections::HashMap;

use super::{NEVER, holder, merge};
use crate::object::Item;
use crate::object::queue::Op;

/// When a value was put and taken; never taken is taken at the end.
#[derive(Clone, Copy, Debug)]
struct Stay {
    put: (u64, u64),
    take: (u64, u64),
}

impl Stay {
    /// While it is surely inside.
    fn inside(&self) -> Option<(u64, u64)> {
        (self.put.1 < self.take.0).then_some((self.put.1, self.take.0))
    }
}

/// The history by value.
struct Stays {
    stays: Vec<Stay>,
    /// When takers found nothing.
    nothing: Vec<(u64, u64)>,
}

/// Reads the stays; `None` if values come twice or takes are unknown, an error if some take is impossible.
fn stays(items: &[Item<Op>]) -> Option<Result<Stays, ()>> {
    let mut puts = HashMap::new();
    let mut takes = HashMap::new();
    let mut nothing = Vec::new();
    let mut twice = false;
    for item in items {
        let open = (item.called, item.returned.unwrap_or(NEVER));
        match item.op {
            Op::Put(value) => {
                if puts.insert(value, open).is_some() {
                    return None;
                }
            }
            // A take that need not happen is more than these tests decide.
            _ if item.returned.is_none() => return None,
            Op::Take(value) => twice |= takes.insert(value, open).is_some(),
            Op::TakeNothing => nothing.push(open),
            Op::TakeAny => return None,
        }
    }
    if twice || takes.keys().any(|value| !puts.contains_key(value)) {
        return Some(Err(()));
    }
    let mut stays = Vec::with_capacity(puts.len());
    for (value, put) in puts {
        match takes.get(&value) {
            Some(take) if take.1 < put.0 => return Some(Err(())),
            Some(take) => stays.push(Stay { put, take: *take }),
            // A put that need not happen and that nobody saw did not happen.
            None if put.1 == NEVER => {}
            None => stays.push(Stay {
                put,
                take: (NEVER, NEVER),
            }),
        }
    }
    Some(Ok(Stays { stays, nothing }))
}

/// Says whether each taker that found nothing had a moment at which nothing needed to be inside.
fn nothing_fits(found: &Stays) -> bool {
    let inside = merge(found.stays.iter().filter_map(Stay::inside).collect());
    found
        .nothing
        .iter()
        .all(|open| holder(&inside, open.0, open.1).is_none())
}

/// Decides a queue by the violations of Henzinger, Sezgin and Vafeiadis 2013, "Aspect-Oriented Linearizability
/// Proofs".
///
/// O(n log n).
pub(crate) fn queue(items: &[Item<Op>]) -> Option<bool> {
    let Ok(found) = stays(items)? else {
        return Some(false);
    };
    let mut by_return: Vec<&Stay> = found.stays.iter().collect();
    by_return.sort_unstable_by_key(|stay| stay.put.1);
    let mut by_call = by_return.clone();
    by_call.sort_unstable_by_key(|stay| stay.put.0);
    let mut earlier = by_return.into_iter().peekable();
    let mut last_taken = 0;
    for stay in by_call {
        while let Some(before) = earlier.next_if(|before| before.put.1 < stay.put.0) {
            last_taken = last_taken.max(before.take.0);
        }
        if stay.take.1 < last_taken {
            return Some(false); // it was put later and taken earlier
        }
    }
    Some(nothing_fits(&found))
}

/// Decides a stack by taking away what can be below all others.
///
/// A moment at which nothing needs to be inside splits the history in two that do not matter to each other. Without
/// one, some value is inside from first to last; it can be any value put before the first return and taken after the
/// last call, and without it the rest is a history of its own. (The decrease-and-conquer of Lee and Mathur 2025,
/// "Efficient Decrease-and-Conquer Linearizability Monitoring".)
///
/// O(n² log n) in the worst case.
pub(crate) fn stack(items: &[Item<Op>]) -> Option<bool> {
    let Ok(found) = stays(items)? else {
        return Some(false);
    };
    if !nothing_fits(&found) {
        return Some(false);
    }
    let mut parts = vec![found.stays];
    while let Some(mut part) = parts.pop() {
        let inside = merge(part.iter().filter_map(Stay::inside).collect());
        if inside.len() > 1 || part.iter().any(|stay| stay.inside().is_none()) {
            split(&part, &inside, &mut parts);
            continue;
        }
        let Some(lowest) = lowest(&part) else {
            if part.is_empty() {
                continue;
            }
            return Some(false);
        };
        part.swap_remove(lowest);
        parts.push(part);
    }
    Some(true)
}

/// Gives each stretch in which something is inside a part of its own.
fn split(part: &[Stay], inside: &[(u64, u64)], parts: &mut Vec<Vec<Stay>>) {
    let first = parts.len();
    parts.resize_with(first + inside.len(), Vec::new);
    for stay in part {
        // What is never surely inside can come and go at a moment of its own, where nothing need be.
        if let Some(stretch) = stay.inside() {
            if let Some(index) = holder(inside, stretch.0, stretch.1) {
                parts[first + index].push(*stay);
            }
        }
    }
}

/// Finds a value that can be put first and taken last.
fn lowest(part: &[Stay]) -> Option<usize> {
    let first_return = part.iter().map(|stay| stay.put.1.min(stay.take.1)).min()?;
    let last_call = part.iter().map(|stay| stay.put.0.max(stay.take.0)).max()?;
    part.iter()
        .position(|stay| stay.put.0 <= first_return && stay.take.1 >= last_call)
}
