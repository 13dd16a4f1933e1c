//! The budget in use, and retries inside retries. How exact each rule is stands beside the rules in `src/budget`.

use crate::support::{Fault, SECOND, run};
use dpat_core::{Backoff, Class, Clock, Effect, ManualTime};
use dpat_retry::{
    Attempt, BudgetLimits, Hedge, Nested, Retry, RetryBudget, RetryBuilder, RetryExt, StopReason,
};
use std::cell::Cell;

fn policy() -> RetryBuilder {
    Retry::builder().backoff(Backoff::constant(SECOND / 100))
}

/// A dead peer: how often it is called by `operations` operations of three attempts each.
fn calls_to_a_dead_peer(budget: &RetryBudget, operations: u32) -> u32 {
    let (time, calls) = (ManualTime::new(), Cell::new(0));
    for _ in 0..operations {
        let call = (|| async {
            calls.set(calls.get() + 1);
            Err::<(), _>("down")
        })
        .retry_on(&time, policy().budget(budget.clone()).build().unwrap());
        let error = run(&time, call).unwrap_err();
        assert_ne!(error.reason(), StopReason::NotRetryable);
    }
    calls.get()
}

#[test]
fn a_token_budget_stops_retries_to_a_dead_peer() {
    // Retries while more than 50 of 100 tokens are there; each failure takes one.
    let budget = RetryBudget::tokens(100, 0.1).unwrap();
    assert_eq!(calls_to_a_dead_peer(&budget, 1_000), 1_000 + 33);
    assert_eq!(budget.snapshot().granted, 33);
    assert_eq!(budget.snapshot().available, 0);
}

#[test]
fn a_traffic_budget_caps_the_extra_load() {
    let limits = BudgetLimits::traffic_in(0.2, 10 * SECOND, 0);
    let budget = RetryBudget::new(limits).unwrap();
    assert_eq!(calls_to_a_dead_peer(&budget, 1_000), 1_200);
    let limits = BudgetLimits::traffic_in(0.75, 3_600 * SECOND, 0);
    let budget = RetryBudget::new(limits).unwrap();
    assert_eq!(calls_to_a_dead_peer(&budget, 1_000), 1_750);
    let limits = BudgetLimits::traffic_in(1.5, 3_600 * SECOND, 0);
    let budget = RetryBudget::new(limits).unwrap();
    assert_eq!(calls_to_a_dead_peer(&budget, 1_000), 2_500);
}

#[test]
fn an_in_flight_budget_has_a_floor() {
    let budget = RetryBudget::in_flight(0.0, 1).unwrap();
    // One after another: the floor allows each of them.
    assert_eq!(calls_to_a_dead_peer(&budget, 10), 30);
    let held = budget.try_extra(ManualTime::new().now());
    assert_eq!(calls_to_a_dead_peer(&budget, 10), 10);
    drop(held);
    assert_eq!(calls_to_a_dead_peer(&budget, 10), 30);
}

#[test]
fn an_empty_budget_tells_so() {
    let time = ManualTime::new();
    let budget = RetryBudget::in_flight(0.0, 0).unwrap();
    let fault = Fault::new(Class::Unavailable, Effect::NotDone);
    let call = (|| async { Err::<(), _>(fault) })
        .retry_on(&time, policy().budget(budget.clone()).build().unwrap());
    let error = run(&time, call).unwrap_err();
    assert_eq!(error.reason(), StopReason::BudgetEmpty);
    assert_eq!(error.attempts(), 1);
    assert_eq!(budget.snapshot().refused, 1);
}

#[test]
fn one_budget_is_shared_by_retries_and_hedges() {
    let time = ManualTime::new();
    let limits = BudgetLimits::traffic_in(0.0, 3_600 * SECOND, 1);
    let budget = RetryBudget::new(limits).unwrap();
    let calls = Cell::new(0);
    let op = || async {
        calls.set(calls.get() + 1);
        Err::<(), _>("down")
    };
    for round in 0..2_000 {
        if round % 2 == 0 {
            let policy = policy().budget(budget.clone()).build().unwrap();
            assert!(run(&time, op.retry_on(&time, policy)).is_err());
        } else {
            let policy = Hedge::after(SECOND).with_budget(budget.clone());
            assert!(run(&time, op.hedge_on(&time, policy)).is_err());
        }
    }
    assert!(time.now().as_nanos() < 2 * 3_600_000_000_000, "one window");
    assert_eq!(
        calls.get(),
        2_000 + 2_000 + 1_000,
        "two retries and one hedge each, 3 000 in all"
    );
    assert_eq!(budget.snapshot().granted, 3_000);
    for _ in 0..400 {
        let hedge = Hedge::after(SECOND).with_budget(budget.clone());
        assert!(run(&time, op.hedge_on(&time, hedge)).is_err());
        let retry = policy().budget(budget.clone()).build().unwrap();
        assert!(run(&time, op.retry_on(&time, retry)).is_err());
    }
    assert_eq!(budget.snapshot().granted, 3_600, "all that is left of it");
}

#[test]
fn success_refills_a_token_budget() {
    let time = ManualTime::new();
    let budget = RetryBudget::tokens(10, 0.5).unwrap();
    (0..10).for_each(|_| budget.failure());
    assert_eq!(budget.snapshot().available, 0);
    for _ in 0..11 {
        let call = (|| async { Ok::<_, ()>(()) })
            .retry_on(&time, policy().budget(budget.clone()).build().unwrap());
        run(&time, call).unwrap();
    }
    assert_eq!(budget.snapshot().available, 1);
}

#[test]
fn final_failures_do_not_drain_a_token_budget() {
    let time = ManualTime::new();
    let budget = RetryBudget::tokens(10, 0.5).unwrap();
    for _ in 0..100 {
        let call = (|| async { Err::<(), _>("404") })
            .retry_on(&time, policy().budget(budget.clone()).build().unwrap())
            .retry_if(|_| false);
        assert!(run(&time, call).is_err());
    }
    assert_eq!(budget.snapshot().available, 5);
}

#[test]
fn default_policies_share_the_budget_of_the_process() {
    let ours = RetryBudget::process();
    let before = ours.snapshot().granted;
    let default = Retry::default();
    let permit = default.budget().unwrap().try_extra(ManualTime::new().now());
    assert!(permit.is_some());
    assert!(ours.snapshot().granted > before);
    assert!(Hedge::after(SECOND).budget().is_some());
}

/// Calls made by a retry of three attempts around another one.
fn nested_calls(inner: Nested, explicit: bool) -> u32 {
    let (time, calls) = (ManualTime::new(), Cell::new(0));
    let call = (|outer: Attempt| {
        let (time, calls) = (&time, &calls);
        async move {
            let call = (|| async {
                calls.set(calls.get() + 1);
                Err::<(), _>("down")
            })
            .retry_on(time, policy().no_budget().nested(inner).build().unwrap());
            if explicit {
                call.within(&outer).await
            } else {
                call.await
            }
        }
    })
    .retry_on(&time, policy().no_budget().build().unwrap());
    let error = run(&time, call).unwrap_err();
    let inner_error = error.into_last().unwrap();
    if inner == Nested::Once {
        assert_eq!(inner_error.reason(), StopReason::Nested);
    }
    calls.get()
}

#[test]
fn nested_retries_do_not_multiply() {
    assert_eq!(nested_calls(Nested::Once, true), 3);
    assert_eq!(nested_calls(Nested::Allow, true), 9);
    #[cfg(feature = "tokio")]
    assert_eq!(nested_calls(Nested::Once, false), 3);
    assert_eq!(nested_calls(Nested::Allow, false), 9);
}
