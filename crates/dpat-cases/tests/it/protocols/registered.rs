//! What holds of every registered protocol and of each of its known-bad variants.

use std::process::Command;

use dpat_cases::protocols::registry::registry;
use dpat_sim::{RunSpec, batch, check_mutants, first_failure, full_name, hex};

const THREADS: usize = 2;
const CHILD: &str = "DPAT_CASES_TEST_CHILD";

#[test]
fn every_protocol_holds_under_faults() {
    for sim in registry().iter() {
        let report = batch(sim, 0..200, &RunSpec::new(0), THREADS).unwrap();
        let name = sim.info().name;
        assert!(
            report.violations.is_empty(),
            "{name}: {:?}",
            report.violations
        );
        assert!(report.vacuous.is_empty(), "{name}: {:?}", report.vacuous);
    }
}

#[test]
fn every_mutant_is_found_replayed_and_shrunk() {
    for report in check_mutants(&registry(), THREADS).unwrap() {
        assert!(report.problems.is_empty(), "{report:?}");
        let found = report.found.expect("within its seeds");
        assert!(found.units < found.units_before, "{found:?}");
    }
}

/// The first seed of each mutant that fails, with the hash of its run.
fn failing() -> Vec<String> {
    let mut found = Vec::new();
    for sim in registry().iter() {
        for mutant in sim.info().mutants {
            let spec = RunSpec {
                mutant: Some(mutant.name.to_owned()),
                ..RunSpec::new(0)
            };
            let first = first_failure(sim, 0..mutant.seeds_max, &spec, THREADS).unwrap();
            let first = first.expect("within its seeds");
            let name = full_name(sim.info().name, Some(mutant.name));
            found.push(format!("{name} {} {}", first.seed, hex(first.trace_hash)));
        }
    }
    found
}

#[test]
fn failing_seeds_replay_in_a_fresh_process() {
    let failing = failing();
    if std::env::var_os(CHILD).is_some() {
        println!("failing: {failing:?}");
        return;
    }
    let child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "protocols::registered::failing_seeds_replay_in_a_fresh_process",
            "--nocapture",
        ])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let printed = String::from_utf8(child.stdout).unwrap();
    assert!(
        printed.contains(&format!("failing: {failing:?}")),
        "{printed}"
    );
}
