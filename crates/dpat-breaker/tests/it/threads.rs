//! The pitfall of the pattern, and real threads on one breaker.

use crate::{fragile, manual, until_probes};
use dpat_breaker::{Breaker, Config, State, Trip};
use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, Ordering};

/// Pitfall 4.1 and 11.3: the lock is held while the operation runs, so that all calls wait for each other.
#[test]
fn pitfall_4_1_calls_run_side_by_side() {
    let breaker = Breaker::default();
    // Each call waits for the other to be inside its call as well: a lock held over a call would never get there.
    let both_inside = Barrier::new(2);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let call = breaker.call_sync(|| {
                    both_inside.wait();
                    Ok::<_, ()>(())
                });
                assert!(call.is_ok());
            });
        }
    });
}

/// Pitfall 4.1 and 11.3: any number of probes while half-open.
#[test]
fn pitfall_11_3_threads_never_exceed_the_probe_permits() {
    for _ in 0..100 {
        let (breaker, time) = manual(fragile().half_open_permits(2).half_open_probes(1_000));
        until_probes(&breaker, &time);
        let (now, most) = (AtomicU32::new(0), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        if let Ok(permit) = breaker.try_acquire() {
                            most.fetch_max(
                                now.fetch_add(1, Ordering::SeqCst) + 1,
                                Ordering::SeqCst,
                            );
                            now.fetch_sub(1, Ordering::SeqCst);
                            permit.success();
                        }
                    }
                });
            }
        });
        assert!(most.into_inner() <= 2);
        assert_eq!(breaker.snapshot().probes_in_flight, 0);
        assert_eq!(breaker.state(), State::HalfOpen);
    }
}

#[test]
fn counts_are_exact_after_concurrent_calls() {
    let trip = Trip::failure_rate(1.0)
        .over_calls(10_000)
        .minimum_calls(10_000);
    let breaker = Breaker::new(Config::builder().trip_on(trip).build().unwrap());
    std::thread::scope(|scope| {
        for thread in 0..4_u32 {
            let breaker = &breaker;
            scope.spawn(move || {
                for call in 0..1_000_u32 {
                    let permit = breaker.try_acquire().unwrap();
                    if (call + thread) % 10 == 0 {
                        permit.failure();
                    } else {
                        permit.success();
                    }
                    let status = breaker.snapshot().trips()[0];
                    assert!(status.hits <= status.calls);
                }
            });
        }
    });
    let status = breaker.snapshot().trips()[0];
    assert_eq!((status.calls, status.hits), (4_000, 400));
}

#[test]
fn a_snapshot_can_be_taken_while_calls_go_on() {
    let (breaker, _) = manual(fragile());
    std::thread::scope(|scope| {
        let calls = scope.spawn(|| {
            for _ in 0..2_000 {
                breaker.reset();
                let _ = breaker.try_acquire().map(|permit| permit.failure());
            }
        });
        while !calls.is_finished() {
            let snapshot = breaker.snapshot();
            // Open exactly while there is an end to it.
            assert_eq!(snapshot.state == State::Open, snapshot.retry_at.is_some());
            assert_eq!(snapshot.attempt, u32::from(snapshot.state == State::Open));
        }
    });
    assert!(breaker.snapshot().retry_at.is_some());
}
