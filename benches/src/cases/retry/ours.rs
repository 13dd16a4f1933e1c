//! Our side.

use super::{ATTEMPTS, MAX_DELAY, MIN_DELAY, Operation, ROOM_PER_SECOND, Succeeds, Waits};
use crate::harness::Contender;
use dpat_core::{Backoff, Clock as _, TokioTime};
use dpat_retry::{BudgetLimits, Retry, RetryBudget, RetryExt as _};
use std::future::ready;
use std::time::Duration;
use tower::{Layer as _, Service as _, ServiceExt as _, service_fn};

fn backoff(waits: Waits) -> Backoff {
    match waits {
        Waits::Doubling => {
            Backoff::exponential(MIN_DELAY, 2.0, MAX_DELAY).expect("the limits are in range")
        }
        Waits::None => Backoff::constant(Duration::ZERO),
    }
}

/// As little as the peers have.
fn bare_policy(waits: Waits) -> Retry {
    Retry::builder()
        .attempts(ATTEMPTS)
        .backoff(backoff(waits))
        .no_timeout()
        .no_attempt_timeout()
        .no_budget()
        .build()
        .expect("the limits are in range")
}

fn traffic() -> RetryBudget {
    let limits = BudgetLimits::traffic_in(0.2, Duration::from_secs(10), ROOM_PER_SECOND);
    RetryBudget::new(limits).expect("the limits are in range")
}

fn run<O: Operation>(policy: Retry, operation: impl Fn() -> O + Sync + 'static) -> Contender {
    Contender::tasks("dpat-retry", 1, move || {
        let policy = policy.clone();
        let operation = operation();
        async move || {
            (|| async { operation.attempt() })
                .retry(policy.clone())
                .await
        }
    })
}

pub(super) fn bare<O: Operation>(
    waits: Waits,
    operation: impl Fn() -> O + Sync + 'static,
) -> Contender {
    run(bare_policy(waits), operation)
}

pub(super) fn default<O: Operation>(operation: impl Fn() -> O + Sync + 'static) -> Contender {
    run(Retry::default(), operation)
}

pub(super) fn default_bytes() -> Contender {
    Contender::task_bytes("dpat-retry", || {
        let policy = Retry::default();
        async move || {
            (|| async { Succeeds.attempt() })
                .retry(policy.clone())
                .await
        }
    })
}

pub(super) fn budget_request(threads: usize) -> Contender {
    let budget = traffic();
    Contender::tasks("dpat-retry", threads, move || {
        let budget = budget.clone();
        async move || drop(budget.clone().request(TokioTime.now()))
    })
}

pub(super) fn budget_retry(threads: usize) -> Contender {
    let budget = traffic();
    Contender::tasks("dpat-retry", threads, move || {
        let budget = budget.clone();
        async move || {
            let now = TokioTime.now();
            let ticket = budget.clone().request(now);
            if let Some(mut permit) = ticket.budget().try_extra(now) {
                permit.sent();
            }
        }
    })
}

pub(super) fn token_budget(threads: usize) -> Contender {
    let budget = RetryBudget::tokens(1_000, 0.1).expect("the limits are in range");
    Contender::tasks("dpat-retry", threads, move || {
        let budget = budget.clone();
        async move || {
            budget.success();
            if let Some(mut permit) = budget.try_extra(dpat_core::Instant::MIN) {
                permit.sent();
            }
        }
    })
}

fn make_service<O: Operation>(
    waits: Waits,
    operation: O,
) -> impl tower::Service<u64, Response = u64, Error: Send> + Clone + Sync + 'static {
    let layer = bare_policy(waits).with_budget(traffic()).layer();
    layer.layer(service_fn(move |_: u64| ready(operation.attempt())))
}

pub(super) fn service<O: Operation>(
    operation: impl Fn() -> O + Sync + 'static,
    waits: Waits,
) -> Contender {
    let service = make_service(waits, operation());
    Contender::tasks("dpat-retry", 1, move || {
        let mut service = service.clone();
        async move || match service.ready().await {
            Ok(service) => service.call(1).await,
            Err(error) => Err(error),
        }
    })
}

pub(super) fn service_bytes() -> Contender {
    let service = make_service(Waits::Doubling, Succeeds);
    Contender::task_bytes("dpat-retry", move || {
        let mut service = service.clone();
        async move || match service.ready().await {
            Ok(service) => service.call(1).await,
            Err(error) => Err(error),
        }
    })
}
