//! Crashes with clocks that were set back: nothing comes twice, and everything increases.

use crate::at;
use dpat_core::{
    AtomicHlc, GenerateError, HlcError, NodeId, RollbackPolicy, SnowflakeGenerator, SplitMix64,
    UlidGenerator, Uuid7Generator, Wall,
};
use proptest::prelude::*;
use std::fmt::Debug;
use std::time::Duration;

#[derive(Clone, Debug)]
enum Step {
    /// Draws some ids.
    Draw(u8),
    /// Sets the clock to any time.
    SetClock(u64),
    /// Stores a mark this far ahead of the clock, and reserves it.
    Reserve(u64),
    /// Stores a mark, and crashes before it is reserved.
    StoreAndCrash(u64),
    /// Crashes.
    Crash,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1_u8..20).prop_map(Step::Draw),
        2 => (0_u64..5_000).prop_map(Step::SetClock),
        3 => (0_u64..500).prop_map(Step::Reserve),
        1 => (0_u64..500).prop_map(Step::StoreAndCrash),
        1 => Just(Step::Crash),
    ];
    prop::collection::vec(step, 1..80)
}

/// A generator, as this test sees it.
struct Face<'a, G, T> {
    start: &'a dyn Fn(Wall) -> G,
    /// None if the generator asks for a reservation or for patience.
    next: &'a dyn Fn(&G, Wall) -> Option<T>,
    reserve: &'a dyn Fn(&G, Wall),
}

fn survive<G, T: Ord + Copy + Debug>(
    steps: &[Step],
    face: &Face<'_, G, T>,
) -> Result<(), TestCaseError> {
    let mut stored = Wall::MIN;
    let mut clock = at(1_000);
    let mut generator = (face.start)(stored);
    let mut last: Option<T> = None;
    for step in steps {
        match *step {
            Step::Draw(count) => {
                for _ in 0..count {
                    let Some(id) = (face.next)(&generator, clock) else {
                        break;
                    };
                    prop_assert!(last.is_none_or(|last| last < id), "{last:?} then {id:?}");
                    last = Some(id);
                }
            }
            Step::SetClock(millis) => clock = at(millis),
            Step::Reserve(ahead) => {
                stored = stored.max(clock + Duration::from_millis(ahead));
                (face.reserve)(&generator, stored);
            }
            Step::StoreAndCrash(ahead) => {
                stored = stored.max(clock + Duration::from_millis(ahead));
                generator = (face.start)(stored);
            }
            Step::Crash => generator = (face.start)(stored),
        }
    }
    Ok(())
}

fn unless_refused<T>(result: Result<T, GenerateError>) -> Option<T> {
    match result {
        Ok(id) => Some(id),
        Err(
            GenerateError::Unreserved(_)
            | GenerateError::Wait(_)
            | GenerateError::ClockWentBack(_)
            | GenerateError::CounterExhausted,
        ) => None,
        Err(error) => panic!("{error}"),
    }
}

const POLICIES: [RollbackPolicy; 3] = [
    RollbackPolicy::Hold,
    RollbackPolicy::Wait,
    RollbackPolicy::Fail,
];

proptest! {
    #[test]
    fn snowflakes_never_repeat(steps in steps(), policy in 0_usize..3) {
        survive(&steps, &Face {
            start: &|mark| {
                SnowflakeGenerator::builder(NodeId::new(1))
                    .policy(POLICIES[policy])
                    .resume_from(mark)
                    .build()
                    .unwrap()
            },
            next: &|ids, wall| unless_refused(ids.next(wall)),
            reserve: &SnowflakeGenerator::reserve,
        })?;
    }

    #[test]
    fn uuids_increase_across_crashes(steps in steps(), policy in 0_usize..3) {
        let entropy = SplitMix64::new(1);
        survive(&steps, &Face {
            start: &|mark| Uuid7Generator::with_policy(POLICIES[policy]).resume_from(mark),
            next: &|ids, wall| unless_refused(ids.next(wall, &entropy)),
            reserve: &Uuid7Generator::reserve,
        })?;
    }

    #[test]
    fn ulids_increase_across_crashes(steps in steps(), policy in 0_usize..3) {
        let entropy = SplitMix64::new(1);
        survive(&steps, &Face {
            start: &|mark| UlidGenerator::with_policy(POLICIES[policy]).resume_from(mark),
            next: &|ids, wall| unless_refused(ids.next(wall, &entropy)),
            reserve: &UlidGenerator::reserve,
        })?;
    }

    #[test]
    fn hybrid_timestamps_increase_across_crashes(steps in steps()) {
        survive(&steps, &Face {
            start: &|mark| AtomicHlc::new(Duration::from_secs(1)).resume_from(mark),
            next: &|clock, wall| match clock.tick(wall) {
                Ok(stamp) => Some(stamp),
                Err(HlcError::Unreserved(_)) => None,
                Err(error) => panic!("{error}"),
            },
            reserve: &AtomicHlc::reserve,
        })?;
    }
}

/// The same without a mark, to show that the mark is what helps.
#[test]
fn without_a_mark_a_snowflake_repeats_when_the_clock_was_set_back() {
    let start = || SnowflakeGenerator::builder(NodeId::new(1)).build().unwrap();
    let before = start().next(at(5)).unwrap();
    assert_eq!(start().next(at(5)).unwrap(), before);
}

#[test]
fn unreserved_names_the_mark_that_is_needed() {
    let ids = SnowflakeGenerator::builder(NodeId::new(1))
        .resume_from(at(100))
        .build()
        .unwrap();
    let Err(GenerateError::Unreserved(needed)) = ids.next(at(50)) else {
        panic!("given without a reservation");
    };
    assert_eq!(needed, at(101));
    ids.reserve(needed);
    assert_eq!(ids.layout().parts(ids.next(at(50)).unwrap()).wall, at(101));

    let clock = AtomicHlc::new(Duration::ZERO).resume_from(at(100));
    let Err(HlcError::Unreserved(needed)) = clock.tick(at(50)) else {
        panic!("given without a reservation");
    };
    clock.reserve(needed);
    assert!(clock.tick(at(50)).is_ok());
}
