use crate::at;
use dpat_core::{AtomicHlc, Hlc, HlcError, HlcTimestamp, NodeId, Wall};
use proptest::prelude::*;
use std::time::Duration;

const UNIT: u64 = 1 << 16;
const MAX_OFFSET: Duration = Duration::from_millis(500);

fn hlc() -> Hlc {
    Hlc::new(MAX_OFFSET)
}

#[test]
fn follows_the_wall_clock_and_counts_within_a_unit() {
    let mut clock = hlc();
    let first = clock.tick(Wall::from_nanos(10 * UNIT + 5)).unwrap();
    assert_eq!(first.wall(), Wall::from_nanos(10 * UNIT));
    assert_eq!(first.logical(), 0);
    let second = clock.tick(Wall::from_nanos(10 * UNIT + 9)).unwrap();
    assert_eq!((second.wall(), second.logical()), (first.wall(), 1));
    let third = clock.tick(Wall::from_nanos(11 * UNIT)).unwrap();
    assert_eq!((third.wall().as_nanos(), third.logical()), (11 * UNIT, 0));
}

#[test]
fn increases_while_the_wall_clock_goes_back() {
    let mut clock = hlc();
    let before = clock.tick(at(1_000)).unwrap();
    let after = clock.tick(at(0)).unwrap();
    assert!(after > before);
    assert_eq!(after.wall(), before.wall());
    assert!(clock.lead(at(0)) > Duration::from_millis(999));
}

/// Figure 5 of the paper, case by case: where the maximum comes from decides the counter.
#[test]
fn receive_takes_the_maximum_of_three() {
    let stamp = |unit: u64, logical: u64| HlcTimestamp::from_u64(unit * UNIT + logical);
    // (own last, message, wall unit) -> next
    for (last, message, wall, expected) in [
        (stamp(10, 3), stamp(10, 7), 9, stamp(10, 8)),
        (stamp(10, 7), stamp(10, 3), 10, stamp(10, 8)),
        (stamp(10, 3), stamp(9, 7), 8, stamp(10, 4)),
        (stamp(9, 3), stamp(10, 7), 10, stamp(10, 8)),
        (stamp(9, 3), stamp(10, 7), 11, stamp(11, 0)),
    ] {
        let mut clock = hlc();
        clock
            .receive(Wall::MIN, HlcTimestamp::from_u64(last.as_u64() - 1))
            .unwrap();
        assert_eq!(clock.last(), last);
        let wall = Wall::from_nanos(wall * UNIT);
        assert_eq!(clock.receive(wall, message), Ok(expected));
    }
}

#[test]
fn a_peer_that_is_too_far_ahead_is_refused_and_changes_nothing() {
    let mut ahead = hlc();
    let far = ahead.tick(at(10_501)).unwrap();
    let near = hlc().tick(at(10_500)).unwrap();
    let mut clock = hlc();
    let last = clock.tick(at(10_000)).unwrap();
    let refused = clock.receive(at(10_000), far);
    assert!(
        matches!(
            refused,
            Err(HlcError::TooFarAhead {
                max: MAX_OFFSET,
                ..
            })
        ),
        "{refused:?}"
    );
    assert_eq!(clock.last(), last);
    assert!(clock.receive(at(10_000), near).unwrap() > near);
}

#[test]
fn a_full_counter_carries_into_the_physical_part() {
    let mut clock = hlc();
    let start = clock.tick(at(0)).unwrap();
    let mut last = start;
    for _ in 0..=UNIT {
        let next = clock.tick(at(0)).unwrap();
        assert!(next > last);
        last = next;
    }
    assert_eq!(last.wall().since(start.wall()), Duration::from_nanos(UNIT));
    assert_eq!(last.logical(), 1);
}

#[test]
fn the_end_of_time_is_an_error() {
    let mut clock = Hlc::new(Duration::MAX);
    let end = HlcTimestamp::from_u64(u64::MAX - 1);
    assert_eq!(clock.receive(at(0), end), Ok(HlcTimestamp::MAX));
    assert_eq!(clock.tick(at(0)), Err(HlcError::Exhausted));
    assert_eq!(
        clock.receive(at(0), HlcTimestamp::MAX),
        Err(HlcError::Exhausted)
    );
}

/// § 2.2 of the source: last-write-wins by wall clock alone lets replicas diverge on a tie.
#[test]
fn equal_times_of_two_nodes_are_decided_by_the_node() {
    let write = |node| (hlc().tick(at(0)).unwrap(), NodeId::new(node), node);
    let (a, b) = (write(1), write(2));
    assert_eq!(a.0, b.0, "a real tie");
    assert_eq!(a.max(b), b.max(a));
}

#[derive(Clone, Debug)]
enum Op {
    Tick(u64),
    Receive(u64, u64),
    Reserve(u64),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let millis = 0_u64..2_000;
    prop::collection::vec(
        prop_oneof![
            millis.clone().prop_map(Op::Tick),
            (millis.clone(), millis.clone()).prop_map(|(wall, sent)| Op::Receive(wall, sent)),
            millis.prop_map(Op::Reserve),
        ],
        0..60,
    )
}

proptest! {
    #[test]
    fn the_atomic_clock_does_what_the_local_one_does(ops in ops(), mark in prop::option::of(0_u64..1_000)) {
        let (mut local, mut shared) = (hlc(), AtomicHlc::new(MAX_OFFSET));
        if let Some(mark) = mark {
            local = local.resume_from(at(mark));
            shared = shared.resume_from(at(mark));
        }
        for op in ops {
            let (left, right) = match op {
                Op::Tick(wall) => (local.tick(at(wall)), shared.tick(at(wall))),
                Op::Receive(wall, sent) => {
                    let sent = HlcTimestamp::from_u64(at(sent).as_nanos());
                    (local.receive(at(wall), sent), shared.receive(at(wall), sent))
                }
                Op::Reserve(mark) => {
                    local.reserve(at(mark));
                    shared.reserve(at(mark));
                    continue;
                }
            };
            prop_assert_eq!(left, right);
            prop_assert_eq!(local.last(), shared.last());
        }
    }

    /// Theorem 2 and corollary 1 of the paper: l is never below the local clock, and no further ahead of it than the
    /// clocks differ (here: a message's sender and the local history), beside the counter.
    #[test]
    fn the_lead_is_bounded_by_what_was_seen(ops in ops()) {
        let mut clock = Hlc::new(Duration::MAX);
        let mut latest = Wall::MIN;
        for op in ops {
            let (wall, stamp) = match op {
                Op::Tick(wall) => (wall, clock.tick(at(wall)).unwrap()),
                Op::Receive(wall, sent) => {
                    latest = latest.max(at(sent));
                    let sent = HlcTimestamp::from_u64(at(sent).as_nanos());
                    (wall, clock.receive(at(wall), sent).unwrap())
                }
                Op::Reserve(_) => continue,
            };
            latest = latest.max(at(wall));
            let unit = Duration::from_nanos(UNIT);
            prop_assert!(stamp.wall() + unit > at(wall));
            prop_assert!(stamp.wall() <= latest + unit);
        }
    }
}
