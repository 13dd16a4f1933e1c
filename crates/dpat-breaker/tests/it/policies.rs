//! What trips a breaker.

use crate::{SECOND, admit, calls, manual};
use dpat_breaker::{Cause, Config, ConfigBuilder, OpenTime, Outcome, State, Trip, Verdict};
use std::time::Duration;

fn on(trip: Trip) -> ConfigBuilder {
    Config::builder()
        .trip_on(trip)
        .open_time(OpenTime::fixed(SECOND))
}

#[test]
fn the_default_trips_at_half_of_the_last_100_once_there_are_20() {
    let (breaker, _) = manual(Config::builder());
    calls(&breaker, &"f".repeat(19));
    assert_eq!(breaker.state(), State::Closed);
    calls(&breaker, "f");
    assert_eq!(breaker.state(), State::Open);

    let (breaker, _) = manual(Config::builder());
    calls(&breaker, &"s".repeat(200));
    calls(&breaker, &"f".repeat(49));
    assert_eq!(breaker.state(), State::Closed);
    calls(&breaker, "f");
    assert_eq!(breaker.state(), State::Open);
    assert_eq!(breaker.snapshot().cause, Cause::FailureRate);
}

#[test]
fn count_window_slides_one_call_at_a_time() {
    let trip = Trip::failure_rate(0.4).over_calls(5).minimum_calls(5);
    let (breaker, _) = manual(on(trip));
    // The first failure is the call N + 1 old when the second arrives, and is forgotten then.
    calls(&breaker, "fssssf");
    assert_eq!(breaker.state(), State::Closed);
    // One call fewer between them, and it still counts.
    let (breaker, _) = manual(on(trip));
    calls(&breaker, "sfsssf");
    assert_eq!(breaker.state(), State::Open);
}

#[test]
fn time_window_forgets_by_buckets() {
    let trip = Trip::failure_rate(0.5)
        .over_time(10 * SECOND, 10)
        .minimum_calls(4);
    let (breaker, time) = manual(on(trip));
    calls(&breaker, "ff");
    time.advance(9 * SECOND);
    calls(&breaker, "f");
    assert_eq!(breaker.snapshot().trips()[0].calls, 3);
    time.advance(SECOND);
    calls(&breaker, "f");
    assert_eq!(breaker.snapshot().trips()[0].calls, 2, "two have left");
    calls(&breaker, "ff");
    assert_eq!(breaker.state(), State::Open);
}

#[test]
fn consecutive_failures_start_over_at_a_success() {
    let (breaker, _) = manual(on(Trip::consecutive_failures(3)));
    calls(&breaker, "ffsffisff");
    assert_eq!(breaker.state(), State::Closed);
    calls(&breaker, "f");
    assert_eq!(breaker.snapshot().cause, Cause::ConsecutiveFailures);
}

#[test]
fn m_of_n_trips_before_n_calls_were_made() {
    let (breaker, _) = manual(on(Trip::failures_of_last(2, 100)));
    calls(&breaker, "fsf");
    assert_eq!(breaker.snapshot().cause, Cause::FailuresOfLast);
    let (breaker, _) = manual(on(Trip::failures_of_last(2, 3)));
    calls(&breaker, "fssfssfss");
    assert_eq!(breaker.state(), State::Closed);
}

#[test]
fn minimum_calls_hold_for_every_rule() {
    for trip in [
        Trip::failure_rate(0.1).minimum_calls(10),
        Trip::failure_rate(0.1)
            .over_time(SECOND, 4)
            .minimum_calls(10),
        Trip::consecutive_failures(1).minimum_calls(10),
        Trip::failures_of_last(1, 5).minimum_calls(10),
    ] {
        let (breaker, _) = manual(on(trip));
        calls(&breaker, &"f".repeat(9));
        assert_eq!(breaker.state(), State::Closed, "{trip:?}");
        calls(&breaker, "f");
        assert_eq!(breaker.state(), State::Open, "{trip:?}");
    }
}

#[test]
fn slow_calls_trip_at_the_threshold_and_only_above_the_limit() {
    let trip = Trip::slow_rate(0.5, Duration::from_millis(100))
        .over_calls(4)
        .minimum_calls(4);
    let (breaker, time) = manual(on(trip));
    let call = |millis| {
        let permit = admit(&breaker);
        time.advance(Duration::from_millis(millis));
        permit.success();
    };
    [500, 100, 99, 100].into_iter().for_each(call);
    assert_eq!(
        breaker.snapshot().trips()[0].hits,
        1,
        "100 ms is not longer than 100 ms"
    );
    assert_eq!(breaker.state(), State::Closed);
    call(101);
    assert_eq!(
        breaker.state(),
        State::Closed,
        "the first slow call was pushed out"
    );
    call(101);
    assert_eq!(breaker.snapshot().cause, Cause::SlowRate);
}

#[test]
fn a_measured_time_can_be_given() {
    let trip = Trip::slow_rate(1.0, SECOND).over_calls(2).minimum_calls(2);
    let (breaker, _) = manual(on(trip));
    admit(&breaker).record_elapsed(Outcome::Success, 2 * SECOND);
    admit(&breaker).record_elapsed(Outcome::Success, SECOND);
    assert_eq!(breaker.state(), State::Closed);
    admit(&breaker).record_elapsed(Outcome::Success, 2 * SECOND);
    admit(&breaker).record_elapsed(Outcome::Success, 2 * SECOND);
    assert_eq!(breaker.state(), State::Open);
}

#[test]
fn rules_are_combined_by_or() {
    let both = || on(Trip::consecutive_failures(3)).trip_on(Trip::failures_of_last(3, 10));
    let (breaker, _) = manual(both());
    calls(&breaker, "fff");
    assert_eq!(breaker.snapshot().cause, Cause::ConsecutiveFailures);
    let (breaker, _) = manual(both());
    calls(&breaker, "fsfsf");
    assert_eq!(breaker.snapshot().cause, Cause::FailuresOfLast);
}

#[test]
fn ignored_counts_nothing() {
    let (breaker, _) = manual(on(Trip::failures_of_last(1, 5)));
    calls(&breaker, "iiiiii");
    assert_eq!(breaker.snapshot().trips()[0].calls, 0);
}

#[test]
fn weights_count_in_rates() {
    let trip = Trip::failure_rate(0.5).over_calls(10).minimum_calls(5);
    let (breaker, _) = manual(on(trip));
    calls(&breaker, "ssss");
    // 4 successes of weight 1, one failure of weight 4.
    admit(&breaker).record(Verdict::failure().weighing(4));
    assert_eq!(breaker.state(), State::Open);
    let (breaker, _) = manual(on(trip));
    calls(&breaker, "ssss");
    admit(&breaker).record(Verdict::failure().weighing(3));
    assert_eq!(breaker.state(), State::Closed);
}

#[test]
fn a_rate_at_its_threshold_trips_for_every_whole_percent() {
    for percent in 1..=100_u8 {
        let threshold = f64::from(percent) / 100.0;
        let trip = Trip::failure_rate(threshold)
            .over_calls(100)
            .minimum_calls(100);
        let (breaker, _) = manual(on(trip));
        let failures = usize::from(percent);
        calls(&breaker, &"s".repeat(100 - failures));
        calls(&breaker, &"f".repeat(failures - 1));
        assert_eq!(breaker.state(), State::Closed, "{percent}");
        calls(&breaker, "f");
        assert_eq!(breaker.state(), State::Open, "{percent}");
    }
}

#[test]
fn a_configuration_outside_its_limits_names_the_field() {
    let failed = |config: ConfigBuilder| config.build().unwrap_err().to_string();
    let trip = |trip| failed(Config::builder().trip_on(trip));
    assert_eq!(
        trip(Trip::failure_rate(0.0)),
        "failure_rate: 0 is not above 0 and at most 1"
    );
    assert!(trip(Trip::failure_rate(f64::NAN)).starts_with("failure_rate: NaN"));
    assert_eq!(
        trip(Trip::failure_rate(0.5).over_calls(0)),
        "over_calls: 0 is not within 1..=1000000"
    );
    assert_eq!(
        trip(Trip::failure_rate(0.5).over_calls(10)),
        "minimum_calls: 20 is not within 1..=10"
    );
    assert_eq!(
        trip(Trip::consecutive_failures(3).over_calls(10)),
        "over_calls: a window can be set for failure_rate and slow_rate only"
    );
    assert!(trip(Trip::failures_of_last(6, 5)).starts_with("failures_of_last.failures: 6"));
    assert!(failed(Config::builder().half_open_permits(0)).starts_with("half_open_permits: 0"));
    assert!(
        failed(Config::builder().open_time(OpenTime::fixed(Duration::ZERO)))
            .starts_with("open_time")
    );
    let five = (0..5).fold(Config::builder(), |config, _| {
        config.trip_on(Trip::consecutive_failures(1))
    });
    assert_eq!(failed(five), "trip_on: 5 is not within 1..=4");
}
