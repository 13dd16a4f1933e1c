//! A request and a granted retry, by themselves.

use super::{ROOM_PER_SECOND, case, ours};
use crate::harness::{Case, Contender};
use std::sync::Arc;
use std::time::Duration;
use tower::retry::budget::{Budget as _, TpsBudget};
use tower_resilience::retry::{RetryBudget, RetryBudgetBuilder};

pub(super) fn cases(threads: usize) -> Vec<Case> {
    vec![
        case(
            "budget, request",
            "Counts one request in a share of 20 % of the traffic of 10 s. Ours is given the time (tokio's \
             clock is read for it here, as tower's budget does) and returns a ticket. Each request \
             holds a reference count, as tower's policies do.",
            ours::budget_request(threads),
            vec![tps(threads, |budget| budget.deposit())],
        )
        .threads(threads),
        case(
            "budget, request and granted retry",
            "The same, and one retry that is granted. Ours returns permits that give back what was not used.",
            ours::budget_retry(threads),
            vec![tps(threads, |budget| {
                budget.deposit();
                std::hint::black_box(budget.withdraw());
            })],
        )
        .threads(threads),
        case(
            "budget of tokens, success and granted retry",
            "Records a success with a full bucket and asks for a retry. Ours is gRPC's throttle, which needs no clock; \
             tower-resilience's bucket also refills by time and reads a clock at both.",
            ours::token_budget(threads),
            vec![token_bucket(threads)],
        )
        .threads(threads),
    ]
}

fn tps(threads: usize, operation: impl Fn(&TpsBudget) + Copy + Send + Sync + 'static) -> Contender {
    let budget = Arc::new(TpsBudget::new(
        Duration::from_secs(10),
        ROOM_PER_SECOND,
        0.2,
    ));
    Contender::tasks("tower", threads, move || {
        let budget = Arc::clone(&budget);
        // Every request has its reference, as a policy has that is cloned for each.
        async move || operation(&Arc::clone(&budget))
    })
}

fn token_bucket(threads: usize) -> Contender {
    let room = ROOM_PER_SECOND as usize;
    let budget: Arc<dyn RetryBudget> = RetryBudgetBuilder::new()
        .token_bucket()
        .tokens_per_second(f64::from(ROOM_PER_SECOND))
        .max_tokens(room)
        .initial_tokens(room)
        .build()
        .expect("the limits are in range");
    Contender::tasks("tower-resilience", threads, move || {
        let budget = Arc::clone(&budget);
        async move || {
            budget.deposit();
            budget.try_withdraw()
        }
    })
}
