//! What a checker says.

use crate::limits::Stopped;
use crate::value::Value;

/// Whether a history satisfies what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It does.
    Ok,
    /// It does not.
    Violation(Box<Violation>),
    /// The search was stopped before it could tell.
    Unknown(Stopped),
}

impl Verdict {
    /// Returns `ok`, `violation` or `unknown`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Violation(_) => "violation",
            Self::Unknown(_) => "unknown",
        }
    }

    /// Says whether the history satisfies what was asked.
    #[must_use]
    pub const fn is_ok(&self) -> bool {
        matches!(self, Self::Ok)
    }

    /// Returns the violation, if there is one.
    #[must_use]
    pub fn violation(&self) -> Option<&Violation> {
        match self {
            Self::Violation(violation) => Some(violation),
            Self::Ok | Self::Unknown(_) => None,
        }
    }

    pub(crate) fn violated(violation: Violation) -> Self {
        Self::Violation(Box::new(violation))
    }
}

/// Where a history breaks. Operations are named by their place among the invocations, counted from 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Violation {
    /// The key, group or transaction that it is about, if the history has some.
    pub key: Option<Value>,
    /// For linearizability: an order of everything that completed before the blocked operation did, and of what else
    /// had to happen for that. Empty if finding it took more than the limits.
    pub longest_prefix: Vec<usize>,
    /// The first operation by completion that cannot be placed, whatever the order of the others.
    pub blocked: usize,
    /// Other operations that take part, such as the rest of a cycle.
    pub with: Vec<usize>,
    /// The rule that is broken, where there are several.
    pub rule: Option<&'static str>,
}
