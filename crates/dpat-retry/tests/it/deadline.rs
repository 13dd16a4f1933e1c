//! One deadline for the whole operation, and what travels with it.

use crate::support::{Log, SECOND, millis, run};
use dpat_core::{Backoff, Class, Classify, Clock, Deadline, Effect, ManualTime, Sleep};
use dpat_retry::{Attempt, Nested, Retry, RetryBuilder, RetryExt, StopReason};
use std::cell::{Cell, RefCell};
use std::future::pending;

fn policy() -> RetryBuilder {
    Retry::builder()
        .attempts(10)
        .backoff(Backoff::constant(SECOND))
        .no_attempt_timeout()
        .no_budget()
}

#[test]
fn one_deadline_for_the_whole_operation() {
    let time = ManualTime::new();
    let log = Log::new(&time);
    let call = (|| async {
        log.note();
        time.sleep(2 * SECOND).await;
        Err::<(), _>("down")
    })
    .retry_on(&time, policy().timeout(7 * SECOND).build().unwrap());
    let error = run(&time, call).unwrap_err();
    // 0 to 2, 3 to 5, and 6 to 7, cut off.
    assert_eq!(log.at(), [0, 3, 6].map(|at| at * SECOND));
    assert_eq!(error.reason(), StopReason::DeadlineExceeded);
    assert_eq!(error.elapsed(), 7 * SECOND);
    assert!(error.timed_out());
    assert_eq!(error.last(), Some(&"down"));
}

#[test]
fn each_attempt_sees_the_remaining_time() {
    let time = ManualTime::new();
    let seen = RefCell::new(Vec::new());
    let call = (|attempt: Attempt| {
        seen.borrow_mut().push(attempt.remaining());
        async { Err::<(), _>(()) }
    })
    .retry_on(
        &time,
        policy()
            .timeout(millis(3_500))
            .attempt_timeout(2 * SECOND)
            .build()
            .unwrap(),
    );
    assert!(run(&time, call).is_err());
    assert_eq!(
        seen.into_inner(),
        [millis(2_000), millis(2_000), millis(1_500), millis(500)]
    );
}

#[test]
fn an_attempt_has_a_timeout_of_its_own() {
    struct Dropped<'a>(&'a Cell<u32>);
    impl Drop for Dropped<'_> {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
        }
    }

    let time = ManualTime::new();
    let (log, dropped) = (Log::new(&time), Cell::new(0));
    let call = (|attempt: Attempt| {
        // The one before is gone before the next starts.
        assert_eq!(dropped.get(), attempt.number() - 1);
        log.note();
        let guard = Dropped(&dropped);
        async move {
            let _guard = guard;
            pending::<Result<(), &str>>().await
        }
    })
    .retry_on(
        &time,
        policy()
            .attempts(3)
            .attempt_timeout(5 * SECOND)
            .build()
            .unwrap(),
    );
    let error = run(&time, call).unwrap_err();
    assert_eq!(log.at(), [0, 6, 12].map(|at| at * SECOND));
    assert_eq!(error.reason(), StopReason::AttemptsExhausted);
    assert!(error.timed_out());
    assert_eq!(error.last(), None);
    assert_eq!(error.effect(), Effect::Unknown);
    assert_eq!(dropped.get(), 3);
}

#[test]
fn no_retry_when_the_remaining_time_is_below_the_next_delay() {
    let time = ManualTime::new();
    let log = Log::new(&time);
    let call = (|| async {
        log.note();
        Err::<(), _>(())
    })
    .retry_on(&time, policy().timeout(millis(1_500)).build().unwrap());
    let error = run(&time, call).unwrap_err();
    assert_eq!(error.reason(), StopReason::DeadlineWouldPass);
    assert_eq!(log.at(), [millis(0), millis(1_000)]);
    assert_eq!(error.elapsed(), SECOND, "it does not wait for nothing");
}

#[test]
fn an_explicit_deadline_wins_if_it_is_nearer() {
    let time = ManualTime::new();
    for (given, expected) in [(2, 2), (9, 5)] {
        let call = (|attempt: Attempt| async move { Ok::<_, ()>(attempt.remaining()) })
            .retry_on(&time, policy().timeout(5 * SECOND).build().unwrap())
            .deadline(Deadline::after(time.now(), given * SECOND));
        assert_eq!(run(&time, call), Ok(expected * SECOND));
    }
}

#[test]
fn the_deadline_travels_explicitly_to_a_nested_call() {
    let time = ManualTime::new();
    let log = Log::new(&time);
    let call = (|outer: Attempt| {
        let (time, log) = (&time, &log);
        async move {
            (|| async {
                log.note();
                pending::<Result<(), ()>>().await
            })
            .retry_on(time, policy().nested(Nested::Allow).build().unwrap())
            .within(&outer)
            .await
        }
    })
    .retry_on(
        &time,
        policy()
            .attempts(2)
            .attempt_timeout(3 * SECOND)
            .build()
            .unwrap(),
    );
    let error = run(&time, call).unwrap_err();
    assert_eq!(error.attempts(), 2);
    assert_eq!(log.at(), [0, 4].map(|at| at * SECOND));
}

#[cfg(feature = "tokio")]
#[test]
fn the_deadline_travels_by_itself_to_nested_calls() {
    let time = ManualTime::new();
    let seen = RefCell::new(Vec::new());
    let call = (|| {
        // Also while the closure runs, before the first poll.
        seen.borrow_mut()
            .push(Deadline::current().remaining(time.now()));
        async {
            seen.borrow_mut()
                .push(Deadline::current().remaining(time.now()));
            let inner = (|attempt: Attempt| async move { Err::<(), _>(attempt.remaining()) })
                .retry_on(&time, policy().timeout(60 * SECOND).build().unwrap());
            let error = inner.await.unwrap_err();
            seen.borrow_mut().extend(error.last());
            Err::<(), _>(())
        }
    })
    .retry_on(
        &time,
        policy().attempts(2).timeout(5 * SECOND).build().unwrap(),
    );
    let surrounded = Deadline::after(time.now(), 3 * SECOND).scope(call);
    assert!(run(&time, surrounded).is_err());
    assert_eq!(
        seen.into_inner(),
        [3, 3, 3, 2, 2, 2].map(|left| left * SECOND)
    );
    assert!(Deadline::current().is_never(), "nothing is left behind");
}

#[test]
fn a_timeout_is_classified_as_one() {
    use crate::support::Fault;
    let time = ManualTime::new();
    let policy = policy()
        .attempts(1)
        .attempt_timeout(SECOND)
        .build()
        .unwrap();
    let call = pending::<Result<(), Fault>>.retry_on(&time, policy.clone());
    let error = run(&time, call).unwrap_err();
    assert_eq!(error.class(), Class::Timeout);
    assert_eq!(Classify::effect(&error), Effect::Unknown);

    let fault = Fault::new(Class::Conflict, Effect::NotDone);
    let call = (|| async { Err::<(), _>(fault) })
        .retry_on(&time, policy)
        .by_class();
    let error = run(&time, call).unwrap_err();
    assert_eq!(error.class(), Class::Conflict);
    assert_eq!(Classify::effect(&error), Effect::NotDone);
    assert_eq!(error.reason(), StopReason::NotRetryable);
}
