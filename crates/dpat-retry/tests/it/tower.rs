//! The layers: tower's contract, and that they are the same machines.

use crate::support::{Fault, Log, SECOND, advance, run};
use dpat_core::{Backoff, Class, Classify, Clock, Deadline, Effect, ManualTime};
use dpat_retry::tower::{TimeoutError, TimeoutLayer};
use dpat_retry::{Hedge, Retry, RetryBudget, RetryBuilder, StopReason};
use dpat_testkit::tower::{Contract, Outcome, Probe};
use std::future::poll_fn;
use std::time::Duration;
use tower_layer::Layer;
use tower_service::Service;

fn policy() -> RetryBuilder {
    Retry::builder()
        .backoff(Backoff::constant(SECOND))
        .no_budget()
}

fn fault() -> Fault {
    Fault::new(Class::Unavailable, Effect::NotDone)
}

fn probe(permits: usize, script: impl IntoIterator<Item = Outcome>) -> Probe<Fault> {
    let probe = Probe::new(permits, fault);
    probe.script(script);
    probe
}

/// Makes ready, calls, awaits.
async fn send<S: Service<u64>>(service: &mut S, request: u64) -> Result<S::Response, S::Error> {
    poll_fn(|cx| service.poll_ready(cx)).await?;
    service.call(request).await
}

#[test]
fn retry_layer_keeps_the_contract() {
    let time = ManualTime::new();
    Contract::new(|| policy().build().unwrap().layer_on(time.clone()), fault)
        .drive(|| advance(&time))
        .check();
}

#[test]
fn hedge_layer_keeps_the_contract() {
    let time = ManualTime::new();
    Contract::new(|| Hedge::after(SECOND).layer_on(time.clone()), fault)
        .drive(|| advance(&time))
        .check();
}

#[test]
fn timeout_layer_keeps_the_contract() {
    let time = ManualTime::new();
    Contract::new(|| TimeoutLayer::on(time.clone(), SECOND), fault)
        .drive(|| advance(&time))
        .check();
}

#[test]
fn retry_layer() {
    let time = ManualTime::new();
    let probe = probe(1, [Outcome::Fail, Outcome::Fail, Outcome::Later]);
    let mut service = policy()
        .build()
        .unwrap()
        .layer_on(time.clone())
        .retry_if(|fault: &Fault| fault.class().is_retryable())
        .layer(probe.clone());
    let log = Log::new(&time);
    assert_eq!(run(&time, send(&mut service, 7)), Ok(7));
    assert_eq!(log.elapsed(), 2 * SECOND);
    assert_eq!(probe.calls(), 3);
    assert!(probe.violations().is_empty(), "every clone was made ready");

    probe.script([Outcome::Fail; 3]);
    let error = run(&time, send(&mut service, 7)).unwrap_err();
    assert_eq!((error.attempts(), error.into_last()), (3, Some(fault())));
}

#[test]
fn retry_layer_shares_a_budget_with_hedge_layer() {
    let time = ManualTime::new();
    let budget = RetryBudget::in_flight(0.0, 0).unwrap();
    let probe = probe(1, [Outcome::Fail; 2]);
    let retry = policy().budget(budget.clone()).build().unwrap();
    let mut service = retry.layer_on(time.clone()).by_class().layer(probe.clone());
    let error = run(&time, send(&mut service, 1)).unwrap_err();
    assert_eq!(error.reason(), StopReason::BudgetEmpty);
    let hedge = Hedge::after(SECOND).with_budget(budget.clone());
    let mut service = hedge.layer_on(time.clone()).by_class().layer(probe.clone());
    let error = run(&time, send(&mut service, 1)).unwrap_err();
    assert_eq!(error.reason(), StopReason::BudgetEmpty);
    assert_eq!(budget.snapshot().refused, 2);
}

#[test]
fn a_request_that_cannot_be_cloned_is_sent_once() {
    let time = ManualTime::new();
    let probe = probe(1, [Outcome::Fail, Outcome::Fail]);
    let layer = policy()
        .build()
        .unwrap()
        .layer_on(time.clone())
        .clone_request(|request: &u64| (*request != 13).then_some(*request));
    let mut service = layer.layer(probe.clone());
    let error = run(&time, send(&mut service, 13)).unwrap_err();
    assert_eq!(error.reason(), StopReason::NotRepeatable);
    assert_eq!(run(&time, send(&mut service, 14)), Ok(14));
}

#[test]
fn the_deadline_of_a_request_bounds_its_attempts() {
    let time = ManualTime::new();
    let start = time.now();
    let probe = probe(2, [Outcome::Hang, Outcome::Hang]);
    let deadline = move |request: &u64| Deadline::after(start, Duration::from_secs(*request));
    let mut service = policy()
        .no_attempt_timeout()
        .build()
        .unwrap()
        .layer_on(time.clone())
        .deadline_of(deadline)
        .layer(probe.clone());
    let error = run(&time, send(&mut service, 3)).unwrap_err();
    assert_eq!(
        (error.reason(), error.elapsed()),
        (StopReason::DeadlineExceeded, 3 * SECOND)
    );
    let hedge = Hedge::after(SECOND)
        .layer_on(time.clone())
        .deadline_of(deadline);
    let mut service = hedge.layer(probe.clone());
    let error = run(&time, send(&mut service, 3)).unwrap_err();
    assert_eq!(
        (error.reason(), error.attempts()),
        (StopReason::DeadlineExceeded, 0)
    );
}

#[test]
fn hedge_layer() {
    let time = ManualTime::new();
    let probe = probe(2, [Outcome::Hang, Outcome::Ok]);
    let mut service = Hedge::after(SECOND)
        .layer_on(time.clone())
        .layer(probe.clone());
    let log = Log::new(&time);
    assert_eq!(run(&time, send(&mut service, 7)), Ok(7));
    assert_eq!((log.elapsed(), probe.calls(), probe.held()), (SECOND, 2, 0));
    assert!(probe.violations().is_empty());
}

#[test]
fn timeout_layer() {
    let time = ManualTime::new();
    let probe = probe(1, [Outcome::Hang, Outcome::Fail]);
    let mut service = TimeoutLayer::on(time.clone(), SECOND).layer(probe.clone());
    let error = run(&time, send(&mut service, 1)).unwrap_err();
    assert!(matches!(error, TimeoutError::TimedOut(_)));
    assert_eq!(
        (error.class(), error.effect()),
        (Class::Timeout, Effect::Unknown)
    );
    let error = run(&time, send(&mut service, 1)).unwrap_err();
    assert_eq!(error, TimeoutError::Inner(fault()));
    assert_eq!(
        (error.class(), error.effect()),
        (Class::Unavailable, Effect::NotDone)
    );
    assert_eq!(run(&time, send(&mut service, 1)), Ok(1));
}

#[cfg(feature = "tokio")]
#[test]
fn a_retry_around_a_retry_layer_does_not_multiply() {
    use dpat_retry::RetryExt;
    let time = ManualTime::new();
    let probe = probe(1, [Outcome::Fail; 9]);
    let service = policy()
        .build()
        .unwrap()
        .layer_on(time.clone())
        .layer(probe.clone());
    let call = (|| {
        let mut service = service.clone();
        async move { send(&mut service, 1).await }
    })
    .retry_on(&time, policy().build().unwrap());
    assert!(run(&time, call).is_err());
    assert_eq!(probe.calls(), 3);
}

#[cfg(feature = "tokio")]
#[tokio::test(start_paused = true)]
async fn tokio_time_is_the_default() {
    let probe = probe(2, [Outcome::Fail, Outcome::Ok, Outcome::Hang]);
    let mut service = policy().build().unwrap().layer().layer(probe.clone());
    assert_eq!(send(&mut service, 1).await, Ok(1));
    let mut service = Hedge::after(SECOND)
        .layer()
        .layer(TimeoutLayer::new(SECOND).layer(probe));
    assert_eq!(send(&mut service, 2).await, Ok(2));
}
