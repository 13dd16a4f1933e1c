//! How long to wait before the next attempt.

use crate::Entropy;
use crate::time::nanos;
use std::fmt;
use std::time::Duration;

/// How a delay is spread, so that clients do not come back together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Jitter {
    /// The computed delay.
    None,
    /// Uniform in `0..=delay` (AWS Architecture Blog 2015, "Exponential Backoff And Jitter").
    Full,
    /// Half of the delay plus uniform in `0..=delay/2`.
    Equal,
    /// Uniform in `base..=3 × previous`, capped; ignores the growth.
    Decorrelated,
    /// Smooth exponential with one-sided spread, as Polly v8's `UseJitter`; `base` is about the median first delay.
    ///
    /// Grows by the factor of an exponential rule, and doubles under the other rules.
    PollyV2,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Growth {
    Constant,
    Linear { step: Duration },
    Exponential { factor: f64 },
}

/// A validated rule for delays.
///
/// All arithmetic saturates: any attempt number, up to `u32::MAX`, gives a delay of at most [`max`](Self::max).
///
/// # Examples
/// ```
/// use dpat_core::{Backoff, Jitter, SplitMix64};
/// use std::time::Duration;
///
/// const RULE: Backoff = match Backoff::exponential(Duration::from_millis(50), 2.0, Duration::from_secs(5)) {
///     Ok(rule) => rule.with_jitter(Jitter::Equal),
///     Err(_) => panic!("the numbers above are valid"),
/// };
/// assert_eq!(RULE.nominal(3), Duration::from_millis(400));
/// let mut delays = RULE.delays();
/// let first = delays.next_delay(&SplitMix64::new(1));
/// assert!(first >= Duration::from_millis(25) && first <= Duration::from_millis(50));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    growth: Growth,
    base: Duration,
    max: Duration,
    jitter: Jitter,
}

/// A [`Backoff`] that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BackoffError {
    /// `factor` must be finite and at least 1.
    Factor,
    /// `max` must not be below `base`.
    MaxBelowBase,
}

impl fmt::Display for BackoffError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Factor => "backoff factor: must be finite and at least 1",
            Self::MaxBelowBase => "backoff max: must not be below base",
        })
    }
}

impl std::error::Error for BackoffError {}

impl Backoff {
    /// 100 ms, doubling, at most 20 s, full jitter.
    pub const DEFAULT: Self = Self {
        growth: Growth::Exponential { factor: 2.0 },
        base: Duration::from_millis(100),
        max: Duration::from_secs(20),
        jitter: Jitter::Full,
    };

    /// Always `delay`.
    #[must_use]
    pub const fn constant(delay: Duration) -> Self {
        Self {
            growth: Growth::Constant,
            base: delay,
            max: delay,
            jitter: Jitter::None,
        }
    }

    /// `base`, `base + step`, `base + 2·step`, … up to `max`.
    ///
    /// # Errors
    /// [`BackoffError::MaxBelowBase`].
    pub const fn linear(
        base: Duration,
        step: Duration,
        max: Duration,
    ) -> Result<Self, BackoffError> {
        Self {
            growth: Growth::Linear { step },
            base,
            max,
            jitter: Jitter::None,
        }
        .validated()
    }

    /// `base`, `base·factor`, `base·factor²`, … up to `max`.
    ///
    /// # Errors
    /// [`BackoffError::Factor`], [`BackoffError::MaxBelowBase`].
    pub const fn exponential(
        base: Duration,
        factor: f64,
        max: Duration,
    ) -> Result<Self, BackoffError> {
        if !(factor.is_finite() && factor >= 1.0) {
            return Err(BackoffError::Factor);
        }
        Self {
            growth: Growth::Exponential { factor },
            base,
            max,
            jitter: Jitter::None,
        }
        .validated()
    }

    /// Replaces the jitter.
    #[must_use]
    pub const fn with_jitter(mut self, jitter: Jitter) -> Self {
        self.jitter = jitter;
        self
    }

    /// Returns the largest delay.
    #[must_use]
    pub const fn max(&self) -> Duration {
        self.max
    }

    const fn validated(self) -> Result<Self, BackoffError> {
        // `Duration`s cannot be compared in a constant.
        if self.max.as_nanos() < self.base.as_nanos() {
            Err(BackoffError::MaxBelowBase)
        } else {
            Ok(self)
        }
    }

    /// Returns the delay before retry `retry` (0 is the first) without jitter.
    #[must_use]
    pub fn nominal(&self, retry: u32) -> Duration {
        let delay = match self.growth {
            Growth::Constant => self.base,
            Growth::Linear { step } => self.base.saturating_add(step.saturating_mul(retry)),
            Growth::Exponential { factor } => {
                let exponent = i32::try_from(retry).unwrap_or(i32::MAX);
                scaled(self.base, factor.powi(exponent))
            }
        };
        delay.min(self.max)
    }

    /// Starts a sequence of delays.
    #[must_use]
    pub const fn delays(self) -> Delays {
        Delays {
            backoff: self,
            retry: 0,
            previous: self.base,
            polly: 0.0,
        }
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Multiplies, saturating.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss
)] // clamped
fn scaled(duration: Duration, factor: f64) -> Duration {
    // A float to integer cast saturates; NaN (0 × ∞) becomes 0.
    Duration::from_nanos((nanos(duration) as f64 * factor) as u64)
}

/// The delays of one operation, one after the other. Allocates nothing.
#[derive(Clone, Copy, Debug)]
pub struct Delays {
    backoff: Backoff,
    retry: u32,
    previous: Duration,
    polly: f64,
}

impl Delays {
    /// Returns the delay before the next retry.
    pub fn next_delay(&mut self, entropy: &(impl Entropy + ?Sized)) -> Duration {
        let Backoff {
            base, max, jitter, ..
        } = self.backoff;
        let nominal = self.backoff.nominal(self.retry);
        let delay = match jitter {
            Jitter::None => nominal,
            Jitter::Full => between(Duration::ZERO, nominal, entropy),
            Jitter::Equal => between(nominal / 2, nominal, entropy),
            Jitter::Decorrelated => {
                between(base, self.previous.saturating_mul(3).max(base), entropy).min(max)
            }
            Jitter::PollyV2 => self.polly(entropy).min(max),
        };
        self.retry = self.retry.saturating_add(1);
        self.previous = delay;
        delay
    }

    /// Polly v8, `RetryHelper.DecorrelatedJitterBackoffV2` (also Polly.Contrib.WaitAndRetry).
    fn polly(&mut self, entropy: &(impl Entropy + ?Sized)) -> Duration {
        const P_FACTOR: f64 = 4.0;
        const SCALE: f64 = 1.0 / 1.4;
        let factor = match self.backoff.growth {
            Growth::Exponential { factor } => factor,
            _ => 2.0,
        };
        let t = f64::from(self.retry) + entropy.unit_f64();
        let next = factor.powf(t) * (P_FACTOR * t).sqrt().tanh();
        // The power overflows after about a thousand retries; ∞ - ∞ would then be no delay at all.
        if !next.is_finite() {
            return self.backoff.max;
        }
        let delay = scaled(self.backoff.base, (next - self.polly).max(0.0) * SCALE);
        self.polly = next;
        delay
    }
}

fn between(low: Duration, high: Duration, entropy: &(impl Entropy + ?Sized)) -> Duration {
    let (low, high) = (nanos(low), nanos(high));
    Duration::from_nanos(low + entropy.below((high - low).saturating_add(1)))
}

#[cfg(test)]
mod tests;
