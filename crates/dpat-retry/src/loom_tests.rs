//! Models of the lock-free parts. Under `cfg(dpat_loom)` every interleaving; otherwise once, so that they cannot rot.

use crate::budget::{BudgetLimits, RetryBudget};
use crate::quantile::LiveQuantile;
use dpat_core::Instant;
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
fn model(check: impl Fn() + Send + Sync + 'static) {
    check();
}

fn at(seconds: u64) -> Instant {
    Instant::from_nanos(seconds * 1_000_000_000)
}

fn budget(limits: BudgetLimits) -> RetryBudget {
    RetryBudget::new(limits).unwrap()
}

/// Runs `first` in a thread of its own beside `second` and returns both results.
fn race<A: Send + 'static, B>(
    first: impl FnOnce() -> A + Send + 'static,
    second: impl FnOnce() -> B,
) -> (A, B) {
    let thread = thread::spawn(first);
    let second = second();
    (thread.join().unwrap(), second)
}

#[test]
fn loom_traffic_grants_no_more_than_the_share() {
    model(|| {
        let budget = budget(BudgetLimits::traffic_in(1.0, Duration::from_secs(2), 0));
        let _request = budget.clone().request(at(10));
        let other = budget.clone();
        let (first, second) = race(
            move || other.try_extra(at(10)).map(|mut permit| permit.sent()),
            || budget.try_extra(at(10)).map(|mut permit| permit.sent()),
        );
        assert_eq!(
            u32::from(first.is_some()) + u32::from(second.is_some()),
            1,
            "one request earns one extra attempt"
        );
        assert!(budget.traffic_rule().unwrap().is_balanced());
    });
}

#[test]
fn loom_traffic_never_drifts_when_the_window_moves() {
    model(|| {
        let budget = budget(BudgetLimits::traffic_in(1.0, Duration::from_secs(2), 1));
        let _request = budget.clone().request(at(10));
        let other = budget.clone();
        race(
            move || drop(other.request(at(11))),
            || {
                // A permit that is not sent is refunded, here while the other thread moves the window.
                drop(budget.try_extra(at(12)));
            },
        );
        assert!(budget.traffic_rule().unwrap().is_balanced());
    });
}

#[test]
fn loom_traffic_forgets_what_has_left_the_window() {
    model(|| {
        let budget = budget(BudgetLimits::traffic_in(1.0, Duration::from_secs(2), 0));
        let _request = budget.clone().request(at(10));
        let other = budget.clone();
        let (first, second) = race(
            move || other.try_extra(at(20)).is_some(),
            || budget.try_extra(at(21)).is_some(),
        );
        assert!(
            !first && !second,
            "what has left the window pays for nothing"
        );
        assert!(budget.traffic_rule().unwrap().is_balanced());
        assert!(budget.try_extra(at(22)).is_none());
    });
}

#[test]
fn loom_tokens_lose_no_update() {
    model(|| {
        let budget = budget(BudgetLimits::tokens(4, 0.5));
        let other = budget.clone();
        race(
            move || {
                other.failure();
                other.failure();
            },
            || budget.failure(),
        );
        assert_eq!(budget.snapshot().available, 0);
        budget.success();
        budget.success();
        budget.success();
        // 4 - 3 + 1.5 = 2.5 tokens, half a token above the threshold.
        assert!(budget.try_extra(at(1)).is_some());
        budget.failure();
        assert!(budget.try_extra(at(1)).is_none());
    });
}

#[test]
fn loom_in_flight_never_exceeds_its_share() {
    model(|| {
        let budget = budget(BudgetLimits::in_flight(0.5, 1));
        let other = budget.clone();
        let (first, second) = race(move || other.try_extra(at(1)), || budget.try_extra(at(1)));
        assert!(first.is_some() != second.is_some(), "the floor is one");
        drop((first, second));
        assert_eq!(budget.snapshot().available, 1, "given back exactly once");
    });
}

#[test]
fn loom_quantile_counts_do_not_underflow() {
    model(|| {
        let live = LiveQuantile::new(0.5, Duration::from_millis(1)).unwrap();
        let other = live.clone();
        race(
            move || {
                other.record(Duration::from_nanos(1));
                other.record(Duration::from_nanos(1));
            },
            || live.record(Duration::from_nanos(1)),
        );
        assert!(live.total() <= 3);
        assert!(live.current() > Duration::ZERO);
    });
}
