//! Publish-subscribe against tokio's broadcast channel and async-broadcast, and subject matching against tries.

mod fan_out;
mod matching;
mod team;

use crate::harness::{Case, Contender};
use bytes::Bytes;

pub(super) const NOTES: &str = "\
What each side does besides handing messages over:

- *dpat-pubsub* finds its subscribers by subject; each has a buffer of its own with its own capacity and policy, and \
its losses are counted in their place. A message is subject, payload and headers in one allocation.
- *tokio* (broadcast) has one ring for all receivers, its capacity rounded up to a power of two; the slowest loses \
messages, counted.
- *async-broadcast* has one queue for all receivers behind one lock, and its sender waits for the slowest.
- *quill-pubsub* and *mqtt_topic_tree* match MQTT filters, which mean the same here; the former keeps subscribers in \
hash sets behind a lock, the latter reserves a vector as long as there are subscriptions for each look-up.";

/// Messages that are published before anybody reads, where a case has bursts.
const BURST: u64 = 64;
/// Capacity of every buffer.
const CAPACITY: usize = 1024;

fn payload() -> Bytes {
    Bytes::from(vec![7; 64])
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for subscribers in [1, 8] {
        for burst in [1, BURST] {
            cases.push(fan_out::drops(subscribers, burst));
            cases.push(fan_out::waits(subscribers, burst));
        }
    }
    for (publishers, subscribers) in [(1, 1), (1, 8), (8, 8)] {
        cases.push(team::drops(publishers, subscribers));
        cases.push(team::waits(publishers, subscribers));
    }
    cases.push(fan_out::bytes());
    for filters in [10, 10_000] {
        cases.push(matching::case(filters));
    }
    cases
}

fn case(
    operation: &'static str,
    work: &'static str,
    ours: Contender,
    peers: Vec<Contender>,
) -> Case {
    Case::new("pubsub", operation, work, ours, peers)
}

/// What is varied, as `1 to 8`.
fn shape(publishers: u64, subscribers: usize) -> String {
    format!("{publishers} to {subscribers}")
}
