//! Probes, their verdict, and the ramp back to full traffic.

use crate::{SECOND, admit, calls, fragile, manual, until_probes};
use dpat_breaker::{AfterMaxWait, Cause, Config, OpenTime, Ramp, Reason, State, Trip};
use std::time::Duration;

#[test]
fn at_most_permits_probes_at_once() {
    let (breaker, time) = manual(fragile().half_open_permits(2).half_open_probes(10));
    until_probes(&breaker, &time);
    let first = admit(&breaker);
    let _second = admit(&breaker);
    let rejected = breaker.try_acquire().unwrap_err();
    assert_eq!(rejected.reason(), Reason::ProbesBusy);
    assert_eq!(breaker.snapshot().probes_in_flight, 2);
    first.success();
    let _third = admit(&breaker);
    assert!(breaker.try_acquire().is_err());
}

#[test]
fn the_verdict_falls_as_soon_as_it_is_certain() {
    let config = || fragile().half_open_probes(5).half_open_failure_rate(0.6);
    for (probes, state) in [
        ("sss", State::Closed), // at most 2 of 5 can fail
        ("ss", State::HalfOpen),
        ("fff", State::Open), // 3 of 5 have failed
        ("ff", State::HalfOpen),
        ("sfsfs", State::Closed),
        ("sfsff", State::Open),
    ] {
        let (breaker, time) = manual(config());
        until_probes(&breaker, &time);
        calls(&breaker, probes);
        assert_eq!(breaker.state(), state, "{probes}");
    }
}

#[test]
fn a_cancelled_probe_returns_its_permit_and_decides_nothing() {
    let (breaker, time) = manual(fragile().half_open_permits(1));
    until_probes(&breaker, &time);
    for _ in 0..10 {
        drop(admit(&breaker));
        admit(&breaker).ignore();
    }
    let snapshot = breaker.snapshot();
    assert_eq!(
        (snapshot.state, snapshot.probes_in_flight),
        (State::HalfOpen, 0)
    );
}

#[test]
fn a_slow_probe_counts_as_failed() {
    let slow = Trip::slow_rate(0.5, SECOND);
    let (breaker, time) = manual(fragile().trip_on(slow).half_open_probes(1));
    until_probes(&breaker, &time);
    let permit = admit(&breaker);
    time.advance(2 * SECOND);
    permit.success();
    let snapshot = breaker.snapshot();
    assert_eq!(
        (snapshot.state, snapshot.cause),
        (State::Open, Cause::ProbesFailed)
    );
}

#[test]
fn max_half_open_wait_opens_or_closes() {
    for (then, state) in [
        (AfterMaxWait::Open, State::Open),
        (AfterMaxWait::Close, State::Closed),
    ] {
        let config = fragile()
            .half_open_permits(1)
            .max_half_open_wait(SECOND, then);
        let (breaker, time) = manual(config);
        until_probes(&breaker, &time);
        let hung = admit(&breaker);
        time.advance(SECOND - Duration::from_nanos(1));
        assert_eq!(
            breaker.try_acquire().unwrap_err().reason(),
            Reason::ProbesBusy
        );
        time.advance(Duration::from_nanos(1));
        assert_eq!(breaker.try_acquire().is_ok(), state == State::Closed);
        let snapshot = breaker.snapshot();
        assert_eq!(
            (snapshot.state, snapshot.cause),
            (state, Cause::ProbesOverdue)
        );
        hung.failure();
        assert_eq!(breaker.snapshot(), snapshot, "the hung probe is late");
    }
}

#[test]
fn fewer_permits_are_a_debt_that_returning_probes_pay() {
    let config = |permits| fragile().half_open_permits(permits).half_open_probes(100);
    let (breaker, time) = manual(config(3));
    until_probes(&breaker, &time);
    let probes = [admit(&breaker), admit(&breaker), admit(&breaker)];
    breaker.reconfigure(config(1).build().unwrap());
    let [first, second, third] = probes;
    first.success();
    assert!(breaker.try_acquire().is_err(), "two are still out");
    second.success();
    assert!(breaker.try_acquire().is_err(), "one is still out");
    third.success();
    let _one = admit(&breaker);
    assert!(breaker.try_acquire().is_err());
}

#[test]
fn fewer_probes_may_decide_at_once() {
    let config = |probes| fragile().half_open_probes(probes);
    let (breaker, time) = manual(config(10));
    until_probes(&breaker, &time);
    calls(&breaker, "sss");
    assert_eq!(breaker.state(), State::HalfOpen);
    breaker.reconfigure(config(3).build().unwrap());
    assert_eq!(breaker.state(), State::Closed);
}

#[test]
fn ramped_re_close_admits_a_growing_share() {
    let config = fragile().half_open_probes(1).ramp(Ramp::every(SECOND));
    let (breaker, time) = manual(config);
    until_probes(&breaker, &time);
    calls(&breaker, "s");
    for (percent, admitted) in [(5, 5), (10, 10), (20, 20), (40, 40), (80, 80)] {
        assert_eq!(breaker.state(), State::Ramping);
        let ok = (0..100)
            .filter(|_| match breaker.try_acquire() {
                Ok(permit) => {
                    permit.success();
                    true
                }
                Err(rejected) => {
                    assert_eq!(rejected.reason(), Reason::Ramping);
                    assert_eq!(rejected.retry_after(), Some(SECOND));
                    false
                }
            })
            .count();
        assert_eq!(ok, admitted, "at {percent} %");
        time.advance(SECOND);
    }
    calls(&breaker, "s");
    let snapshot = breaker.snapshot();
    assert_eq!(
        (snapshot.state, snapshot.cause),
        (State::Closed, Cause::RampDone)
    );
    assert_eq!(snapshot.trips()[0].hits, 0);
}

#[test]
fn ramped_re_close_backs_off_on_error() {
    let config = Config::builder()
        .trip_on(Trip::consecutive_failures(3))
        .open_time(OpenTime::fixed(SECOND))
        .half_open_probes(1)
        .ramp(Ramp::every(SECOND).starting_at(0.25));
    let (breaker, time) = manual(config);
    calls(&breaker, "fff");
    time.advance(SECOND);
    calls(&breaker, "s");
    let percent = || format!("{:.0}", breaker.snapshot().share * 100.0);
    let fail_next_admitted = || loop {
        if let Ok(permit) = breaker.try_acquire() {
            break permit.failure();
        }
    };
    assert_eq!(percent(), "25");
    time.advance(SECOND);
    fail_next_admitted();
    assert_eq!(percent(), "25", "50 after a second, halved by the failure");
    fail_next_admitted();
    assert_eq!(percent(), "25", "not below the start");
    // The interval starts anew with the failure.
    time.advance(SECOND / 2);
    fail_next_admitted();
    let snapshot = breaker.snapshot();
    assert_eq!(
        (snapshot.state, snapshot.attempt),
        (State::Open, 2),
        "the trip rules hold, and the breaker had not recovered"
    );
}
