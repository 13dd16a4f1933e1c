//! Simulations by name, and the check of mutants.

use dpat_sim::{Mutant, Outcome, RunSpec, check_mutant};

use crate::fake::{Fake, violation};

fn check(outcome: impl Fn(&RunSpec, &mut Outcome) + Send + Sync, expected: &[&str]) {
    const MUTANT: Mutant = Mutant {
        name: "m",
        rule: "r",
        seeds_max: 10,
    };
    let fake = Fake::new(outcome);
    let report = check_mutant(&fake, &MUTANT, 1).expect("such runs exist");
    assert_eq!(report.problems, expected);
}

#[test]
fn bad_mutants_are_told() {
    check(|_, _| (), &["not found in 10 seeds"]);
    let found_in = |seeds: fn(u64) -> bool| {
        move |spec: &RunSpec, outcome: &mut Outcome| {
            if seeds(spec.seed) {
                outcome.violation = violation("right");
            }
        }
    };
    check(found_in(|seed| seed % 7 == 3), &[]);
    check(
        found_in(|seed| seed == 3),
        &["found only once in 1000 seeds"],
    );
    check(found_in(|_| true), &["found in every one of 1000 seeds"]);
    check(
        |spec, outcome| {
            if spec.seed % 2 == 1 {
                outcome.violation = violation("unknown");
            }
        },
        &["seed 1 fails by unknown, which is no property"],
    );
}
