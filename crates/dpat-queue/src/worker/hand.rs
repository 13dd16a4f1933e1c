//! What a worker holds, and what is to be done about it: pure, with the time as an argument.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use dpat_core::{Backoff, Entropy, Instant};

use super::Failure;
use crate::message::{Delivery, Outcome, Receipt, Settlement};

/// How often the delay is grown at most: all rules have reached their largest by then.
const GROWN_MAX: u32 = 64;

/// Deliveries of one worker.
#[derive(Debug, Default)]
pub(super) struct Hand {
    /// Wait for a handler.
    waiting: VecDeque<Delivery>,
    /// Wait or are being handled, and when their lease surely holds until. What is to be settled is not here, so that its
    /// lease is not extended any more.
    leases: BTreeMap<Receipt, Instant>,
    to_settle: Vec<Settlement>,
    settling: usize,
}

impl Hand {
    /// How many messages it holds.
    pub(super) fn len(&self) -> usize {
        self.leases.len() + self.to_settle.len() + self.settling
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes messages in; their leases began at `asked` or later.
    pub(super) fn take(&mut self, received: Vec<Delivery>, asked: Instant) {
        for delivery in received {
            self.leases.insert(delivery.receipt, asked + delivery.lease);
            self.waiting.push_back(delivery);
        }
    }

    /// The next message that may be handled; counts those whose lease is over, which are not.
    pub(super) fn next(&mut self, now: Instant, lost: &mut u64) -> Option<Delivery> {
        while let Some(delivery) = self.waiting.pop_front() {
            match self.leases.get(&delivery.receipt) {
                Some(until) if *until > now => return Some(delivery),
                _ => {
                    self.leases.remove(&delivery.receipt);
                    *lost += 1;
                }
            }
        }
        None
    }

    /// The receipts whose leases are to be kept up.
    pub(super) fn leased(&self) -> Vec<Receipt> {
        self.leases.keys().copied().collect()
    }

    /// A lease was extended.
    pub(super) fn extended(&mut self, receipt: Receipt, until: Instant) {
        if let Some(known) = self.leases.get_mut(&receipt) {
            *known = until;
        }
    }

    /// A receipt has no say any more: a message that waits is not handled. One that is being handled ends by itself.
    pub(super) fn stale(&mut self, receipt: Receipt) {
        if let Some(known) = self.leases.get_mut(&receipt) {
            *known = Instant::MIN;
        }
    }

    /// A message is to be settled. From now on its lease is not extended.
    pub(super) fn settle(&mut self, receipt: Receipt, outcome: Outcome) {
        self.leases.remove(&receipt);
        self.to_settle.push(Settlement { receipt, outcome });
    }

    /// Everything that waits or is being handled is given back.
    pub(super) fn release(&mut self) -> u64 {
        self.waiting.clear();
        let held = self.leased();
        for receipt in &held {
            self.settle(*receipt, Outcome::release());
        }
        held.len() as u64
    }

    /// Takes what is to be settled now.
    pub(super) fn settling(&mut self) -> Option<Vec<Settlement>> {
        if self.to_settle.is_empty() {
            return None;
        }
        let batch = std::mem::take(&mut self.to_settle);
        self.settling = batch.len();
        Some(batch)
    }

    /// The settlements have their answers; these are tried again.
    pub(super) fn settled(&mut self, again: Vec<Settlement>) {
        self.settling = 0;
        self.to_settle.extend(again);
    }
}

/// What becomes of a message after an attempt.
pub(super) fn judge(
    handled: Result<(), Failure>,
    attempt: u32,
    attempts_max: u32,
    backoff: Backoff,
    entropy: &dyn Entropy,
) -> Outcome {
    let Err(failure) = handled else {
        return Outcome::Done;
    };
    if failure.rejects {
        return Outcome::Reject {
            reason: failure.reason,
        };
    }
    if attempt >= attempts_max {
        return given_up(attempt, &failure.reason);
    }
    let delay = failure
        .after
        .unwrap_or_else(|| delay(backoff, attempt, entropy));
    Outcome::Retry {
        delay,
        reason: failure.reason,
    }
}

/// A message that had all its attempts.
pub(super) fn given_up(attempts: u32, reason: &str) -> Outcome {
    Outcome::Reject {
        reason: format!("given up after {attempts} attempts: {reason}"),
    }
}

fn delay(backoff: Backoff, attempt: u32, entropy: &dyn Entropy) -> Duration {
    let mut delays = backoff.delays();
    for _ in 1..attempt.min(GROWN_MAX) {
        delays.next_delay(entropy);
    }
    delays.next_delay(entropy)
}
