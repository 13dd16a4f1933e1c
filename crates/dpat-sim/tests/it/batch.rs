//! Batches: merging, and the gates against runs that show nothing.

use dpat_sim::{
    BatchReport, Coverage, Family, Outcome, Plan, RunSpec, Simulation, batch, first_failure,
};

use crate::fake::{Fake, KINDS, PHASES, bare, violation};

fn run(sim: &dyn Simulation, seeds: std::ops::Range<u64>) -> BatchReport {
    batch(sim, seeds, &RunSpec::new(0), 2).expect("such runs exist")
}

/// A fifth of the seeds fails.
fn fifth(spec: &RunSpec, outcome: &mut Outcome) {
    if spec.seed % 5 == 3 {
        outcome.violation = violation("right");
    }
}

#[test]
fn sums_and_failures_are_those_of_the_seeds() {
    let report = run(&Fake::new(fifth), 0..10);
    assert_eq!((report.events, report.delivered), (100 + 45, 45));
    let failed: Vec<u64> = report.violations.iter().map(|failed| failed.seed).collect();
    assert_eq!((report.failed, failed), (2, vec![3, 8]));
    assert_eq!((report.exit_code(), report.protocol.as_str()), (1, "fake"));
    let fine = run(&Fake::new(|_, _| ()), 0..10);
    assert_eq!((fine.exit_code(), fine.vacuous.len()), (0, 0));
}

#[test]
fn one_seed_has_its_own_hash_and_several_a_hash_over_theirs() {
    let fake = Fake::new(|_, _| ());
    let own = fake.run(&RunSpec::new(6)).unwrap().trace_hash;
    assert_eq!(run(&fake, 6..7).trace_hash, own);
    let (low, high) = (run(&fake, 6..9).trace_hash, run(&fake, 7..10).trace_hash);
    assert_ne!(low, high);
    let changed = Fake::new(|spec, outcome| outcome.trace_hash ^= u64::from(spec.seed == 8));
    assert_ne!(run(&changed, 6..9).trace_hash, low);
}

#[test]
fn the_first_failure_is_the_lowest_failing_seed() {
    let spec = RunSpec::new(0);
    for threads in [1, 2, 5] {
        for (start, first) in [(0, 3), (3, 3), (4, 8), (9, 13)] {
            let found = first_failure(&Fake::new(fifth), start..100, &spec, threads);
            assert_eq!(found.unwrap().map(|outcome| outcome.seed), Some(first));
        }
        let found = first_failure(&Fake::new(fifth), 4..8, &spec, threads);
        assert_eq!(found.map(|outcome| outcome.is_none()), Ok(true));
    }
}

fn check_vacuous(sim: &dyn Simulation, seeds: std::ops::Range<u64>, expected: &[&str]) {
    let report = run(sim, seeds);
    assert_eq!(report.vacuous, expected);
    assert_eq!(report.exit_code(), if expected.is_empty() { 0 } else { 2 });
}

#[test]
fn a_batch_that_delivers_or_compares_nothing_is_vacuous() {
    check_vacuous(&Fake::new(|_, _| ()), 3..3, &["no seed was run"]);
    let silent = Fake::new(|_, outcome| {
        outcome.coverage = Coverage::new(KINDS, PHASES);
        outcome.coverage.delivered(0, 0, dpat_sim::Families::NONE);
    });
    let reasons = ["no message Pong was delivered", "no operation was compared"];
    check_vacuous(&silent, 0..2, &reasons);
    let never = Fake::new(|spec, outcome| {
        outcome.coverage.note_sometimes("elected", 0);
        let even = u64::from(spec.seed % 2 == 0);
        outcome.coverage.note_sometimes("even", even);
    });
    check_vacuous(&never, 0..9, &["elected never happened"]);
    let odd = ["elected never happened", "even never happened"];
    check_vacuous(&never, 1..2, &odd);
    // A batch that found something has shown something.
    let failing = Fake::new(|_, outcome| {
        outcome.coverage = Coverage::new(KINDS, PHASES);
        outcome.violation = violation("right");
    });
    let report = run(&failing, 0..2);
    assert_eq!((report.exit_code(), report.vacuous.len()), (1, 3));
}

#[test]
fn faults_that_never_strike_make_many_seeds_vacuous_and_few_not() {
    let unhurt = |spec: &RunSpec, outcome: &mut Outcome| {
        let mut fresh = Coverage::new(KINDS, PHASES);
        fresh.delivered(0, 0, dpat_sim::Families::NONE);
        fresh.delivered(1, 0, dpat_sim::Families::NONE);
        fresh.note_compared(1);
        for op in &outcome.script.ops {
            if Family::of(&op.fault) != Some(Family::Loss) {
                fresh.struck(&op.fault);
            }
        }
        outcome.coverage = fresh;
        let _ = spec;
    };
    let fake = Fake {
        plan: Plan::default(),
        ..Fake::new(unhurt)
    };
    check_vacuous(
        &fake,
        0..16,
        &["faults of loss were drawn, and none struck"],
    );
    check_vacuous(&fake, 0..15, &[]);
    // A given script may have what it likes.
    let mut script = bare();
    script.ops = fake.plan.script("fake", 3, KINDS, 1).ops;
    let spec = RunSpec {
        script: Some(script),
        ..RunSpec::new(0)
    };
    assert!(batch(&fake, 0..16, &spec, 1).unwrap().vacuous.is_empty());
}

#[test]
fn a_plan_with_crashes_must_have_some() {
    let spared = Fake {
        plan: Plan::default(),
        ..Fake::new(|_, outcome| {
            outcome
                .script
                .ops
                .retain(|op| Family::of(&op.fault) != Some(Family::Crash));
        })
    };
    let reason = "no node crashed, although the plan allows it";
    check_vacuous(&spared, 0..16, &[reason]);
    check_vacuous(&spared, 0..15, &[]);
    let crashless = Fake {
        plan: Plan::default().without(Family::Crash),
        ..Fake::new(|_, _| ())
    };
    check_vacuous(&crashless, 0..16, &[]);
}
