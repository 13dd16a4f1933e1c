//! The one integration binary.

mod alloc;
mod cancel;
mod contract;
mod faces;
mod half_open;
mod observe;
mod policies;
mod registry;
mod states;
mod threads;
mod time;

use dpat_breaker::{Breaker, Config, ConfigBuilder, OpenTime, Outcome, Permit, State, Trip};
use dpat_core::ManualTime;
use dpat_testkit::{CountingAllocator, assert_send_sync};
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const SECOND: Duration = Duration::from_secs(1);

/// Trips at the first failure, stays open for one second.
fn fragile() -> ConfigBuilder {
    Config::builder()
        .trip_on(Trip::consecutive_failures(1))
        .open_time(OpenTime::fixed(SECOND))
}

/// A breaker in virtual time.
fn manual(config: ConfigBuilder) -> (Breaker<ManualTime>, ManualTime) {
    let time = ManualTime::new();
    let config = config.build().expect("the test's configuration is valid");
    (Breaker::with_clock(config, time.clone()), time)
}

/// Admits one call, which must be admitted.
#[track_caller]
fn admit(breaker: &Breaker<ManualTime>) -> Permit<'_, ManualTime> {
    match breaker.try_acquire() {
        Ok(permit) => permit,
        Err(rejected) => panic!("refused: {rejected}"),
    }
}

/// Makes whole calls: `s`uccess, `f`ailure, `i`gnored.
#[track_caller]
fn calls(breaker: &Breaker<ManualTime>, outcomes: &str) {
    for letter in outcomes.chars() {
        admit(breaker).record(match letter {
            's' => Outcome::Success,
            'f' => Outcome::Failure,
            _ => Outcome::Ignored,
        });
    }
}

/// Opens a [`fragile`] breaker and lets its open time pass.
#[track_caller]
fn until_probes(breaker: &Breaker<ManualTime>, time: &ManualTime) {
    calls(breaker, "f");
    assert_eq!(breaker.state(), State::Open);
    time.advance(SECOND);
}

#[test]
fn handles_are_send_and_sync() {
    assert_send_sync::<Breaker>();
    assert_send_sync::<Permit<'_>>();
    assert_send_sync::<dpat_breaker::OwnedPermit>();
    assert_send_sync::<dpat_breaker::Breakers<String>>();
    assert_send_sync::<Config>();
    assert_send_sync::<dpat_breaker::CallError<std::io::Error>>();
}
