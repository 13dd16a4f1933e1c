//! A share of the requests in flight.

use super::UNIT;
use crate::sync::{AtomicU64, Ordering};

const REQUEST: u64 = 1 << 32;
const EXTRA: u64 = 1;
const EXTRA_MASK: u64 = REQUEST - 1;

/// Both counts share one word, so that a decision sees them at the same instant.
pub(super) struct InFlight {
    /// Requests in the upper half, extra attempts in the lower.
    counts: AtomicU64,
    ratio: AtomicU64,
    floor: AtomicU64,
}

impl InFlight {
    pub(super) fn new(ratio: u64, floor: u32) -> Self {
        Self {
            counts: AtomicU64::new(0),
            ratio: AtomicU64::new(ratio),
            floor: AtomicU64::new(u64::from(floor)),
        }
    }

    pub(super) fn set(&self, ratio: u64, floor: u32) {
        self.ratio.store(ratio, Ordering::Relaxed);
        self.floor.store(u64::from(floor), Ordering::Relaxed);
    }

    pub(super) fn enter(&self) {
        self.counts.fetch_add(REQUEST, Ordering::Relaxed);
    }

    pub(super) fn leave(&self) {
        self.counts.fetch_sub(REQUEST, Ordering::Relaxed);
    }

    pub(super) fn try_enter_extra(&self) -> bool {
        let mut counts = self.counts.load(Ordering::Relaxed);
        while counts & EXTRA_MASK < self.limit(counts >> 32) {
            match self.counts.compare_exchange_weak(
                counts,
                counts + EXTRA,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return true,
                Err(seen) => counts = seen,
            }
        }
        false
    }

    pub(super) fn leave_extra(&self) {
        self.counts.fetch_sub(EXTRA, Ordering::Relaxed);
    }

    pub(super) fn available(&self) -> u64 {
        let counts = self.counts.load(Ordering::Relaxed);
        self.limit(counts >> 32).saturating_sub(counts & EXTRA_MASK)
    }

    /// Never reaches the width of the lower half.
    fn limit(&self, requests: u64) -> u64 {
        let share = u128::from(requests) * u128::from(self.ratio.load(Ordering::Relaxed))
            / u128::from(UNIT);
        let share = u64::try_from(share).unwrap_or(u64::MAX);
        share
            .max(self.floor.load(Ordering::Relaxed))
            .min(EXTRA_MASK)
    }
}
