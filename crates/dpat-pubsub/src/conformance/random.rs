//! Random operations against the pure model, and the shrinker.

use super::model::{Answer, Buffer, Policy};
use super::{Harness, Violation, ensure};
use crate::config::{Capability, KeyOf, Overflow};
use crate::message::Delivery;
use crate::pubsub::PubSub;
use crate::subject::{Filter, Subject};
use crate::subscription::Subscription;
use dpat_core::{Entropy, SplitMix64};

/// How many seeds the law tries.
const SEEDS: u64 = 48;
/// How many operations a seed draws.
const OPS: usize = 120;
/// How many subscriptions there are at most.
const SLOTS: usize = 5;

/// Few tokens, so that filters and subjects meet.
const FILTERS: [&str; 6] = ["a", "a.b", "a.*", ">", "*.b", "a.>"];
const SUBJECTS: [&str; 4] = ["a", "a.b", "a.c", "b.b"];
const POLICIES: [Policy; 5] = [
    Policy::DropOldest,
    Policy::DropNewest,
    Policy::Await,
    Policy::Disconnect,
    Policy::Conflate,
];

/// One random operation. `slot` is one of five places for subscriptions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[allow(missing_docs)] // the fields choose from small lists
pub enum Op {
    /// Subscribes, in place of what is in the slot; not in the same group with other settings.
    Subscribe {
        slot: usize,
        filter: usize,
        policy: usize,
        capacity: usize,
        group: u8,
    },
    /// Drops a subscription.
    Leave { slot: usize },
    /// Publishes a number.
    Publish { subject: usize },
    /// Receives what is there, and compares.
    Receive { slot: usize },
}

impl Op {
    /// Makes an operation of any 64 bits, for generators that shrink by themselves.
    #[must_use]
    pub fn from_bits(mut bits: u64) -> Self {
        let mut below = |bound: usize| {
            let bound = bound as u64;
            let taken = bits % bound;
            bits /= bound;
            usize::try_from(taken).unwrap_or(0)
        };
        let (choice, slot) = (below(16), below(SLOTS));
        match choice {
            0..3 => Self::Subscribe {
                slot,
                filter: below(FILTERS.len()),
                policy: below(POLICIES.len()),
                capacity: 1 + below(3),
                group: u8::from(below(3) == 0) * (1 + u8::from(below(2) == 0)),
            },
            3 => Self::Leave { slot },
            4..11 => Self::Publish {
                subject: below(SUBJECTS.len()),
            },
            _ => Self::Receive { slot },
        }
    }
}

/// Random operations are answered as the pure model answers them.
///
/// # Errors
/// [`Violation`] with the fewest operations that show it.
pub fn random_operations_match_the_model<H: Harness>(harness: &H) -> Result<(), Violation> {
    for seed in 0..SEEDS {
        let entropy = SplitMix64::stream(seed, "pubsub");
        let mut ops: Vec<Op> = (0..OPS)
            .map(|_| Op::from_bits(entropy.next_u64()))
            .collect();
        if let Err(mut violation) = run(harness, &ops) {
            while let Some((fewer, found)) = one_fewer(harness, &ops) {
                (ops, violation) = (fewer, found);
            }
            return Err(Violation::new(format!(
                "seed {seed}: {violation}, after these {} operations: {ops:#?}",
                ops.len()
            )));
        }
    }
    Ok(())
}

/// Leaves one operation out such that the rest still fails.
fn one_fewer<H: Harness>(harness: &H, ops: &[Op]) -> Option<(Vec<Op>, Violation)> {
    (0..ops.len()).rev().find_map(|left_out| {
        let mut fewer = ops.to_vec();
        fewer.remove(left_out);
        let violation = run(harness, &fewer).err()?;
        Some((fewer, violation))
    })
}

/// Runs operations on a hub and compares every answer with the model's.
///
/// Of a backend that does not count exactly, only what arrives is compared, with room for everything and without groups.
///
/// # Errors
/// [`Violation`] of the first difference.
pub fn run<H: Harness>(harness: &H, ops: &[Op]) -> Result<(), Violation> {
    let hub = harness.hub();
    let exact = hub.capabilities().has(Capability::ExactCapacity);
    let mut run = Run {
        harness,
        hub,
        exact,
        prefix: harness.prefix(),
        slots: std::array::from_fn(|_| None),
        buffers: Vec::new(),
        published: 0,
    };
    for (at, op) in ops.iter().enumerate() {
        run.step(*op)
            .map_err(|violation| Violation::new(format!("operation {at}, {op:?}: {violation}")))?;
    }
    for slot in 0..SLOTS {
        while run.receive(slot)? {}
    }
    Ok(())
}

struct Run<'a, H> {
    harness: &'a H,
    hub: PubSub,
    exact: bool,
    prefix: String,
    /// Subscriptions with their buffers in the model.
    slots: [Option<(Subscription, usize)>; SLOTS],
    /// Never removed, so that places stay.
    buffers: Vec<Buffer>,
    published: u64,
}

impl<H: Harness> Run<'_, H> {
    fn step(&mut self, op: Op) -> Result<(), Violation> {
        match op {
            Op::Subscribe {
                slot,
                filter,
                policy,
                capacity,
                group,
            } => self.subscribe(slot, filter, POLICIES[policy], capacity, group),
            Op::Leave { slot } => {
                self.leave(slot);
                Ok(())
            }
            Op::Publish { subject } => self.publish(SUBJECTS[subject]),
            Op::Receive { slot } => self.receive(slot).map(|_| ()),
        }
    }

    fn subscribe(
        &mut self,
        slot: usize,
        filter: usize,
        policy: Policy,
        capacity: usize,
        group: u8,
    ) -> Result<(), Violation> {
        self.leave(slot);
        let offered = self.hub.capabilities();
        let overflow = match policy {
            Policy::Await => Overflow::Await,
            Policy::DropOldest => Overflow::DropOldest,
            Policy::DropNewest => Overflow::DropNewest,
            Policy::Disconnect => Overflow::Disconnect,
            Policy::Conflate => Overflow::Conflate(KeyOf::subject()),
        };
        if !offered.has(overflow.capability()) {
            return Ok(());
        }
        let group = (group > 0 && self.exact && offered.has(Capability::Groups)).then_some(group);
        let capacity = if self.exact { capacity } else { 1024 };
        let filter: Filter = format!("{}.{}", self.prefix, FILTERS[filter]).parse()?;
        let joined = self.buffers.iter().position(|buffer| {
            let open = buffer.members > 0 && !buffer.is_closed();
            open && group.is_some() && buffer.group == group && buffer.filter == filter
        });
        if let Some(buffer) = joined.and_then(|at| self.buffers.get(at)) {
            if buffer.capacity != capacity || buffer.policy != policy {
                return Ok(());
            }
        }
        let mut subscribe = self
            .hub
            .subscribe(&filter)
            .capacity(capacity)
            .overflow(overflow);
        if let Some(group) = group {
            subscribe = subscribe.group(group.to_string());
        }
        let subscription = self.harness.block_on(subscribe.into_future())?;
        let at = match joined {
            Some(at) => {
                self.buffers[at].members += 1;
                at
            }
            None => {
                self.buffers
                    .push(Buffer::new(filter, group, capacity, policy));
                self.buffers.len() - 1
            }
        };
        self.slots[slot] = Some((subscription, at));
        Ok(())
    }

    fn leave(&mut self, slot: usize) {
        if let Some((subscription, at)) = self.slots[slot].take() {
            drop(subscription);
            self.buffers[at].members -= 1;
        }
    }

    fn publish(&mut self, subject: &str) -> Result<(), Violation> {
        let subject: Subject = format!("{}.{subject}", self.prefix).parse()?;
        let number = self.published;
        self.published += 1;
        let open = self.buffers.iter_mut().filter(|buffer| buffer.members > 0);
        let reached = open
            .filter_map(|buffer| buffer.publish(number, &subject).then_some(()))
            .count();
        let payload = number.to_string();
        // What would have to wait is lost in the model.
        let published = if self.hub.capabilities().has(Capability::Await) {
            self.hub.publish_now(subject, payload)?
        } else {
            self.harness.block_on(self.hub.publish(subject, payload))?
        };
        if let Some(count) = published.reached {
            ensure!(
                count == reached,
                "reached {count}, the model says {reached}"
            );
        }
        Ok(())
    }

    /// Returns whether there was something.
    fn receive(&mut self, slot: usize) -> Result<bool, Violation> {
        let Some((subscription, at)) = &mut self.slots[slot] else {
            return Ok(false);
        };
        let expected = self.buffers[*at].receive();
        // What is there comes; what is not there cannot be waited for.
        let got = if expected == Answer::Nothing {
            if !self.exact {
                return Ok(false);
            }
            subscription.try_recv().transpose()
        } else {
            Some(self.harness.block_on(subscription.recv()))
        };
        let got = match got {
            None => Answer::Nothing,
            Some(Err(_)) => Answer::Closed,
            Some(Ok(Delivery::Lagged(lost))) => Answer::Lagged(lost),
            Some(Ok(Delivery::Message(message))) => {
                let text = std::str::from_utf8(message.payload()).ok();
                let number = text.and_then(|text| text.parse().ok());
                Answer::Message(number.unwrap_or(u64::MAX))
            }
        };
        ensure!(got == expected, "got {got:?}, the model says {expected:?}");
        Ok(!matches!(got, Answer::Nothing | Answer::Closed))
    }
}
