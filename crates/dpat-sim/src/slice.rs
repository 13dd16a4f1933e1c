//! The causal cone of an event.

use crate::Trace;

/// Returns the indices of the recorded events that happened before an event, and its own, ascending.
///
/// Happened-before is Lamport's (1978, "Time, Clocks, and the Ordering of Events in a Distributed System"): earlier at
/// the same node, or sent before, and so on transitively. It is the cone that vector clocks would show, walked along
/// [`TraceEvent::causes`](crate::TraceEvent::causes). What is outside cannot have had an influence.
///
/// `at_event` is the number of an event, such as [`Violation::at_event`](crate::Violation::at_event). Of a truncated
/// trace that does not reach so far, the cone of the last recorded event is returned. Linear in the trace.
///
/// # Examples
/// ```
/// use dpat_sim::{Trace, TraceEvent, slice};
///
/// let event = |i, node, causes: &[u64]| TraceEvent { i, node: Some(node), causes: causes.to_vec(), ..TraceEvent::default() };
/// let mut trace = Trace::default();
/// trace.events = vec![event(0, 0, &[]), event(1, 1, &[]), event(2, 2, &[0])];
/// assert_eq!(slice(&trace, 2), [0, 2]);
/// ```
#[must_use]
pub fn slice(trace: &Trace, at_event: u64) -> Vec<usize> {
    let events = &trace.events;
    let index = |i: u64| events.binary_search_by_key(&i, |event| event.i).ok();
    let last = events.partition_point(|event| event.i <= at_event);
    let Some(last) = last.checked_sub(1) else {
        return Vec::new();
    };
    let mut inside = vec![false; last + 1];
    inside[last] = true;
    // Causes are earlier, so that one pass from the end reaches all.
    for at in (0..=last).rev() {
        if inside[at] {
            for cause in events[at].causes.iter().filter_map(|cause| index(*cause)) {
                if cause < at {
                    inside[cause] = true;
                }
            }
        }
    }
    (0..=last).filter(|at| inside[*at]).collect()
}
