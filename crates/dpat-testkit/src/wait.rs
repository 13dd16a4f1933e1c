//! The one place that waits in real time: servers and connections live in it, and tests that use them must.

use std::time::{Duration, Instant};

/// Looks again and again until there is something to see, for at most so long.
#[expect(clippy::disallowed_methods, reason = "processes live in real time")]
pub(crate) fn until<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let begun = Instant::now();
    loop {
        let seen = look();
        if seen.is_some() || begun.elapsed() >= limit {
            return seen;
        }
        pause(Duration::from_millis(5));
    }
}

/// Lets time pass.
#[expect(clippy::disallowed_methods, reason = "connections live in real time")]
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}
