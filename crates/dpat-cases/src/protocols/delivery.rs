//! Delivery: outbox → queue → inbox, each on a disk of its own, under crashes between every two steps.
//!
//! A producer writes a change and its event in one transaction; a relay takes the event to a broker, which keeps it in a
//! queue; a receiver takes it from there, and acts. One of its acts is in its own database, behind an inbox in the same
//! transaction: it happens exactly once. The other is outside, behind a response store alone: a crash between the act and the
//! record leaves doubt, which is told, and the act is not repeated.
//!
//! The pieces are those that programs use: `dpat-redb` on a simulated disk, `dpat_outbox::Relay`, `dpat_queue::WalQueue`,
//! `dpat_idempotency::Responses`.

mod nodes;
mod store;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dpat_core::{Clock, Deadline, Sleep};
use dpat_model::NodeIx;
use dpat_sim::async_node::{AsyncNode, AsyncSystem, Program};
use dpat_sim::disk::SimDisk;
use dpat_sim::{Family, Judge, Mutant, Plan, Setup, Stream};

use super::harness;
use crate::sync::Mutex;

/// Writes changes and events, and relays them.
const PRODUCER: NodeIx = NodeIx(0);
/// Keeps the queue.
const BROKER: NodeIx = NodeIx(1);
/// Acts.
const RECEIVER: NodeIx = NodeIx(2);

const CLIENTS: u32 = 2;
const CALLS: u64 = 8;
/// A client thinks less than so long before a call.
const THINKS_MS: u64 = 900;
/// How long a client waits before it asks again.
const PATIENCE: Duration = Duration::from_millis(200);

/// The points that an event passes, in order: a script may strike at each.
pub const POINTS: [&str; 11] = [
    "append", "appended", "relay", "queued", "relayed", "handed", "received", "handled", "acted",
    "stored", "settled",
];

/// A rule of the delivery that a mutant breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// The event is written in the transaction of the change.
    EventAfterTheChange,
    /// An event is marked as sent after the broker has it.
    MarksBeforeTheAnswer,
    /// A message is settled after its effect.
    SettlesBeforeTheEffect,
    /// A message that comes again is known by its marker.
    ActsWithoutMarker,
    /// The marker is written in the transaction of the effect.
    MarksInAnotherTransaction,
    /// What is in doubt is told, and not done again.
    RetakesDoubt,
}

/// What the nodes of a run share with its judge; no program of a real node could see it.
#[derive(Default)]
pub(crate) struct Outside {
    /// How often the receiver acted outside of its database.
    acts: Mutex<BTreeMap<u64, u64>>,
    /// Orders of which the receiver told that nobody knows.
    doubts: Mutex<BTreeSet<u64>>,
    /// Orders that the producer has answered.
    acknowledged: Mutex<BTreeSet<u64>>,
    /// Orders whose message the receiver has settled.
    closed: Mutex<BTreeSet<u64>>,
}

/// The system: a producer, a broker, a receiver, and clients that order.
pub struct Delivery {
    broken: Option<Broken>,
    outside: Arc<Outside>,
    /// The disk of each node, as its present life sees it.
    disks: BTreeMap<NodeIx, SimDisk>,
    begun: u64,
}

impl AsyncSystem for Delivery {
    const NAME: &'static str = "outbox";
    const ABOUT: &'static str =
        "an event from an outbox through a queue to an inbox, effective once";
    const NODES: u32 = 3;
    const NODES_MIN: u32 = 3;
    const NODES_MAX: u32 = 3;
    const PROPERTIES: &'static [&'static str] = &[
        "acknowledged-kept",
        "all-delivered",
        "event-with-change",
        "effect-once",
        "outside-once",
        "doubt-told",
    ];
    const MUTANTS: &'static [Mutant] = &[
        Mutant {
            name: "event-after-the-change",
            rule: "the event is written in the transaction of the change",
            seeds_max: 100,
        },
        Mutant {
            name: "marks-before-the-answer",
            rule: "an event is marked as sent after the broker has it",
            seeds_max: 100,
        },
        Mutant {
            name: "settles-before-the-effect",
            rule: "a message is settled after its effect",
            seeds_max: 100,
        },
        Mutant {
            name: "acts-without-marker",
            rule: "a message that comes again is known by its marker",
            seeds_max: 100,
        },
        Mutant {
            name: "marks-in-another-transaction",
            rule: "the marker is written in the transaction of the effect",
            seeds_max: 100,
        },
        Mutant {
            name: "retakes-doubt",
            rule: "what is in doubt is told, and not done again",
            seeds_max: 100,
        },
    ];
    const KINDS: &'static [&'static str] = &["order", "send", "receive", "settle"];
    const NAMES: &'static [&'static str] = &["producer", "broker", "receiver"];

    fn new(setup: &Setup) -> Self {
        let rules = [
            Broken::EventAfterTheChange,
            Broken::MarksBeforeTheAnswer,
            Broken::SettlesBeforeTheEffect,
            Broken::ActsWithoutMarker,
            Broken::MarksInAnotherTransaction,
            Broken::RetakesDoubt,
        ];
        Self {
            broken: harness::broken(setup, Self::MUTANTS, &rules),
            outside: Arc::default(),
            disks: BTreeMap::new(),
            begun: 0,
        }
    }

    fn plan() -> Plan {
        // Databases and logs survive power cuts, not disks that rot; leases are counted by clocks that agree.
        Plan {
            settle: Duration::from_secs(60),
            ..Plan::default()
        }
        .without(Family::Disk)
        .without(Family::Clock)
    }

    fn node(&mut self, node: AsyncNode) -> Program {
        self.disks.insert(node.peer().node, node.disk().clone());
        let (outside, broken) = (Arc::clone(&self.outside), self.broken);
        Box::pin(async move {
            let at = node.clone();
            let ended = match node.peer().node {
                PRODUCER => nodes::produce(node, broken).await,
                BROKER => nodes::broker(node).await,
                _ => nodes::receive(node, outside, broken).await,
            };
            // A disk without faults refuses only a life that is over.
            if let Err(error) = ended {
                at.always("all-delivered", false, || error.to_string());
            }
        })
    }

    fn clients(&self) -> u32 {
        CLIENTS
    }

    fn call(
        &mut self,
        client: u32,
        call: u64,
        node: AsyncNode,
        mut rng: Stream,
    ) -> Option<Program> {
        if call == CALLS {
            return None;
        }
        self.begun += 1;
        let order = u64::from(client) * CALLS + call;
        let outside = Arc::clone(&self.outside);
        Some(Box::pin(async move {
            let time = node.time();
            time.sleep(Duration::from_millis(rng.below(THINKS_MS)))
                .await;
            let body = Bytes::copy_from_slice(&order.to_le_bytes());
            loop {
                let deadline = Deadline::after(time.now(), PATIENCE);
                let answer = node.call(PRODUCER, "order", body.clone(), deadline);
                if answer.await.is_ok() {
                    outside.acknowledged.lock().insert(order);
                    return;
                }
                time.sleep(Duration::from_millis(5 + rng.below(50))).await;
            }
        }))
    }

    fn is_settled(&mut self) -> bool {
        let expected = u64::from(CLIENTS) * CALLS;
        self.outside.acknowledged.lock().len() as u64 == expected
            && self.outside.closed.lock().len() as u64 == expected
    }

    fn finish(&mut self, judge: &mut Judge) {
        let outside = &*self.outside;
        let counts = |node: &NodeIx| self.disks.get(node).map(store::counts).transpose();
        let (changes, effects) = match (counts(&PRODUCER), counts(&RECEIVER)) {
            (Ok(changes), Ok(effects)) => {
                (changes.unwrap_or_default(), effects.unwrap_or_default())
            }
            (Err(error), _) | (_, Err(error)) => {
                return judge.fail("acknowledged-kept", error.to_string());
            }
        };
        let (acts, doubts) = (outside.acts.lock(), outside.doubts.lock());
        let mut acknowledged = outside.acknowledged.lock().clone();
        let answered = acknowledged.len() as u64;
        acknowledged.retain(|order| !changes.contains_key(order));
        judge.always("acknowledged-kept", acknowledged.is_empty(), || {
            format!("{acknowledged:?} were answered, and are gone")
        });
        judge.always("all-delivered", answered == self.begun, || {
            format!("{answered} of {} orders were answered", self.begun)
        });
        for order in changes.keys() {
            judge.always("all-delivered", effects.contains_key(order), || {
                format!("{order} was changed, and its event had no effect")
            });
            let known = acts.contains_key(order) || doubts.contains(order);
            judge.always("doubt-told", known, || {
                format!("{order} was not acted on, and nobody told of doubt")
            });
        }
        for (order, times) in &effects {
            judge.always("event-with-change", changes.contains_key(order), || {
                format!("{order} took effect, and nothing was changed")
            });
            judge.always("effect-once", *times == 1, || {
                format!("{order} took effect {times} times")
            });
        }
        for (order, times) in acts.iter() {
            judge.always("outside-once", *times == 1, || {
                format!("{order} was acted on {times} times")
            });
        }
        judge.compared(effects.len() as u64);
    }
}
