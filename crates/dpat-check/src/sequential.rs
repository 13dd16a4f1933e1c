//! What an object does when one operation comes after the other.

use std::hash::Hash;

/// A sequential specification: the object that concurrent calls should look like.
///
/// The checkers keep each state once and ask for each pair of state and operation once, so a step may be slow.
///
/// # Examples
/// ```
/// use dpat_check::{Limits, Sequential, Timed, linearize};
///
/// /// A counter of at most three.
/// struct Turnstile;
///
/// #[derive(PartialEq, Eq, Hash)]
/// enum Pass { Entered, Full }
///
/// impl Sequential for Turnstile {
///     type State = u8;
///     type Op = Pass;
///     fn initial(&self) -> u8 { 0 }
///     fn step(&self, inside: &u8, pass: &Pass) -> Option<u8> {
///         match pass {
///             Pass::Entered => (*inside < 3).then(|| inside + 1),
///             Pass::Full => (*inside == 3).then_some(3),
///         }
///     }
/// }
///
/// let call = |op, called, returned| Timed { op, called, returned: Some(returned) };
/// let calls = [
///     call(Pass::Entered, 0, 9), call(Pass::Entered, 1, 2), call(Pass::Full, 3, 4), call(Pass::Entered, 5, 6),
/// ];
/// let verdict = linearize(&Turnstile, &calls, &Limits::default());
/// assert_eq!(verdict.violation().map(|violation| violation.blocked), Some(2)); // at most two are inside
/// ```
pub trait Sequential {
    /// What the object holds.
    type State: Clone + Eq + Hash;
    /// An operation with its observed result.
    type Op: Eq + Hash;

    /// Returns the state at the beginning.
    fn initial(&self) -> Self::State;

    /// Returns the state after the operation, or `None` if it cannot have its result here.
    ///
    /// For operations of unknown outcome the operation has no observed result, and whatever it may do is one step.
    fn step(&self, state: &Self::State, op: &Self::Op) -> Option<Self::State>;

    /// Says that the operation leaves every state as it is. True makes the search quicker; a wrong true makes it wrong.
    fn reads_only(&self, op: &Self::Op) -> bool {
        let _ = op;
        false
    }

    /// Says how many configurations a state counts as, for [`Limits::configurations_max`](crate::Limits); one takes
    /// about 20 bytes.
    fn weight(&self, state: &Self::State) -> usize {
        let _ = state;
        4
    }
}

/// An operation with the time it was open.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Timed<O> {
    /// The operation with its observed result.
    pub op: O,
    /// When it was called, in any unit. It takes effect at or after this.
    pub called: u64,
    /// When it returned; `None` if it may still take effect at any time, or never.
    pub returned: Option<u64>,
}
