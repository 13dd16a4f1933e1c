//! The cases, one list for both faces (the runner and criterion).

mod breaker;
mod check;
mod clocks;
mod codec;
mod explore;
mod ids;
mod pubsub;
mod queue;
mod retry;
mod sim;
mod wal;

use crate::harness::Case;

/// Every pattern that has cases, in the order of the page.
pub const PATTERNS: &[&str] = &[
    "ids", "clocks", "codec", "breaker", "retry", "pubsub", "queue", "wal", "sim", "explore",
    "check",
];

/// Makes the cases of a pattern; none for an unknown one.
#[must_use]
pub fn of(pattern: &str) -> Vec<Case> {
    match pattern {
        "ids" => ids::cases(),
        "clocks" => clocks::cases(),
        "codec" => codec::cases(),
        "breaker" => breaker::cases(),
        "check" => check::cases(),
        "sim" => sim::cases(),
        "retry" => retry::cases(),
        "explore" => explore::cases(),
        "pubsub" => pubsub::cases(),
        "queue" => queue::cases(),
        "wal" => wal::cases(),
        _ => Vec::new(),
    }
}

/// Returns what a reader must know about the contenders of a pattern.
#[must_use]
pub fn notes(pattern: &str) -> &'static str {
    match pattern {
        "ids" => ids::NOTES,
        "clocks" => clocks::NOTES,
        "codec" => codec::NOTES,
        "breaker" => breaker::NOTES,
        "check" => check::NOTES,
        "sim" => sim::NOTES,
        "retry" => retry::NOTES,
        "explore" => explore::NOTES,
        "pubsub" => pubsub::NOTES,
        "queue" => queue::NOTES,
        "wal" => wal::NOTES,
        _ => "",
    }
}
