//! Hedging: when further attempts are sent, who wins, and who is dropped.

use crate::support::{Fault, Log, SECOND, millis, run};
use dpat_core::{Class, Clock, Deadline, Effect, ManualTime, Sleep};
use dpat_retry::{
    Attempt, Hedge, HedgeDelay, LiveQuantile, PushBack, RetryBudget, RetryExt, StopReason,
};
use std::cell::{Cell, RefCell};
use std::future::pending;
use std::time::Duration;

/// Counts what is alive, and notes who was dropped unfinished.
struct Alive<'a> {
    count: &'a Cell<u32>,
    finished: bool,
    lost: &'a Cell<u32>,
}

impl Drop for Alive<'_> {
    fn drop(&mut self) {
        self.count.set(self.count.get() - 1);
        if !self.finished {
            self.lost.set(self.lost.get() + 1);
        }
    }
}

/// Runs a hedge over attempts that take the given times, and returns the winner and the start of each attempt.
fn race(policy: Hedge, takes: &[Duration]) -> (Result<u32, StopReason>, Vec<Duration>) {
    let time = ManualTime::new();
    let log = Log::new(&time);
    let (count, lost) = (Cell::new(0), Cell::new(0));
    let op = |attempt: Attempt| {
        log.note();
        count.set(count.get() + 1);
        let alive = Alive {
            count: &count,
            finished: false,
            lost: &lost,
        };
        let sleep = time.sleep(takes[attempt.number() as usize - 1]);
        async move {
            let mut alive = alive;
            sleep.await;
            alive.finished = true;
            Ok::<_, ()>(attempt.number())
        }
    };
    let mut call = Box::pin(op.hedge_on(&time, policy));
    let result = run(&time, call.as_mut());
    // Losers are dropped when the winner is known, not when the caller drops the call.
    assert_eq!(count.get(), 0, "nothing is left running");
    let sent = log.at();
    if result.is_ok() {
        assert_eq!(lost.get() as usize, sent.len() - 1, "losers are cancelled");
    }
    (result.map_err(|error| error.reason()), sent)
}

#[test]
fn a_fixed_delay_sends_a_second_attempt() {
    let policy = || Hedge::builder(SECOND).no_budget();
    let hedge = policy().build().unwrap();
    let slow = 5 * SECOND;
    assert_eq!(
        race(hedge.clone(), &[SECOND / 2]),
        (Ok(1), vec![Duration::ZERO])
    );
    assert_eq!(
        race(hedge.clone(), &[slow, SECOND]),
        (Ok(2), vec![Duration::ZERO, SECOND])
    );
    assert_eq!(
        race(hedge, &[3 * SECOND, slow]).0,
        Ok(1),
        "the first may still win"
    );
    let (winner, sent) = race(
        policy().attempts(4).build().unwrap(),
        &[slow, slow, slow, SECOND],
    );
    assert_eq!(
        (winner, sent),
        (Ok(4), [0, 1, 2, 3].map(|at| at * SECOND).to_vec())
    );
}

#[test]
fn a_list_of_delays() {
    let delays = HedgeDelay::list(&[SECOND, 3 * SECOND]).unwrap();
    let policy = Hedge::builder(delays)
        .attempts(4)
        .no_budget()
        .build()
        .unwrap();
    let never = [60 * SECOND; 4];
    let (winner, sent) = race(policy, &never);
    assert_eq!(winner, Err(StopReason::DeadlineExceeded), "30 s by default");
    assert_eq!(sent, [0, 1, 4, 7].map(|at| at * SECOND));
}

#[test]
fn no_delay_sends_all_at_once() {
    let policy = Hedge::builder(Duration::ZERO).attempts(3).no_budget();
    let (winner, sent) = race(policy.build().unwrap(), &[3 * SECOND, SECOND, 2 * SECOND]);
    assert_eq!((winner, sent), (Ok(2), vec![Duration::ZERO; 3]));
}

#[test]
fn a_live_quantile_of_observed_latency() {
    let time = ManualTime::new();
    let live = LiveQuantile::new(0.9, 10 * SECOND).unwrap();
    let policy = Hedge::builder(live.clone()).no_budget().build().unwrap();
    let (sent, operations) = (Cell::new(0_u32), 4_000);
    for operation in 0..operations {
        // Every twentieth first attempt is slow; a second one never is.
        let slow = operation % 20 == 19;
        let op = |attempt: Attempt| {
            sent.set(sent.get() + 1);
            let takes = if slow && attempt.number() == 1 {
                2_000
            } else {
                20 + operation % 50
            };
            let sleep = time.sleep(millis(takes));
            async move {
                sleep.await;
                Ok::<_, ()>(())
            }
        };
        run(&time, op.hedge_on(&time, policy.clone())).unwrap();
    }
    // The 90th percentile of 20 to 69 ms, with 5 % above, is about 67 ms.
    let delay = live.current();
    assert!(delay > millis(60) && delay < millis(75), "{delay:?}");
    // It does not creep down because winners cut the slow ones off: about 10 % are hedged, to the end.
    let share = f64::from(sent.get()) / f64::from(u32::try_from(operations).unwrap()) - 1.0;
    assert!(share > 0.04 && share < 0.16, "{share}");
}

#[test]
fn a_failure_sends_the_next_attempt_at_once() {
    let time = ManualTime::new();
    let log = Log::new(&time);
    let op = |attempt: Attempt| {
        log.note();
        async move {
            if attempt.number() == 1 {
                Err("down")
            } else {
                Ok(attempt.number())
            }
        }
    };
    let call = op.hedge_on(&time, Hedge::after(SECOND));
    assert_eq!(run(&time, call), Ok(2));
    assert_eq!(log.at(), [Duration::ZERO; 2]);

    let patient = Hedge::builder(SECOND).on_failure(false).build().unwrap();
    assert_eq!(run(&time, op.hedge_on(&time, patient)), Ok(2));
    assert_eq!(log.at()[2..], [Duration::ZERO, SECOND]);
}

#[test]
fn a_final_failure_ends_all_attempts() {
    let time = ManualTime::new();
    let op = |attempt: Attempt| {
        let time = &time;
        async move {
            if attempt.number() == 1 {
                pending::<()>().await;
            }
            time.sleep(SECOND).await;
            Err::<(), _>("404")
        }
    };
    let call = op
        .hedge_on(&time, Hedge::after(SECOND))
        .retry_if(|error| *error != "404");
    let error = run(&time, call).unwrap_err();
    assert_eq!(error.reason(), StopReason::NotRetryable);
    assert_eq!((error.attempts(), error.elapsed()), (2, 2 * SECOND));
    assert_eq!(
        error.effect(),
        Effect::Unknown,
        "the one that was dropped may have happened"
    );
    assert_eq!(error.into_last(), Some("404"));
}

#[test]
fn all_attempts_fail() {
    let time = ManualTime::new();
    let fault = Fault::new(Class::Unavailable, Effect::NotDone);
    let call = (|| async { Err::<(), _>(fault) })
        .hedge_on(&time, Hedge::builder(SECOND).attempts(3).build().unwrap())
        .by_class();
    let error = run(&time, call).unwrap_err();
    assert_eq!(
        (error.reason(), error.attempts()),
        (StopReason::AttemptsExhausted, 3)
    );
    assert_eq!(error.effect(), Effect::NotDone);
    assert!(!error.timed_out());
}

#[test]
fn the_budget_caps_the_extra_load() {
    let time = ManualTime::new();
    let budget = RetryBudget::in_flight(0.0, 1).unwrap();
    let sent = Cell::new(0);
    let op = || {
        sent.set(sent.get() + 1);
        pending::<Result<(), ()>>()
    };
    let policy = Hedge::builder(SECOND)
        .attempts(4)
        .timeout(10 * SECOND)
        .budget(budget.clone())
        .build()
        .unwrap();
    let error = run(&time, op.hedge_on(&time, policy)).unwrap_err();
    assert_eq!(sent.get(), 2, "the first, and one hedge in flight");
    assert_eq!(error.reason(), StopReason::DeadlineExceeded);
    assert_eq!(budget.snapshot().available, 1, "given back");
    assert_eq!(
        budget.snapshot().refused,
        1,
        "once refused, no further hedge is sent"
    );

    let dry = RetryBudget::in_flight(0.0, 0).unwrap();
    let policy = Hedge::after(SECOND).with_budget(dry);
    let call = (|| async { Err::<(), _>(()) }).hedge_on(&time, policy);
    assert_eq!(
        run(&time, call).unwrap_err().reason(),
        StopReason::BudgetEmpty
    );
}

#[test]
fn push_back_delays_or_stops_hedges() {
    let time = ManualTime::new();
    for (asked, reason, starts) in [
        (
            PushBack::After(3 * SECOND),
            StopReason::AttemptsExhausted,
            vec![0, 3],
        ),
        (PushBack::Stop, StopReason::PushedBack, vec![0]),
        (
            PushBack::After(40 * SECOND),
            StopReason::DeadlineWouldPass,
            vec![0],
        ),
    ] {
        let log = Log::new(&time);
        let call = (|| async {
            log.note();
            Err::<(), _>(())
        })
        .hedge_on(&time, Hedge::after(SECOND))
        .push_back(|_| asked);
        assert_eq!(run(&time, call).unwrap_err().reason(), reason);
        let starts: Vec<_> = starts.into_iter().map(Duration::from_secs).collect();
        assert_eq!(log.at(), starts, "{asked:?}");
    }
}

#[test]
fn the_deadline_ends_all_attempts_and_each_sees_it() {
    let time = ManualTime::new();
    let seen = RefCell::new(Vec::new());
    let op = |attempt: Attempt| {
        seen.borrow_mut().push(attempt.remaining());
        #[cfg(feature = "tokio")]
        assert_eq!(Deadline::current(), attempt.deadline());
        pending::<Result<(), ()>>()
    };
    let call = op
        .hedge_on(&time, Hedge::after(SECOND))
        .deadline(Deadline::after(time.now(), 4 * SECOND));
    let error = run(&time, call).unwrap_err();
    assert_eq!(error.elapsed(), 4 * SECOND);
    assert!(error.timed_out());
    assert_eq!(error.last(), None);
    assert_eq!(seen.into_inner(), [4 * SECOND, 3 * SECOND]);
}

#[test]
fn hedges_inside_a_hedge_do_not_multiply() {
    let (time, calls) = (ManualTime::new(), Cell::new(0));
    let call = (|outer: Attempt| {
        let (time, calls) = (&time, &calls);
        async move {
            (|| async {
                calls.set(calls.get() + 1);
                Err::<(), _>(())
            })
            .hedge_on(time, Hedge::after(SECOND))
            .within(&outer)
            .await
        }
    })
    .hedge_on(&time, Hedge::after(SECOND));
    assert!(run(&time, call).is_err());
    assert_eq!(calls.get(), 2);
}

#[test]
fn a_policy_that_cannot_be_is_refused() {
    let message = |attempts| {
        let builder = Hedge::builder(SECOND).attempts(attempts);
        builder.build().unwrap_err().to_string()
    };
    assert_eq!(message(0), "attempts: must be at least 1");
    assert_eq!(message(9), "attempts: must be at most 8");
    let list = |count| HedgeDelay::list(&vec![SECOND; count]);
    assert!(list(0).is_err() && list(7).is_ok());
    assert_eq!(
        list(8).unwrap_err().to_string(),
        "hedge delays (count): must be at most 7"
    );
    let no_time = Hedge::builder(SECOND).timeout(Duration::ZERO);
    assert!(no_time.build().is_err());
}
