//! Events and counters; nothing without the features `tracing` and `metrics`.

use crate::error::BeginError;
use crate::key::Key;
use crate::responses::Begun;

/// Whether an operation was begun, replayed or refused.
pub(crate) fn begun<C>(key: &Key, result: &Result<Begun<C>, BeginError>) {
    let outcome = match result {
        Ok(Begun::First(_)) => "first",
        Ok(Begun::Replay(_)) => "replay",
        Err(BeginError::Busy { .. }) => "busy",
        Err(BeginError::Reused) => "reused",
        Err(BeginError::InDoubt { .. }) => "in_doubt",
        Err(_) => "error",
    };
    #[cfg(feature = "tracing")]
    tracing::event!(
        name: "dpat.idempotency.begun",
        target: "dpat_idempotency",
        tracing::Level::DEBUG,
        scope = key.scope(),
        id = key.id(),
        outcome,
    );
    #[cfg(feature = "metrics")]
    metrics::counter!("dpat_idempotency_begun_total", "outcome" => outcome).increment(1);
    let _ = (key, outcome);
}

/// What an inbox said about a message.
pub(crate) fn accepted(key: &Key, outcome: &'static str) {
    #[cfg(feature = "tracing")]
    tracing::event!(
        name: "dpat.idempotency.accepted",
        target: "dpat_idempotency",
        tracing::Level::DEBUG,
        scope = key.scope(),
        id = key.id(),
        outcome,
    );
    #[cfg(feature = "metrics")]
    metrics::counter!("dpat_idempotency_accepted_total", "outcome" => outcome).increment(1);
    let _ = (key, outcome);
}
