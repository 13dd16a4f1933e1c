//! The states, by hand and by themselves.

use crate::{SECOND, admit, calls, fragile, manual, until_probes};
use dpat_breaker::{Cause, Config, Reason, State, Trip};
use dpat_core::{Class, Classify, Effect};

#[test]
fn closed_open_half_open_closed() {
    let (breaker, time) = manual(fragile());
    until_probes(&breaker, &time);
    assert_eq!(breaker.state(), State::Open, "ends with the next call");
    calls(&breaker, "s");
    assert_eq!(breaker.state(), State::HalfOpen);
    calls(&breaker, "s");
    assert_eq!(breaker.state(), State::Closed);
    assert_eq!(breaker.snapshot().cause, Cause::ProbesSucceeded);
}

#[test]
fn a_rejection_says_why_and_when() {
    let (breaker, time) = manual(fragile());
    calls(&breaker, "f");
    time.advance(SECOND / 4);
    let rejected = breaker.try_acquire().unwrap_err();
    assert_eq!(rejected.reason(), Reason::Open(Cause::ConsecutiveFailures));
    assert_eq!(rejected.retry_after(), Some(SECOND * 3 / 4));
    assert_eq!(rejected.retry_at(), breaker.snapshot().retry_at);
    assert_eq!(
        (
            rejected.class(),
            rejected.effect(),
            rejected.is_safe_to_retry()
        ),
        (Class::Unavailable, Effect::NotDone, true)
    );
    assert_eq!(
        rejected.to_string(),
        "circuit breaker is open: consecutive_failures; retry after 750ms"
    );
    assert_eq!(breaker.snapshot().rejected_total, 1);
}

#[test]
fn forced_open_refuses_until_told_otherwise() {
    let (breaker, time) = manual(fragile());
    breaker.force_open();
    time.advance(1_000_000 * SECOND);
    let rejected = breaker.try_acquire().unwrap_err();
    assert_eq!(rejected.reason(), Reason::ForcedOpen);
    assert_eq!(rejected.retry_after(), None);
    breaker.reset();
    calls(&breaker, "s");
    assert_eq!(breaker.state(), State::Closed);
}

#[test]
fn disabled_admits_and_counts_nothing() {
    let (breaker, _) = manual(fragile());
    breaker.disable();
    calls(&breaker, "fffff");
    let snapshot = breaker.snapshot();
    assert_eq!(
        (snapshot.state, snapshot.trips()[0].hits),
        (State::Disabled, 0)
    );
}

#[test]
fn metrics_only_counts_and_never_trips() {
    let (breaker, _) = manual(Config::builder().trip_on(Trip::failures_of_last(1, 10)));
    breaker.metrics_only();
    calls(&breaker, "fffffsssss");
    let snapshot = breaker.snapshot();
    assert_eq!(snapshot.state, State::MetricsOnly);
    assert_eq!(
        (snapshot.trips()[0].calls, snapshot.trips()[0].hits),
        (10, 5)
    );
}

#[test]
fn late_results_change_nothing_in_a_later_epoch() {
    let (breaker, _) = manual(fragile());
    let early = admit(&breaker);
    let dropped = admit(&breaker);
    breaker.reset();
    let before = breaker.snapshot();
    early.failure();
    drop(dropped);
    assert_eq!(breaker.snapshot(), before);
}

#[test]
fn limits_change_while_calls_go_on() {
    let trip = |calls| {
        Trip::failure_rate(0.9)
            .over_calls(calls)
            .minimum_calls(calls)
    };
    let (breaker, _) = manual(fragile().trip_on(trip(10)));
    breaker.reconfigure(Config::builder().trip_on(trip(10)).build().unwrap());
    calls(&breaker, "ssssffff");
    let permit = admit(&breaker);
    // A shorter window keeps the most recent calls, and a call under way still counts.
    breaker.reconfigure(Config::builder().trip_on(trip(5)).build().unwrap());
    let status = breaker.snapshot().trips()[0];
    assert_eq!((status.calls, status.hits), (5, 4));
    permit.failure();
    assert_eq!(breaker.state(), State::Open);
}

#[test]
fn a_snapshot_tells_the_rate() {
    let (breaker, _) = manual(Config::builder());
    assert!(breaker.snapshot().trips()[0].rate.abs() < f64::EPSILON);
    calls(&breaker, "sssf");
    let snapshot = breaker.snapshot();
    assert!((snapshot.trips()[0].rate - 0.25).abs() < f64::EPSILON);
    assert!((snapshot.share - 1.0).abs() < f64::EPSILON);
}
