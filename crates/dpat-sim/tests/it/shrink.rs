//! Shrinking: what is left still fails, and nothing of it can be taken away.

use dpat_model::{Fault, NodeIx, Op, Script, Trigger};
use dpat_sim::{
    Of, Outcome, RunSpec, ShrinkError, ShrinkLimits, Simulation, first_failure, shrink,
    with_one_less,
};

use crate::fake::{Fake, bare, violation};
use crate::toy::Keepers;

fn property(outcome: &Outcome) -> Option<&str> {
    let violation = outcome.violation.as_ref();
    violation.map(|violation| violation.property.as_str())
}

#[test]
fn shrunk_scripts_fail_and_are_one_minimal() {
    let sim = Of::<Keepers>::new();
    for (mutant, properties) in [
        ("answer-at-once", &["kept", "spread"][..]),
        ("count-copies", &["exact"]),
        ("send-once", &["spread"]),
    ] {
        let spec = RunSpec {
            mutant: Some(mutant.to_owned()),
            ..RunSpec::new(0)
        };
        let first = first_failure(&sim, 0..100, &spec, 2).unwrap().unwrap();
        let spec = RunSpec {
            seed: first.seed,
            ..spec
        };
        let shrunk = shrink(&sim, &spec, &ShrinkLimits::default()).unwrap();
        assert!(shrunk.minimal);
        let failing = property(&first).unwrap();
        assert!(properties.contains(&failing), "{mutant}: {failing}");
        assert_eq!(property(&shrunk.outcome), Some(failing));
        assert!(shrunk.units <= 10, "{mutant}: {}", shrunk.script.to_json());
        assert!(shrunk.units < shrunk.units_before);

        // The text that is printed repeats the run.
        let script = Script::parse(&shrunk.script.to_json(), "shrunk").unwrap();
        let run = |script| {
            let spec = RunSpec {
                script: Some(script),
                ..spec.clone()
            };
            sim.run(&spec).unwrap()
        };
        let again = run(script);
        assert_eq!(again.violation, shrunk.outcome.violation);
        assert_eq!(again.trace_hash, shrunk.outcome.trace_hash);

        let less = with_one_less(&shrunk.script);
        assert_eq!(less.len(), shrunk.units);
        for script in less {
            let text = script.to_json();
            assert_ne!(property(&run(script)), Some(failing), "{text}");
        }
    }
}

fn pause(node: u32) -> Op {
    Op {
        when: Trigger::At(u64::from(node)),
        fault: Fault::Pause {
            node: NodeIx(node % 3),
            for_us: Some(u64::from(node) + 1),
        },
    }
}

fn paused(script: &Script) -> Vec<u64> {
    let ops = script.ops.iter();
    let paused = ops.filter_map(|op| match op.fault {
        Fault::Pause { for_us, .. } => for_us.map(|us| us - 1),
        _ => None,
    });
    paused.collect()
}

fn kept(script: &Script, client: u64) -> Option<Vec<u64>> {
    let ops = script.ops.iter();
    ops.filter_map(|op| match &op.fault {
        Fault::Calls { client: of, keep } if *of == client => Some(keep.clone()),
        _ => None,
    })
    .next_back()
}

/// Fails by `right` if pauses 2 and 5 are there and client 1 makes call 3, and by `good` if only one of these pauses
/// is there.
fn two_of_ten(_spec: &RunSpec, outcome: &mut Outcome) {
    outcome.calls = vec![2, 9];
    let paused = paused(&outcome.script);
    let called = kept(&outcome.script, 1).is_none_or(|kept| kept.contains(&3));
    outcome.violation = match (paused.contains(&2), paused.contains(&5), called) {
        (true, true, true) => violation("right"),
        (true, false, _) | (false, true, _) => violation("good"),
        _ => None,
    };
}

fn ten() -> RunSpec {
    let mut script = bare();
    script.ops = (0..10).map(pause).collect();
    RunSpec {
        script: Some(script),
        ..RunSpec::new(7)
    }
}

#[test]
fn only_the_same_property_counts_and_calls_are_units_too() {
    let shrunk = shrink(&Fake::new(two_of_ten), &ten(), &ShrinkLimits::default()).unwrap();
    assert_eq!(paused(&shrunk.script), [2, 5]);
    assert_eq!(kept(&shrunk.script, 0), Some(vec![]));
    assert_eq!(kept(&shrunk.script, 1), Some(vec![3]));
    assert_eq!((shrunk.units_before, shrunk.units), (10 + 2 + 9, 3));
    assert_eq!(shrunk.script.validate(), Ok(()));
    assert!(shrunk.minimal && shrunk.tried < 80, "{}", shrunk.tried);

    // What is minimal stays as it is.
    let spec = RunSpec {
        script: Some(shrunk.script.clone()),
        ..RunSpec::new(7)
    };
    let again = shrink(&Fake::new(two_of_ten), &spec, &ShrinkLimits::default()).unwrap();
    assert_eq!(again.script, shrunk.script);
    assert_eq!(again.units_before, 3);
}

#[test]
fn a_bound_on_runs_leaves_a_script_that_fails() {
    let mut ends = std::collections::BTreeSet::new();
    for runs_max in [0, 1, 2, 5, 10, 20, 30, 100] {
        let mut limits = ShrinkLimits::default();
        limits.runs_max = runs_max;
        let shrunk = shrink(&Fake::new(two_of_ten), &ten(), &limits).unwrap();
        assert_eq!(property(&shrunk.outcome), Some("right"));
        assert!(shrunk.tried <= runs_max.max(2));
        assert!(shrunk.units == 3 || !shrunk.minimal);
        ends.insert(shrunk.minimal);
    }
    assert_eq!(ends.len(), 2, "some bounds suffice");
}

#[test]
fn what_holds_or_does_not_repeat_is_told() {
    let error = shrink(&Fake::new(|_, _| ()), &ten(), &ShrinkLimits::default());
    assert_eq!(error.unwrap_err().to_string(), "seed 7 violates nothing");
    // Fails only while nobody has written out the calls.
    let shy = Fake::new(|spec, outcome| {
        outcome.calls = vec![1];
        if spec
            .script
            .as_ref()
            .is_none_or(|script| kept(script, 0).is_none())
        {
            outcome.violation = violation("right");
        }
    });
    let error = shrink(&shy, &ten(), &ShrinkLimits::default()).unwrap_err();
    assert!(matches!(error, ShrinkError::NotReplayed { seed: 7, .. }));
    let unknown = RunSpec {
        mutant: Some("unknown".to_owned()),
        ..RunSpec::new(0)
    };
    let error = shrink(&Of::<Keepers>::new(), &unknown, &ShrinkLimits::default());
    assert!(matches!(error, Err(ShrinkError::Spec(_))));
}
