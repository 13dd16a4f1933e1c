//! No heap allocation on the happy path, nor for a retry.

use crate::support::SECOND;
use dpat_core::{Backoff, ManualTime};
use dpat_retry::{Hedge, LiveQuantile, Retry, RetryBudget, RetryExt};
use dpat_testkit::allocations;
use std::cell::Cell;
use std::future::ready;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Polls until it is ready; the future must wake itself.
fn spin<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
    }
}

#[test]
fn a_retry_does_not_allocate() {
    let time = ManualTime::new();
    let default = Retry::default();
    let immediate = Retry::builder()
        .backoff(Backoff::constant(Duration::ZERO))
        .budget(RetryBudget::traffic(1.0).unwrap())
        .build()
        .unwrap();
    let (answer, count) =
        allocations(|| spin((|| ready(Ok::<_, ()>(1))).retry_on(&time, default.clone())));
    assert_eq!((answer, count), (Ok(1), 0));

    let calls = Cell::new(0);
    let failing = || {
        calls.set(calls.get() + 1);
        ready(if calls.get() < 3 { Err("down") } else { Ok(2) })
    };
    let (answer, count) = allocations(|| spin(failing.retry_on(&time, immediate.clone())));
    assert_eq!((answer, count), (Ok(2), 0));
}

#[test]
fn a_hedge_allocates_only_for_further_attempts() {
    let time = ManualTime::new();
    let live = LiveQuantile::new(0.9, SECOND).unwrap();
    let policy = Hedge::after(live).with_budget(RetryBudget::in_flight(1.0, 1).unwrap());
    let (answer, count) =
        allocations(|| spin((|| ready(Ok::<_, ()>(1))).hedge_on(&time, policy.clone())));
    assert_eq!((answer, count), (Ok(1), 0));
}

#[cfg(feature = "tokio")]
#[test]
fn the_default_line_does_not_allocate() {
    // Makes the budget of the process.
    let warm_up = spin((|| ready(Ok::<_, ()>(1))).retry(Retry::default()));
    assert_eq!(warm_up, Ok(1));
    let (answer, count) = allocations(|| spin((|| ready(Ok::<_, ()>(1))).retry(Retry::default())));
    assert_eq!((answer, count), (Ok(1), 0));
}
