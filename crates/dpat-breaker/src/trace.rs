//! Events and counters; nothing without the features.

use crate::machine::Transition;
use crate::verdict::Outcome;
use std::sync::Arc;

/// A breaker changed its state.
#[cfg_attr(
    not(any(feature = "tracing", feature = "metrics")),
    allow(unused_variables)
)]
pub(crate) fn state_changed(name: &Arc<str>, change: &Transition) {
    #[cfg(feature = "tracing")]
    tracing::event!(
        name: "dpat.breaker.state_changed",
        target: "dpat_breaker",
        tracing::Level::INFO,
        breaker = &**name,
        from = change.from.as_str(),
        to = change.to.as_str(),
        cause = change.cause.as_str(),
        epoch = change.epoch,
    );
    #[cfg(feature = "metrics")]
    metrics::counter!(
        "dpat_breaker_transitions_total",
        "breaker" => Arc::clone(name),
        "to" => change.to.as_str(),
        "cause" => change.cause.as_str(),
    )
    .increment(1);
}

/// A call was refused.
#[cfg_attr(not(feature = "metrics"), allow(unused_variables))]
pub(crate) fn rejected(name: &Arc<str>) {
    #[cfg(feature = "metrics")]
    metrics::counter!("dpat_breaker_rejected_total", "breaker" => Arc::clone(name)).increment(1);
}

/// A call returned, in time to count or late.
#[cfg_attr(not(feature = "metrics"), allow(unused_variables))]
#[inline]
pub(crate) fn returned(name: &Arc<str>, outcome: Outcome) {
    #[cfg(feature = "metrics")]
    {
        let outcome = match outcome {
            Outcome::Success => "success",
            Outcome::Failure => "failure",
            Outcome::Ignored => "ignored",
        };
        metrics::counter!(
            "dpat_breaker_calls_total",
            "breaker" => Arc::clone(name),
            "outcome" => outcome,
        )
        .increment(1);
    }
}
