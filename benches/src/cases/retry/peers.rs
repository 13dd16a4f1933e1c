//! The other side.

use super::{ATTEMPTS, MAX_DELAY, MIN_DELAY, Operation, ROOM_PER_SECOND, Succeeds, Waits};
use crate::harness::Contender;
use backon::{BackoffBuilder, ConstantBuilder, ExponentialBuilder, Retryable};
use layered::{Execute, Service as _, Stack as _};
use seatbelt::retry::{Backoff, Retry as SeatbeltRetry};
use seatbelt::{RecoveryInfo, ResilienceContext};
use std::future::{Ready, ready};
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;
use tokio_retry2::strategy::{ExponentialFactorBackoff, FixedInterval};
use tokio_retry2::{Retry as TokioRetry, RetryError};
use tower::retry::budget::{Budget as _, TpsBudget};
use tower::retry::{Policy, Retry as TowerRetry};
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_resilience::retry::{RetryBudgetBuilder, RetryLayer};

const RETRIES: usize = ATTEMPTS as usize - 1;

fn doubling() -> ExponentialBuilder {
    ExponentialBuilder::default()
        .with_min_delay(MIN_DELAY)
        .with_factor(2.0)
        .with_max_delay(MAX_DELAY)
        .with_max_times(RETRIES)
}

fn none() -> ConstantBuilder {
    ConstantBuilder::default()
        .with_delay(Duration::ZERO)
        .with_max_times(RETRIES)
}

pub(super) fn backon<O: Operation>(
    waits: Waits,
    operation: impl Fn() -> O + Sync + 'static,
) -> Contender {
    match waits {
        Waits::Doubling => backon_with(doubling(), operation),
        Waits::None => backon_with(none(), operation),
    }
}

fn backon_with<O: Operation, B: BackoffBuilder + Copy + Sync + 'static>(
    policy: B,
    operation: impl Fn() -> O + Sync + 'static,
) -> Contender {
    Contender::tasks("backon", 1, move || {
        let operation = operation();
        async move || {
            (|| async { operation.attempt() })
                .retry(policy)
                .sleep(|_| ready(()))
                .await
        }
    })
}

pub(super) fn backon_bytes() -> Contender {
    let policy = doubling();
    Contender::task_bytes("backon", move || {
        async move || (|| async { Succeeds.attempt() }).retry(policy).await
    })
}

pub(super) fn tokio_retry2<O: Operation>(
    waits: Waits,
    operation: impl Fn() -> O + Sync + 'static,
) -> Contender {
    Contender::tasks("tokio-retry2", 1, move || {
        let operation = operation();
        async move || {
            let attempt = || async { operation.attempt().map_err(RetryError::transient) };
            match waits {
                Waits::Doubling => {
                    let delays = ExponentialFactorBackoff::from_millis(100, 2.0)
                        .max_delay(MAX_DELAY)
                        .take(RETRIES);
                    TokioRetry::spawn(delays, attempt).await
                }
                Waits::None => {
                    let delays = FixedInterval::from_millis(0).take(RETRIES);
                    TokioRetry::spawn(delays, attempt).await
                }
            }
        }
    })
}

pub(super) fn tokio_retry2_bytes() -> Contender {
    Contender::task_bytes("tokio-retry2", || {
        async || {
            let delays = ExponentialFactorBackoff::from_millis(100, 2.0)
                .max_delay(MAX_DELAY)
                .take(RETRIES);
            let attempt = || async { Succeeds.attempt().map_err(RetryError::transient) };
            TokioRetry::spawn(delays, attempt).await
        }
    })
}

/// A clock that nobody drives: nothing here waits longer than zero.
fn clock() -> tick::Clock {
    let (clock, driver) = tick::runtime::InactiveClock::default().activate(Waker::noop().clone());
    // The clock works as long as its driver lives.
    std::mem::forget(driver);
    clock
}

fn seatbelt_service<O: Operation>(
    waits: Waits,
    operation: O,
) -> impl layered::Service<u64, Out = Result<u64, u64>> + Sync + 'static {
    let context = ResilienceContext::new(clock());
    let layer = SeatbeltRetry::layer("retry", &context)
        .clone_input()
        .recovery_with(|result: &Result<u64, u64>, _| match result {
            Ok(_) => RecoveryInfo::never(),
            Err(_) => RecoveryInfo::retry(),
        })
        .max_retry_attempts(ATTEMPTS - 1)
        .max_delay(MAX_DELAY)
        .use_jitter(false);
    let layer = match waits {
        Waits::Doubling => layer.backoff(Backoff::Exponential).base_delay(MIN_DELAY),
        Waits::None => layer.backoff(Backoff::Constant).base_delay(Duration::ZERO),
    };
    let inner = Execute::new(move |_: u64| {
        let result = operation.attempt();
        async move { result }
    });
    (layer, inner).into_service()
}

pub(super) fn seatbelt<O: Operation>(
    waits: Waits,
    operation: impl Fn() -> O + Sync + 'static,
) -> Contender {
    let service = Arc::new(seatbelt_service(waits, operation()));
    Contender::tasks("seatbelt", 1, move || {
        let service = Arc::clone(&service);
        async move || service.execute(1).await
    })
}

pub(super) fn seatbelt_bytes() -> Contender {
    let service = Arc::new(seatbelt_service(Waits::Doubling, Succeeds));
    Contender::task_bytes("seatbelt", move || {
        let service = Arc::clone(&service);
        async move || service.execute(1).await
    })
}

/// tower's policy as its documentation writes one, with a budget.
#[derive(Clone)]
struct Attempts {
    left: u32,
    budget: Arc<TpsBudget>,
}

impl Policy<u64, u64, u64> for Attempts {
    type Future = Ready<()>;

    fn retry(&mut self, _: &mut u64, result: &mut Result<u64, u64>) -> Option<Ready<()>> {
        if result.is_ok() {
            self.budget.deposit();
            return None;
        }
        if self.left == 0 || !self.budget.withdraw() {
            return None;
        }
        self.left -= 1;
        Some(ready(()))
    }

    fn clone_request(&mut self, request: &u64) -> Option<u64> {
        Some(*request)
    }
}

fn tower_service<O: Operation>(
    operation: O,
) -> impl tower::Service<u64, Response = u64, Error = u64> + Clone + Sync + 'static {
    let policy = Attempts {
        left: ATTEMPTS - 1,
        budget: Arc::new(TpsBudget::new(
            Duration::from_secs(10),
            ROOM_PER_SECOND,
            0.2,
        )),
    };
    let inner = service_fn(move |_: u64| ready(operation.attempt()));
    TowerRetry::new(policy, inner)
}

fn run<S>(name: &str, service: S) -> Contender
where
    S: tower::Service<u64, Response = u64, Error = u64> + Clone + Sync + 'static,
{
    Contender::tasks(name, 1, move || {
        let mut service = service.clone();
        async move || service.ready().await?.call(1).await
    })
}

fn run_bytes<S>(name: &str, service: S) -> Contender
where
    S: tower::Service<u64, Response = u64, Error = u64> + Clone + 'static,
{
    Contender::task_bytes(name, move || {
        let mut service = service.clone();
        async move || service.ready().await?.call(1).await
    })
}

pub(super) fn tower<O: Operation>(operation: impl Fn() -> O + Sync + 'static) -> Contender {
    run("tower", tower_service(operation()))
}

pub(super) fn tower_bytes() -> Contender {
    run_bytes("tower", tower_service(Succeeds))
}

fn tower_resilience_service<O: Operation>(
    operation: O,
    waits: Waits,
) -> impl tower::Service<u64, Response = u64, Error = u64> + Clone + Send + Sync + 'static {
    let room = ROOM_PER_SECOND as usize;
    let budget = RetryBudgetBuilder::new()
        .token_bucket()
        .tokens_per_second(f64::from(ROOM_PER_SECOND))
        .max_tokens(room)
        .initial_tokens(room)
        .build()
        .expect("the limits are in range");
    let builder = RetryLayer::<u64, u64, u64>::builder()
        .max_attempts(ATTEMPTS as usize)
        .budget(budget);
    let layer = match waits {
        Waits::Doubling => builder.exponential_backoff(MIN_DELAY),
        Waits::None => builder.fixed_backoff(Duration::ZERO),
    };
    layer
        .build()
        .layer(service_fn(move |_: u64| ready(operation.attempt())))
}

pub(super) fn tower_resilience<O: Operation>(
    operation: impl Fn() -> O + Sync + 'static,
    waits: Waits,
) -> Contender {
    run(
        "tower-resilience",
        tower_resilience_service(operation(), waits),
    )
}

pub(super) fn tower_resilience_bytes() -> Contender {
    let service = tower_resilience_service(Succeeds, Waits::Doubling);
    run_bytes("tower-resilience", service)
}
