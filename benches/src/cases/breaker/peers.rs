//! The other side.

use super::{Answer, Answering, Policy, succeeds, trip};
use crate::harness::Contender;
use failsafe::{CircuitBreaker as _, backoff, failure_policy};
use layered::{Execute, Service as _, Stack as _};
use recloser::Recloser;
use seatbelt::breaker::Breaker as SeatbeltBreaker;
use seatbelt::{RecoveryInfo, ResilienceContext};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tick::Clock;
use tower::{Layer as _, Service as _, ServiceExt as _, service_fn};
use tower_resilience::circuitbreaker::{CircuitBreakerLayer, SlidingWindowType};

const HOUR: Duration = Duration::from_secs(3600);

fn make_recloser() -> Recloser {
    Recloser::custom()
        .error_rate(0.9)
        .closed_len(100)
        .open_wait(HOUR)
        .build()
}

fn run_recloser(threads: usize, breaker: Recloser, answer: impl Answering) -> Contender {
    let breaker = Arc::new(breaker);
    Contender::shared("recloser", threads, move || {
        let breaker = Arc::clone(&breaker);
        let mut n = 0;
        move || {
            n += 1;
            breaker.call(|| answer(n))
        }
    })
}

pub(super) fn recloser(threads: usize, answer: impl Answering) -> Contender {
    run_recloser(threads, make_recloser(), answer)
}

pub(super) fn recloser_open(threads: usize, answer: impl Answering) -> Contender {
    let breaker = make_recloser();
    trip(|answer| matches!(breaker.call(|| answer(0)), Err(recloser::Error::Rejected)));
    run_recloser(threads, breaker, answer)
}

fn run_failsafe<B>(threads: usize, breaker: B, answer: impl Answering) -> Contender
where
    B: failsafe::CircuitBreaker + Clone + Sync + 'static,
{
    Contender::shared("failsafe", threads, move || {
        let breaker = breaker.clone();
        let mut n = 0;
        move || {
            n += 1;
            breaker.call(|| answer(n))
        }
    })
}

pub(super) fn failsafe(threads: usize, policy: Policy, answer: impl Answering) -> Contender {
    let open = backoff::constant(HOUR);
    match policy {
        Policy::Consecutive => {
            let policy = failure_policy::consecutive_failures(5, open);
            let breaker = failsafe::Config::new().failure_policy(policy).build();
            run_failsafe(threads, breaker, answer)
        }
        Policy::Time | Policy::Calls => {
            let window = Duration::from_secs(10);
            let policy = failure_policy::success_rate_over_time_window(0.1, 100, window, open);
            let breaker = failsafe::Config::new().failure_policy(policy).build();
            run_failsafe(threads, breaker, answer)
        }
    }
}

pub(super) fn failsafe_open(threads: usize, answer: impl Answering) -> Contender {
    let policy = failure_policy::consecutive_failures(1, backoff::constant(HOUR));
    let breaker = failsafe::Config::new().failure_policy(policy).build();
    trip(|answer| matches!(breaker.call(|| answer(0)), Err(failsafe::Error::Rejected)));
    run_failsafe(threads, breaker, answer)
}

/// A clock that nobody drives: a breaker only reads it.
fn clock() -> Clock {
    let (clock, driver) = tick::runtime::InactiveClock::default().activate(Waker::noop().clone());
    // The clock works as long as its driver lives.
    std::mem::forget(driver);
    clock
}

/// The input carries the answer, so that one service can be tripped and then used.
type Request = (u64, Answer);

fn seatbelt_service()
-> impl layered::Service<Request, Out = Result<u64, u64>> + Clone + Sync + 'static {
    let context = ResilienceContext::new(clock());
    let layer = SeatbeltBreaker::layer("breaker", &context)
        .recovery_with(|result: &Result<u64, u64>, _| match result {
            Ok(_) => RecoveryInfo::never(),
            Err(_) => RecoveryInfo::retry(),
        })
        .rejected_input_error(|_, _| 0)
        .failure_threshold(0.9)
        .min_throughput(100)
        .sampling_duration(Duration::from_secs(10))
        .break_duration(HOUR);
    let inner = Execute::new(|(n, answer): Request| async move { answer(n) });
    (layer, inner).into_service()
}

fn run_seatbelt<S>(threads: usize, service: S) -> Contender
where
    S: layered::Service<Request, Out = Result<u64, u64>> + Clone + Sync + 'static,
{
    Contender::tasks("seatbelt", threads, move || {
        let service = service.clone();
        let mut n = 0;
        async move || {
            n += 1;
            service.execute((n, succeeds as Answer)).await
        }
    })
}

pub(super) fn seatbelt(threads: usize) -> Contender {
    run_seatbelt(threads, seatbelt_service())
}

pub(super) fn seatbelt_open(threads: usize) -> Contender {
    let service = seatbelt_service();
    // A rejection answers 0, the inner service its argument.
    trip(|answer| at_once(service.execute((1, answer))) == Err(0));
    run_seatbelt(threads, service)
}

/// Polls a future that is ready at once.
fn at_once<F: Future>(future: F) -> F::Output {
    match std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("the future does not wait"),
    }
}

pub(super) fn seatbelt_bytes() -> Contender {
    let service = seatbelt_service();
    Contender::task_bytes("seatbelt", move || {
        let service = service.clone();
        async move || service.execute((1, succeeds as Answer)).await
    })
}

fn tower_resilience_service(
    policy: Policy,
    open: bool,
) -> impl tower::Service<Request, Response = u64, Error: Send, Future: Send>
+ Clone
+ Send
+ Sync
+ 'static {
    let builder = CircuitBreakerLayer::builder()
        .failure_rate_threshold(0.9)
        .minimum_number_of_calls(100)
        .wait_duration_in_open(HOUR);
    let builder = match policy {
        Policy::Calls => builder.sliding_window_size(100),
        Policy::Consecutive => builder.consecutive_failures(5),
        Policy::Time => builder
            .sliding_window_type(SlidingWindowType::TimeBased)
            .sliding_window_duration(HOUR),
    };
    let (layer, handle) = builder
        .build_with_handle()
        .expect("the limits are in range");
    if open {
        at_once(handle.force_open());
    }
    layer.layer(service_fn(|(n, answer): Request| async move { answer(n) }))
}

fn run_tower<S>(threads: usize, service: S) -> Contender
where
    S: tower::Service<Request> + Clone + Sync + 'static,
{
    Contender::tasks("tower-resilience", threads, move || {
        let mut service = service.clone();
        let mut n = 0;
        async move || {
            n += 1;
            match service.ready().await {
                Ok(service) => service.call((n, succeeds as Answer)).await,
                Err(error) => Err(error),
            }
        }
    })
}

pub(super) fn tower_resilience(threads: usize, policy: Policy, filled: u64) -> Contender {
    let service = tower_resilience_service(policy, false);
    let mut contender = run_tower(threads, service);
    if filled > 0 {
        contender.run(filled);
    }
    contender
}

pub(super) fn tower_resilience_open(threads: usize) -> Contender {
    run_tower(threads, tower_resilience_service(Policy::Calls, true))
}

pub(super) fn tower_resilience_bytes() -> Contender {
    let service = tower_resilience_service(Policy::Calls, false);
    Contender::task_bytes("tower-resilience", move || {
        let mut service = service.clone();
        async move || match service.ready().await {
            Ok(service) => service.call((1, succeeds as Answer)).await,
            Err(error) => Err(error),
        }
    })
}
