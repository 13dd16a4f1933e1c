//! Clock and sleep of the tokio runtime.

use super::system::{from_std, system_wall, to_std};
use super::{Clock, Instant, Sleep, Wall};
use std::time::Duration;

/// Waits beyond this are as good as for ever, and within what every platform's clock can tell.
const FAR_FUTURE: Duration = Duration::from_secs(30 * 365 * 86_400);

/// Tokio's clock and timer; follows `tokio::time::pause` and `advance`.
///
/// Readings share [`SystemClock`](super::SystemClock)'s origin. Sleeping needs a runtime with the time driver;
/// reading does not. Sleeps end on whole milliseconds, never early; one of more than 30 years ends after 30 years.
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

    /// # Panics
    /// Outside a tokio runtime with the time driver enabled, as every tokio timer does.
    fn sleep_until(&self, at: Instant) -> Self::Sleeping {
        let left = at.since(self.now());
        match to_std(at) {
            Some(exact) if left <= FAR_FUTURE => {
                tokio::time::sleep_until(tokio::time::Instant::from_std(exact))
            }
            _ => tokio::time::sleep(left.min(FAR_FUTURE)),
        }
    }
}
