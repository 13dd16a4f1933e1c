//! Real threads on one generator: every id once, and increasing for each thread.

use crate::at;
use dpat_core::{
    AtomicHlc, GenerateError, NodeId, SnowflakeGenerator, SystemEntropy, UlidGenerator,
    Uuid7Generator, Wall,
};
use std::fmt::Debug;
use std::time::Duration;

const THREADS: u64 = 4;
const EACH: u64 = 5_000;

#[track_caller]
fn check<T: Ord + Debug + Send>(make: impl Fn(Wall) -> T + Sync) {
    let make = &make;
    let threads: Vec<Vec<T>> = std::thread::scope(|scope| {
        let spawn = |thread| {
            // The clocks of the threads disagree, and go back now and then.
            let wall = move |count: u64| at(thread * 3 + count / 50 - count % 3);
            scope.spawn(move || (150..150 + EACH).map(|count| make(wall(count))).collect())
        };
        let running: Vec<_> = (0..THREADS).map(spawn).collect();
        running
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    for ids in &threads {
        assert!(ids.is_sorted_by(|a, b| a < b));
    }
    let mut all: Vec<T> = threads.into_iter().flatten().collect();
    let given = all.len();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), given, "an id was given twice");
}

static UUIDS: Uuid7Generator = Uuid7Generator::new();
static ULIDS: UlidGenerator = UlidGenerator::new();
static CLOCK: AtomicHlc = AtomicHlc::new(Duration::from_secs(1));

#[test]
fn uuid7_generator_is_process_wide() {
    check(|wall| UUIDS.next(wall, &SystemEntropy).unwrap());
}

#[test]
fn ulid_generator_is_process_wide() {
    check(|wall| ULIDS.next(wall, &SystemEntropy).unwrap());
}

#[test]
fn snowflake_generator_is_process_wide() {
    let ids = SnowflakeGenerator::builder(NodeId::new(5)).build().unwrap();
    check(|mut wall| {
        loop {
            match ids.next(wall) {
                Ok(id) => return id,
                Err(GenerateError::Wait(left)) => wall = wall + left,
                Err(error) => panic!("{error}"),
            }
        }
    });
}

#[test]
fn atomic_hlc_is_process_wide() {
    check(|wall| CLOCK.tick(wall).unwrap());
}
