//! The cases, by pattern.

mod embedded;
mod nats;
mod outbox;
mod peers;
mod postgres;
mod pubsub;
mod queue;
mod redis;
mod responses;

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;

use crate::harness::Case;
use crate::servers::Servers;

/// The sections, in the order of the page.
pub const PATTERNS: &[&str] = &["queue", "pubsub", "outbox", "idempotency"];
/// How many operations are under way at once.
pub const IN_FLIGHT: [usize; 2] = [1, 64];
/// Bytes of a payload.
pub const PAYLOAD: usize = 100;
/// The variant of a bare client that gives the same guarantees by the same statements or scripts, sent by hand: what the target is
/// measured against.
const SAME: &str = "same work";

/// Makes cases for so many operations in flight.
pub type Make = for<'a> fn(&'a Servers, usize) -> Cases<'a>;
/// Cases that are being made.
pub type Cases<'a> = Pin<Box<dyn Future<Output = Vec<Case>> + 'a>>;

/// Returns what makes the cases of a pattern, with the name of the engine. Each is called within a runtime of its own.
#[must_use]
pub fn of(pattern: &str) -> Vec<(&'static str, Make)> {
    match pattern {
        "queue" => vec![
            ("redis", |servers, in_flight| {
                Box::pin(queue::on_redis(servers, in_flight))
            }),
            ("nats", |servers, in_flight| {
                Box::pin(queue::on_nats(servers, in_flight))
            }),
            ("postgres", |servers, in_flight| {
                Box::pin(queue::postgres_send(servers, in_flight))
            }),
            ("postgres", |servers, in_flight| {
                Box::pin(queue::postgres_cycle(servers, in_flight))
            }),
        ],
        "pubsub" => vec![
            ("nats", |servers, in_flight| {
                Box::pin(pubsub::nats(servers, in_flight))
            }),
            ("redis", |servers, in_flight| {
                Box::pin(pubsub::redis(servers, in_flight))
            }),
        ],
        "outbox" => vec![("postgres", |servers, in_flight| {
            Box::pin(outbox::postgres(servers, in_flight))
        })],
        "idempotency" => vec![
            ("redis", |servers, in_flight| {
                Box::pin(responses::redis(servers, in_flight))
            }),
            ("nats", |servers, in_flight| {
                Box::pin(responses::nats(servers, in_flight))
            }),
            ("postgres", |servers, in_flight| {
                Box::pin(responses::postgres(servers, in_flight))
            }),
        ],
        _ => Vec::new(),
    }
}

/// Returns what a reader must know about the contenders of a pattern.
#[must_use]
pub fn notes(pattern: &str) -> &'static str {
    match pattern {
        "queue" => queue::NOTES,
        "pubsub" => pubsub::NOTES,
        "outbox" => outbox::NOTES,
        "idempotency" => responses::NOTES,
        _ => "",
    }
}

/// Whether a contender is the bare client of an engine.
#[must_use]
pub fn is_bare(name: &str) -> bool {
    let package = name.split('@').next().unwrap_or(name);
    ["redis", "async-nats", "tokio-postgres"].contains(&package)
}

fn payload() -> Bytes {
    Bytes::from_static(&[7; PAYLOAD])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_has_cases_and_notes() {
        for pattern in PATTERNS {
            assert!(!of(pattern).is_empty() && !notes(pattern).is_empty());
        }
    }
}
