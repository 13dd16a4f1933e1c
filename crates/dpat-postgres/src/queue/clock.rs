//! Whose clock decides: the server's, read with what is asked of it anyway.
//!
//! Each answer that carries the server's time bounds how far it is from our own monotonic clock: it was read between question and
//! answer. The bounds of several answers are cut with each other, so that a slow one does not make them worse.

use std::time::Duration;

use dpat_core::Wall;
use tokio::time::Instant;

/// How far two clocks that run by themselves may drift apart: one part in this many.
const DRIFT: u32 = 2_000;

/// What is known of the server's clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct ServerClock {
    /// All times are from here on.
    origin: Instant,
    bounds: Option<Bounds>,
}

/// The server's time at the origin is between these.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    least: i128,
    most: i128,
    /// When they were found, as nanoseconds from the origin.
    at: i128,
}

fn nanos(duration: Duration) -> i128 {
    i128::try_from(duration.as_nanos()).unwrap_or(i128::MAX)
}

impl ServerClock {
    pub(super) const fn new(origin: Instant) -> Self {
        Self {
            origin,
            bounds: None,
        }
    }

    fn since_origin(&self, at: Instant) -> i128 {
        nanos(at.saturating_duration_since(self.origin))
    }

    /// Takes what the server said between asking and its answer.
    pub(super) fn read(&mut self, server: Wall, asked: Instant, answered: Instant) {
        let server = i128::from(server.as_nanos());
        let (asked, at) = (self.since_origin(asked), self.since_origin(answered));
        let new = Bounds {
            least: server - at,
            most: server - asked,
            at,
        };
        self.bounds = Some(match self.bounds {
            None => new,
            Some(known) => {
                let drift = (at - known.at).max(0) / i128::from(DRIFT);
                let cut = Bounds {
                    least: new.least.max(known.least - drift),
                    most: new.most.min(known.most + drift),
                    at,
                };
                // Where they do not meet, a clock was set: the new one counts.
                if cut.least <= cut.most { cut } else { new }
            }
        });
    }

    /// What the server's clock shows now; none: it was never read.
    pub(super) fn now(&self, now: Instant) -> Option<Wall> {
        let Bounds { least, most, .. } = self.bounds?;
        let time = least.midpoint(most) + self.since_origin(now);
        Some(Wall::from_nanos(u64::try_from(time).unwrap_or(0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const SECOND: u64 = 1_000_000_000;

    fn wall(millis: u64) -> Wall {
        Wall::from_nanos(SECOND * 1_000_000 + millis * 1_000_000)
    }

    #[test]
    fn the_time_is_within_half_of_the_fastest_round_trip() {
        let origin = Instant::now();
        let mut clock = ServerClock::new(origin);
        assert_eq!(clock.now(origin), None);
        clock.read(wall(10), origin, origin + 20 * MS);
        assert_eq!(clock.now(origin + 20 * MS), Some(wall(20)));
        // Read at the very end of a slow answer: it does not make the bounds worse.
        clock.read(wall(130), origin + 100 * MS, origin + 130 * MS);
        let off = clock.now(origin + 130 * MS).unwrap().since(wall(130));
        assert!(off <= 10 * MS, "{off:?}");
        // A fast answer makes them better.
        clock.read(wall(202), origin + 201 * MS, origin + 203 * MS);
        let read = clock.now(origin + 203 * MS).unwrap();
        assert!(read.since(wall(202)) <= 2 * MS && wall(204).since(read) <= 2 * MS);
    }

    #[test]
    fn a_clock_that_was_set_is_followed() {
        let origin = Instant::now();
        let mut clock = ServerClock::new(origin);
        clock.read(wall(1), origin, origin + 2 * MS);
        for set in [90_000, 500] {
            clock.read(wall(set), origin + 1_000 * MS, origin + 1_000 * MS);
            assert_eq!(clock.now(origin + 1_000 * MS), Some(wall(set)));
        }
    }

    #[test]
    fn bounds_widen_as_clocks_drift() {
        let origin = Instant::now();
        let mut clock = ServerClock::new(origin);
        clock.read(wall(0), origin, origin);
        // Half a millisecond in a second: not a clock that was set.
        let at = origin + 1_000 * MS;
        clock.read(Wall::from_nanos(wall(1_000).as_nanos() + 400_000), at, at);
        let now = clock.now(at).unwrap();
        assert_eq!(now.as_nanos() - wall(1_000).as_nanos(), 400_000);
    }
}
