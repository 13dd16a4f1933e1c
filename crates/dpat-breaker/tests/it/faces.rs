//! Plain methods, futures, closures, and the ways to judge results.

use crate::{fragile, manual};
use dpat_breaker::{CallError, Outcome, State, Verdict};
use dpat_core::{Class, Classify, Effect};
use dpat_testkit::Task;
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Failed(Class);

impl Classify for Failed {
    fn class(&self) -> Class {
        self.0
    }
    fn retry_after(&self) -> Option<Duration> {
        Some(Duration::from_secs(9))
    }
}

fn block<T>(future: impl Future<Output = T>) -> T {
    Task::new(future).assert_ready()
}

#[test]
fn a_call_counts_err_as_failure() {
    let (breaker, _) = manual(fragile());
    assert_eq!(block(breaker.call(async { Ok::<_, ()>(1) })), Ok(1));
    assert_eq!(breaker.state(), State::Closed);
    let failed = block(breaker.call(async { Err::<(), _>("down") }));
    assert_eq!(failed, Err(CallError::Inner("down")));
    assert_eq!(breaker.state(), State::Open);
}

#[test]
fn a_refused_call_never_begins() {
    let (breaker, _) = manual(fragile());
    breaker.force_open();
    let refused = block(breaker.call(async { unreachable!("not polled") as Result<(), ()> }));
    assert!(matches!(refused, Err(CallError::Rejected(_))));
    let refused = breaker.call_sync(|| unreachable!("not called") as Result<(), ()>);
    assert!(refused.unwrap_err().rejected().is_some());
}

#[test]
fn a_closure_decides_what_a_failure_is() {
    let (breaker, _) = manual(fragile());
    let server_error = |r: &Result<u16, ()>| r.is_ok_and(|status| status >= 500);
    let call = |result| block(breaker.failure_if(server_error).call(async move { result }));
    assert_eq!(call(Ok(404)), Ok(404));
    assert_eq!(call(Err(())), Err(CallError::Inner(())));
    assert_eq!(breaker.state(), State::Closed);
    assert_eq!(call(Ok(503)), Ok(503));
    assert_eq!(breaker.state(), State::Open);
}

#[test]
fn a_closure_can_return_an_outcome_or_a_verdict() {
    let (breaker, _) = manual(fragile());
    let ignored = breaker
        .verdict_by(|_: &Result<(), ()>| Outcome::Ignored)
        .call_sync(|| Err(()));
    assert_eq!(ignored, Err(CallError::Inner(())));
    assert_eq!(breaker.state(), State::Closed);
    let any = block(
        breaker
            .verdict_by(|n: &u32| {
                if *n > 1 {
                    Verdict::failure()
                } else {
                    Verdict::success()
                }
            })
            .call_any(async { 2 }),
    );
    assert_eq!(any, Ok(2));
    assert_eq!(breaker.state(), State::Open);
}

#[test]
fn classes_decide_what_a_failure_is() {
    for (class, counts) in [
        (Class::Transient, true),
        (Class::Timeout, true),
        (Class::Overloaded, true),
        (Class::Unavailable, true),
        (Class::Permanent, true),
        (Class::Corrupt, true),
        (Class::Conflict, false),
        (Class::Cancelled, false),
        (Class::InvalidInput, false),
    ] {
        let (breaker, _) = manual(fragile());
        let result = breaker.by_class().call_sync(|| Err::<(), _>(Failed(class)));
        assert_eq!(result, Err(CallError::Inner(Failed(class))));
        assert_eq!(breaker.state() == State::Open, counts, "{class:?}");
    }
    let verdict = Verdict::of_error(&Failed(Class::Overloaded));
    assert_eq!(verdict.requested_delay(), Some(Duration::from_secs(9)));
}

#[test]
fn errors_of_calls_classify() {
    let (breaker, _) = manual(fragile());
    let inner = breaker
        .call_sync(|| Err::<(), _>(Failed(Class::Timeout)))
        .unwrap_err();
    assert_eq!(
        (inner.class(), inner.effect(), inner.retry_after()),
        (
            Class::Timeout,
            Effect::Unknown,
            Some(Duration::from_secs(9))
        )
    );
    let refused = breaker
        .call_sync(|| Err::<(), _>(Failed(Class::Timeout)))
        .unwrap_err();
    assert_eq!(
        (refused.class(), refused.effect(), refused.retry_after()),
        (
            Class::Unavailable,
            Effect::NotDone,
            Some(Duration::from_secs(1))
        )
    );
    assert_eq!(refused.into_inner(), None);
}

#[test]
fn futures_of_calls_are_send() {
    let (breaker, _) = manual(fragile());
    let call = async move { breaker.call(async { Ok::<_, ()>(1) }).await };
    assert_eq!(block(dpat_testkit::assert_send_static(call)), Ok(1));
}
