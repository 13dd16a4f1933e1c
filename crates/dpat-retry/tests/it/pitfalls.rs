//! The faults of the pattern as it is usually sketched: a loop with `sleep(1 << i)` around a spawned call. Each test
//! fails on that sketch.

use crate::support::{SECOND, run};
use dpat_core::{Backoff, Clock, ManualTime, Sleep, SplitMix64};
use dpat_retry::{Attempt, Retry, RetryBuilder, RetryExt, StopReason};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

fn policy() -> RetryBuilder {
    Retry::builder().no_budget()
}

#[test]
fn pitfall_4_3_the_wait_ends_with_its_caller() {
    let time = ManualTime::new();
    let mut task = dpat_testkit::Task::new(
        (|| async { Err::<(), _>(()) }).retry_on(&time, policy().build().unwrap()),
    );
    task.assert_pending();
    assert_eq!(time.sleepers(), 1, "it waits for the second attempt");
    drop(task);
    assert_eq!(time.sleepers(), 0);
}

#[test]
fn pitfall_4_3_not_everything_is_retried() {
    let time = ManualTime::new();
    let call = (|| async { Err::<(), _>(400) })
        .retry_on(&time, policy().build().unwrap())
        .retry_if(|status| *status >= 500);
    assert_eq!(run(&time, call).unwrap_err().attempts(), 1);
}

#[test]
fn pitfall_4_3_clients_do_not_come_back_together() {
    let mut waits: Vec<Duration> = (0..100)
        .map(|client| {
            let time = ManualTime::new();
            let waited = Cell::new(Duration::ZERO);
            let call = (|| async { Err::<(), _>(()) })
                .retry_on(&time, policy().attempts(2).build().unwrap())
                .entropy(SplitMix64::new(client))
                .notify(|retrying| waited.set(retrying.delay));
            assert!(run(&time, call).is_err());
            waited.get()
        })
        .collect();
    waits.sort_unstable();
    waits.dedup();
    assert!(waits.len() > 95, "{} different waits", waits.len());
}

#[test]
fn pitfall_4_3_an_operation_that_timed_out_does_not_go_on() {
    let time = ManualTime::new();
    let steps = Rc::new(Cell::new(0));
    let (clock, done) = (time.clone(), steps.clone());
    let call = (move |_: Attempt| {
        let (time, steps) = (clock.clone(), done.clone());
        async move {
            loop {
                time.sleep(SECOND).await;
                steps.set(steps.get() + 1);
            }
            #[allow(unreachable_code)]
            Ok::<(), ()>(())
        }
    })
    .retry_on(
        time.clone(),
        policy()
            .attempts(1)
            .attempt_timeout(SECOND * 7 / 2)
            .build()
            .unwrap(),
    );
    let mut call = Box::pin(call);
    assert!(run(&time, call.as_mut()).is_err());
    assert_eq!((steps.get(), time.sleepers()), (3, 0));
    time.advance(60 * SECOND);
    assert_eq!(steps.get(), 3);
}

#[test]
fn pitfall_4_3_the_delay_does_not_overflow() {
    let time = ManualTime::new();
    let backoff = Backoff::exponential(Duration::from_nanos(1), 2.0, SECOND).unwrap();
    let policy = policy().attempts(100).backoff(backoff).no_timeout();
    let start = time.now();
    let call = (|| async { Err::<(), _>(()) }).retry_on(&time, policy.build().unwrap());
    let error = run(&time, call).unwrap_err();
    assert_eq!(error.reason(), StopReason::AttemptsExhausted);
    // 1 ns << 64 would be 0; the last 69 waits are a second each.
    assert!(time.now().since(start) >= 69 * SECOND);
}
