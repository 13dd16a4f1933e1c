//! The shop in the simulator, over some seeds.

use dpat_cases::shop::config::{Config, Nodes};
use dpat_cases::shop::record::{Outcome, RunRecord, Simulation};
use dpat_cases::shop::simulated;
use dpat_cases::shop::view::Silent;

const SEEDS: std::ops::Range<u64> = 0..10;

fn run(seed: u64) -> RunRecord {
    let config = Config {
        nodes: Nodes::Simulated,
        seed,
        orders: 60,
        rate: 30.0,
        ..Config::default()
    };
    simulated::run(config, &mut Silent).unwrap()
}

fn simulation(record: &RunRecord) -> &Simulation {
    record.verdict.simulation.as_ref().unwrap()
}

#[test]
fn every_order_is_accounted_for_whatever_the_seed_breaks() {
    for seed in SEEDS {
        let verdict = run(seed).verdict;
        assert_eq!(
            (verdict.verdict, verdict.violations),
            (Outcome::Ok, vec![]),
            "seed {seed}"
        );
        assert_eq!((verdict.orders, verdict.unresolved), (60, 0), "seed {seed}");
        assert!(verdict.restarts > 0, "seed {seed} kills nothing");
    }
}

#[test]
fn a_run_with_the_same_seed_is_the_same_run() {
    let mut hashes = std::collections::BTreeSet::new();
    for seed in SEEDS {
        let (first, again) = (run(seed), run(seed));
        let (one, other) = (simulation(&first), simulation(&again));
        assert_eq!(one.trace_hash, other.trace_hash, "seed {seed}");
        assert_eq!(one.events, other.events, "seed {seed}");
        assert_eq!(first.trace, again.trace, "seed {seed}");
        hashes.insert(one.trace_hash.clone());
    }
    assert_eq!(hashes.len(), SEEDS.count(), "two seeds gave the same run");
}
