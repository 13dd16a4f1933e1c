//! Clock and sleep of the tokio runtime.

use super::system::{from_std, system_wall};
use super::{Clock, Instant, Sleep, Wall};

/// Tokio's clock and timer; follows `tokio::time::pause` and `advance`.
///
/// Readings share [`SystemClock`](super::SystemClock)'s origin while time is not paused.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokioTime;

impl Clock for TokioTime {
    fn now(&self) -> Instant {
        from_std(tokio::time::Instant::now().into_std())
    }

    /// The system's wall clock; `tokio::time::pause` does not stop it.
    fn wall(&self) -> Wall {
        system_wall()
    }
}

impl Sleep for TokioTime {
    type Sleeping = tokio::time::Sleep;

    fn sleep_until(&self, at: Instant) -> Self::Sleeping {
        tokio::time::sleep(at.since(self.now()))
    }
}
