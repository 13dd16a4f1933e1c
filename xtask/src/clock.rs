//! Real time, which chores measure and nothing else in the workspace may.

use std::time::{Duration, Instant};

/// How long something has taken.
#[derive(Clone, Copy)]
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts to measure.
    #[expect(
        clippy::disallowed_methods,
        reason = "chores report how long they really took"
    )]
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    /// Time since the start.
    pub(crate) fn elapsed(self) -> Duration {
        self.0.elapsed()
    }

    /// Time since the start in seconds.
    pub(crate) fn seconds(self) -> f64 {
        self.elapsed().as_secs_f64()
    }
}

/// Lets a moment pass between two looks at a child process.
#[expect(
    clippy::disallowed_methods,
    reason = "std offers no wait for a child with a limit"
)]
pub(crate) fn pause() {
    std::thread::sleep(Duration::from_millis(20));
}
