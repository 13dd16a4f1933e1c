//! Events and counters; nothing without the features `tracing` and `metrics`.

use std::fmt;

use crate::message::{MessageId, Outcome};

/// A handler has ended.
pub(crate) fn handled(id: MessageId, attempt: u32, outcome: &Outcome) {
    let (outcome, reason) = match outcome {
        Outcome::Done => ("done", None),
        Outcome::Retry { reason, .. } => ("retry", Some(reason.as_str())),
        Outcome::Reject { reason } => ("reject", Some(reason.as_str())),
    };
    #[cfg(feature = "tracing")]
    {
        macro_rules! event {
            ($level:ident) => {
                tracing::event!(
                    name: "dpat.queue.handled",
                    target: "dpat_queue",
                    tracing::Level::$level,
                    %id,
                    attempt,
                    outcome,
                    reason,
                )
            };
        }
        match outcome {
            "done" => event!(DEBUG),
            "retry" => event!(INFO),
            _ => event!(WARN),
        }
    }
    #[cfg(feature = "metrics")]
    metrics::counter!("dpat_queue_handled_total", "outcome" => outcome).increment(1);
    let _ = (id, attempt, outcome, reason);
}

/// Deliveries were another's before they were settled.
pub(crate) fn lost(deliveries: u64) {
    if deliveries > 0 {
        some_lost(deliveries);
    }
}

fn some_lost(deliveries: u64) {
    #[cfg(feature = "tracing")]
    tracing::event!(
        name: "dpat.queue.lost",
        target: "dpat_queue",
        tracing::Level::WARN,
        deliveries,
    );
    #[cfg(feature = "metrics")]
    metrics::counter!("dpat_queue_lost_total").increment(deliveries);
    let _ = deliveries;
}

/// A call failed, and is made again.
pub(crate) fn trouble(operation: &'static str, error: &impl fmt::Display) {
    #[cfg(feature = "tracing")]
    tracing::event!(
        name: "dpat.queue.trouble",
        target: "dpat_queue",
        tracing::Level::WARN,
        operation,
        %error,
    );
    let _ = (operation, error);
}
