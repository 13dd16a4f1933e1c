//! Futures dropped at every await: nothing is leaked, nothing given back twice.

use crate::support::{SECOND, advance};
use dpat_core::{Backoff, Clock, ManualTime, Sleep};
use dpat_retry::{Attempt, BudgetLimits, Hedge, Retry, RetryBudget, RetryExt};
use dpat_testkit::drop_at_every_await;
use std::cell::Cell;
use std::rc::Rc;

struct State {
    time: ManualTime,
    budget: RetryBudget,
    alive: Rc<Cell<i32>>,
    sent: Rc<Cell<u64>>,
}

struct Alive(Rc<Cell<i32>>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl State {
    fn new(limits: BudgetLimits) -> Self {
        Self {
            time: ManualTime::new(),
            budget: RetryBudget::new(limits).unwrap(),
            alive: Rc::default(),
            sent: Rc::default(),
        }
    }

    /// Takes a second, fails twice, then answers.
    fn operation(&self) -> impl FnMut(Attempt) -> OperationFuture + use<> {
        let (time, alive, sent) = (self.time.clone(), self.alive.clone(), self.sent.clone());
        move |attempt| {
            let (time, alive, sent) = (time.clone(), alive.clone(), sent.clone());
            Box::pin(async move {
                sent.set(sent.get() + 1);
                alive.set(alive.get() + 1);
                let _alive = Alive(alive);
                time.sleep(3 * SECOND).await;
                if attempt.number() < 3 {
                    Err("down")
                } else {
                    Ok(())
                }
            })
        }
    }

    fn check(&self, available: u64) {
        assert_eq!(self.alive.get(), 0, "no attempt is left");
        assert_eq!(self.time.sleepers(), 0, "no timer is left");
        assert_eq!(self.budget.snapshot().available, available);
        let now = self.time.now();
        let again: Vec<_> = std::iter::from_fn(|| self.budget.try_extra(now)).collect();
        assert_eq!(again.len() as u64, available);
    }
}

type OperationFuture = std::pin::Pin<Box<dyn Future<Output = Result<(), &'static str>>>>;

#[test]
fn a_retry_may_be_dropped_at_every_await() {
    let spent_per_window = BudgetLimits::traffic_in(0.0, 100 * SECOND, 1);
    let held_in_flight = BudgetLimits::in_flight(0.0, 2);
    for (limits, refills) in [(spent_per_window, false), (held_in_flight, true)] {
        let awaits = drop_at_every_await(
            || {
                let state = State::new(limits);
                let policy = Retry::builder()
                    .backoff(Backoff::constant(SECOND))
                    .budget(state.budget.clone())
                    .build()
                    .unwrap();
                (
                    state.operation().retry_on(state.time.clone(), policy),
                    state,
                )
            },
            |state| assert!(advance(&state.time)),
            |state, _| {
                // Only attempts that were sent cost something.
                let extra = state.sent.get().saturating_sub(1);
                state.check(if refills { 2 } else { 100 - extra });
            },
        );
        assert_eq!(awaits, 5, "three attempts and two waits");
    }
}

#[test]
fn a_hedge_may_be_dropped_at_every_await() {
    let awaits = drop_at_every_await(
        || {
            let state = State::new(BudgetLimits::in_flight(0.0, 5));
            let policy = Hedge::builder(SECOND)
                .attempts(4)
                .budget(state.budget.clone())
                .build()
                .unwrap();
            (
                state.operation().hedge_on(state.time.clone(), policy),
                state,
            )
        },
        |state| assert!(advance(&state.time)),
        |state, _| state.check(5),
    );
    assert!(awaits >= 4, "{awaits}");
}

#[test]
fn a_timeout_may_be_dropped_at_every_await() {
    let awaits = drop_at_every_await(
        || {
            let state = State::new(BudgetLimits::in_flight(0.0, 1));
            let time = state.time.clone();
            let inner = state.operation()(attempt(&time));
            (dpat_retry::timeout_on(time, 2 * SECOND, inner), state)
        },
        |state| assert!(advance(&state.time)),
        |state, _| state.check(1),
    );
    assert_eq!(awaits, 1);
}

/// Some attempt, made by a retry that succeeds at once.
fn attempt(time: &ManualTime) -> Attempt {
    let call =
        (|attempt: Attempt| async move { Ok::<_, ()>(attempt) }).retry_on(time, Retry::default());
    crate::support::run(time, call).unwrap()
}
