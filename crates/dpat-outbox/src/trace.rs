//! Events, counters and gauges; nothing without the features `tracing` and `metrics`.

use dpat_core::Wall;

use crate::machine::Fate;
use crate::store::{Claimed, Lag};

/// An event was acknowledged, or an attempt failed.
pub(crate) fn published(row: &Claimed, fate: Fate, reason: Option<&str>) {
    let outcome = match fate {
        Fate::Sent => "sent",
        Fate::Retry => "retry",
        Fate::Parked => "parked",
    };
    #[cfg(feature = "tracing")]
    {
        macro_rules! event {
            ($level:ident) => {
                tracing::event!(
                    name: "dpat.outbox.published",
                    target: "dpat_outbox",
                    tracing::Level::$level,
                    id = %row.event.id(),
                    topic = row.event.topic(),
                    attempt = row.attempts.saturating_add(1),
                    outcome,
                    reason,
                )
            };
        }
        match fate {
            Fate::Sent => event!(DEBUG),
            Fate::Retry => event!(INFO),
            Fate::Parked => event!(WARN),
        }
    }
    #[cfg(feature = "metrics")]
    metrics::counter!("dpat_outbox_published_total", "outcome" => outcome).increment(1);
    let _ = (row, outcome, reason);
}

/// Claims were another's before they were settled.
pub(crate) fn lost(claims: u64) {
    if claims > 0 {
        some_lost(claims);
    }
}

fn some_lost(claims: u64) {
    #[cfg(feature = "tracing")]
    tracing::event!(
        name: "dpat.outbox.lost",
        target: "dpat_outbox",
        tracing::Level::INFO,
        claims,
    );
    #[cfg(feature = "metrics")]
    metrics::counter!("dpat_outbox_lost_total").increment(claims);
    let _ = claims;
}

/// How far the outbox is behind.
pub(crate) fn lag(lag: &Lag, now: Wall) {
    let oldest_s = lag
        .oldest
        .map_or(0.0, |oldest| now.since(oldest).as_secs_f64());
    #[cfg(feature = "tracing")]
    tracing::event!(
        name: "dpat.outbox.lag",
        target: "dpat_outbox",
        tracing::Level::DEBUG,
        backlog = lag.backlog_rows,
        parked = lag.parked,
        oldest_s,
    );
    #[cfg(feature = "metrics")]
    {
        #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
        let gauge = |name: &'static str, value: u64| metrics::gauge!(name).set(value as f64);
        gauge("dpat_outbox_backlog_rows", lag.backlog_rows);
        gauge("dpat_outbox_backlog_bytes", lag.backlog_bytes);
        gauge("dpat_outbox_parked_rows", lag.parked);
        metrics::gauge!("dpat_outbox_oldest_seconds").set(oldest_s);
    }
    let _ = (lag, oldest_s);
}
