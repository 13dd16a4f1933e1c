//! Events and counters; nothing without the features.

use crate::config::Wanted;
use std::sync::Arc;

/// What a hub tells the outside: its name, and its counters where there are any.
#[derive(Clone)]
pub(crate) struct Telemetry {
    #[cfg_attr(
        not(feature = "tracing"),
        allow(dead_code, reason = "a label of events")
    )]
    name: Arc<str>,
    #[cfg(feature = "metrics")]
    counters: Arc<Counters>,
}

/// Handles taken once, so that counting neither looks up nor allocates.
#[cfg(feature = "metrics")]
struct Counters {
    published: metrics::Counter,
    lost: metrics::Counter,
    disconnected: metrics::Counter,
}

impl Telemetry {
    pub(crate) fn new(name: Arc<str>) -> Self {
        #[cfg(feature = "metrics")]
        let counter = |what: &'static str| metrics::counter!(what, "hub" => Arc::clone(&name));
        Self {
            #[cfg(feature = "metrics")]
            counters: Arc::new(Counters {
                published: counter("dpat_pubsub_published_total"),
                lost: counter("dpat_pubsub_lost_total"),
                disconnected: counter("dpat_pubsub_disconnected_total"),
            }),
            name,
        }
    }

    /// A message was published.
    #[inline]
    pub(crate) fn published(&self) {
        #[cfg(feature = "metrics")]
        self.counters.published.increment(1);
    }

    /// Subscribers have lost messages.
    #[cfg_attr(not(feature = "metrics"), allow(unused_variables, reason = "counted"))]
    pub(crate) fn lost(&self, count: u64) {
        #[cfg(feature = "metrics")]
        self.counters.lost.increment(count);
    }

    /// A subscriber has lost a message, the first since it was last told.
    #[cfg_attr(not(feature = "tracing"), allow(unused_variables, reason = "an event"))]
    pub(crate) fn lags(&self, wanted: &Wanted) {
        #[cfg(feature = "tracing")]
        tracing::event!(
            name: "dpat.pubsub.lags",
            target: "dpat_pubsub",
            tracing::Level::WARN,
            hub = &*self.name,
            filter = wanted.filter.as_str(),
            group = wanted.group.as_deref(),
            capacity = wanted.capacity,
            "lags"
        );
    }

    /// A subscriber was too slow for its policy.
    #[cfg_attr(not(feature = "tracing"), allow(unused_variables, reason = "an event"))]
    pub(crate) fn disconnected(&self, wanted: &Wanted) {
        #[cfg(feature = "metrics")]
        self.counters.disconnected.increment(1);
        #[cfg(feature = "tracing")]
        tracing::event!(
            name: "dpat.pubsub.disconnected",
            target: "dpat_pubsub",
            tracing::Level::WARN,
            hub = &*self.name,
            filter = wanted.filter.as_str(),
            group = wanted.group.as_deref(),
            capacity = wanted.capacity,
            "disconnected"
        );
    }

    /// The file of a subscriber failed, or what was in it is not what was written.
    #[cfg(feature = "spill")]
    #[cfg_attr(not(feature = "tracing"), allow(unused_variables, reason = "an event"))]
    pub(crate) fn spill_failed(&self, path: &str, reason: &dyn std::fmt::Display) {
        #[cfg(feature = "tracing")]
        tracing::event!(
            name: "dpat.pubsub.spill_failed",
            target: "dpat_pubsub",
            tracing::Level::ERROR,
            hub = &*self.name,
            path,
            reason = %reason,
            "spill failed"
        );
    }
}
