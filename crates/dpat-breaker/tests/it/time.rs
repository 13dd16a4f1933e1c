//! How long a breaker stays open.

use crate::{SECOND, admit, calls, fragile, manual};
use dpat_breaker::{Breaker, Cause, Config, OpenTime, State, Trip, Verdict};
use dpat_core::{Backoff, Clock, Jitter, ManualTime, SplitMix64};
use std::sync::mpsc;
use std::time::Duration;

fn open_for(breaker: &Breaker<ManualTime>, time: &ManualTime) -> Duration {
    let snapshot = breaker.snapshot();
    assert_eq!(snapshot.state, State::Open);
    snapshot
        .retry_at
        .map(|at| at.since(time.now()))
        .expect("an open breaker knows its end")
}

/// Lets the open time pass and fails the probes.
fn fail_again(breaker: &Breaker<ManualTime>, time: &ManualTime) {
    time.advance(open_for(breaker, time));
    calls(breaker, "f");
}

fn one_probe(open_time: OpenTime) -> dpat_breaker::ConfigBuilder {
    fragile().half_open_probes(1).open_time(open_time)
}

#[test]
fn a_fixed_open_time_ends_exactly() {
    let (breaker, time) = manual(one_probe(OpenTime::fixed(SECOND)));
    calls(&breaker, "f");
    time.advance(SECOND - Duration::from_nanos(1));
    assert!(breaker.try_acquire().is_err());
    time.advance(Duration::from_nanos(1));
    assert!(breaker.try_acquire().is_ok());
}

#[test]
fn an_exponential_open_time_grows_and_resets_after_recovery() {
    let backoff = Backoff::exponential(SECOND, 2.0, 5 * SECOND).unwrap();
    let (breaker, time) = manual(one_probe(OpenTime::backoff(backoff)));
    calls(&breaker, "f");
    for seconds in [1, 2, 4, 5, 5] {
        assert_eq!(open_for(&breaker, &time), seconds * SECOND);
        fail_again(&breaker, &time);
    }
    assert_eq!(breaker.snapshot().attempt, 6);
    time.advance(5 * SECOND);
    calls(&breaker, "s");
    assert_eq!(breaker.snapshot().attempt, 0, "recovered");
    calls(&breaker, "f");
    assert_eq!(open_for(&breaker, &time), SECOND);
}

#[test]
fn a_jittered_open_time_stays_in_its_bounds_and_replays_from_its_seed() {
    let backoff = Backoff::exponential(SECOND, 2.0, 8 * SECOND)
        .unwrap()
        .with_jitter(Jitter::Equal);
    let draw = |seed| {
        let config = one_probe(OpenTime::backoff(backoff)).entropy(&SplitMix64::new(seed));
        let (breaker, time) = manual(config);
        calls(&breaker, "f");
        [1, 2, 4, 8, 8].map(|seconds| {
            let open = open_for(&breaker, &time);
            assert!((seconds * SECOND / 2..=seconds * SECOND).contains(&open));
            fail_again(&breaker, &time);
            open
        })
    };
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1), draw(2));
}

#[test]
fn retry_after_prolongs_the_open_time_up_to_its_limit() {
    let open_time = OpenTime::fixed(SECOND).honouring_retry_after(10 * SECOND);
    for (asked, expected) in [(None, 1), (Some(7), 7), (Some(60), 10), (Some(0), 1)] {
        let (breaker, time) = manual(one_probe(open_time.clone()));
        let asked = asked.map(|seconds| seconds * SECOND);
        admit(&breaker).record(Verdict::failure().retry_after(asked));
        assert_eq!(open_for(&breaker, &time), expected * SECOND, "{asked:?}");
    }
}

#[test]
fn a_function_sees_the_attempt_the_cause_and_retry_after() {
    let (seen, contexts) = mpsc::channel();
    let open_time = OpenTime::function(move |opened| {
        seen.send(*opened).expect("the test listens");
        opened.retry_after.unwrap_or(SECOND) * opened.attempt
    });
    let (breaker, time) = manual(one_probe(open_time));
    admit(&breaker).record(Verdict::failure().retry_after(Some(3 * SECOND)));
    assert_eq!(open_for(&breaker, &time), 3 * SECOND);
    let opened = contexts.recv().unwrap();
    assert_eq!(
        (
            opened.attempt,
            opened.cause,
            opened.retry_after,
            opened.opened_at
        ),
        (1, Cause::ConsecutiveFailures, Some(3 * SECOND), time.now())
    );
    fail_again(&breaker, &time);
    assert_eq!(open_for(&breaker, &time), 2 * SECOND);
    assert_eq!(contexts.recv().unwrap().cause, Cause::ProbesFailed);
}

#[test]
fn a_function_may_use_the_breaker_it_decides_for() {
    let slot = std::sync::Arc::new(std::sync::OnceLock::<Breaker<ManualTime>>::new());
    let inner = std::sync::Arc::clone(&slot);
    let open_time = OpenTime::function(move |_| {
        let breaker = inner.get().expect("set before the first call");
        // No lock is held: this neither deadlocks nor is admitted.
        assert!(breaker.try_acquire().is_err());
        assert_eq!(breaker.state(), State::Open);
        2 * SECOND
    });
    let (breaker, time) = manual(one_probe(open_time));
    assert!(slot.set(breaker.clone()).is_ok());
    calls(&breaker, "f");
    assert_eq!(open_for(&breaker, &time), 2 * SECOND);
}

#[test]
fn a_function_that_panics_leaves_the_breaker_open_for_five_seconds() {
    let (breaker, time) = manual(one_probe(OpenTime::function(|_| panic!("no answer"))));
    let call = std::panic::AssertUnwindSafe(|| calls(&breaker, "f"));
    assert!(std::panic::catch_unwind(call).is_err());
    assert_eq!(open_for(&breaker, &time), 5 * SECOND);
    time.advance(5 * SECOND);
    assert!(breaker.try_acquire().is_ok());
}

#[test]
fn an_endless_open_time_is_cut_to_a_day() {
    let (breaker, time) = manual(one_probe(OpenTime::function(|_| Duration::MAX)));
    calls(&breaker, "f");
    assert_eq!(open_for(&breaker, &time), dpat_breaker::MAX_OPEN_TIME);
}

#[test]
fn an_idle_time_window_forgets_everything_at_once() {
    let trip = Trip::failure_rate(0.5)
        .over_time(10 * SECOND, 10)
        .minimum_calls(2);
    let (breaker, time) = manual(Config::builder().trip_on(trip));
    calls(&breaker, "f");
    time.advance(1_000_000_000 * SECOND);
    calls(&breaker, "f");
    assert_eq!(breaker.state(), State::Closed);
}
