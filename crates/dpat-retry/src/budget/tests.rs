//! Exactness of each rule against a plain count.

use super::*;
use proptest::prelude::*;

fn at_millis(millis: u64) -> Instant {
    Instant::from_nanos(millis * 1_000_000)
}

/// Sends one request and as many extra attempts as are allowed.
fn spend(budget: &RetryBudget, now: Instant) -> u64 {
    let mut granted = 0;
    while let Some(mut permit) = budget.try_extra(now) {
        permit.sent();
        granted += 1;
    }
    granted
}

fn granted_after(ratio: f64, requests: u64) -> u64 {
    let budget = RetryBudget::new(BudgetLimits::traffic_in(ratio, Duration::from_secs(10), 0));
    let budget = budget.unwrap();
    let now = at_millis(50_000);
    (0..requests)
        .map(|_| {
            drop(budget.clone().request(now));
            spend(&budget, now)
        })
        .sum()
}

#[test]
fn ratios_between_one_half_and_one_are_exact() {
    for (ratio, expected) in [
        (0.5, 500),
        (0.6, 600),
        (0.75, 750),
        (0.9, 900),
        (0.999, 999),
    ] {
        assert_eq!(granted_after(ratio, 1_000), expected, "ratio {ratio}");
    }
}

#[test]
fn ratios_above_one_are_exact() {
    for (ratio, expected) in [(1.0, 1_000), (1.5, 1_500), (2.25, 2_250), (10.0, 10_000)] {
        assert_eq!(granted_after(ratio, 1_000), expected, "ratio {ratio}");
    }
}

#[test]
fn small_ratios_are_exact() {
    for (ratio, expected) in [
        (0.0, 0),
        (0.001, 1),
        (0.1, 100),
        (0.2, 200),
        (1.0 / 3.0, 333),
    ] {
        assert_eq!(granted_after(ratio, 1_000), expected, "ratio {ratio}");
    }
}

#[test]
fn a_million_requests_do_not_drift() {
    assert_eq!(granted_after(0.7, 1_000_000), 700_000);
}

#[test]
fn the_floor_allows_retries_without_traffic() {
    let budget =
        RetryBudget::new(BudgetLimits::traffic_in(0.2, Duration::from_secs(10), 3)).unwrap();
    assert_eq!(spend(&budget, at_millis(50_000)), 30);
    assert_eq!(spend(&budget, at_millis(58_000)), 0);
    assert_eq!(
        spend(&budget, at_millis(60_000)),
        30,
        "the window has passed"
    );
}

#[test]
fn the_window_slides() {
    let budget =
        RetryBudget::new(BudgetLimits::traffic_in(1.0, Duration::from_secs(10), 0)).unwrap();
    for second in 50..60 {
        drop(budget.clone().request(at_millis(second * 1_000)));
    }
    assert_eq!(budget.snapshot().available, 10);
    // At 60 s the request of second 50 has left, and so on.
    for (second, left) in (60..70).zip((0..10).rev()) {
        drop(budget.try_extra(at_millis(second * 1_000)));
        assert_eq!(budget.snapshot().available, left);
    }
}

#[test]
fn a_clock_that_goes_back_changes_nothing() {
    let budget =
        RetryBudget::new(BudgetLimits::traffic_in(1.0, Duration::from_secs(10), 0)).unwrap();
    drop(budget.clone().request(at_millis(60_000)));
    drop(budget.clone().request(at_millis(1)));
    assert_eq!(budget.snapshot().available, 2);
    assert_eq!(spend(&budget, at_millis(2)), 2);
    assert!(budget.traffic_rule().unwrap().is_balanced());
}

#[test]
fn years_of_idle_leave_nothing_behind() {
    let budget =
        RetryBudget::new(BudgetLimits::traffic_in(1.0, Duration::from_secs(10), 0)).unwrap();
    drop(budget.clone().request(at_millis(1)));
    assert!(budget.try_extra(Instant::MAX).is_none());
    assert!(budget.traffic_rule().unwrap().is_balanced());
    drop(budget.clone().request(Instant::MAX));
    assert!(budget.try_extra(Instant::MAX).is_some());
}

#[test]
fn a_permit_that_was_not_sent_is_given_back_once() {
    let budget =
        RetryBudget::new(BudgetLimits::traffic_in(1.0, Duration::from_secs(10), 0)).unwrap();
    let now = at_millis(50_000);
    drop(budget.clone().request(now));
    for _ in 0..5 {
        let permit = budget.try_extra(now);
        assert!(permit.is_some());
        assert!(budget.try_extra(now).is_none());
    }
    // One that comes back after its window has nothing to give.
    let late = budget.try_extra(now).unwrap();
    assert!(budget.try_extra(at_millis(70_000)).is_none());
    drop(late);
    assert!(budget.try_extra(at_millis(70_000)).is_none());
    assert!(budget.traffic_rule().unwrap().is_balanced());
}

#[test]
fn tokens_follow_grpc_a6() {
    // maxTokens 10, tokenRatio 0.1: retries are allowed while there are more than 5 tokens.
    let budget = RetryBudget::tokens(10, 0.1).unwrap();
    for failures in 1..=4 {
        budget.failure();
        assert!(budget.try_extra(Instant::MIN).is_some(), "{failures}");
    }
    budget.failure();
    assert!(
        budget.try_extra(Instant::MIN).is_none(),
        "5 tokens are not more than 5"
    );
    budget.success();
    assert!(budget.try_extra(Instant::MIN).is_some(), "5.1 tokens");
    (0..100).for_each(|_| budget.failure());
    (0..50).for_each(|_| budget.success());
    assert!(
        budget.try_extra(Instant::MIN).is_none(),
        "the level stops at 0, then 5.0"
    );
    budget.success();
    assert!(budget.try_extra(Instant::MIN).is_some());
    (0..1_000).for_each(|_| budget.success());
    assert_eq!(budget.snapshot().available, 5, "the level stops at 10");
}

#[test]
fn in_flight_counts_requests_and_extra_attempts() {
    let now = Instant::MIN;
    let budget = RetryBudget::in_flight(0.5, 1).unwrap();
    let requests: Vec<_> = (0..8).map(|_| budget.clone().request(now)).collect();
    let extra: Vec<_> = std::iter::from_fn(|| budget.try_extra(now)).collect();
    assert_eq!(extra.len(), 4);
    drop(requests);
    assert!(budget.try_extra(now).is_none(), "a debt until they end");
    drop(extra);
    let extra: Vec<_> = std::iter::from_fn(|| budget.try_extra(now)).collect();
    assert_eq!(extra.len(), 1, "the floor");
    assert_eq!(budget.snapshot().granted, 5);
}

#[test]
fn in_flight_ratios_above_one() {
    let now = Instant::MIN;
    let budget = RetryBudget::in_flight(1.5, 0).unwrap();
    let _requests: Vec<_> = (0..4).map(|_| budget.clone().request(now)).collect();
    let extra: Vec<_> = std::iter::from_fn(|| budget.try_extra(now)).collect();
    assert_eq!(extra.len(), 6);
}

#[test]
fn limits_change_at_run_time_and_a_shrink_leaves_a_debt() {
    let now = at_millis(50_000);
    let window = Duration::from_secs(10);
    let budget = RetryBudget::new(BudgetLimits::traffic_in(0.0, window, 2)).unwrap();
    assert_eq!(spend(&budget, now), 20);
    budget
        .set_limits(BudgetLimits::traffic_in(1.0, window, 1))
        .unwrap();
    // 20 were granted, 10 are allowed: ten requests pay the debt.
    for _ in 0..10 {
        drop(budget.clone().request(now));
        assert_eq!(spend(&budget, now), 0);
    }
    drop(budget.clone().request(now));
    assert_eq!(spend(&budget, now), 1);

    let tokens = RetryBudget::tokens(100, 1.0).unwrap();
    tokens.set_limits(BudgetLimits::tokens(10, 1.0)).unwrap();
    assert_eq!(tokens.snapshot().available, 5);
    (0..5).for_each(|_| tokens.failure());
    assert!(tokens.try_extra(now).is_none());

    let in_flight = RetryBudget::in_flight(0.0, 3).unwrap();
    let held: Vec<_> = std::iter::from_fn(|| in_flight.try_extra(now)).collect();
    in_flight
        .set_limits(BudgetLimits::in_flight(0.0, 1))
        .unwrap();
    assert_eq!(held.len(), 3);
    assert!(in_flight.try_extra(now).is_none());
    drop(held);
    assert!(in_flight.try_extra(now).is_some());
}

#[test]
fn a_full_step_earns_no_more() {
    let now = at_millis(50_000);
    let budget = RetryBudget::traffic(1_000.0).unwrap();
    (0..20_000).for_each(|_| drop(budget.clone().request(now)));
    // 2^43 millionths, and the floor.
    assert!((8_796_000..=8_796_193).contains(&budget.snapshot().available));
    assert!(budget.try_extra(now).is_some());
    assert!(budget.traffic_rule().unwrap().is_balanced());
}

#[test]
fn bad_limits_name_the_field() {
    let message = |limits| RetryBudget::new(limits).unwrap_err().to_string();
    assert_eq!(
        message(BudgetLimits::tokens(0, 0.1)),
        "max tokens: must be at least 1"
    );
    assert_eq!(
        message(BudgetLimits::tokens(1_000_001, 0.1)),
        "max tokens: must be at most 1000000"
    );
    for ratio in [-0.1, 1_000.5, f64::NAN, f64::INFINITY] {
        assert!(message(BudgetLimits::in_flight(ratio, 1)).starts_with("ratio: "));
    }
    for (millis, expected) in [(999, "at least 1"), (3_600_001, "at most 3600")] {
        let limits = BudgetLimits::traffic_in(0.1, Duration::from_millis(millis), 0);
        assert!(message(limits).contains(expected), "{millis}");
    }
    let budget = RetryBudget::tokens(10, 0.1).unwrap();
    assert_eq!(
        budget.set_limits(BudgetLimits::in_flight(0.1, 1)),
        Err(ConfigError::OtherKind)
    );
    let budget = RetryBudget::traffic(0.1).unwrap();
    let longer = BudgetLimits::traffic_in(0.1, Duration::from_secs(11), 1);
    assert_eq!(budget.set_limits(longer), Err(ConfigError::OtherKind));
}

/// What the rule says, by listing every event.
struct Oracle {
    ratio_millionths: u64,
    floor: u64,
    step_millis: u64,
    /// (step, is_extra)
    events: Vec<(u64, bool)>,
}

impl Oracle {
    fn counts(&self, step: u64) -> (u64, u64) {
        let live = self.events.iter().filter(|(at, _)| at + 10 > step);
        live.fold((0, 0), |(requests, extra), (_, is_extra)| {
            (
                requests + u64::from(!is_extra),
                extra + u64::from(*is_extra),
            )
        })
    }

    fn allows(&self, millis: u64) -> bool {
        let (requests, extra) = self.counts(millis / self.step_millis);
        (extra + 1) * UNIT <= requests * self.ratio_millionths + self.floor * UNIT
    }
}

proptest! {
    /// Every single answer equals the oracle's, for any ratio, floor and schedule.
    #[test]
    fn traffic_equals_the_oracle(
        ratio_millionths in prop_oneof![0_u64..1_000_000, 500_000_u64..1_000_001, 1_000_000_u64..5_000_000],
        floor_per_second in 0_u32..3,
        steps in proptest::collection::vec((0_u64..400, any::<bool>()), 1..400),
    ) {
        #[allow(clippy::cast_precision_loss)]
        let ratio = ratio_millionths as f64 / 1e6;
        let window = Duration::from_secs(2);
        let limits = BudgetLimits::traffic_in(ratio, window, floor_per_second);
        let budget = RetryBudget::new(limits).unwrap();
        let mut oracle = Oracle {
            ratio_millionths,
            floor: u64::from(floor_per_second) * 2,
            step_millis: 200,
            events: Vec::new(),
        };
        let mut millis = 10_000;
        for (wait, is_extra) in steps {
            millis += wait / 10;
            let now = at_millis(millis);
            let step = millis / oracle.step_millis;
            if is_extra {
                let expected = oracle.allows(millis);
                let permit = budget.try_extra(now);
                prop_assert_eq!(permit.is_some(), expected);
                if let Some(mut permit) = permit {
                    permit.sent();
                    oracle.events.push((step, true));
                }
            } else {
                drop(budget.clone().request(now));
                oracle.events.push((step, false));
            }
            prop_assert!(budget.traffic_rule().unwrap().is_balanced());
        }
    }

    /// The level equals an exact sum in millionths.
    #[test]
    fn tokens_equal_the_oracle(
        max in 1_u32..50,
        ratio_millionths in 0_u64..3_000_000,
        outcomes in proptest::collection::vec(any::<bool>(), 1..300),
    ) {
        #[allow(clippy::cast_precision_loss)]
        let budget = RetryBudget::tokens(max, ratio_millionths as f64 / 1e6).unwrap();
        let full = u64::from(max) * UNIT;
        let mut level = full;
        for succeeded in outcomes {
            if succeeded {
                budget.success();
                level = (level + ratio_millionths).min(full);
            } else {
                budget.failure();
                level = level.saturating_sub(UNIT);
            }
            prop_assert_eq!(budget.try_extra(Instant::MIN).is_some(), 2 * level > full);
        }
    }
}
