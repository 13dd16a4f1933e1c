//! What the laws say again and again.

use std::time::Duration;

use super::{Harness, Setup, Violation};
use crate::capability::{Capabilities, Capability};
use crate::error::{SendError, SettleError};
use crate::message::{Delivery, Message, MessageId, Outcome, Receipt, Sent};
use crate::queue::Queue;

pub(super) const SECOND: Duration = Duration::from_secs(1);

/// A queue, and what is done to it.
pub(super) struct Kit<'h, H: Harness> {
    pub(super) harness: &'h H,
    pub(super) setup: Setup,
    world: H::World,
}

impl<'h, H: Harness> Kit<'h, H> {
    pub(super) fn new(harness: &'h H) -> Self {
        Self::with(harness, harness.setup())
    }

    pub(super) fn with(harness: &'h H, setup: Setup) -> Self {
        Self {
            world: harness.open(&setup),
            harness,
            setup,
        }
    }

    pub(super) fn reopened(self) -> Self {
        let Self {
            harness,
            setup,
            world,
        } = self;
        let world = harness.reopen(world, &setup);
        Self {
            harness,
            setup,
            world,
        }
    }

    pub(super) fn queue(&self) -> &Queue {
        self.harness.queue(&self.world)
    }

    pub(super) fn offered(&self) -> Capabilities {
        self.queue().capabilities()
    }

    pub(super) fn has(&self, capability: Capability) -> bool {
        self.offered().has(capability)
    }

    pub(super) fn pass(&self, time: Duration) {
        self.harness.advance(&self.world, time);
    }

    pub(super) fn run<T>(&self, future: impl Future<Output = T>) -> T {
        self.harness.run(future)
    }

    pub(super) fn try_send(&self, message: Message) -> Result<Sent, SendError> {
        self.run(self.queue().send(message))
    }

    pub(super) fn send(&self, message: Message) -> Result<MessageId, Violation> {
        let sent = self.try_send(message)?;
        if sent.is_duplicate() {
            return Err(Violation::new(format!("{} is no duplicate", sent.id)));
        }
        Ok(sent.id)
    }

    pub(super) fn send_all(&self, payloads: &[&str]) -> Result<Vec<MessageId>, Violation> {
        let messages = payloads.iter();
        messages
            .map(|payload| self.send(Message::new((*payload).to_owned())))
            .collect()
    }

    pub(super) fn receive(&self, max: usize) -> Result<Vec<Delivery>, Violation> {
        Ok(self.run(self.queue().receive_batch(max, Duration::ZERO))?)
    }

    /// The one message that there is.
    pub(super) fn one(&self) -> Result<Delivery, Violation> {
        let mut received = self.receive(10)?;
        match (received.pop(), received.is_empty()) {
            (Some(delivery), true) => Ok(delivery),
            (None, _) => Err(Violation::new("nothing was received")),
            (Some(_), false) => Err(Violation::new("more than one was received")),
        }
    }

    /// What can be received, as texts.
    pub(super) fn texts(&self) -> Result<Vec<String>, Violation> {
        Ok(self.receive(100)?.iter().map(text).collect())
    }

    pub(super) fn settle(&self, receipt: Receipt, outcome: Outcome) -> Result<(), SettleError> {
        self.run(self.queue().settle(receipt, outcome))
    }

    pub(super) fn done(&self, delivery: &Delivery) -> Result<(), SettleError> {
        self.settle(delivery.receipt, Outcome::Done)
    }

    pub(super) fn extend(&self, delivery: &Delivery, by: Duration) -> Result<(), SettleError> {
        let extended = self.run(self.queue().extend(vec![delivery.receipt], by));
        extended.into_iter().next().unwrap_or(Ok(()))
    }
}

pub(super) fn text(delivery: &Delivery) -> String {
    String::from_utf8_lossy(delivery.payload()).into_owned()
}

pub(super) fn retry(delay: Duration) -> Outcome {
    Outcome::Retry {
        delay,
        reason: "later".to_owned(),
    }
}

pub(super) fn reject(reason: &str) -> Outcome {
    Outcome::Reject {
        reason: reason.to_owned(),
    }
}
