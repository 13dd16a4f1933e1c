//! Models of what threads share. Under `cfg(dpat_loom)` every interleaving runs, otherwise one.

use crate::id::{NodeId, RollbackPolicy, SnowflakeGenerator, UlidGenerator, Uuid7Generator};
use crate::{AtomicHlc, GenerateError, SplitMix64, Wall};
use std::sync::Arc;
use std::time::Duration;

#[cfg(dpat_loom)]
use loom::{model, thread};
#[cfg(not(dpat_loom))]
use std::thread;

#[cfg(not(dpat_loom))]
fn model(run: impl Fn()) {
    run();
}

fn at(millis: u64) -> Wall {
    Wall::from_nanos((1_600_000_000_000 + millis) * 1_000_000)
}

/// Runs two threads on one subject and returns what each got, in its order.
fn two_threads<S, T>(
    subject: S,
    work: impl Fn(&S, u64) -> Vec<T> + Copy + Send + 'static,
) -> [Vec<T>; 2]
where
    S: Send + Sync + 'static,
    T: Send + 'static,
{
    let subject = Arc::new(subject);
    let other = {
        let subject = Arc::clone(&subject);
        thread::spawn(move || work(&subject, 1))
    };
    let own = work(&subject, 0);
    [own, other.join().expect("the other thread panicked")]
}

/// Each thread's values increase, and none was given twice.
fn assert_monotonic<T: Ord + std::fmt::Debug>(threads: [Vec<T>; 2]) {
    for values in &threads {
        assert!(values.is_sorted_by(|a, b| a < b), "{values:?}");
    }
    let [left, right] = threads;
    assert!(
        left.iter().all(|id| !right.contains(id)),
        "given twice: {left:?} {right:?}"
    );
}

#[test]
fn loom_uuid7_is_unique_and_increases_while_clocks_disagree() {
    model(|| {
        let threads = two_threads(Uuid7Generator::new(), |ids, thread| {
            let entropy = SplitMix64::new(thread);
            // The second thread's clock reads earlier, then later.
            [at(5), at(4 + 3 * thread)]
                .map(|wall| ids.next(wall, &entropy).expect("holds"))
                .into()
        });
        assert_monotonic(threads);
    });
}

#[test]
fn loom_ulid_is_unique_and_increases() {
    model(|| {
        let threads = two_threads(UlidGenerator::new(), |ids, thread| {
            let entropy = SplitMix64::new(thread);
            [at(5), at(5 + thread)]
                .map(|wall| ids.next(wall, &entropy).expect("the counter has room"))
                .into()
        });
        assert_monotonic(threads);
    });
}

#[test]
fn loom_snowflake_is_unique_at_the_end_of_its_sequence() {
    model(|| {
        let layout = crate::SnowflakeLayout::new(at(0), 40, 4, 1).expect("45 bits");
        let ids = SnowflakeGenerator::builder(NodeId::new(3))
            .layout(layout)
            .policy(RollbackPolicy::Hold)
            .build()
            .expect("node 3 of 15");
        // Two ids a millisecond: of four requests, two are told to wait.
        let threads = two_threads(ids, |ids, _| [ids.next(at(7)), ids.next(at(7))].into());
        let given =
            |ids: &Vec<Result<_, GenerateError>>| ids.iter().flatten().copied().collect::<Vec<_>>();
        let refused = threads.iter().flatten().filter(|id| id.is_err()).count();
        assert_eq!(refused, 2);
        assert_monotonic([given(&threads[0]), given(&threads[1])]);
    });
}

#[test]
fn loom_nothing_is_given_beyond_a_reservation() {
    model(|| {
        let ids = SnowflakeGenerator::builder(NodeId::new(0))
            .resume_from(at(9))
            .build()
            .expect("node 0 fits");
        let threads = two_threads(ids, |ids, thread| {
            if thread == 1 {
                ids.reserve(at(10));
                return Vec::new();
            }
            [ids.next(at(3)), ids.next(at(12))].into()
        });
        let unreserved = |millis| Err(GenerateError::Unreserved(at(millis)));
        assert!(threads[0][0].is_ok() || threads[0][0] == unreserved(10));
        assert_eq!(threads[0][1], unreserved(12));
    });
}

#[test]
fn loom_hlc_receive_is_later_than_the_message_and_every_tick_is_new() {
    model(|| {
        let clock = AtomicHlc::new(Duration::from_secs(1));
        let message = crate::HlcTimestamp::from_u64(at(20).as_nanos());
        let threads = two_threads(clock, move |clock, thread| {
            if thread == 1 {
                let received = clock.receive(at(10), message).expect("10 ms ahead");
                assert!(received > message);
                return vec![received, clock.tick(at(10)).expect("has room")];
            }
            [at(10), at(15)]
                .map(|wall| clock.tick(wall).expect("has room"))
                .into()
        });
        assert_monotonic(threads);
    });
}
