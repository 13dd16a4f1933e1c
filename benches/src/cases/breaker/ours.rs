//! Our side.

use super::{Answer, Answering, Policy, succeeds};
use crate::harness::Contender;
use dpat_breaker::{Breaker, BreakerLayer, Config, Trip};
use dpat_core::{Clock, Instant, SystemClock, Wall};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tower::{Layer as _, Service, ServiceExt as _, service_fn};

const HOUR: Duration = Duration::from_secs(3600);
const TEN_SECONDS: Duration = Duration::from_secs(10);
const BUCKETS: u32 = 10;

fn config(trip: Trip) -> Config {
    Config::builder()
        .trip_on(trip)
        .build()
        .expect("the limits are in range")
}

fn over_time(window: Duration) -> Trip {
    Trip::failure_rate(0.9)
        .over_time(window, BUCKETS)
        .minimum_calls(100)
}

pub(super) fn breaker(policy: Policy) -> Breaker {
    Breaker::new(config(match policy {
        Policy::Calls => Trip::failure_rate(0.9).over_calls(100).minimum_calls(100),
        Policy::Time => over_time(TEN_SECONDS),
        Policy::Consecutive => Trip::consecutive_failures(5),
    }))
}

/// Open for an hour by its own rule.
pub(super) fn open() -> Breaker {
    let config = Config::builder()
        .trip_on(Trip::consecutive_failures(1))
        .open_time(dpat_breaker::OpenTime::fixed(HOUR))
        .build()
        .expect("the limits are in range");
    let breaker = Breaker::new(config);
    super::trip(|answer| {
        matches!(
            breaker.call_sync(|| answer(0)),
            Err(dpat_breaker::CallError::Rejected(_))
        )
    });
    breaker
}

pub(super) fn closure(threads: usize, breaker: Breaker, answer: impl Answering) -> Contender {
    Contender::shared("dpat-breaker", threads, move || {
        let breaker = breaker.clone();
        let mut n = 0;
        move || {
            n += 1;
            breaker.call_sync(|| answer(n))
        }
    })
}

pub(super) fn future(threads: usize, breaker: Breaker) -> Contender {
    Contender::tasks("dpat-breaker", threads, move || {
        let breaker = breaker.clone();
        let mut n = 0;
        async move || {
            n += 1;
            let answer: Answer = succeeds;
            breaker.call(async move { answer(n) }).await
        }
    })
}

pub(super) fn future_bytes() -> Contender {
    let breaker = breaker(Policy::Time);
    Contender::task_bytes("dpat-breaker", move || {
        let breaker = breaker.clone();
        async move || breaker.call(async { succeeds(1) }).await
    })
}

fn make_service(
    breaker: Breaker,
) -> impl Service<(u64, Answer), Response = u64, Error: Send, Future: Send> + Clone + Send + Sync + 'static
{
    BreakerLayer::new(breaker).layer(service_fn(
        |(n, answer): (u64, Answer)| async move { answer(n) },
    ))
}

pub(super) fn service(threads: usize, breaker: Breaker) -> Contender {
    let service = make_service(breaker);
    Contender::tasks("dpat-breaker", threads, move || {
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

pub(super) fn service_bytes() -> Contender {
    let service = make_service(breaker(Policy::Calls));
    Contender::task_bytes("dpat-breaker", move || {
        let mut service = service.clone();
        async move || match service.ready().await {
            Ok(service) => service.call((1, succeeds as Answer)).await,
            Err(error) => Err(error),
        }
    })
}

/// A service whose time window of an hour holds so many calls.
pub(super) fn filled_service(calls: u64) -> Contender {
    let mut contender = service(1, Breaker::new(config(over_time(HOUR))));
    contender.run(calls);
    contender
}

/// Moves on by the same step at each reading.
struct Stepping {
    now: AtomicU64,
    step: u64,
}

impl Clock for Stepping {
    fn now(&self) -> Instant {
        Instant::from_nanos(self.now.fetch_add(self.step, Ordering::Relaxed))
    }

    fn wall(&self) -> Wall {
        Wall::MIN
    }
}

/// A breaker with about `calls` calls in its time window, all the time.
pub(super) fn stepped(name: &str, calls: u64) -> Contender {
    let clock = |step| Stepping {
        now: AtomicU64::new(HOUR.as_secs() * 1_000_000_000),
        step,
    };
    // How often a call reads the clock is the breaker's business: count it.
    let probe = Breaker::with_clock(config(over_time(TEN_SECONDS)), clock(1));
    let before = probe.clock().now();
    let answered = probe.call_sync(|| succeeds(1)).is_ok();
    assert!(answered, "a new breaker is closed");
    let readings = probe.clock().now().since(before).as_nanos() as u64 - 1;
    let step = TEN_SECONDS.as_nanos() as u64 / calls / readings.max(1);
    let breaker = Breaker::with_clock(config(over_time(TEN_SECONDS)), clock(step));
    let mut contender = Contender::single(name, move || breaker.call_sync(|| succeeds(1)));
    contender.run(calls);
    contender
}

/// Says at compile time that the default breaker reads the system's clock, as the peers do.
const _: fn(Config) -> Breaker<SystemClock> = Breaker::new;
