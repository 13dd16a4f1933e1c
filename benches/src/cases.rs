//! The cases, one list for both faces (the runner and criterion).

mod breaker;
mod retry;

use crate::harness::Case;

/// Every pattern that has cases, in the order of the page.
pub const PATTERNS: [&str; 4] = ["ids", "clocks", "breaker", "retry"];

/// Makes the cases of a pattern; none for an unknown one.
#[must_use]
pub fn of(pattern: &str) -> Vec<Case> {
    match pattern {
        "breaker" => breaker::cases(),
        "retry" => retry::cases(),
        _ => Vec::new(),
    }
}

/// Returns what a reader must know about the contenders of a pattern.
#[must_use]
pub fn notes(pattern: &str) -> &'static str {
    match pattern {
        "breaker" => breaker::NOTES,
        "retry" => retry::NOTES,
        _ => "",
    }
}
