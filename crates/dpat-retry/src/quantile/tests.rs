use super::*;
use dpat_core::{Entropy, SplitMix64};

const FALLBACK: Duration = Duration::from_millis(77);

fn live(quantile: f64) -> LiveQuantile {
    LiveQuantile::new(quantile, FALLBACK).unwrap()
}

#[test]
fn the_fallback_holds_until_enough_is_known() {
    let p99 = live(0.99);
    for _ in 0..127 {
        assert_eq!(p99.current(), FALLBACK);
        p99.record(Duration::from_millis(5));
    }
    // 100 samples are needed, and the estimate is renewed at every 64th.
    p99.record(Duration::from_millis(5));
    assert_ne!(p99.current(), FALLBACK);
}

#[test]
fn an_estimate_is_at_most_one_sixteenth_too_high() {
    for quantile in [0.5, 0.9, 0.95, 0.99] {
        let live = live(quantile);
        let entropy = SplitMix64::new(7);
        let mut values: Vec<u64> = (0..1_984)
            .map(|_| 2_000 + entropy.below(80_000_000))
            .collect();
        for value in &values {
            live.record(Duration::from_nanos(*value));
        }
        values.sort_unstable();
        let below = values.iter().zip(1_u32..);
        let truth = *below
            .skip_while(|(_, rank)| f64::from(*rank) < 1_984.0 * quantile)
            .map(|(value, _)| value)
            .next()
            .unwrap();
        let estimate = u64::try_from(live.current().as_nanos()).unwrap();
        assert!(
            estimate >= truth && estimate <= truth + truth / 16 + 1,
            "{quantile}: {estimate} for {truth}"
        );
    }
}

#[test]
fn the_past_fades() {
    let p90 = live(0.9);
    (0..10_000).for_each(|_| p90.record(Duration::from_millis(100)));
    assert!(p90.current() >= Duration::from_millis(100));
    (0..10_000).for_each(|_| p90.record(Duration::from_millis(1)));
    assert!(p90.current() < Duration::from_millis(2));
    assert!(p90.total() <= WINDOW, "bounded");
}

#[test]
fn a_thin_tail_survives_halving() {
    let p99 = live(0.99);
    for sample in 0..100_000_u32 {
        let slow = sample % 50 == 0;
        p99.record(Duration::from_millis(if slow { 200 } else { 10 }));
    }
    // 2 % are slow.
    assert!(p99.current() >= Duration::from_millis(200));
}

#[test]
fn extremes_fall_into_the_outer_buckets() {
    assert_eq!(bucket(Duration::ZERO), 0);
    assert_eq!(bucket(Duration::MAX), BUCKETS - 1);
    let mut last = 0;
    for shift in 0..40 {
        let nanos = 1_u64 << shift;
        let index = bucket(Duration::from_nanos(nanos));
        assert!(index >= last && upper_end(index) > nanos);
        last = index;
    }
}

#[test]
fn only_sensible_quantiles() {
    for quantile in [0.49, 0.9991, -1.0, f64::NAN] {
        let error = LiveQuantile::new(quantile, FALLBACK).unwrap_err();
        assert!(error.to_string().starts_with("quantile: "), "{error}");
    }
}
