//! Which outcomes are retried: by closure, by class, by what the other side asks, by idempotency.

use crate::support::{Fault, Log, SECOND, run};
use dpat_core::{Backoff, Class, Effect, ManualTime};
use dpat_retry::{Attempt, Judge, PushBack, Retry, RetryBuilder, RetryExt, StopReason, Verdict};
use std::cell::Cell;
use std::time::Duration;

fn policy() -> RetryBuilder {
    Retry::builder()
        .backoff(Backoff::constant(SECOND))
        .no_timeout()
        .no_budget()
}

#[test]
fn retry_if_decides_by_a_closure() {
    let time = ManualTime::new();
    let calls = Cell::new(0);
    let op = || async {
        calls.set(calls.get() + 1);
        Err::<(), _>(if calls.get() < 2 { 503 } else { 404 })
    };
    let call = op
        .retry_on(&time, policy().build().unwrap())
        .retry_if(|status| *status >= 500);
    let error = run(&time, call).unwrap_err();
    assert_eq!(error.reason(), StopReason::NotRetryable);
    assert_eq!((error.attempts(), error.into_last()), (2, Some(404)));
}

#[test]
fn retry_result_if_sees_values_too() {
    let time = ManualTime::new();
    let poll = |attempt: Attempt| async move { Ok::<_, ()>(attempt.number()) };
    let until = |wanted| {
        poll.retry_on(&time, policy().build().unwrap())
            .retry_result_if(move |state| state.is_ok_and(|number| number < wanted))
    };
    assert_eq!(run(&time, until(2)), Ok(2));
    assert_eq!(
        run(&time, until(9)),
        Ok(3),
        "the last value when no attempts are left"
    );
}

#[test]
fn classifier_with_class() {
    let time = ManualTime::new();
    for (class, attempts) in [
        (Class::Transient, 3),
        (Class::Timeout, 3),
        (Class::Overloaded, 3),
        (Class::Unavailable, 3),
        (Class::Conflict, 1),
        (Class::Cancelled, 1),
        (Class::InvalidInput, 1),
        (Class::Permanent, 1),
        (Class::Corrupt, 1),
    ] {
        let fault = Fault::new(class, Effect::Unknown);
        let call = (|| async move { Err::<(), _>(fault) })
            .retry_on(&time, policy().build().unwrap())
            .by_class();
        assert_eq!(
            run(&time, call).unwrap_err().attempts(),
            attempts,
            "{class:?}"
        );
    }
}

#[test]
fn retry_after_is_honoured_and_clamped() {
    let time = ManualTime::new();
    for (asked, waited) in [
        (Duration::ZERO, 1),
        (SECOND / 2, 1),
        (7 * SECOND, 7),
        (90 * SECOND, 60),
        (Duration::MAX, 60),
    ] {
        let log = Log::new(&time);
        let fault = Fault {
            retry_after: Some(asked),
            ..Fault::new(Class::Overloaded, Effect::NotDone)
        };
        let call = (|| async {
            log.note();
            Err::<(), _>(fault)
        })
        .retry_on(&time, policy().attempts(2).build().unwrap())
        .by_class();
        assert!(run(&time, call).is_err());
        assert_eq!(log.at()[1], waited * SECOND, "{asked:?}");
    }
}

#[test]
fn push_back_can_be_read_by_a_closure() {
    let time = ManualTime::new();
    let log = Log::new(&time);
    // What a header gave.
    let call = (|| async {
        log.note();
        Err::<(), _>(("503", Some(4)))
    })
    .retry_on(&time, policy().max_retry_after(3 * SECOND).build().unwrap())
    .push_back(|outcome| {
        let seconds = outcome.as_ref().err().and_then(|(_, header)| *header);
        seconds.map(Duration::from_secs)
    });
    assert!(run(&time, call).is_err());
    assert_eq!(log.at(), [0, 3, 6].map(|at| at * SECOND));
}

#[test]
fn negative_grpc_push_back_stops() {
    let time = ManualTime::new();
    for (trailer, attempts) in [("250", 3), (" 0 ", 3), ("-1", 1), ("soon", 1), ("", 1)] {
        let call = (|| async move { Err::<(), _>(trailer) })
            .retry_on(&time, policy().build().unwrap())
            .push_back(|outcome| {
                outcome
                    .err()
                    .map_or(PushBack::None, PushBack::from_grpc_millis)
            });
        let error = run(&time, call).unwrap_err();
        assert_eq!(error.attempts(), attempts, "{trailer:?}");
        if attempts == 1 {
            assert_eq!(error.reason(), StopReason::PushedBack);
        }
    }
}

#[test]
fn a_non_idempotent_operation_is_retried_only_if_it_surely_did_not_happen() {
    let time = ManualTime::new();
    let policy = policy().idempotent(false).build().unwrap();
    for (effect, attempts, reason) in [
        (Effect::NotDone, 3, StopReason::AttemptsExhausted),
        (Effect::Unknown, 1, StopReason::MayHaveHappened),
    ] {
        let fault = Fault::new(Class::Unavailable, effect);
        let call = (|| async move { Err::<(), _>(fault) })
            .retry_on(&time, policy.clone())
            .by_class();
        let error = run(&time, call).unwrap_err();
        assert_eq!((error.attempts(), error.reason()), (attempts, reason));
        assert_eq!(error.effect(), effect);
    }
    // Nothing is known about a foreign error, unless a closure knows.
    let op = || async { Err::<(), _>("connection refused") };
    let error = run(&time, op.retry_on(&time, policy.clone())).unwrap_err();
    assert_eq!(error.reason(), StopReason::MayHaveHappened);
    let call = op.retry_on(&time, policy).effect_of(|error| {
        if error.ends_with("refused") {
            Effect::NotDone
        } else {
            Effect::Unknown
        }
    });
    assert_eq!(run(&time, call).unwrap_err().attempts(), 3);
}

#[test]
fn a_non_idempotent_operation_is_not_retried_after_a_timeout() {
    let time = ManualTime::new();
    let policy = policy().idempotent(false).attempt_timeout(SECOND);
    let call = std::future::pending::<Result<(), Fault>>
        .retry_on(&time, policy.build().unwrap())
        .by_class();
    let error = run(&time, call).unwrap_err();
    assert_eq!(error.reason(), StopReason::MayHaveHappened);
    assert!(error.timed_out());
}

#[test]
fn a_judge_of_ones_own() {
    struct Odd;
    impl Judge<u32, u32> for Odd {
        fn verdict(&self, outcome: &Result<u32, u32>) -> Verdict {
            match outcome {
                Ok(value) if value % 2 == 0 => Verdict::Retry,
                Ok(_) | Err(0) => Verdict::Done,
                Err(_) => Verdict::Stop,
            }
        }
    }
    let time = ManualTime::new();
    let retry = |outcomes: [Result<u32, u32>; 3]| {
        let call = (move |attempt: Attempt| async move { outcomes[attempt.number() as usize - 1] })
            .retry_on(&time, policy().build().unwrap())
            .judge_by(Odd);
        run(&time, call)
    };
    assert_eq!(retry([Ok(2), Ok(4), Ok(5)]), Ok(5));
    assert_eq!(retry([Ok(2), Err(9), Ok(5)]).unwrap_err().attempts(), 2);
    // An error that the judge takes for done is still an error.
    assert_eq!(
        retry([Err(0), Ok(1), Ok(1)]).unwrap_err().into_last(),
        Some(0)
    );
}
