//! The one lock-free part of all generators: a strictly increasing (tick, counter) in one word.

use super::GenerateError;
use crate::Wall;
use crate::sync::{AtomicU64, Ordering, const_fn};
use std::time::Duration;

/// What a generator does when the clock reads earlier than its last id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RollbackPolicy {
    /// Keeps the last timestamp and counts on, until the clock has caught up.
    #[default]
    Hold,
    /// Gives no id, but tells how long until the clock has caught up ([`GenerateError::Wait`]).
    Wait,
    /// Gives no id ([`GenerateError::ClockWentBack`]).
    Fail,
    /// Holds while the clock is behind by no more than this; accepts the earlier time beyond.
    ///
    /// Ids before and after a reset are not ordered. They differ by their random bits only, so Snowflake, which has
    /// none, refuses this policy.
    ResetAfter(Duration),
}

/// What happens when the counter of a tick is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// Goes on in the next tick, ahead of the clock.
    Carry,
    /// Gives nothing.
    Fail,
    /// Goes on in the next tick if the clock is behind anyway (it was set back), waits for the clock otherwise.
    CarryWhileBehind,
}

/// Why there is no next value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    /// The clock is this many ticks behind the one that is wanted.
    Behind { ticks: u64 },
    /// The clock went back, and the policy is to fail.
    WentBack { ticks: u64 },
    /// The counter is used up.
    Full,
    /// The tick is out of range.
    Range,
    /// The tick is not reserved.
    Unreserved { tick: u64 },
}

/// What a generator's words look like. A tick is one millisecond.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// Low bits of the word; the tick stands above.
    pub(super) counter_bits: u32,
    /// The last tick that the id can hold.
    pub(super) tick_max: u64,
    /// The time of tick 0, in milliseconds since 1970.
    pub(super) epoch_ms: u64,
    pub(super) policy: RollbackPolicy,
    pub(super) full: Full,
}

impl Rules {
    const fn counter_max(&self) -> u64 {
        (1 << self.counter_bits) - 1
    }

    /// Decides the next word. Pure.
    #[inline]
    fn next(
        &self,
        last: u64,
        reserved: u64,
        now: u64,
        seed: impl FnOnce() -> u64,
    ) -> Result<u64, Refusal> {
        let last_tick = last >> self.counter_bits;
        let next = if now > last_tick {
            if now > self.tick_max {
                return Err(Refusal::Range);
            }
            (now << self.counter_bits) | seed()
        } else {
            self.no_later(last, now, seed)?
        };
        let tick = next >> self.counter_bits;
        if tick > reserved {
            return Err(Refusal::Unreserved { tick });
        }
        Ok(next)
    }

    /// The clock has not passed the last tick.
    fn no_later(&self, last: u64, now: u64, seed: impl FnOnce() -> u64) -> Result<u64, Refusal> {
        let last_tick = last >> self.counter_bits;
        let ticks = last_tick - now;
        if ticks > 0 {
            match self.policy {
                RollbackPolicy::Hold => {}
                RollbackPolicy::Wait => return Err(Refusal::Behind { ticks }),
                RollbackPolicy::Fail => return Err(Refusal::WentBack { ticks }),
                RollbackPolicy::ResetAfter(limit) => {
                    if Duration::from_millis(ticks) > limit {
                        return Ok((now << self.counter_bits) | seed());
                    }
                }
            }
        }
        if last & self.counter_max() == self.counter_max() {
            match self.full {
                Full::Carry => {}
                Full::Fail => return Err(Refusal::Full),
                Full::CarryWhileBehind if ticks > 0 => {}
                Full::CarryWhileBehind => return Err(Refusal::Behind { ticks: 1 }),
            }
            if last_tick == self.tick_max {
                return Err(Refusal::Range);
            }
        }
        Ok(last + 1)
    }

    /// Returns the tick of a time; none before the epoch.
    const fn tick(&self, wall: Wall) -> Option<u64> {
        wall.as_millis().checked_sub(self.epoch_ms)
    }

    /// Returns the time at which a tick starts.
    const fn wall(&self, tick: u64) -> Wall {
        let millis = self.epoch_ms.saturating_add(tick);
        Wall::from_nanos(millis.saturating_mul(1_000_000))
    }

    #[cold]
    fn error(&self, refusal: Refusal, wall: Wall, now: u64) -> GenerateError {
        match refusal {
            Refusal::Behind { ticks } => {
                GenerateError::Wait(self.wall(now.saturating_add(ticks)).since(wall))
            }
            Refusal::WentBack { ticks } => {
                GenerateError::ClockWentBack(Duration::from_millis(ticks))
            }
            Refusal::Full => GenerateError::CounterExhausted,
            Refusal::Range => GenerateError::TimeOutOfRange,
            Refusal::Unreserved { tick } => GenerateError::Unreserved(self.wall(tick)),
        }
    }
}

/// Strictly increasing pairs of tick and counter, which any number of threads draw from.
///
/// Complexity: one compare-and-swap a pair, repeated when another thread was first.
#[derive(Debug)]
pub(super) struct Monotonic {
    pub(super) rules: Rules,
    /// The last word given, or what stands before the first.
    last: AtomicU64,
    /// The last tick that may be used.
    reserved: AtomicU64,
}

impl Monotonic {
    const_fn! {
        /// Starts with nothing given and everything reserved.
        pub(super) const fn new(rules: Rules) -> Self {
            Self { rules, last: AtomicU64::new(0), reserved: AtomicU64::new(u64::MAX) }
        }
    }

    const_fn! {
           /// Starts after `mark`, with nothing beyond it reserved.
           pub(super) const fn after(mark: Wall, rules: Rules) -> Self {
               let (last, reserved) = match rules.tick(mark) {
                   // The whole of the mark's tick may have been used before.
                   Some(tick) if tick < rules.tick_max => ((tick + 1) << rules.counter_bits, tick),
                   Some(_) => {
    let last = (rules.tick_max << rules.counter_bits) | rules.counter_max();
    (last, rules.tick_max)
    }
                   None => (0, 0),
               };
               Self { rules, last: AtomicU64::new(last), reserved: AtomicU64::new(reserved) }
           }
       }

    /// Gives the next tick and counter.
    // Relaxed: the word is the whole state, and nothing else is published through it. Every pair comes from the
    // modification order of this one location, in which each value is greater than the one before.
    #[inline]
    pub(super) fn next(
        &self,
        wall: Wall,
        mut seed: impl FnMut() -> u64,
    ) -> Result<(u64, u64), GenerateError> {
        let now = self.rules.tick(wall).ok_or(GenerateError::TimeOutOfRange)?;
        // A reservation seen late only refuses what would be allowed.
        let reserved = self.reserved.load(Ordering::Relaxed);
        let mut last = self.last.load(Ordering::Relaxed);
        loop {
            let next = self
                .rules
                .next(last, reserved, now, &mut seed)
                .map_err(|refusal| self.rules.error(refusal, wall, now))?;
            match self
                .last
                .compare_exchange_weak(last, next, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => {
                    let counter = next & self.rules.counter_max();
                    return Ok((next >> self.rules.counter_bits, counter));
                }
                Err(newer) => last = newer,
            }
        }
    }

    /// Returns a time that no pair given so far lies beyond.
    pub(super) fn high_water(&self) -> Wall {
        let last = self.last.load(Ordering::Relaxed);
        self.rules.wall(last >> self.rules.counter_bits)
    }

    /// Allows pairs up to and including the tick of `mark`; never fewer than before.
    pub(super) fn reserve(&self, mark: Wall) {
        if let Some(tick) = self.rules.tick(mark) {
            self.reserved.fetch_max(tick, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules {
        counter_bits: 2,
        tick_max: 100,
        epoch_ms: 1_000,
        policy: RollbackPolicy::Hold,
        full: Full::Carry,
    };

    fn with(policy: RollbackPolicy, full: Full) -> Rules {
        Rules {
            policy,
            full,
            ..RULES
        }
    }

    fn word(tick: u64, counter: u64) -> u64 {
        tick << 2 | counter
    }

    #[test]
    fn decisions() {
        use Full::{Carry, CarryWhileBehind};
        use RollbackPolicy::{Fail, Hold, ResetAfter, Wait};
        let reset = ResetAfter(Duration::from_millis(5));
        // (policy, full, last, now) -> next; the seed is 1, ticks up to 50 are reserved.
        type Row = (RollbackPolicy, Full, u64, u64, Result<u64, Refusal>);
        let table: [Row; 19] = [
            (Hold, Carry, word(7, 0), 8, Ok(word(8, 1))),
            (Hold, Carry, word(7, 0), 7, Ok(word(7, 1))),
            (Hold, Carry, word(7, 0), 3, Ok(word(7, 1))),
            (Hold, Carry, word(7, 3), 7, Ok(word(8, 0))),
            (Hold, Full::Fail, word(7, 3), 7, Err(Refusal::Full)),
            (
                Hold,
                CarryWhileBehind,
                word(7, 3),
                7,
                Err(Refusal::Behind { ticks: 1 }),
            ),
            (Hold, CarryWhileBehind, word(7, 3), 6, Ok(word(8, 0))),
            (Wait, Carry, word(7, 0), 7, Ok(word(7, 1))),
            (
                Wait,
                Carry,
                word(7, 0),
                4,
                Err(Refusal::Behind { ticks: 3 }),
            ),
            (
                Fail,
                Carry,
                word(7, 0),
                4,
                Err(Refusal::WentBack { ticks: 3 }),
            ),
            (reset, Carry, word(7, 0), 2, Ok(word(7, 1))),
            (reset, Carry, word(7, 0), 1, Ok(word(1, 1))),
            (Hold, Carry, word(7, 0), 50, Ok(word(50, 1))),
            (
                Hold,
                Carry,
                word(7, 0),
                51,
                Err(Refusal::Unreserved { tick: 51 }),
            ),
            (
                Hold,
                Carry,
                word(50, 3),
                50,
                Err(Refusal::Unreserved { tick: 51 }),
            ),
            (Hold, Carry, word(50, 2), 50, Ok(word(50, 3))),
            (Hold, Carry, word(7, 0), 101, Err(Refusal::Range)),
            (Hold, Carry, word(100, 3), 100, Err(Refusal::Range)),
            (Hold, Full::Fail, word(100, 3), 99, Err(Refusal::Full)),
        ];
        for (policy, full, last, now, expected) in table {
            let got = with(policy, full).next(last, 50, now, || 1);
            assert_eq!(got, expected, "{policy:?} {full:?} {last} {now}");
        }
    }

    fn at(millis: u64) -> Wall {
        Wall::from_nanos(millis * 1_000_000)
    }

    #[test]
    fn begins_after_the_mark_and_only_with_a_reservation() {
        let monotonic = Monotonic::after(at(1_009), RULES);
        let refused = Err(GenerateError::Unreserved(at(1_010)));
        assert_eq!(monotonic.next(at(1_003), || 0), refused);
        monotonic.reserve(at(1_010));
        assert_eq!(monotonic.next(at(1_003), || 0), Ok((10, 1)));
        assert_eq!(monotonic.high_water(), at(1_010));
        monotonic.reserve(at(1_004));
        assert_eq!(monotonic.next(at(1_003), || 0), Ok((10, 2)));
    }

    #[test]
    fn a_mark_at_the_end_of_time_leaves_nothing() {
        let monotonic = Monotonic::after(Wall::MAX, RULES);
        let refused = Err(GenerateError::TimeOutOfRange);
        assert_eq!(monotonic.next(at(1_200), || 0), refused);
        assert!(monotonic.next(at(1_050), || 0).is_err());
        assert_eq!(monotonic.next(at(999), || 0), refused);
    }

    #[test]
    fn wait_is_exact() {
        let rules = with(RollbackPolicy::Wait, Full::CarryWhileBehind);
        let monotonic = Monotonic::new(rules);
        assert_eq!(monotonic.next(at(1_008), || 3), Ok((8, 3)));
        let wait = |nanos| Err(GenerateError::Wait(Duration::from_nanos(nanos)));
        let late = Wall::from_nanos(1_005_400_000);
        assert_eq!(monotonic.next(late, || 0), wait(2_600_000));
        let full = Wall::from_nanos(1_008_400_000);
        assert_eq!(monotonic.next(full, || 0), wait(600_000));
    }
}
