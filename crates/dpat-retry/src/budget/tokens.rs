//! The token throttle of gRPC proposal A6.

use super::UNIT;
use crate::sync::{AtomicU64, Ordering};

pub(super) struct Tokens {
    /// Millionths of a token.
    level: AtomicU64,
    max: AtomicU64,
    per_success: AtomicU64,
}

impl Tokens {
    pub(super) fn new(max: u32, per_success: u64) -> Self {
        let max = u64::from(max) * UNIT;
        Self {
            level: AtomicU64::new(max),
            max: AtomicU64::new(max),
            per_success: AtomicU64::new(per_success),
        }
    }

    pub(super) fn set(&self, max: u32, per_success: u64) {
        self.max.store(u64::from(max) * UNIT, Ordering::Relaxed);
        self.per_success.store(per_success, Ordering::Relaxed);
    }

    pub(super) fn success(&self) {
        let max = self.max.load(Ordering::Relaxed);
        let gain = self.per_success.load(Ordering::Relaxed);
        self.update(|level| (level < max && gain > 0).then(|| (level + gain).min(max)));
    }

    pub(super) fn failure(&self) {
        let max = self.max.load(Ordering::Relaxed);
        self.update(|level| (level > 0).then(|| level.min(max).saturating_sub(UNIT)));
    }

    pub(super) fn allows(&self) -> bool {
        let max = self.max.load(Ordering::Relaxed);
        2 * self.level.load(Ordering::Relaxed).min(max) > max
    }

    pub(super) fn available(&self) -> u64 {
        let max = self.max.load(Ordering::Relaxed);
        let level = self.level.load(Ordering::Relaxed).min(max);
        level.saturating_sub(max / 2).div_ceil(UNIT)
    }

    /// Relaxed is enough: the level is one word, and nothing else is published through it.
    fn update(&self, change: impl Fn(u64) -> Option<u64>) {
        let mut level = self.level.load(Ordering::Relaxed);
        while let Some(next) = change(level) {
            match self.level.compare_exchange_weak(
                level,
                next,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return,
                Err(seen) => level = seen,
            }
        }
    }
}
