//! A share of the traffic in a sliding window.

use super::UNIT;
use crate::sync::{AtomicI64, AtomicU64, Ordering};
use dpat_core::Instant;
use std::time::Duration;

/// Steps of the window. Loom explores each of them.
const SLOTS: usize = if cfg!(dpat_loom) { 2 } else { 10 };
const STEPS: u64 = SLOTS as u64;

/// A slot is one word: the low bits of its step, and what that step earned and cost. A thread that was held up for a
/// whole window sees from the step that the slot is no longer its own.
const NET_BITS: u32 = 44;
const NET_MAX: i64 = (1 << (NET_BITS - 1)) - 1;

/// `balance` is at rest the sum of the slots of the window: what requests earned minus what extra attempts cost, in
/// millionths. Each change of a slot goes with one of the balance, so that nothing drifts, however threads interleave.
///
/// Whatever lowers the balance comes before the change of the slot and whatever raises it after, so that in between
/// the balance is too small, never too large: a race can refuse, but not grant, one too many.
pub(crate) struct Traffic {
    per_request: AtomicU64,
    floor_per_second: AtomicU64,
    window: Duration,
    step: u64,
    /// The latest step that anybody has seen.
    latest: AtomicU64,
    balance: AtomicI64,
    slots: [AtomicU64; SLOTS],
}

impl Traffic {
    pub(super) fn new(per_request: u64, window: Duration, floor_per_second: u32) -> Self {
        let step = u64::try_from(window.as_nanos() / u128::from(STEPS)).unwrap_or(u64::MAX);
        Self {
            per_request: AtomicU64::new(per_request),
            floor_per_second: AtomicU64::new(u64::from(floor_per_second)),
            window,
            step: step.max(1),
            latest: AtomicU64::new(0),
            balance: AtomicI64::new(0),
            slots: std::array::from_fn(|_| AtomicU64::new(0)),
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
        if self.add(self.step_of(now), gain) {
            self.balance.fetch_add(gain, Ordering::AcqRel);
        }
    }

    /// Takes one extra attempt and returns the step that it is charged to.
    pub(super) fn try_withdraw(&self, now: Instant) -> Option<u64> {
        let cost = signed(UNIT);
        let step = self.forget(now);
        let floor = self.floor();
        let mut balance = self.balance.load(Ordering::Acquire);
        while balance.saturating_add(floor) >= cost {
            match self.balance.compare_exchange_weak(
                balance,
                balance - cost,
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) if self.add(step, -cost) => return Some(step),
                Ok(_) => {
                    // The step is full, or has left the window meanwhile.
                    self.balance.fetch_add(cost, Ordering::AcqRel);
                    return None;
                }
                Err(seen) => balance = seen,
            }
        }
        None
    }

    /// Gives back what `try_withdraw` took in `step`, unless the window has forgotten it.
    pub(super) fn refund(&self, step: u64) {
        if self.add(step, signed(UNIT)) {
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

    /// Returns the current step. A clock that went back changes nothing.
    fn step_of(&self, now: Instant) -> u64 {
        let step = now.as_nanos() / self.step;
        let latest = self.latest.load(Ordering::Acquire);
        if step <= latest {
            return latest;
        }
        self.latest.fetch_max(step, Ordering::AcqRel).max(step)
    }

    /// Forgets what has left the window at `now`, and returns the current step.
    fn forget(&self, now: Instant) -> u64 {
        loop {
            let step = self.step_of(now);
            let first = step.saturating_sub(STEPS - 1);
            // It fails only if the window has moved on, so that somebody else has made progress.
            if (first..=step).all(|step| self.renew(step)) {
                return step;
            }
        }
    }

    /// Makes the slot of `step` its own. False if the window has already passed that step.
    fn renew(&self, step: u64) -> bool {
        let slot = self.slot(step);
        let mut word = slot.load(Ordering::Acquire);
        while !belongs(word, step) {
            // Slots of later steps are written only after `latest` was.
            if self.latest.load(Ordering::Acquire) >= step.saturating_add(STEPS) {
                return false;
            }
            let forgotten = net(word);
            self.balance.fetch_sub(forgotten.max(0), Ordering::AcqRel);
            match slot.compare_exchange(word, packed(step, 0), Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => {
                    self.balance.fetch_sub(forgotten.min(0), Ordering::AcqRel);
                    return true;
                }
                Err(seen) => {
                    self.balance.fetch_add(forgotten.max(0), Ordering::AcqRel);
                    word = seen;
                }
            }
        }
        true
    }

    /// Adds to the slot of `step`. False if the window has passed that step, or the slot is full.
    fn add(&self, step: u64, amount: i64) -> bool {
        let slot = self.slot(step);
        loop {
            if !self.renew(step) {
                return false;
            }
            let word = slot.load(Ordering::Acquire);
            if !belongs(word, step) {
                continue;
            }
            let sum = net(word) + amount;
            if sum.abs() > NET_MAX {
                return false;
            }
            let changed =
                slot.compare_exchange(word, packed(step, sum), Ordering::AcqRel, Ordering::Acquire);
            if changed.is_ok() {
                return true;
            }
        }
    }

    #[allow(clippy::cast_possible_truncation)] // below SLOTS
    fn slot(&self, step: u64) -> &AtomicU64 {
        &self.slots[(step % STEPS) as usize]
    }

    /// Whether the balance is the sum of the slots; true whenever no call is in progress.
    #[cfg(test)]
    pub(crate) fn is_balanced(&self) -> bool {
        let sum: i64 = self
            .slots
            .iter()
            .map(|slot| net(slot.load(Ordering::Acquire)))
            .sum();
        sum == self.balance.load(Ordering::Acquire)
    }
}

#[allow(clippy::cast_sign_loss)] // keeps the bits
const fn packed(step: u64, net: i64) -> u64 {
    (step << NET_BITS) | (net as u64 & ((1 << NET_BITS) - 1))
}

const fn belongs(word: u64, step: u64) -> bool {
    word >> NET_BITS == (step << NET_BITS) >> NET_BITS
}

const fn net(word: u64) -> i64 {
    // The arithmetic shift brings the sign back.
    ((word << (u64::BITS - NET_BITS)) as i64) >> (u64::BITS - NET_BITS)
}

/// Amounts are at most 1000 × UNIT.
fn signed(amount: u64) -> i64 {
    i64::try_from(amount).unwrap_or(i64::MAX)
}
