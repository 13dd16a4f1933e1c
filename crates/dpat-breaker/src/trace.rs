//! Events and counters; nothing without the features.

use crate::machine::Transition;
use crate::verdict::Outcome;
use std::sync::Arc;

/// What a breaker tells the outside: its name, and its counters where there are any.
pub(crate) struct Telemetry {
    pub(crate) name: Arc<str>,
    #[cfg(feature = "metrics")]
    counters: Counters,
}

/// Handles taken once, so that counting a call neither looks up nor allocates.
#[cfg(feature = "metrics")]
struct Counters {
    successes: metrics::Counter,
    failures: metrics::Counter,
    ignored: metrics::Counter,
    rejected: metrics::Counter,
}

impl Telemetry {
    pub(crate) fn new(name: Arc<str>) -> Self {
        #[cfg(feature = "metrics")]
        let calls = |outcome: &'static str| {
            metrics::counter!(
                "dpat_breaker_calls_total",
                "breaker" => Arc::clone(&name),
                "outcome" => outcome,
            )
        };
        Self {
            #[cfg(feature = "metrics")]
            counters: Counters {
                successes: calls("success"),
                failures: calls("failure"),
                ignored: calls("ignored"),
                rejected: metrics::counter!(
                    "dpat_breaker_rejected_total",
                    "breaker" => Arc::clone(&name),
                ),
            },
            name,
        }
    }

    /// A breaker changed its state.
    #[cfg_attr(
        not(any(feature = "tracing", feature = "metrics")),
        allow(unused_variables)
    )]
    pub(crate) fn state_changed(&self, change: &Transition) {
        #[cfg(feature = "tracing")]
        tracing::event!(
            name: "dpat.breaker.state_changed",
            target: "dpat_breaker",
            tracing::Level::INFO,
            breaker = &*self.name,
            from = change.from.as_str(),
            to = change.to.as_str(),
            cause = change.cause.as_str(),
            epoch = change.epoch,
        );
        #[cfg(feature = "metrics")]
        metrics::counter!(
            "dpat_breaker_transitions_total",
            "breaker" => Arc::clone(&self.name),
            "to" => change.to.as_str(),
            "cause" => change.cause.as_str(),
        )
        .increment(1);
    }

    /// A call was refused.
    pub(crate) fn rejected(&self) {
        #[cfg(feature = "metrics")]
        self.counters.rejected.increment(1);
    }

    /// A call returned, in time to count or late.
    #[cfg_attr(not(feature = "metrics"), allow(unused_variables))]
    #[inline]
    pub(crate) fn returned(&self, outcome: Outcome) {
        #[cfg(feature = "metrics")]
        match outcome {
            Outcome::Success => self.counters.successes.increment(1),
            Outcome::Failure => self.counters.failures.increment(1),
            Outcome::Ignored => self.counters.ignored.increment(1),
        }
    }
}
