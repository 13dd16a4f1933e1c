//! The counter: asynchronous code with a race that only some seeds find.

use dpat_cases::protocols::counter::Counter;
use dpat_sim::async_node::AsyncOf;
use dpat_sim::{RunSpec, Simulation, TraceMode, batch, check_mutants, first_failure, slice};

fn mutant(name: &str) -> RunSpec {
    RunSpec {
        mutant: Some(name.to_owned()),
        ..RunSpec::new(0)
    }
}

#[test]
fn the_rules_hold_under_every_fault() {
    let report = batch(&AsyncOf::<Counter>::new(), 0..150, &RunSpec::new(0), 2).unwrap();
    assert!(report.violations.is_empty(), "{:?}", report.violations);
    assert!(report.vacuous.is_empty(), "{:?}", report.vacuous);
}

#[test]
fn one_failing_seed_replays_to_the_same_event() {
    let sim = AsyncOf::<Counter>::new();
    let found = first_failure(&sim, 0..20, &mutant("check-then-act"), 2).unwrap();
    let seed = found.expect("within 20 seeds").seed;
    let spec = RunSpec {
        seed,
        ..mutant("check-then-act")
    };
    let first = sim.run(&spec).unwrap();
    let violation = first.violation.clone().unwrap();
    assert_eq!(violation.property, "counted-once");
    let full = RunSpec {
        trace: TraceMode::Full {
            events_max: 1 << 20,
        },
        ..spec
    };
    let again = sim.run(&full).unwrap();
    assert_eq!(
        (again.trace_hash, again.events),
        (first.trace_hash, first.events)
    );
    assert_eq!(again.violation.as_ref(), Some(&violation));
    let trace = again.trace.unwrap();
    assert!(slice(&trace, violation.at_event).len() <= trace.events.len());
}

#[test]
fn each_broken_rule_is_found_replayed_and_shrunk() {
    let registry = dpat_sim::Registry::default().with(AsyncOf::<Counter>::new());
    for report in check_mutants(&registry, 2).unwrap() {
        assert!(report.problems.is_empty(), "{report:?}");
    }
}
