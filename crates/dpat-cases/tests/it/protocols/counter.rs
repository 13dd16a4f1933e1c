//! The counter: asynchronous code with a race that only some seeds find.

use dpat_cases::protocols::counter::Counter;
use dpat_sim::async_node::AsyncOf;
use dpat_sim::{RunSpec, Simulation, TraceMode, first_failure, slice};

fn mutant(name: &str) -> RunSpec {
    RunSpec {
        mutant: Some(name.to_owned()),
        ..RunSpec::new(0)
    }
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
