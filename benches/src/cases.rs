//! The cases, one list for both faces (the runner and criterion).

use crate::harness::Case;

/// Every pattern that has cases, in the order of the page.
pub const PATTERNS: [&str; 4] = ["ids", "clocks", "breaker", "retry"];

/// Makes the cases of a pattern; none for an unknown one.
#[must_use]
pub fn of(pattern: &str) -> Vec<Case> {
    match pattern {
        _ => Vec::new(),
    }
}

/// Returns what a reader must know about the contenders of a pattern.
#[must_use]
pub fn notes(pattern: &str) -> &'static str {
    match pattern {
        _ => "",
    }
}
