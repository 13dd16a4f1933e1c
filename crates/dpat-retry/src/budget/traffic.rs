//! A share of the traffic in a sliding window.

use super::UNIT;
use crate::sync::{AtomicI64, AtomicU64, Ordering};
use dpat_core::Instant;
use std::time::Duration;

/// Steps of the window. Loom explores each of them.
const SLOTS: usize = if cfg!(dpat_loom) { 2 } else { 10 };
const STEPS: u64 = SLOTS as u64;

/// `balance` is at rest the sum of `slots`: what requests earned minus what extra attempts cost, in millionths, over
/// the steps of the window. Whatever is added to a slot leaves the balance when that slot expires, exactly once, so
/// that nothing drifts, however the threads interleave.
///
/// A gain enters its slot before the balance and a cost leaves the balance before its slot, so that an expiry in
/// between can only make the balance too small for a moment.
pub(crate) struct Traffic {
    per_request: AtomicU64,
    floor_per_second: AtomicU64,
    window: Duration,
    step: u64,
    epoch: AtomicU64,
    balance: AtomicI64,
    slots: [AtomicI64; SLOTS],
}

impl Traffic {
    pub(super) fn new(per_request: u64, window: Duration, floor_per_second: u32) -> Self {
        let step = u64::try_from(window.as_nanos() / u128::from(STEPS)).unwrap_or(u64::MAX);
        Self {
            per_request: AtomicU64::new(per_request),
            floor_per_second: AtomicU64::new(u64::from(floor_per_second)),
            window,
            step: step.max(1),
            epoch: AtomicU64::new(0),
            balance: AtomicI64::new(0),
            slots: std::array::from_fn(|_| AtomicI64::new(0)),
        }
    }

    pub(super) fn set(&self, per_request: u64, floor_per_second: u32) {
        self.per_request.store(per_request, Ordering::Relaxed);
        self.floor_per_second
            .store(u64::from(floor_per_second), Ordering::Relaxed);
    }

    pub(super) const fn window(&self) -> Duration {
        self.window
    }

    pub(super) fn deposit(&self, now: Instant) {
        let gain = signed(self.per_request.load(Ordering::Relaxed));
        self.slot(self.roll(now)).fetch_add(gain, Ordering::AcqRel);
        self.balance.fetch_add(gain, Ordering::AcqRel);
    }

    /// Takes one extra attempt and returns the step that it is charged to.
    pub(super) fn try_withdraw(&self, now: Instant) -> Option<u64> {
        let epoch = self.roll(now);
        let floor = self.floor();
        let cost = signed(UNIT);
        let mut balance = self.balance.load(Ordering::Acquire);
        while balance.saturating_add(floor) >= cost {
            match self.balance.compare_exchange_weak(
                balance,
                balance - cost,
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => {
                    self.slot(epoch).fetch_sub(cost, Ordering::AcqRel);
                    return Some(epoch);
                }
                Err(seen) => balance = seen,
            }
        }
        None
    }

    /// Gives back what `try_withdraw` took in step `epoch`, unless the window has forgotten it.
    pub(super) fn refund(&self, epoch: u64) {
        if self.epoch.load(Ordering::Acquire) - epoch < STEPS {
            self.slot(epoch).fetch_add(signed(UNIT), Ordering::AcqRel);
            self.balance.fetch_add(signed(UNIT), Ordering::AcqRel);
        }
    }

    pub(super) fn available(&self) -> u64 {
        let credit = self
            .balance
            .load(Ordering::Acquire)
            .saturating_add(self.floor());
        u64::try_from(credit).unwrap_or(0) / UNIT
    }

    fn floor(&self) -> i64 {
        let per_second = self.floor_per_second.load(Ordering::Relaxed);
        let units =
            u128::from(per_second) * u128::from(UNIT) * self.window.as_nanos() / 1_000_000_000;
        i64::try_from(units).unwrap_or(i64::MAX)
    }

    /// Moves the window to `now` and returns the current step. A clock that went back changes nothing.
    ///
    /// One thread wins each move and forgets the steps that left; until it has, others still see their sum.
    fn roll(&self, now: Instant) -> u64 {
        let target = now.as_nanos() / self.step;
        let mut seen = self.epoch.load(Ordering::Acquire);
        while target > seen {
            match self.epoch.compare_exchange_weak(
                seen,
                target,
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => {
                    let left = (target - seen).min(STEPS);
                    for epoch in (target - left + 1)..=target {
                        let forgotten = self.slot(epoch).swap(0, Ordering::AcqRel);
                        self.balance.fetch_sub(forgotten, Ordering::AcqRel);
                    }
                    return target;
                }
                Err(later) => seen = later,
            }
        }
        seen
    }

    #[allow(clippy::cast_possible_truncation)] // below STEPS
    fn slot(&self, epoch: u64) -> &AtomicI64 {
        &self.slots[(epoch % STEPS) as usize]
    }

    /// Whether the balance is the sum of the slots; true whenever no call is in progress.
    #[cfg(test)]
    pub(crate) fn is_balanced(&self) -> bool {
        let sum: i64 = self
            .slots
            .iter()
            .map(|slot| slot.load(Ordering::Acquire))
            .sum();
        sum == self.balance.load(Ordering::Acquire)
    }
}

/// Amounts are at most 1000 × UNIT.
fn signed(amount: u64) -> i64 {
    i64::try_from(amount).unwrap_or(i64::MAX)
}
