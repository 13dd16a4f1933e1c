//! Zero allocations on the way through.

use crate::{SECOND, calls, fragile, manual};
use dpat_breaker::{Breaker, Config, OpenTime, Trip};
use dpat_testkit::{Task, allocations};

#[test]
fn a_call_allocates_nothing() {
    let breaker = Breaker::default();
    let ((), count) = allocations(|| {
        for i in 0..1_000 {
            let _ = breaker.call_sync(|| if i % 10 == 0 { Err(i) } else { Ok(i) });
        }
    });
    assert_eq!(count, 0);
}

#[test]
fn polling_a_call_allocates_nothing() {
    let breaker = Breaker::default();
    let mut call = Task::new(breaker.call(async { Ok::<_, ()>(1) }));
    let (answer, count) = allocations(|| call.assert_ready());
    assert_eq!((answer, count), (Ok(1), 0));
}

#[test]
fn time_windows_slow_calls_trips_probes_and_rejections_allocate_nothing() {
    let config = fragile()
        .trip_on(Trip::failure_rate(0.5).over_time(SECOND, 10))
        .trip_on(Trip::slow_rate(0.5, SECOND))
        .open_time(OpenTime::default());
    let (breaker, time) = manual(config);
    let ((), count) = allocations(|| {
        calls(&breaker, "sssf");
        for _ in 0..10 {
            assert!(breaker.try_acquire().is_err());
        }
        time.advance(60 * SECOND);
        calls(&breaker, "ss");
        assert_eq!(breaker.snapshot().trips().len(), 3);
    });
    // The labels of the counter of transitions: opened, half-open, closed.
    assert_eq!(count, if cfg!(feature = "metrics") { 3 } else { 0 });
}

#[test]
fn a_window_takes_two_bytes_a_call() {
    let config = |calls| {
        let trip = Trip::failure_rate(0.5).over_calls(calls).minimum_calls(1);
        Config::builder().trip_on(trip).build().unwrap()
    };
    let bytes = |config| dpat_testkit::allocated(|| Breaker::new(config)).1.bytes;
    assert_eq!(bytes(config(100_000)) - bytes(config(1_000)), 2 * 99_000);
}

#[test]
fn a_time_window_holds_100_000_calls_in_the_space_of_100() {
    let trip = Trip::failure_rate(0.5).over_time(60 * SECOND, 60);
    let (breaker, _) = manual(Config::builder().trip_on(trip));
    calls(&breaker, &"s".repeat(100));
    let many = "s".repeat(99_900);
    let ((), count) = allocations(|| calls(&breaker, &many));
    assert_eq!((breaker.snapshot().trips()[0].calls, count), (100_000, 0));
}
