//! The clocks of a node: right, or wrong in a scripted way.

use dpat_core::{Instant, Wall};
use dpat_model::{Fault, NodeIx, Reading};

use crate::Stream;

/// The wall clock at the start of a run: 2030-01-01T00:00:00Z.
pub const WALL_START_NS: u64 = 1_893_456_000_000_000_000;

/// The largest origin of a monotonic clock. No two nodes share a clock, so each has an origin of its own.
const ORIGIN_MAX_NS: u64 = 1_000_000_000_000;

const PPM: i128 = 1_000_000;

/// The monotonic and the wall clock of one node.
///
/// The monotonic clock starts at a drawn origin and never goes back, whatever is done to it. Times are nanoseconds of
/// the simulation.
///
/// # Examples
/// ```
/// use dpat_model::{Fault, NodeIx};
/// use dpat_sim::NodeClock;
///
/// let mut clock = NodeClock::new(7, NodeIx(0));
/// let start = clock.reading(0);
/// clock.apply(0, &Fault::ClockDrift { node: NodeIx(0), drift_per_million: 500_000 });
/// let later = clock.reading(1_000);
/// assert_eq!(later.now.since(start.now).as_nanos(), 1_500);
/// assert_eq!(clock.true_time_of(later.now, 0), 1_000);
/// ```
#[derive(Clone, Debug)]
pub struct NodeClock {
    node: NodeIx,
    /// From this true time on the clock runs; a frozen clock has one in the future.
    base_true: u64,
    base_now: u64,
    drift: i64,
    /// Wall minus monotonic time.
    shift: i128,
}

impl NodeClock {
    /// Makes the right clock of a node.
    #[must_use]
    pub fn new(seed: u64, node: NodeIx) -> Self {
        let origin = Stream::new(seed, "clock", u64::from(node.0)).below(ORIGIN_MAX_NS);
        Self {
            node,
            base_true: 0,
            base_now: origin,
            drift: 0,
            shift: i128::from(WALL_START_NS) - i128::from(origin),
        }
    }

    /// Returns both readings at a true time, which never goes back from call to call.
    #[inline]
    #[must_use]
    pub fn reading(&self, true_ns: u64) -> Reading {
        let now = self.now(true_ns);
        let wall = i128::from(now) + self.shift;
        Reading {
            now: Instant::from_nanos(now),
            wall: Wall::from_nanos(clamp(wall)),
        }
    }

    /// Returns what the monotonic clock shows.
    #[inline]
    #[must_use]
    pub fn monotonic(&self, true_ns: u64) -> Instant {
        Instant::from_nanos(self.now(true_ns))
    }

    /// Returns the first true time, not before `now_true_ns`, at which the monotonic clock shows `local` or more.
    ///
    /// `u64::MAX` if the clock stands still for ever.
    #[inline]
    #[must_use]
    pub fn true_time_of(&self, local: Instant, now_true_ns: u64) -> u64 {
        let missing = local.as_nanos().saturating_sub(self.base_now);
        let needed = if missing == 0 {
            return now_true_ns;
        } else if self.drift == 0 {
            missing
        } else {
            let rate = self.rate();
            clamp((i128::from(missing) * PPM + rate - 1) / rate)
        };
        self.base_true.saturating_add(needed).max(now_true_ns)
    }

    /// Applies a clock fault of this node; false if it is something else.
    pub fn apply(&mut self, now_true_ns: u64, fault: &Fault) -> bool {
        let ours = |node: NodeIx| node == self.node;
        match *fault {
            Fault::ClockOffset { node, offset_us } if ours(node) => {
                let right = i128::from(WALL_START_NS) + i128::from(now_true_ns);
                let now = i128::from(self.now(now_true_ns));
                self.shift = right - now + i128::from(offset_us) * 1000;
            }
            Fault::ClockJump { node, jump_us } if ours(node) => {
                self.shift += i128::from(jump_us) * 1000;
            }
            Fault::ClockDrift {
                node,
                drift_per_million,
            } if ours(node) => {
                self.rebase(now_true_ns);
                self.drift = drift_per_million;
            }
            Fault::ClockFreeze { node, for_us } if ours(node) => {
                self.rebase(now_true_ns);
                let until = for_us.map_or(u64::MAX, |us| {
                    now_true_ns.saturating_add(us.saturating_mul(1000))
                });
                self.base_true = self.base_true.max(until);
            }
            _ => return false,
        }
        true
    }

    /// Makes both clocks run again at the right rate, and the wall clock show the right time.
    pub fn heal(&mut self, now_true_ns: u64) {
        self.base_now = self.now(now_true_ns);
        self.base_true = now_true_ns;
        self.drift = 0;
        let right = i128::from(WALL_START_NS) + i128::from(now_true_ns);
        self.shift = right - i128::from(self.base_now);
    }

    /// Says whether the clock is wrong at this time: it runs at another rate, stands still, or shows another wall time.
    #[must_use]
    pub fn is_faulty(&self, true_ns: u64) -> bool {
        let right = WALL_START_NS.saturating_add(true_ns);
        self.drift != 0
            || self.base_true > true_ns
            || self.reading(true_ns).wall != Wall::from_nanos(right)
    }

    #[inline]
    fn now(&self, true_ns: u64) -> u64 {
        let elapsed = true_ns.saturating_sub(self.base_true);
        if self.drift == 0 {
            return self.base_now.saturating_add(elapsed);
        }
        let advanced = i128::from(elapsed) * self.rate() / PPM;
        clamp(i128::from(self.base_now) + advanced)
    }

    /// Parts per million of the right rate; a clock that drifts all too slowly still advances.
    fn rate(&self) -> i128 {
        (PPM + i128::from(self.drift)).max(1)
    }

    fn rebase(&mut self, now_true_ns: u64) {
        self.base_now = self.now(now_true_ns);
        self.base_true = self.base_true.max(now_true_ns);
    }
}

fn clamp(value: i128) -> u64 {
    u64::try_from(value.max(0)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NODE: NodeIx = NodeIx(2);

    fn clock() -> NodeClock {
        NodeClock::new(7, NODE)
    }

    #[test]
    fn nodes_have_origins_of_their_own() {
        assert_ne!(
            clock().reading(0).now,
            NodeClock::new(7, NodeIx(3)).reading(0).now
        );
        assert_eq!(clock().reading(5).wall.as_nanos(), WALL_START_NS + 5);
        assert!(!clock().is_faulty(5));
    }

    #[test]
    fn faults_of_other_nodes_and_kinds_are_left_alone() {
        let mut clock = clock();
        assert!(!clock.apply(
            0,
            &Fault::ClockJump {
                node: NodeIx(0),
                jump_us: 1
            }
        ));
        assert!(!clock.apply(0, &Fault::Restart { node: NODE }));
        assert!(!clock.is_faulty(0));
    }

    #[test]
    fn offset_and_jump_move_the_wall_clock_only() {
        let mut clock = clock();
        let before = clock.reading(1000).now;
        assert!(clock.apply(
            1000,
            &Fault::ClockOffset {
                node: NODE,
                offset_us: -3
            }
        ));
        assert_eq!(
            clock.reading(1000).wall.as_nanos(),
            WALL_START_NS + 1000 - 3000
        );
        assert!(clock.apply(
            1000,
            &Fault::ClockJump {
                node: NODE,
                jump_us: 5
            }
        ));
        assert_eq!(
            clock.reading(1000).wall.as_nanos(),
            WALL_START_NS + 1000 + 2000
        );
        assert!(clock.apply(
            1000,
            &Fault::ClockOffset {
                node: NODE,
                offset_us: 0
            }
        ));
        assert!(!clock.is_faulty(1000));
        assert_eq!(clock.reading(1000).now, before);
        clock.apply(
            1000,
            &Fault::ClockOffset {
                node: NODE,
                offset_us: i64::MIN,
            },
        );
        assert_eq!(clock.reading(1000).wall, Wall::MIN);
    }

    #[test]
    fn drift_scales_both_clocks_and_timers() {
        for drift in [-999_999, -2_000_000, -500_000, -3, 7, 900_000, i64::MAX] {
            let mut clock = clock();
            clock.apply(
                500,
                &Fault::ClockDrift {
                    node: NODE,
                    drift_per_million: drift,
                },
            );
            assert!(clock.is_faulty(500));
            let start = clock.reading(500).now;
            let due = start + Duration::from_nanos(12_345);
            let at = clock.true_time_of(due, 500);
            assert!(clock.reading(at).now >= due, "{drift}");
            assert!(at == 500 || clock.reading(at - 1).now < due, "{drift}");
        }
    }

    #[test]
    fn a_frozen_clock_stands_still_and_goes_on() {
        let mut clock = clock();
        clock.apply(
            1000,
            &Fault::ClockFreeze {
                node: NODE,
                for_us: Some(2),
            },
        );
        let (then, due) = (
            clock.reading(1000),
            clock.reading(1000).now + Duration::from_nanos(7),
        );
        assert_eq!(clock.reading(2999), then);
        assert_eq!(clock.true_time_of(due, 1000), 3007);
        // A drift that begins meanwhile does not wake it.
        clock.apply(
            2000,
            &Fault::ClockDrift {
                node: NODE,
                drift_per_million: 1_000_000,
            },
        );
        assert_eq!(clock.reading(2999), then);
        assert_eq!(clock.reading(3004).now.since(then.now).as_nanos(), 8);
    }

    #[test]
    fn a_clock_that_stands_still_for_ever_can_be_healed() {
        let mut clock = clock();
        clock.apply(
            1000,
            &Fault::ClockFreeze {
                node: NODE,
                for_us: None,
            },
        );
        let due = clock.reading(1000).now + Duration::from_nanos(1);
        assert_eq!(clock.true_time_of(due, 1000), u64::MAX);
        clock.heal(5000);
        assert_eq!(clock.true_time_of(due, 5000), 5001);
        assert!(!clock.is_faulty(5000) && !clock.is_faulty(9000));
    }

    #[test]
    fn the_monotonic_clock_never_goes_back() {
        let mut clock = clock();
        let mut stream = Stream::new(9, "test", 0);
        let mut last = Instant::MIN;
        let mut now = 0;
        for _ in 0..2000 {
            now += stream.below(10_000);
            let drift_per_million = i64::try_from(stream.below(4_000_000)).unwrap() - 2_000_000;
            match stream.below(5) {
                0 => drop(clock.apply(
                    now,
                    &Fault::ClockDrift {
                        node: NODE,
                        drift_per_million,
                    },
                )),
                1 => drop(clock.apply(
                    now,
                    &Fault::ClockFreeze {
                        node: NODE,
                        for_us: Some(3),
                    },
                )),
                2 => drop(clock.apply(
                    now,
                    &Fault::ClockJump {
                        node: NODE,
                        jump_us: -50,
                    },
                )),
                3 => clock.heal(now),
                _ => {}
            }
            let read = clock.reading(now).now;
            assert!(read >= last);
            last = read;
        }
    }
}
