//! `op.retry(policy).await`, the backoff between attempts, and what the result tells.

use crate::support::{Log, SECOND, millis, run};
use dpat_core::{Backoff, Clock, Deadline, Jitter, ManualTime, SplitMix64};
use dpat_retry::{Attempt, Retry, RetryExt, StopReason};
use std::cell::{Cell, RefCell};
use std::time::Duration;

#[cfg(feature = "tokio")]
#[tokio::test(start_paused = true)]
async fn op_retry_await() {
    let calls = Cell::new(0);
    let answer = (|| async {
        calls.set(calls.get() + 1);
        if calls.get() < 3 { Err("down") } else { Ok(7) }
    })
    .retry(Retry::default())
    .await;
    assert_eq!(answer, Ok(7));
    assert_eq!(calls.get(), 3);
}

#[test]
fn the_default_makes_three_attempts() {
    let time = ManualTime::new();
    let log = Log::new(&time);
    let call = (|| async {
        log.note();
        Err::<(), _>("down")
    })
    .retry_on(&time, Retry::default());
    let error = run(&time, call).unwrap_err();
    assert_eq!(error.reason(), StopReason::AttemptsExhausted);
    assert_eq!(error.attempts(), 3);
    assert_eq!(error.elapsed(), log.elapsed());
    assert_eq!(error.last(), Some(&"down"));
    // 100 ms and 200 ms, full jitter.
    assert!(error.elapsed() <= millis(300));
    assert_eq!(log.at().len(), 3);
}

#[test]
fn an_operation_may_take_its_attempt() {
    let time = ManualTime::new();
    let op = |attempt: Attempt| async move {
        if attempt.number() < 3 {
            Err("down")
        } else {
            Ok(attempt.number())
        }
    };
    assert_eq!(run(&time, op.retry_on(&time, Retry::default())), Ok(3));
}

#[test]
fn an_async_closure_and_a_function_are_operations() {
    async fn fetch() -> Result<u8, ()> {
        Ok(1)
    }
    let time = ManualTime::new();
    assert_eq!(run(&time, fetch.retry_on(&time, Retry::default())), Ok(1));
    let op = async || Ok::<_, ()>(2);
    assert_eq!(run(&time, op.retry_on(&time, Retry::default())), Ok(2));
}

/// The start of each attempt of an operation that always fails.
fn starts(backoff: Backoff, attempts: u32, seed: u64) -> Vec<Duration> {
    let time = ManualTime::new();
    let log = Log::new(&time);
    let policy = Retry::builder()
        .attempts(attempts)
        .backoff(backoff)
        .no_timeout()
        .no_budget()
        .build()
        .unwrap();
    let call = (|| async {
        log.note();
        Err::<(), _>(())
    })
    .retry_on(&time, policy)
    .entropy(SplitMix64::new(seed));
    assert!(run(&time, call).is_err());
    log.at()
}

fn seconds(expected: &[u64]) -> Vec<Duration> {
    expected.iter().copied().map(Duration::from_secs).collect()
}

#[test]
fn constant_linear_and_exponential_backoff() {
    let constant = Backoff::constant(SECOND);
    assert_eq!(starts(constant, 4, 1), seconds(&[0, 1, 2, 3]));
    let linear = Backoff::linear(SECOND, SECOND, 3 * SECOND).unwrap();
    assert_eq!(starts(linear, 6, 1), seconds(&[0, 1, 3, 6, 9, 12]));
    let exponential = Backoff::exponential(SECOND, 2.0, 5 * SECOND).unwrap();
    assert_eq!(starts(exponential, 6, 1), seconds(&[0, 1, 3, 7, 12, 17]));
}

#[test]
fn full_equal_decorrelated_and_polly_v2_jitter_with_injected_entropy() {
    let exponential = Backoff::exponential(SECOND, 2.0, 60 * SECOND).unwrap();
    for jitter in [
        Jitter::Full,
        Jitter::Equal,
        Jitter::Decorrelated,
        Jitter::PollyV2,
    ] {
        let backoff = exponential.with_jitter(jitter);
        let drawn = starts(backoff, 6, 7);
        assert_eq!(drawn, starts(backoff, 6, 7), "{jitter:?} replays");
        assert_ne!(drawn, starts(backoff, 6, 8), "{jitter:?} is spread");
        // The same delays as the vocabulary crate draws.
        let (entropy, mut delays) = (SplitMix64::new(7), backoff.delays());
        let mut at = Duration::ZERO;
        for start in &drawn[1..] {
            at += delays.next_delay(&entropy);
            assert_eq!(*start, at, "{jitter:?}");
        }
    }
}

#[test]
fn a_huge_backoff_saturates_instead_of_overflowing() {
    let backoff = Backoff::exponential(SECOND, 1e9, Duration::from_secs(1 << 40)).unwrap();
    assert_eq!(starts(backoff, 70, 1).len(), 70);
}

#[test]
fn retries_without_a_wait_yield_in_between() {
    let time = ManualTime::new();
    let policy = Retry::builder()
        .attempts(5)
        .backoff(Backoff::constant(Duration::ZERO))
        .no_budget()
        .build()
        .unwrap();
    let call = (|| async { Err::<(), _>(()) }).retry_on(&time, policy);
    let mut task = dpat_testkit::Task::new(call);
    for _ in 0..4 {
        task.assert_pending();
        assert!(task.is_woken());
    }
    assert_eq!(task.assert_ready().unwrap_err().attempts(), 5);
}

#[test]
fn notify_hears_of_each_retry() {
    let time = ManualTime::new();
    let heard = RefCell::new(Vec::new());
    let policy = Retry::builder()
        .backoff(Backoff::constant(SECOND))
        .attempt_timeout(5 * SECOND)
        .build()
        .unwrap();
    let call = (|attempt: Attempt| async move {
        if attempt.number() == 1 {
            std::future::pending::<()>().await;
        }
        Err::<(), _>("down")
    })
    .retry_on(&time, policy)
    .notify(|retrying| {
        heard
            .borrow_mut()
            .push((retrying.attempt, retrying.delay, retrying.error.copied()));
    });
    assert!(run(&time, call).is_err());
    assert_eq!(
        heard.into_inner(),
        [(1, SECOND, None), (2, SECOND, Some("down"))]
    );
}

#[test]
fn the_error_tells_the_story() {
    let time = ManualTime::new();
    let policy = Retry::builder()
        .backoff(Backoff::constant(SECOND))
        .build()
        .unwrap();
    let call =
        (|| async { Err::<(), _>(std::io::Error::other("no route")) }).retry_on(&time, policy);
    let error = run(&time, call).unwrap_err();
    assert_eq!(
        error.to_string(),
        "gave up after 3 attempts in 2s: no attempts are left (last error: no route)"
    );
    let source = std::error::Error::source(&error).unwrap();
    assert_eq!(source.to_string(), "no route");
    assert_eq!(error.into_last().unwrap().to_string(), "no route");
}

#[test]
fn a_policy_that_cannot_be_is_refused() {
    let message = |builder: dpat_retry::RetryBuilder| builder.build().unwrap_err().to_string();
    assert_eq!(
        message(Retry::builder().attempts(0)),
        "attempts: must be at least 1"
    );
    assert_eq!(
        message(Retry::builder().timeout(Duration::ZERO)),
        "timeout (ns): must be at least 1"
    );
    assert_eq!(
        message(Retry::builder().attempt_timeout(Duration::ZERO)),
        "attempt_timeout (ns): must be at least 1"
    );
}

#[test]
fn a_deadline_that_has_passed_makes_no_attempt() {
    let time = ManualTime::new();
    let log = Log::new(&time);
    let call = (|| async {
        log.note();
        Ok::<_, ()>(())
    })
    .retry_on(&time, Retry::default())
    .deadline(Deadline::at(time.now()));
    let error = run(&time, call).unwrap_err();
    assert_eq!(error.reason(), StopReason::DeadlineExceeded);
    assert_eq!(error.attempts(), 0);
    assert_eq!(error.effect(), dpat_core::Effect::NotDone);
    assert!(log.at().is_empty());
}
