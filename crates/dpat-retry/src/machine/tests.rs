//! The rules as tables and properties, without a future.

use super::*;
use dpat_core::{Jitter, SplitMix64};
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);
const START: Instant = Instant::from_nanos(1_000_000_000_000);

const RETRYABLE: Failure = Failure::retryable();

fn plan() -> Plan {
    Plan {
        backoff: Backoff::constant(SECOND),
        ..Plan::DEFAULT
    }
}

fn machine(plan: Plan) -> Machine {
    let mut machine = Machine::new(plan, START, Deadline::NEVER, false);
    machine.begin(START).unwrap();
    machine
}

fn decide(machine: &mut Machine, now: Instant, failure: Failure) -> Decision<()> {
    machine.failed(now, failure, &SplitMix64::new(1), || Some(()))
}

#[test]
fn decisions() {
    use Decision::{RetryAfter, Stop};
    let not_idempotent = Plan {
        idempotent: false,
        ..plan()
    };
    let one = Plan {
        attempts: 1,
        ..plan()
    };
    let not_done = RETRYABLE.effect(Effect::NotDone);
    let pushed = |push_back| RETRYABLE.push_back(push_back);
    let once = RETRYABLE.repeatable(false);
    let table = [
        ("retryable", plan(), RETRYABLE, RetryAfter(SECOND, ())),
        (
            "timeout",
            plan(),
            Failure::timed_out(),
            RetryAfter(SECOND, ()),
        ),
        (
            "final",
            plan(),
            Failure::permanent(),
            Stop(StopReason::NotRetryable),
        ),
        ("last", one, RETRYABLE, Stop(StopReason::AttemptsExhausted)),
        ("once", plan(), once, Stop(StopReason::NotRepeatable)),
        (
            "may have happened",
            not_idempotent,
            RETRYABLE,
            Stop(StopReason::MayHaveHappened),
        ),
        (
            "timed out",
            not_idempotent,
            Failure::timed_out(),
            Stop(StopReason::MayHaveHappened),
        ),
        (
            "surely not",
            not_idempotent,
            not_done,
            RetryAfter(SECOND, ()),
        ),
        (
            "pushed off",
            plan(),
            pushed(PushBack::Stop),
            Stop(StopReason::PushedBack),
        ),
        (
            "shorter wait",
            plan(),
            pushed(PushBack::After(SECOND / 2)),
            RetryAfter(SECOND, ()),
        ),
        (
            "longer wait",
            plan(),
            pushed(PushBack::After(3 * SECOND)),
            RetryAfter(3 * SECOND, ()),
        ),
        (
            "too long",
            plan(),
            pushed(PushBack::After(SECOND * 40)),
            Stop(StopReason::DeadlineWouldPass),
        ),
    ];
    for (name, plan, failure, expected) in table {
        assert_eq!(
            decide(&mut machine(plan), START, failure),
            expected,
            "{name}"
        );
    }
}

#[test]
fn retry_after_is_clamped() {
    let patient = Plan {
        timeout: None,
        max_retry_after: 5 * SECOND,
        ..plan()
    };
    let failure = RETRYABLE.push_back(PushBack::After(Duration::MAX));
    assert_eq!(
        decide(&mut machine(patient), START, failure),
        Decision::RetryAfter(5 * SECOND, ())
    );
}

#[test]
fn a_delay_that_ends_at_the_deadline_is_too_long() {
    for (timeout, fits) in [(SECOND, false), (SECOND + Duration::from_nanos(1), true)] {
        let plan = Plan {
            timeout: Some(timeout),
            ..plan()
        };
        let decision = decide(&mut machine(plan), START, RETRYABLE);
        assert_eq!(matches!(decision, Decision::RetryAfter(..)), fits);
    }
}

#[test]
fn the_budget_is_asked_last() {
    let mut asked = false;
    let failure = Failure::permanent();
    let mut ask = || {
        asked = true;
        None::<()>
    };
    machine(plan()).failed(START, failure, &SplitMix64::new(1), &mut ask);
    assert!(!asked);
    let decision = machine(plan()).failed(START, RETRYABLE, &SplitMix64::new(1), || None::<()>);
    assert_eq!(decision, Decision::Stop(StopReason::BudgetEmpty));
}

#[test]
fn the_effect_is_not_done_only_if_every_attempt_says_so() {
    let not_done = RETRYABLE.effect(Effect::NotDone);
    let mut clean = machine(plan());
    assert_eq!(clean.effect(), Effect::NotDone);
    decide(&mut clean, START, not_done);
    assert_eq!(clean.effect(), Effect::NotDone);
    decide(&mut clean, START, RETRYABLE);
    decide(&mut clean, START, not_done);
    assert_eq!(clean.effect(), Effect::Unknown, "it stays unknown");
}

#[test]
fn any_attempt_number_saturates() {
    let huge = Plan {
        attempts: u32::MAX,
        backoff: Backoff::exponential(SECOND, 1e300, Duration::MAX)
            .unwrap()
            .with_jitter(Jitter::Full),
        timeout: None,
        ..plan()
    };
    let mut machine = machine(huge);
    machine.attempts = u32::MAX - 1;
    for _ in 0..3 {
        let _ = decide(&mut machine, START, RETRYABLE);
        machine.begin(START).unwrap();
    }
    assert_eq!(machine.attempts(), u32::MAX);
    assert_eq!(
        decide(&mut machine, START, RETRYABLE),
        Decision::Stop(StopReason::AttemptsExhausted)
    );
}

fn any_backoff() -> impl Strategy<Value = Backoff> {
    let jitter = prop_oneof![
        Just(Jitter::None),
        Just(Jitter::Full),
        Just(Jitter::Equal),
        Just(Jitter::Decorrelated),
        Just(Jitter::PollyV2),
    ];
    (0_u64..2_000, 0_u64..2_000, 1.0_f64..4.0, 0_u8..3, jitter).prop_map(
        |(base, more, factor, kind, jitter)| {
            let (base, max) = (
                Duration::from_millis(base),
                Duration::from_millis(base + more),
            );
            let backoff = match kind {
                0 => Backoff::constant(base),
                1 => Backoff::linear(base, Duration::from_millis(more / 3), max).unwrap(),
                _ => Backoff::exponential(base, factor, max).unwrap(),
            };
            backoff.with_jitter(jitter)
        },
    )
}

proptest! {
    /// Waits and attempts together end before the deadline, and there are never more attempts than allowed.
    #[test]
    fn delays_sum_up_to_less_than_the_deadline(
        backoff in any_backoff(),
        attempts in 1_u32..20,
        timeout in 1_u64..10_000,
        attempt_millis in 0_u64..500,
        seed in any::<u64>(),
    ) {
        let timeout = Duration::from_millis(timeout);
        let plan = Plan { attempts, backoff, timeout: Some(timeout), attempt_timeout: None, ..Plan::DEFAULT };
        let entropy = SplitMix64::new(seed);
        let mut machine = Machine::new(plan, START, Deadline::NEVER, false);
        let mut now = START;
        let mut begun = 0;
        let reason = loop {
            let attempt = match machine.begin(now) {
                Ok(attempt) => attempt,
                Err(reason) => break reason,
            };
            begun += 1;
            prop_assert_eq!(attempt.number(), begun);
            prop_assert_eq!(attempt.remaining(), timeout - now.since(START));
            now = (now + Duration::from_millis(attempt_millis)).min(attempt.deadline().instant());
            match machine.failed(now, RETRYABLE, &entropy, || Some(())) {
                Decision::RetryAfter(delay, ()) => now = now + delay,
                Decision::Stop(reason) => break reason,
            }
            prop_assert!(now.since(START) < timeout, "every attempt has time");
        };
        prop_assert!(begun <= attempts);
        prop_assert!(now.since(START) <= timeout);
        prop_assert_eq!(begun == attempts || reason != StopReason::AttemptsExhausted, true);
    }
}

mod hedging {
    use super::*;

    fn plan(attempts: u32) -> HedgePlan {
        HedgePlan {
            attempts,
            delays: HedgeDelays::fixed(SECOND),
            on_failure: true,
            timeout: Some(30 * SECOND),
            push_back_max: 5 * SECOND,
        }
    }

    fn sent(plan: HedgePlan) -> HedgeMachine {
        let mut machine = HedgeMachine::new(plan, START, Deadline::NEVER, false);
        assert!(machine.is_due(START));
        assert_eq!(machine.send(START).number(), 1);
        machine
    }

    #[test]
    fn hedges_are_due_after_their_delays() {
        let mut machine = sent(plan(3));
        for number in 2..=3 {
            let due = START + SECOND * (number - 1);
            assert!(!machine.is_due(due - Duration::from_nanos(1)));
            assert_eq!(machine.wake_at(), Deadline::at(due));
            assert!(machine.is_due(due));
            assert_eq!(machine.send(due).number(), number);
        }
        assert!(!machine.is_due(Instant::MAX), "three are all");
        assert_eq!(machine.wake_at(), Deadline::after(START, 30 * SECOND));
        assert_eq!(machine.over(1), None);
        assert_eq!(machine.over(0), Some(StopReason::AttemptsExhausted));
    }

    #[test]
    fn a_failure_makes_the_next_due_at_once() {
        let mut machine = sent(plan(2));
        machine.failed(START, Effect::NotDone, PushBack::None);
        assert!(machine.is_due(START));
        let patient = HedgePlan {
            on_failure: false,
            ..plan(2)
        };
        let mut machine = sent(patient);
        machine.failed(START, Effect::NotDone, PushBack::None);
        assert!(!machine.is_due(START) && machine.is_due(START + SECOND));
    }

    #[test]
    fn push_back_delays_or_stops() {
        let mut machine = sent(plan(2));
        machine.failed(START, Effect::NotDone, PushBack::After(Duration::MAX));
        assert_eq!(
            machine.wake_at(),
            Deadline::after(START, 5 * SECOND),
            "clamped"
        );
        machine.failed(START, Effect::NotDone, PushBack::Stop);
        assert_eq!(machine.over(0), Some(StopReason::PushedBack));
    }

    #[test]
    fn a_wait_past_the_deadline_is_the_end() {
        let short = HedgePlan {
            timeout: Some(SECOND),
            ..plan(2)
        };
        let mut machine = sent(short);
        machine.failed(START, Effect::NotDone, PushBack::After(2 * SECOND));
        assert_eq!(machine.over(0), Some(StopReason::DeadlineWouldPass));
        assert_eq!(machine.over(1), None);
        assert!(machine.expired(START + SECOND));
        assert_eq!(machine.effect(), Effect::Unknown);
    }

    #[test]
    fn the_last_delay_repeats() {
        let mut delays = HedgeDelays::fixed(SECOND);
        delays.list[1] = 3 * SECOND;
        delays.given = 2;
        let mut machine = sent(HedgePlan { delays, ..plan(8) });
        let mut now = START;
        for delay in [1, 3, 3, 3, 3, 3, 3] {
            now = now + SECOND * delay;
            assert_eq!(machine.wake_at(), Deadline::at(now));
            machine.send(now);
        }
        assert_eq!(machine.sent(), 8);
    }
}
