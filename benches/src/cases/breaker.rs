//! The circuit breaker against recloser, failsafe, tower-resilience and seatbelt.

mod ours;
mod peers;

use crate::harness::{Case, Contender};
use std::hint::black_box;

pub(super) const NOTES: &str = "\
Window semantics of each side:

- *dpat-breaker*: the count window slides by one call (the outcome 101 calls old is forgotten exactly when a new one \
arrives); the time window is ten buckets that slide by one; the share of failures is exact. Half-open probes are \
limited, and a late result of an earlier epoch changes nothing.
- *recloser*: a ring of the last 100 outcomes behind a spin lock; decides only once the ring is full. Half-open does \
not limit calls at once.
- *failsafe*: consecutive failures in a counter; its time window is an exponential moving average of the success rate \
and a counter of requests in five buckets, behind a mutex. Half-open does not limit calls at once.
- *tower-resilience*: its count window does not slide: all calls since the last change of state are counted, and \
evaluated from 100 on; its time window keeps every call and counts all of them at each call. An async mutex, a boxed \
future per call. Whoever finds the mutex taken parks its runtime, and sleeps a millisecond if the circuit is open: \
that is what the rows with two threads show.
- *seatbelt*: a time window of ten parts behind a mutex; a share of calls probes in half-open.

Where ours needs more: rejections are counted for `snapshot()`, and recloser counts none.";

/// What the called function answers to its n-th call.
pub(super) trait Answering:
    Fn(u64) -> Result<u64, u64> + Copy + Send + Sync + 'static
{
}

impl<F: Fn(u64) -> Result<u64, u64> + Copy + Send + Sync + 'static> Answering for F {}

/// The same, carried by a request.
pub(super) type Answer = fn(u64) -> Result<u64, u64>;

/// The compiler is kept from knowing the answer; a whole `Result` is not sent through memory for it, because reading
/// it back stalls some contenders and not others.
fn succeeds(n: u64) -> Result<u64, u64> {
    answer(n, black_box(false))
}

fn answer(n: u64, fails: bool) -> Result<u64, u64> {
    if fails { Err(n) } else { Ok(n) }
}

/// Two of a hundred calls fail, as on a good day.
fn fails_now_and_then(n: u64) -> Result<u64, u64> {
    answer(n, black_box(n.is_multiple_of(50)))
}

/// Every third call fails: in a window of 100 each new outcome meets a different old one two times of three.
fn fails_every_third(n: u64) -> Result<u64, u64> {
    answer(n, black_box(n.is_multiple_of(3)))
}

fn fails(n: u64) -> Result<u64, u64> {
    answer(n, black_box(true))
}

/// How the breakers of a case are set up. The thresholds are such that they stay closed.
#[derive(Clone, Copy)]
pub(super) enum Policy {
    /// 90 % failures of the last 100 calls.
    Calls,
    /// 90 % failures of the last 10 s, from 100 calls on.
    Time,
    /// Five failures in a row.
    Consecutive,
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for threads in [1, 2] {
        cases.extend(sync_calls(threads));
    }
    for threads in [1, 2] {
        cases.extend(futures(threads));
    }
    for threads in [1, 2] {
        cases.extend(tower(threads));
    }
    cases.extend(growing_window());
    cases.extend(bytes());
    cases
}

fn case(
    operation: &'static str,
    work: &'static str,
    ours: Contender,
    peers: Vec<Contender>,
) -> Case {
    Case::new("breaker", operation, work, ours, peers)
}

fn sync_calls(threads: usize) -> Vec<Case> {
    const CLOSED: &str = "Admits, runs a closure that returns at once, records the success. No features; nobody \
        takes the time as an argument, nobody measures the call. While its window holds nothing but successes, ours \
        sees that another one changes nothing and writes nothing.";
    vec![
        case(
            "closed, success, closure",
            CLOSED,
            ours::closure(threads, ours::breaker(Policy::Calls), succeeds),
            vec![peers::recloser(threads, succeeds)],
        )
        .param("policy", "last 100 calls")
        .threads(threads),
        case(
            "closed, success, closure",
            CLOSED,
            ours::closure(threads, ours::breaker(Policy::Consecutive), succeeds),
            vec![peers::failsafe(threads, Policy::Consecutive, succeeds)],
        )
        .param("policy", "5 in a row")
        .threads(threads),
        case(
            "closed, success, closure",
            CLOSED,
            ours::closure(threads, ours::breaker(Policy::Time), succeeds),
            vec![peers::failsafe(threads, Policy::Time, succeeds)],
        )
        .param("policy", "last 10 s")
        .threads(threads),
        case(
            "closed, every fiftieth fails, closure",
            "The same with a closure of which every fiftieth call fails, so that the window is never free of failures.",
            ours::closure(threads, ours::breaker(Policy::Calls), fails_now_and_then),
            vec![peers::recloser(threads, fails_now_and_then)],
        )
        .param("policy", "last 100 calls")
        .threads(threads),
        case(
            "closed, every third fails, closure",
            "The same with a closure of which every third call fails, below the threshold.",
            ours::closure(threads, ours::breaker(Policy::Calls), fails_every_third),
            vec![peers::recloser(threads, fails_every_third)],
        )
        .param("policy", "last 100 calls")
        .threads(threads),
        case(
            "closed, every third fails, closure",
            "The same with a closure of which every third call fails, below the threshold.",
            ours::closure(threads, ours::breaker(Policy::Time), fails_every_third),
            vec![peers::failsafe(threads, Policy::Time, fails_every_third)],
        )
        .param("policy", "last 10 s")
        .threads(threads),
        case(
            "open, rejection, closure",
            "Refuses a call because the breaker is open for an hour; each side reads the clock. Ours returns when to \
             retry and why it is open, the peers only that it is.",
            ours::closure(threads, ours::open(), succeeds),
            vec![
                peers::recloser_open(threads, succeeds),
                peers::failsafe_open(threads, succeeds),
            ],
        )
        .threads(threads),
    ]
}

fn futures(threads: usize) -> Vec<Case> {
    vec![
        case(
            "closed, success, future",
            "Admits, awaits a future that is ready at once, records the success; time window of 10 s, ten parts, so \
             that both read the clock. seatbelt also reads it at admission and makes a guard of reference counts.",
            ours::future(threads, ours::breaker(Policy::Time)),
            vec![peers::seatbelt(threads)],
        )
        .param("policy", "last 10 s")
        .threads(threads),
        case(
            "open, rejection, future",
            "Refuses the future because the breaker is open for an hour.",
            ours::future(threads, ours::open()),
            vec![peers::seatbelt_open(threads)],
        )
        .threads(threads),
    ]
}

fn tower(threads: usize) -> Vec<Case> {
    vec![
        case(
            "closed, success, tower service",
            "`ready().await`, then `call`, over a service that answers at once; each thread has its clone. \
             tower-resilience measures the duration of the call too and boxes the future.",
            ours::service(threads, ours::breaker(Policy::Calls)),
            vec![peers::tower_resilience(threads, Policy::Calls, 0)],
        )
        .param("policy", "last 100 calls")
        .threads(threads),
        case(
            "open, rejection, tower service",
            "The same, refused because the breaker is open for an hour.",
            ours::service(threads, ours::open()),
            vec![peers::tower_resilience_open(threads)],
        )
        .threads(threads),
    ]
}

/// The cost per call must not depend on how many calls are in the window.
fn growing_window() -> Vec<Case> {
    vec![
        case(
            "closed, success, closure, time window",
            "Ours against ours: a window of 10 s in ten buckets whose clock, given as a parameter, moves on by 10 s \
             / calls at each call, so that about so many calls are in the window all the time.",
            ours::stepped("dpat-breaker@100000", 100_000),
            vec![ours::stepped("dpat-breaker@100", 100)],
        )
        .param("calls_in_window", 100_000),
        case(
            "closed, success, tower service, time window",
            "A window of an hour that holds 10 000 calls when the measurement begins and gains one with each call.",
            ours::filled_service(10_000),
            vec![peers::tower_resilience(1, Policy::Time, 10_000)],
        )
        .param("calls_in_window", "from 10000"),
    ]
}

fn bytes() -> Vec<Case> {
    vec![
        case(
            "closed, success, future",
            "Heap bytes of one call.",
            ours::future_bytes(),
            vec![peers::seatbelt_bytes()],
        )
        .bytes(),
        case(
            "closed, success, tower service",
            "Heap bytes of one call.",
            ours::service_bytes(),
            vec![peers::tower_resilience_bytes()],
        )
        .bytes(),
    ]
}

/// Calls until the breaker has opened.
pub(super) fn trip(mut call: impl FnMut(Answer) -> bool) {
    for _ in 0..10_000 {
        if call(fails) {
            return;
        }
    }
    panic!("a breaker that only sees failures opens");
}
