//! The cases, by pattern.

mod embedded;
mod nats;
mod outbox;
mod peers;
mod postgres;
mod pubsub;
mod queue;
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

/// Makes cases for so many operations in flight.
pub type Make = for<'a> fn(&'a Servers, usize) -> Cases<'a>;
/// Cases that are being made.
pub type Cases<'a> = Pin<Box<dyn Future<Output = Vec<Case>> + 'a>>;

/// Returns what makes the cases of a pattern. Each is called within a runtime of its own.
#[must_use]
pub fn of(pattern: &str) -> Vec<Make> {
    match pattern {
        "queue" => vec![
            |servers, in_flight| Box::pin(queue::redis(servers, in_flight)),
            |servers, in_flight| Box::pin(queue::nats(servers, in_flight)),
            |servers, in_flight| Box::pin(queue::postgres_send(servers, in_flight)),
            |servers, in_flight| Box::pin(queue::postgres_cycle(servers, in_flight)),
        ],
        "pubsub" => vec![
            |servers, in_flight| Box::pin(pubsub::nats(servers, in_flight)),
            |servers, in_flight| Box::pin(pubsub::redis(servers, in_flight)),
        ],
        "outbox" => vec![|servers, in_flight| Box::pin(outbox::postgres(servers, in_flight))],
        "idempotency" => vec![
            |servers, in_flight| Box::pin(responses::redis(servers, in_flight)),
            |servers, in_flight| Box::pin(responses::nats(servers, in_flight)),
            |servers, in_flight| Box::pin(responses::postgres(servers, in_flight)),
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
