//! Shrinking: what is left still fails, and nothing of it can be taken away.

use dpat_model::{Fault, NodeIx, Op, Script, Trigger};
use dpat_sim::{Outcome, RunSpec, ShrinkLimits, shrink};

use crate::fake::{Fake, bare, violation};

fn property(outcome: &Outcome) -> Option<&str> {
    let violation = outcome.violation.as_ref();
    violation.map(|violation| violation.property.as_str())
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
