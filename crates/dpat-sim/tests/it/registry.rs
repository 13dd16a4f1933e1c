//! Simulations by name, and the check of mutants.

use dpat_sim::{
    Mutant, Of, Outcome, Registry, RunSpec, Simulation, check_mutant, check_mutants, full_name,
};

use crate::fake::{Fake, violation};
use crate::toy::Keepers;

fn registry() -> Registry {
    Registry::default()
        .with(Of::<Keepers>::new())
        .with(Fake::new(|_, _| ()))
}

#[test]
fn protocols_and_mutants_are_found_by_name() {
    let registry = registry();
    let (sim, mutant) = registry.find("keepers").unwrap();
    assert_eq!((sim.info().name, mutant), ("keepers", None));
    let (sim, mutant) = registry.find("keepers@send-once").unwrap();
    assert_eq!((sim.info().name, mutant), ("keepers", Some("send-once")));
    assert_eq!(full_name("keepers", mutant), "keepers@send-once");
    for (name, error) in [
        (
            "echo",
            "there is no protocol \"echo\"; there are keepers, fake",
        ),
        ("", "there is no protocol \"\"; there are keepers, fake"),
        ("fake@x", "fake has no mutant \"x\"; it has none"),
        (
            "keepers@",
            "keepers has no mutant \"\"; it has answer-at-once, count-copies, send-once, panics",
        ),
    ] {
        let found = registry.find(name).err().map(|error| error.to_string());
        assert_eq!(found.as_deref(), Some(error));
    }
    assert_eq!(format!("{registry:?}"), r#"["keepers", "fake"]"#);
}

#[test]
fn a_panic_is_a_violation_that_names_itself() {
    let spec = RunSpec {
        mutant: Some("panics".to_owned()),
        ..RunSpec::new(0)
    };
    let outcome = Of::<Keepers>::new().run(&spec).unwrap();
    let violation = outcome.violation.unwrap();
    assert_eq!(violation.property, "panic");
    assert!(
        violation.message.starts_with("told "),
        "{}",
        violation.message
    );
}

#[test]
fn good_mutants_have_no_problems() {
    let reports = check_mutants(&registry(), 2).unwrap();
    let names: Vec<&str> = reports.iter().map(|report| report.name.as_str()).collect();
    let all = ["answer-at-once", "count-copies", "send-once", "panics"];
    assert_eq!(names, all.map(|name| full_name("keepers", Some(name))));
    for report in &reports[..3] {
        assert_eq!(report.problems, [""; 0], "{}", report.name);
        let found = report.found.as_ref().unwrap();
        assert!(found.seed < report.seeds_max);
        assert!(found.units < found.units_before, "{found:?}");
    }
    let panics = &reports[3].problems;
    assert!(
        panics.contains(&"seed 0 fails by panic, which is no property".to_owned()),
        "{panics:?}"
    );
}

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
