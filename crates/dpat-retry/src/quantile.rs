//! A live quantile of observed latency.

use crate::error::ConfigError;
use crate::sync::{Arc, AtomicU32, AtomicU64, Ordering};
use std::fmt;
use std::time::Duration;

/// The values of one power of two share this many buckets: an estimate is at most 1/16 above the true value.
const SUB_BITS: u32 = 4;
/// Everything below about 1 µs is one bucket.
const MIN_BITS: u32 = 10;
/// Everything above about 18 minutes is one bucket.
const MAX_BITS: u32 = 40;
const BUCKETS: usize = if cfg!(dpat_loom) {
    2
} else {
    ((MAX_BITS - MIN_BITS) << SUB_BITS) as usize
};
/// The estimate is renewed every so many samples …
const REFRESH: u32 = if cfg!(dpat_loom) { 1 } else { 64 };
/// … and all counts are halved at this many, so that the past fades.
const WINDOW: u32 = if cfg!(dpat_loom) { 2 } else { 2_048 };

/// A quantile of the last one to two thousand latencies, for [`Hedge`](crate::Hedge).
///
/// Clones share their samples. Lock-free: recording is two atomic additions, and every 64th one walks the 480
/// buckets (2 KiB). Reading is one load. A log-linear histogram as in HdrHistogram; an estimate is the upper end of
/// its bucket, at most 6.25 % too high, between 1 µs and 18 min.
#[derive(Clone)]
pub struct LiveQuantile {
    inner: Arc<Inner>,
}

struct Inner {
    quantile: f64,
    fallback: Duration,
    warm_up: u32,
    buckets: [AtomicU32; BUCKETS],
    samples: AtomicU32,
    /// Nanoseconds; 0 while too little is known.
    estimate: AtomicU64,
    /// Odd while one thread walks the buckets; the others go on without waiting.
    walks: AtomicU32,
}

impl LiveQuantile {
    /// Makes one without samples.
    ///
    /// `quantile` goes from 0.5 to 0.999; `fallback` holds until enough samples have come. Enough is 64, or 1 / (1 − quantile) if that is more.
    ///
    /// # Errors
    /// [`ConfigError::OutOfRange`] for another quantile.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // 2 to 1000
    pub fn new(quantile: f64, fallback: Duration) -> Result<Self, ConfigError> {
        const RANGE: std::ops::RangeInclusive<f64> = 0.5..=0.999;
        if !RANGE.contains(&quantile) {
            return Err(ConfigError::OutOfRange {
                field: "quantile",
                value: quantile,
                min: *RANGE.start(),
                max: *RANGE.end(),
            });
        }
        Ok(Self {
            inner: Arc::new(Inner {
                quantile,
                fallback,
                warm_up: REFRESH.max((1.0 / (1.0 - quantile)).round() as u32),
                buckets: std::array::from_fn(|_| AtomicU32::new(0)),
                samples: AtomicU32::new(0),
                estimate: AtomicU64::new(0),
                walks: AtomicU32::new(0),
            }),
        })
    }

    /// Records one latency.
    pub fn record(&self, latency: Duration) {
        let inner = &*self.inner;
        inner.buckets[bucket(latency)].fetch_add(1, Ordering::Relaxed);
        let samples = inner
            .samples
            .fetch_add(1, Ordering::Relaxed)
            .wrapping_add(1);
        if samples % REFRESH == 0 {
            inner.walk();
        }
    }

    /// Returns the estimate, or the fallback while too little is known.
    #[must_use]
    pub fn current(&self) -> Duration {
        match self.inner.estimate.load(Ordering::Relaxed) {
            0 => self.inner.fallback,
            nanos => Duration::from_nanos(nanos),
        }
    }

    #[cfg(test)]
    pub(crate) fn total(&self) -> u32 {
        self.inner.total()
    }
}

impl Inner {
    fn total(&self) -> u32 {
        self.buckets.iter().fold(0, |sum, bucket| {
            sum.saturating_add(bucket.load(Ordering::Relaxed))
        })
    }

    /// Renews the estimate and lets the past fade, unless another thread is at it.
    fn walk(&self) {
        let walks = self.walks.load(Ordering::Relaxed);
        if walks % 2 == 1
            || self
                .walks
                .compare_exchange(
                    walks,
                    walks.wrapping_add(1),
                    Ordering::Acquire,
                    Ordering::Relaxed,
                )
                .is_err()
        {
            return;
        }
        let total = self.total();
        if total >= self.warm_up {
            self.estimate
                .store(self.estimated(total), Ordering::Relaxed);
        }
        if total >= WINDOW {
            self.halve(walks);
        }
        self.walks.store(walks.wrapping_add(2), Ordering::Release);
    }

    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss
    )] // counts are far below 2^32, the quantile is below 1
    fn estimated(&self, total: u32) -> u64 {
        let rank = (self.quantile * f64::from(total)).ceil() as u32;
        let mut below = 0_u32;
        for (index, bucket) in self.buckets.iter().enumerate() {
            below = below.saturating_add(bucket.load(Ordering::Relaxed));
            if below >= rank {
                return upper_end(index);
            }
        }
        upper_end(BUCKETS - 1)
    }

    /// Odd counts are rounded up and down in turn, so that a thin tail neither stays for ever nor vanishes at once.
    fn halve(&self, walks: u32) {
        let mut round_up = (walks / 2) % 2;
        for bucket in &self.buckets {
            let count = bucket.load(Ordering::Relaxed);
            let gone = if count % 2 == 1 {
                round_up ^= 1;
                count / 2 + round_up
            } else {
                count / 2
            };
            // Others only add, so this cannot go below zero.
            bucket.fetch_sub(gone, Ordering::Relaxed);
        }
    }
}

impl fmt::Debug for LiveQuantile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveQuantile")
            .field("quantile", &self.inner.quantile)
            .field("current", &self.current())
            .finish_non_exhaustive()
    }
}

fn bucket(latency: Duration) -> usize {
    let nanos = u64::try_from(latency.as_nanos())
        .unwrap_or(u64::MAX)
        .clamp(1 << MIN_BITS, (1 << MAX_BITS) - 1);
    let octave = nanos.ilog2();
    let sub = (nanos >> (octave - SUB_BITS)) & ((1 << SUB_BITS) - 1);
    let index = (u64::from(octave - MIN_BITS) << SUB_BITS) + sub;
    usize::try_from(index)
        .unwrap_or(BUCKETS - 1)
        .min(BUCKETS - 1)
}

fn upper_end(index: usize) -> u64 {
    let index = index as u64;
    let octave = MIN_BITS + u32::try_from(index >> SUB_BITS).unwrap_or(0);
    let sub = index & ((1 << SUB_BITS) - 1);
    ((1 << SUB_BITS) + sub + 1) << (octave - SUB_BITS)
}

#[cfg(test)]
mod tests;
