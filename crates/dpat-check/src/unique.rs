//! Polynomial tests for histories in which each value comes in once.
//!
//! Then it is known which operation a result comes from, and no search is needed. A test says `None` where it does not
//! apply. Each is compared with the search on thousands of histories.

mod buffer;
mod register;
mod set;

pub(crate) use buffer::{queue, stack};
pub(crate) use register::register;
pub(crate) use set::set;

/// After every return.
pub(crate) const NEVER: u64 = u64::MAX;

/// Intervals that overlap, merged; sorted by their start.
fn merge(mut intervals: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    intervals.sort_unstable();
    let mut merged: Vec<(u64, u64)> = Vec::new();
    for (start, end) in intervals {
        match merged.last_mut() {
            Some(last) if start <= last.1 => last.1 = last.1.max(end),
            _ => merged.push((start, end)),
        }
    }
    merged
}

/// Finds the one of disjoint sorted intervals that holds `from..to`.
fn holder(merged: &[(u64, u64)], from: u64, to: u64) -> Option<usize> {
    let after = merged.partition_point(|(start, _)| *start <= from);
    let index = after.checked_sub(1)?;
    (to <= merged[index].1).then_some(index)
}
