//! Events and counters; no-ops without the features `tracing` and `metrics`.

use crate::error::StopReason;
use std::time::Duration;

/// Another attempt follows after `delay`.
pub(crate) fn retrying(attempt: u32, delay: Duration) {
    #[cfg(feature = "tracing")]
    tracing::debug!(
        name: "dpat.retry.retrying",
        attempt,
        delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX),
        "attempt failed; trying again"
    );
    #[cfg(feature = "metrics")]
    metrics::counter!("dpat_retry_retries_total").increment(1);
    let _ = (attempt, delay);
}

/// A hedge was sent beside the attempts that still run.
pub(crate) fn hedging(attempt: u32) {
    #[cfg(feature = "tracing")]
    tracing::debug!(name: "dpat.retry.hedging", attempt, "sending a hedge");
    #[cfg(feature = "metrics")]
    metrics::counter!("dpat_retry_hedges_total").increment(1);
    let _ = attempt;
}

/// The operation was given up.
pub(crate) fn stopped(attempts: u32, reason: StopReason) {
    #[cfg(feature = "tracing")]
    tracing::debug!(
        name: "dpat.retry.stopped",
        attempts,
        reason = reason.as_str(),
        "giving up"
    );
    #[cfg(feature = "metrics")]
    metrics::counter!("dpat_retry_stopped_total", "reason" => reason.as_str()).increment(1);
    let _ = (attempts, reason);
}
