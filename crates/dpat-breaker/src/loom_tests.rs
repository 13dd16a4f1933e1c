//! Small models of the handle, checked by loom in every interleaving under `cfg(dpat_loom)`, and run as plain tests
//! otherwise so that they cannot rot.
//!
//! loom sees the gate, the lock and the published view. It does not see the registry's maps, nor the test clock, which
//! stands still while threads run.

use crate::snapshot::{Cause, Published, View};
use crate::sync::AtomicU64;
use crate::{AfterMaxWait, Breaker, Config, ConfigBuilder, OpenTime, State, Trip, Verdict};
use dpat_core::ManualTime;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::Duration;

#[cfg(dpat_loom)]
use loom::thread;
#[cfg(not(dpat_loom))]
use std::thread;

#[cfg(dpat_loom)]
fn model(check: impl Fn() + Send + Sync + 'static) {
    loom::model(check);
}

#[cfg(not(dpat_loom))]
fn model(check: impl Fn()) {
    for _ in 0..200 {
        check();
    }
}

const SECOND: Duration = Duration::from_secs(1);

fn config(trip: Trip) -> ConfigBuilder {
    Config::builder()
        .trip_on(trip)
        .open_time(OpenTime::fixed(SECOND))
        .half_open_permits(1)
        .half_open_probes(2)
        .max_half_open_wait(60 * SECOND, AfterMaxWait::Open)
        .entropy(&dpat_core::SplitMix64::new(1))
}

fn breaker(config: ConfigBuilder) -> (Breaker<ManualTime>, ManualTime) {
    let clock = ManualTime::new();
    (
        Breaker::with_clock(config.build().unwrap(), clock.clone()),
        clock,
    )
}

/// A breaker that admits its first probe next.
fn due_for_probes(config: ConfigBuilder) -> Breaker<ManualTime> {
    let (breaker, clock) = breaker(config);
    breaker.try_acquire().unwrap().failure();
    clock.advance(SECOND);
    breaker
}

#[test]
fn loom_probes_never_exceed_permits() {
    model(|| {
        let breaker = due_for_probes(config(Trip::consecutive_failures(1)));
        let in_flight = Arc::new(AtomicU64::new(0));
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let (breaker, in_flight) = (breaker.clone(), Arc::clone(&in_flight));
                thread::spawn(move || {
                    if let Ok(permit) = breaker.try_acquire() {
                        assert_eq!(in_flight.fetch_add(1, Relaxed), 0, "one permit at once");
                        in_flight.fetch_sub(1, Relaxed);
                        drop(permit);
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(breaker.state(), State::HalfOpen);
    });
}

#[test]
fn loom_a_dropped_permit_returns_exactly_once() {
    model(|| {
        let breaker = due_for_probes(config(Trip::consecutive_failures(1)).half_open_permits(2));
        let permits = [
            breaker.try_acquire_owned().unwrap(),
            breaker.try_acquire_owned().unwrap(),
        ];
        let threads = permits.map(|permit| thread::spawn(move || drop(permit)));
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(breaker.snapshot().probes_in_flight, 0);
        let again = [breaker.try_acquire(), breaker.try_acquire()];
        assert!(again.iter().all(Result::is_ok), "both places are free");
        assert!(breaker.try_acquire().is_err(), "and no more than both");
    });
}

#[test]
fn loom_a_late_result_changes_nothing() {
    model(|| {
        let (breaker, _) = breaker(config(Trip::consecutive_failures(1)));
        let permit = breaker.try_acquire_owned().unwrap();
        let other = breaker.clone();
        let resets = thread::spawn(move || other.reset());
        permit.failure();
        resets.join().unwrap();
        // Before the reset the failure trips and is forgotten; after it, it is late.
        let snapshot = breaker.snapshot();
        assert_eq!(
            (snapshot.state, snapshot.trips()[0].hits, snapshot.attempt),
            (State::Closed, 0, 0)
        );
    });
}

#[test]
fn loom_the_breaker_trips_once() {
    model(|| {
        let (breaker, _) = breaker(config(Trip::consecutive_failures(1)));
        let permits = [
            breaker.try_acquire_owned().unwrap(),
            breaker.try_acquire_owned().unwrap(),
        ];
        let threads = permits.map(|permit| thread::spawn(move || permit.failure()));
        for thread in threads {
            thread.join().unwrap();
        }
        let snapshot = breaker.snapshot();
        assert_eq!(
            (snapshot.state, snapshot.epoch, snapshot.attempt),
            (State::Open, 1, 1)
        );
    });
}

#[test]
fn loom_window_counts_equal_its_slots_after_quiescence() {
    model(|| {
        let trip = Trip::failure_rate(1.0).over_calls(3).minimum_calls(3);
        let (breaker, _) = breaker(config(trip));
        let threads: Vec<_> = [Verdict::success(), Verdict::failure()]
            .into_iter()
            .map(|verdict| {
                let permit = breaker.try_acquire_owned().unwrap();
                thread::spawn(move || permit.record(verdict))
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        let status = breaker.snapshot().trips()[0];
        assert_eq!((status.calls, status.hits), (2, 1));
    });
}

#[test]
fn loom_a_success_is_skipped_only_while_it_changes_nothing() {
    model(|| {
        // A window of one call, full of success: the next success takes the path without the lock.
        let trip = Trip::failure_rate(1.0).over_calls(1).minimum_calls(1);
        let (breaker, _) = breaker(config(trip));
        breaker.metrics_only();
        breaker.try_acquire().unwrap().success();
        let failed = Arc::new(AtomicU64::new(0));
        let (other, flag) = (breaker.clone(), Arc::clone(&failed));
        let fails = thread::spawn(move || {
            other.try_acquire().unwrap().failure();
            flag.store(1, Release);
        });
        let seen = failed.load(Acquire) == 1;
        breaker.try_acquire().unwrap().success();
        let hits = breaker.snapshot().trips()[0].hits;
        if seen {
            assert_eq!(hits, 0, "a success after the failure pushes it out");
        }
        fails.join().unwrap();
    });
}

#[test]
fn loom_a_snapshot_is_never_torn() {
    fn view(epoch: u32) -> View {
        View {
            state: State::Closed,
            cause: Cause::Manual,
            epoch: epoch.into(),
            retry_at: None,
            attempt: epoch,
            probes_in_flight: epoch,
            share: 0,
        }
    }
    model(|| {
        let published = Arc::new(Published::new());
        published.write(&view(0), std::iter::empty());
        let writes = Arc::clone(&published);
        let writer = thread::spawn(move || {
            for epoch in 1..=3 {
                writes.write(&view(epoch), std::iter::empty());
            }
        });
        let snapshot = published.read(0);
        assert_eq!(u64::from(snapshot.attempt), snapshot.epoch);
        assert_eq!(u64::from(snapshot.probes_in_flight), snapshot.epoch);
        writer.join().unwrap();
        assert_eq!(published.read(0).epoch, 3);
    });
}
