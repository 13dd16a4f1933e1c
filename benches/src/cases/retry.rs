//! Retry and its budgets against backon, tokio-retry2, tower, tower-resilience and seatbelt.

mod budgets;
mod ours;
mod peers;

use crate::harness::{Case, Contender};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub(super) const NOTES: &str = "\
What each side does besides retrying:

- *dpat-retry* can hold one deadline for the whole operation, a timeout for each attempt and a budget; the rows say \
which of them are on. A retry without a wait yields to the runtime once.
- *backon* has no deadline, no attempt timeout, no budget.
- *tokio-retry2* has none of them either (`MaxInterval` bounds the sum of the waits); each call boxes a notifier, and \
a retry without a wait goes through tokio's timer.
- *tower* leaves attempts, waits and budget to the user's `Policy`, which is cloned for each request.
- *tower-resilience* boxes the future; its budgets are a token bucket refilled by time, and AIMD; a retry without a \
wait goes through tokio's timer.
- *seatbelt* has no deadline and no budget; closures for cloning and classification are boxed once, at set-up.";

/// Attempts of every contender, the first one included.
const ATTEMPTS: u32 = 3;
/// The first wait; doubles, up to [`MAX_DELAY`], without jitter.
const MIN_DELAY: Duration = Duration::from_millis(100);
const MAX_DELAY: Duration = Duration::from_secs(20);

/// What is retried.
pub(super) trait Operation: Clone + Send + Sync + 'static {
    fn attempt(&self) -> Result<u64, u64>;
}

/// Succeeds at once.
#[derive(Clone, Copy)]
pub(super) struct Succeeds;

impl Operation for Succeeds {
    fn attempt(&self) -> Result<u64, u64> {
        std::hint::black_box(Ok(7))
    }
}

/// Fails at each odd attempt, so that every retried operation needs two.
#[derive(Clone, Default)]
pub(super) struct SecondTime(Arc<AtomicU64>);

impl Operation for SecondTime {
    fn attempt(&self) -> Result<u64, u64> {
        let n = self.0.fetch_add(1, Ordering::Relaxed);
        std::hint::black_box(if n % 2 == 0 { Err(n) } else { Ok(n) })
    }
}

/// How long the contenders wait between attempts.
#[derive(Clone, Copy)]
pub(super) enum Waits {
    /// [`MIN_DELAY`], doubling. Never waited in a measurement.
    Doubling,
    /// Not at all.
    None,
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = vec![
        case(
            "first attempt succeeds, future",
            "A closure that makes a ready future; at most 3 attempts, 100 ms doubling to 20 s, no jitter, every error \
             retried. No deadline, no attempt timeout, no budget on either side.",
            ours::bare(Waits::Doubling, || Succeeds),
            vec![
                peers::backon(Waits::Doubling, || Succeeds),
                peers::tokio_retry2(Waits::Doubling, || Succeeds),
                peers::seatbelt(Waits::Doubling, || Succeeds),
            ],
        )
        .param("policy", "bare"),
        case(
            "first attempt succeeds, future",
            "The same with each side's defaults. Ours does more: it sets a deadline of 30 s for the operation and one \
             of 10 s for the attempt, hands them to nested calls, and asks a shared budget.",
            ours::default(|| Succeeds),
            vec![peers::backon(Waits::Doubling, || Succeeds)],
        )
        .param("policy", "default"),
        case(
            "second attempt succeeds, no wait, future",
            "The first attempt fails, the second follows without a wait. Ours yields to the runtime once; backon is \
             given a sleeper that is ready at once; seatbelt skips the timer; tokio-retry2 asks tokio's timer, which \
             fires at the next millisecond.",
            ours::bare(Waits::None, SecondTime::default),
            vec![
                peers::backon(Waits::None, SecondTime::default),
                peers::seatbelt(Waits::None, SecondTime::default),
                peers::tokio_retry2(Waits::None, SecondTime::default),
            ],
        ),
        case(
            "first attempt succeeds, tower service",
            "`ready().await`, then `call`, over a service that answers at once; at most 3 attempts, a budget on each \
             side: a share of 20 % of the traffic of 10 s for ours and for tower, a token bucket for \
             tower-resilience. No deadline, no attempt timeout.",
            ours::service(|| Succeeds, Waits::Doubling),
            vec![
                peers::tower(|| Succeeds),
                peers::tower_resilience(|| Succeeds, Waits::Doubling),
            ],
        ),
        case(
            "second attempt succeeds, no wait, tower service",
            "The same with a first attempt that fails, and room in the budget. tower's policy returns a ready future, \
             ours yields to the runtime once, tower-resilience asks tokio's timer, which fires at the next \
             millisecond.",
            ours::service(SecondTime::default, Waits::None),
            vec![
                peers::tower(SecondTime::default),
                peers::tower_resilience(SecondTime::default, Waits::None),
            ],
        ),
    ];
    cases.extend([1, 2].into_iter().flat_map(budgets::cases));
    cases.extend([
        case(
            "first attempt succeeds, future",
            "Heap bytes of one operation.",
            ours::default_bytes(),
            vec![
                peers::backon_bytes(),
                peers::tokio_retry2_bytes(),
                peers::seatbelt_bytes(),
            ],
        )
        .bytes(),
        case(
            "first attempt succeeds, tower service",
            "Heap bytes of one call.",
            ours::service_bytes(),
            vec![peers::tower_bytes(), peers::tower_resilience_bytes()],
        )
        .bytes(),
    ]);
    cases
}

fn case(
    operation: &'static str,
    work: &'static str,
    ours: Contender,
    peers: Vec<Contender>,
) -> Case {
    Case::new("retry", operation, work, ours, peers)
}

/// Room for every retry of a measurement: the cost of a granted one is what is measured.
const ROOM_PER_SECOND: u32 = 100_000_000;
