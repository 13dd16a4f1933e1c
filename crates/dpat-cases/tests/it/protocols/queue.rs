//! The queue: what breaks it is told with the operations that show it.

use dpat_cases::protocols::queue::Queues;
use dpat_sim::async_node::AsyncOf;
use dpat_sim::{RunSpec, Simulation, first_failure};

#[test]
fn a_violation_names_its_rule_and_its_operations() {
    let sim = AsyncOf::<Queues>::new();
    let spec = RunSpec {
        mutant: Some("count-at-retry".to_owned()),
        ..RunSpec::new(0)
    };
    let found = first_failure(&sim, 0..20, &spec, 2).unwrap();
    let seed = found.expect("within 20 seeds").seed;
    let violation = sim.run(&RunSpec { seed, ..spec }).unwrap().violation;
    let violation = violation.expect("it fails again");
    assert_eq!(violation.property, "delivery");
    assert!(
        violation.message.starts_with("count; receive"),
        "{violation:?}"
    );
}
