//! The clocks of the operating system.

use super::{Clock, Instant, Wall, nanos};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Readings start here, so that instants a little older than the origin can be told.
const HEADROOM: Duration = Duration::from_secs(3600);

static ORIGIN: OnceLock<std::time::Instant> = OnceLock::new();

/// The operating system's monotonic and wall clocks.
///
/// All instances share one origin in a process, also with `TokioTime`, so that their instants may be compared. A wall
/// clock set before 1970 reads as 1970.
///
/// # Examples
/// ```
/// use dpat_core::{Clock, SystemClock};
///
/// let start = SystemClock.now();
/// assert!(SystemClock.now() >= start);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

pub(super) fn from_std(instant: std::time::Instant) -> Instant {
    let origin = *ORIGIN.get_or_init(|| instant);
    let base = Instant::from_nanos(nanos(HEADROOM));
    match instant.checked_duration_since(origin) {
        Some(after) => base + after,
        None => base - origin.duration_since(instant),
    }
}

/// The inverse of [`from_std`]; none if the platform cannot tell so late a time.
#[cfg(feature = "tokio")]
pub(super) fn to_std(instant: Instant) -> Option<std::time::Instant> {
    let origin = *ORIGIN.get()?;
    let base = Instant::from_nanos(nanos(HEADROOM));
    if instant >= base {
        origin.checked_add(instant.since(base))
    } else {
        origin.checked_sub(base.since(instant))
    }
}

#[allow(clippy::disallowed_methods)] // the one real wall clock
pub(super) fn system_wall() -> Wall {
    Wall::from_nanos(nanos(
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default(),
    ))
}

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods)] // the one real clock
    fn now(&self) -> Instant {
        from_std(std::time::Instant::now())
    }

    fn wall(&self) -> Wall {
        system_wall()
    }
}
