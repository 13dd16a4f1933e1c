use super::*;
use crate::SplitMix64;
use proptest::prelude::*;

const JITTERS: [Jitter; 5] = [
    Jitter::None,
    Jitter::Full,
    Jitter::Equal,
    Jitter::Decorrelated,
    Jitter::PollyV2,
];

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn doubling() -> Backoff {
    Backoff::exponential(ms(100), 2.0, ms(20_000)).unwrap()
}

/// The `retry`-th delay of many operations, in milliseconds.
fn sample(backoff: Backoff, retry: usize) -> Vec<f64> {
    let entropy = SplitMix64::new(2026);
    (0..20_000)
        .map(|_| {
            let mut delays = backoff.delays();
            for _ in 0..retry {
                delays.next_delay(&entropy);
            }
            delays.next_delay(&entropy).as_secs_f64() * 1000.0
        })
        .collect()
}

#[allow(clippy::cast_precision_loss)] // small
fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn bounds(values: &[f64]) -> (f64, f64) {
    let fold = |pick: fn(f64, f64) -> f64| values.iter().copied().reduce(pick).unwrap();
    (fold(f64::min), fold(f64::max))
}

#[track_caller]
fn assert_near(value: f64, expected: f64, tolerance: f64) {
    assert!(
        (value - expected).abs() <= tolerance,
        "{value} is not {expected} ± {tolerance}"
    );
}

#[test]
fn nominal_delays_grow_as_named() {
    let take = |backoff: Backoff| [0, 1, 2, 3, 9].map(|retry| backoff.nominal(retry));
    assert_eq!(take(Backoff::constant(ms(7))), [ms(7); 5]);
    let linear = Backoff::linear(ms(10), ms(5), ms(22)).unwrap();
    assert_eq!(take(linear), [ms(10), ms(15), ms(20), ms(22), ms(22)]);
    let expected = [ms(100), ms(200), ms(400), ms(800), ms(20_000)];
    assert_eq!(take(doubling()), expected);
}

#[test]
fn factor_and_max_are_checked() {
    for factor in [0.0, 0.999, -1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let refused = Backoff::exponential(ms(1), factor, ms(2));
        assert_eq!(refused, Err(BackoffError::Factor), "{factor}");
    }
    let refused = Err(BackoffError::MaxBelowBase);
    assert_eq!(Backoff::exponential(ms(3), 1.0, ms(2)), refused);
    assert_eq!(Backoff::linear(ms(3), ms(1), ms(2)), refused);
    assert!(Backoff::exponential(ms(2), 1.0, ms(2)).is_ok());
}

#[test]
fn any_attempt_number_saturates_at_max() {
    let rules = [
        doubling(),
        Backoff::exponential(Duration::MAX, f64::MAX, Duration::MAX).unwrap(),
        Backoff::exponential(Duration::ZERO, f64::MAX, ms(5)).unwrap(),
        Backoff::linear(ms(1), Duration::MAX, Duration::MAX).unwrap(),
        Backoff::constant(Duration::MAX),
    ];
    let entropy = SplitMix64::new(1);
    for rule in rules {
        for jitter in JITTERS {
            for retry in [0, 1, 31, 32, 63, 64, 1023, 1024, 2000, 1 << 31, u32::MAX] {
                assert!(rule.nominal(retry) <= rule.max());
                let mut delays = rule.with_jitter(jitter).delays();
                delays.retry = retry;
                for _ in 0..3 {
                    assert!(delays.next_delay(&entropy) <= rule.max());
                }
            }
        }
    }
}

#[test]
fn late_attempts_keep_waiting_under_every_jitter() {
    // ∞ - ∞ and 1 << 64 are the classic ways to a hot loop here.
    let entropy = SplitMix64::new(9);
    for jitter in JITTERS {
        let mut delays = doubling().with_jitter(jitter).delays();
        let mut late = Vec::new();
        for retry in 0..3000 {
            let delay = delays.next_delay(&entropy);
            if retry >= 2000 {
                late.push(delay.as_secs_f64() * 1000.0);
            }
        }
        let at_least = if jitter == Jitter::None || jitter == Jitter::PollyV2 {
            19_999.0
        } else {
            5_000.0
        };
        assert!(mean(&late) > at_least, "{jitter:?}: {}", mean(&late));
    }
}

#[test]
fn full_jitter_is_uniform_from_zero_to_nominal() {
    let values = sample(doubling().with_jitter(Jitter::Full), 2);
    assert_near(mean(&values), 200.0, 3.0);
    let (low, high) = bounds(&values);
    assert!((0.0..1.0).contains(&low) && high > 399.0 && high <= 400.0);
}

#[test]
fn equal_jitter_is_uniform_over_the_upper_half() {
    let values = sample(doubling().with_jitter(Jitter::Equal), 2);
    assert_near(mean(&values), 300.0, 2.0);
    let (low, high) = bounds(&values);
    assert!((200.0..201.0).contains(&low) && high > 399.0 && high <= 400.0);
}

#[test]
fn decorrelated_jitter_grows_from_the_previous_delay() {
    let backoff = doubling().with_jitter(Jitter::Decorrelated);
    // Uniform in 100..=300, then in 100..=3 × that: the mean is (100 + 3 × 200) / 2.
    let first = sample(backoff, 0);
    assert_near(mean(&first), 200.0, 2.0);
    assert!(bounds(&first).0 >= 100.0 && bounds(&first).1 <= 300.0);
    let second = sample(backoff, 1);
    assert_near(mean(&second), 350.0, 6.0);
    assert!(bounds(&second).0 >= 100.0 && bounds(&second).1 <= 900.0);
    assert!(bounds(&sample(backoff, 20)).1 <= 20_000.0);
}

#[test]
fn polly_v2_has_the_median_and_growth_of_the_original() {
    let backoff = doubling().with_jitter(Jitter::PollyV2);
    let median = |retry| {
        let mut values = sample(backoff, retry);
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    // The formula, evaluated at the median of its uniform variable: t = 0.5 for the first retry.
    let formula = |t: f64| t.exp2() * (4.0 * t).sqrt().tanh();
    assert_near(median(0), 100.0 * formula(0.5) / 1.4, 1.0);
    // In the mean the differences telescope: E[sum of n delays] = base / 1.4 × E[formula(n - 1 + U)].
    let expected_total: f64 = {
        let steps = 10_000;
        let at = |step: i32| formula(3.0 + (f64::from(step) + 0.5) / f64::from(steps));
        100.0 / 1.4 * (0..steps).map(at).sum::<f64>() / f64::from(steps)
    };
    let total: f64 = (0..4).map(|retry| mean(&sample(backoff, retry))).sum();
    assert_near(total, expected_total, expected_total * 0.02);
}

#[test]
fn the_same_seed_gives_the_same_delays() {
    for jitter in JITTERS {
        let run = || {
            let entropy = SplitMix64::new(5);
            let mut delays = doubling().with_jitter(jitter).delays();
            (0..10)
                .map(|_| delays.next_delay(&entropy))
                .collect::<Vec<_>>()
        };
        assert_eq!(run(), run());
    }
}

proptest! {
    #[test]
    fn every_delay_is_within_its_bounds(
        base in 0_u64..=u64::MAX,
        extra in 0_u64..=u64::MAX,
        factor in 1.0_f64..1e6,
        retry in 0_u32..=u32::MAX,
        seed: u64,
        jitter in 0_usize..5,
    ) {
        let base = Duration::from_nanos(base);
        let max = base.saturating_add(Duration::from_nanos(extra));
        let jitter = JITTERS[jitter];
        let backoff = Backoff::exponential(base, factor, max).unwrap().with_jitter(jitter);
        prop_assert!(backoff.nominal(retry) <= backoff.nominal(retry.saturating_add(1)));
        let mut delays = backoff.delays();
        delays.retry = retry;
        let nominal = backoff.nominal(retry);
        let delay = delays.next_delay(&SplitMix64::new(seed));
        prop_assert!(delay <= max);
        match jitter {
            Jitter::None => prop_assert_eq!(delay, nominal),
            Jitter::Full => prop_assert!(delay <= nominal),
            Jitter::Equal => prop_assert!(delay <= nominal && delay + Duration::from_nanos(1) >= nominal / 2),
            Jitter::Decorrelated => prop_assert!(delay >= base.min(Duration::from_nanos(u64::MAX))),
            Jitter::PollyV2 => {}
        }
    }
}
