//! What the connection tells by itself: that it comes and goes, refusals, and subscriptions that it could not serve.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};

use async_nats::{ClientError, Event, ServerError};
use tokio::sync::{broadcast, watch};

use crate::error::Access;
use crate::sync::Mutex;

/// How many refusals a slow reader may miss, and of how many subjects it is remembered that they are refused.
const REFUSALS: usize = 64;

/// The server refused a subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) access: Access,
    pub(crate) subject: String,
}

/// Receives the events of the client.
pub(crate) struct Signals {
    /// Counts the comings and goings.
    changes: watch::Sender<u64>,
    refusals: broadcast::Sender<Refusal>,
    /// Subscriptions, by the client's number, that lost a message before it reached their buffer.
    slow: broadcast::Sender<u64>,
    /// Subjects that may not be published to. A new connection may have other permissions.
    refused: Mutex<VecDeque<String>>,
    /// There are such: most accounts have none.
    has_refused: AtomicBool,
    /// It will not connect again.
    given_up: AtomicBool,
}

impl Signals {
    pub(crate) fn new() -> Self {
        Self {
            changes: watch::Sender::new(0),
            refusals: broadcast::Sender::new(REFUSALS),
            slow: broadcast::Sender::new(1 << 10),
            refused: Mutex::new(VecDeque::new()),
            has_refused: AtomicBool::new(false),
            given_up: AtomicBool::new(false),
        }
    }

    pub(crate) fn on(&self, event: Event) {
        match event {
            Event::Connected => {
                self.refused.with(|refused| {
                    refused.clear();
                    self.has_refused.store(false, Ordering::Release);
                });
                self.changed();
            }
            Event::ClientError(ClientError::MaxReconnects) => {
                self.given_up.store(true, Ordering::Release);
                self.changed();
            }
            Event::Disconnected | Event::Closed | Event::ClientError(_) => self.changed(),
            Event::SlowConsumer(number) => {
                // Nobody may listen.
                drop(self.slow.send(number));
            }
            Event::ServerError(ServerError::Other(text)) => {
                if let Some(refusal) = refusal(&text) {
                    self.refuse(refusal);
                }
            }
            _ => {}
        }
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    fn refuse(&self, refusal: Refusal) {
        if refusal.access == Access::Publish {
            self.refused.with(|refused| {
                if !refused.contains(&refusal.subject) {
                    refused.truncate(REFUSALS - 1);
                    refused.push_front(refusal.subject.clone());
                }
                self.has_refused.store(true, Ordering::Release);
            });
        }
        drop(self.refusals.send(refusal));
    }

    pub(crate) fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::Acquire)
    }

    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    pub(crate) fn refusals(&self) -> broadcast::Receiver<Refusal> {
        self.refusals.subscribe()
    }

    #[cfg(feature = "pubsub")]
    pub(crate) fn slow(&self) -> broadcast::Receiver<u64> {
        self.slow.subscribe()
    }

    /// Says whether the server has refused to publish to a subject, on this connection.
    #[cfg(feature = "pubsub")]
    pub(crate) fn is_refused(&self, subject: &str) -> bool {
        self.has_refused.load(Ordering::Acquire)
            && self
                .refused
                .with(|refused| refused.iter().any(|one| one == subject))
    }
}

/// Waits for a refusal that `wanted` says is the one.
pub(crate) async fn refused(
    refusals: &mut broadcast::Receiver<Refusal>,
    wanted: impl Fn(&Refusal) -> bool,
) -> Refusal {
    loop {
        match refusals.recv().await {
            Ok(refusal) if wanted(&refusal) => return refusal,
            Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}

/// Reads `Permissions Violation for Publish to "subject"` and its likes.
fn refusal(text: &str) -> Option<Refusal> {
    let lower = text.to_ascii_lowercase();
    let access = if !lower.contains("permissions violation") {
        return None;
    } else if lower.contains("for publish") {
        Access::Publish
    } else if lower.contains("for subscription") {
        Access::Subscribe
    } else {
        return None;
    };
    let subject = text.split('"').nth(1)?;
    Some(Refusal {
        access,
        subject: subject.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_read() {
        let read = |text| refusal(text).map(|refusal| (refusal.access, refusal.subject));
        let named = |access, subject: &str| Some((access, subject.to_owned()));
        assert_eq!(
            read("Permissions Violation for Publish to \"a.b\""),
            named(Access::Publish, "a.b")
        );
        assert_eq!(
            read("Permissions Violation for Subscription to \"a.>\" using queue \"q\""),
            named(Access::Subscribe, "a.>")
        );
        assert_eq!(read("Maximum Payload Violation"), None);
        assert_eq!(read("Permissions Violation"), None);
    }

    #[test]
    fn refused_subjects_are_remembered_within_bounds_and_until_the_next_connection() {
        let signals = Signals::new();
        let refuse = |number: usize| {
            let text = format!("Permissions Violation for Publish to \"a.{number}\"");
            signals.on(Event::ServerError(ServerError::Other(text)));
        };
        (0..2 * REFUSALS).for_each(refuse);
        let remembered = signals.refused.with(|refused| refused.len());
        assert_eq!(remembered, REFUSALS);
        let last = format!("a.{}", 2 * REFUSALS - 1);
        assert!(signals.refused.with(|refused| refused.contains(&last)));
        signals.on(Event::Connected);
        assert!(signals.refused.with(|refused| refused.is_empty()));
    }
}
