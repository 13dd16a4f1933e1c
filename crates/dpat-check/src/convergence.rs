//! Strong eventual consistency.

use std::collections::{BTreeSet, HashMap};

use crate::error::BadOperation;
use crate::history::History;
use crate::value::Value;
use crate::verdict::{Verdict, Violation};

/// Decides whether replicas that have delivered the same updates have the same state.
///
/// A process is a replica; its operations are `deliver u`, with the update's id, and `read` → state. This is the strong
/// convergence of Shapiro, Preguiça, Baquero and Zawirski 2011, "Conflict-free Replicated Data Types"; rule `diverged`.
/// What a replica has delivered after a delivery of unknown outcome is not judged: the process ends there.
///
/// # Errors
/// [`BadOperation`] if an operation is none of these.
///
/// # Complexity
/// O(r d) for r reads of replicas that have delivered d updates.
pub fn check_convergence(history: &History) -> Result<Verdict, BadOperation> {
    let mut delivered: HashMap<u64, BTreeSet<&Value>> = HashMap::new();
    let mut states: HashMap<BTreeSet<&Value>, (usize, &Value)> = HashMap::new();
    for (index, operation) in history.operations().iter().enumerate() {
        let replica = delivered.entry(operation.process).or_default();
        match (&*operation.f, operation.result()) {
            ("deliver", Some(_)) => {
                replica.insert(&operation.value);
            }
            ("read", Some(state)) => {
                let (first, seen) = *states.entry(replica.clone()).or_insert((index, state));
                if seen != state {
                    return Ok(Verdict::violated(Violation {
                        blocked: index,
                        with: vec![first],
                        rule: Some("diverged"),
                        ..Violation::default()
                    }));
                }
            }
            ("deliver" | "read", None) => {}
            (f, _) => {
                let reason = format!("`{f}` is none of deliver, read");
                return Err(operation.bad(index, "f", reason));
            }
        }
    }
    Ok(Verdict::Ok)
}
