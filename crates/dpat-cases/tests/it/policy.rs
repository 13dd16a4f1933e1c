//! The policy around every call, in virtual time.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use dpat_cases::shop::policy::{
    BUDGET_FLOOR, BUDGET_RATIO, BUDGET_WINDOW, Caller, MINIMUM_CALLS, OPEN_TIME, Policy, Use,
};
use dpat_cases::shop::service::ports::{CallError, Peer, Reply, Request, Step, Transport};
use dpat_core::{Class, Clock, Deadline, Effect, ManualTime};

/// Answers the first calls with an error, then well; counts.
#[derive(Clone)]
struct Failing {
    first: u32,
    class: Class,
    sent: Arc<AtomicU32>,
}

impl Failing {
    fn first(first: u32, class: Class) -> Self {
        Self {
            first,
            class,
            sent: Arc::default(),
        }
    }

    fn sent(&self) -> u32 {
        self.sent.load(Ordering::Relaxed)
    }
}

impl Transport for Failing {
    async fn call(&self, _: Peer, _: Request, _: Deadline) -> Result<Reply, CallError> {
        if self.sent.fetch_add(1, Ordering::Relaxed) < self.first {
            return Err(CallError::unknown(self.class, "no"));
        }
        Ok(Reply::Done)
    }
}

const ALL: Use = Use {
    breaker: true,
    retry: true,
    budget: true,
};

fn policy(transport: &Failing, time: &ManualTime, uses: Use) -> Policy<Failing, ManualTime> {
    let caller = Caller {
        peer: Some(Peer::Order),
        ..Caller::customer()
    };
    Policy::new(transport.clone(), time.clone(), uses, caller).unwrap()
}

/// Runs a future; virtual time goes on whenever somebody waits for it.
fn run<T>(time: &ManualTime, future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let clock = async {
            loop {
                tokio::task::yield_now().await;
                if let Some(next) = time.next_wake() {
                    time.advance_to(next);
                }
            }
        };
        tokio::select! {
            biased;
            value = future => value,
            () = clock => unreachable!("the clock never ends"),
        }
    })
}

fn charge(policy: &Policy<Failing, ManualTime>, time: &ManualTime) -> Result<Reply, CallError> {
    let request = Request::new(Step::Charge, "o", Bytes::new());
    let deadline = Deadline::after(time.now(), Duration::from_secs(60));
    run(time, policy.call(Peer::Payment, request, deadline))
}

#[test]
fn two_lost_requests_are_survived() {
    let (transport, time) = (Failing::first(2, Class::Transient), ManualTime::new());
    let policy = policy(&transport, &time, ALL);
    assert_eq!(charge(&policy, &time), Ok(Reply::Done));
    assert_eq!(transport.sent(), 3);
}

#[test]
fn a_call_makes_three_attempts_and_no_more() {
    let (transport, time) = (Failing::first(9, Class::Transient), ManualTime::new());
    let policy = policy(&transport, &time, ALL);
    let error = charge(&policy, &time).unwrap_err();
    assert_eq!(
        (error.class, error.effect),
        (Class::Transient, Effect::Unknown)
    );
    assert_eq!(transport.sent(), 3);
}

#[test]
fn what_stays_wrong_is_not_repeated() {
    let (transport, time) = (Failing::first(9, Class::Permanent), ManualTime::new());
    let policy = policy(&transport, &time, ALL);
    assert!(charge(&policy, &time).is_err());
    assert_eq!(transport.sent(), 1);
}

#[test]
fn without_retry_there_is_one_attempt() {
    let (transport, time) = (Failing::first(9, Class::Transient), ManualTime::new());
    let policy = policy(
        &transport,
        &time,
        Use {
            retry: false,
            ..ALL
        },
    );
    assert!(charge(&policy, &time).is_err());
    assert_eq!(transport.sent(), 1);
}

#[test]
fn the_breaker_opens_refuses_without_sending_and_closes_after_a_probe() {
    let first = MINIMUM_CALLS;
    let (transport, time) = (Failing::first(first, Class::Unavailable), ManualTime::new());
    let policy = policy(
        &transport,
        &time,
        Use {
            retry: false,
            ..ALL
        },
    );
    for _ in 0..first {
        assert!(charge(&policy, &time).is_err());
    }
    let refused = charge(&policy, &time).unwrap_err();
    assert_eq!(refused.effect, Effect::NotDone);
    assert_eq!(refused.retry_after, Some(OPEN_TIME));
    assert_eq!(transport.sent(), first);
    let payment = |state: &str| {
        let mut breakers = policy.breakers().into_iter();
        let breaker = breakers
            .find(|breaker| breaker.to == Peer::Payment)
            .unwrap();
        assert_eq!(breaker.state, state);
    };
    payment("open");
    time.advance(OPEN_TIME);
    assert_eq!(charge(&policy, &time), Ok(Reply::Done));
    payment("closed");
}

#[test]
fn the_budget_bounds_the_retries_of_a_storm() {
    let calls = 500;
    let sent = |budget| {
        let (transport, time) = (
            Failing::first(u32::MAX, Class::Transient),
            ManualTime::new(),
        );
        let uses = Use {
            breaker: false,
            retry: true,
            budget,
        };
        let policy = policy(&transport, &time, uses);
        let begin = time.now();
        for _ in 0..calls {
            assert!(charge(&policy, &time).is_err());
        }
        (transport.sent(), time.now().since(begin))
    };
    let (unbounded, _) = sent(false);
    assert_eq!(unbounded, 3 * calls);
    let (bounded, took) = sent(true);
    let windows = took.as_secs_f64() / BUDGET_WINDOW.as_secs_f64() + 1.0;
    let floor = f64::from(BUDGET_FLOOR) * BUDGET_WINDOW.as_secs_f64() * windows;
    let limit = f64::from(calls) * BUDGET_RATIO + floor;
    assert!(
        f64::from(bounded - calls) <= limit,
        "{bounded} sent, {limit} retries allowed"
    );
}
