//! Batches: merging, and the gates against runs that show nothing.

use dpat_model::Fault;
use dpat_sim::{
    BatchReport, Coverage, Family, Of, Outcome, Plan, RunSpec, Simulation, SpecError, batch,
    first_failure,
};

use crate::fake::{Fake, KINDS, PHASES, bare, violation};
use crate::toy::Keepers;

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
fn the_report_does_not_depend_on_the_number_of_threads() {
    let keepers = Of::<Keepers>::new();
    let fake = Fake {
        plan: Plan::default(),
        ..Fake::new(fifth)
    };
    let broken = RunSpec {
        mutant: Some("count-copies".to_owned()),
        ..RunSpec::new(0)
    };
    let cases: [(&dyn Simulation, RunSpec); 3] = [
        (&keepers, RunSpec::new(0)),
        (&keepers, broken),
        (&fake, RunSpec::new(0)),
    ];
    for (sim, spec) in cases {
        let one = batch(sim, 5..37, &spec, 1).unwrap();
        for threads in [0, 2, 3, 40] {
            assert_eq!(batch(sim, 5..37, &spec, threads).as_ref(), Ok(&one));
        }
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

#[test]
fn a_run_that_cannot_begin_ends_the_batch() {
    let fake = Fake::new(|spec, outcome| {
        if spec.seed >= 2 {
            outcome.violation = violation("no such run");
        }
    });
    let error = batch(&fake, 0..50, &RunSpec::new(0), 1).unwrap_err();
    assert!(matches!(error, SpecError::Nodes { asked: 2, .. }));
    let unknown = RunSpec {
        mutant: Some("unknown".to_owned()),
        ..RunSpec::new(0)
    };
    let error = batch(&Of::<Keepers>::new(), 0..9, &unknown, 2).unwrap_err();
    assert!(matches!(error, SpecError::NoMutant { .. }));
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

#[test]
fn correct_runs_are_clean_and_reach_what_they_should() {
    let report = run(&Of::<Keepers>::new(), 0..40);
    assert_eq!(report.vacuous, [""; 0]);
    assert_eq!(report.violations, []);
    assert!(report.coverage.faults()["crash"] > 0);
    assert!(report.coverage.sometimes()["recovered"] > 0);
}

#[test]
fn a_protocol_without_a_workload_is_vacuous() {
    let spec = RunSpec {
        script: Some(bare_keepers()),
        ..RunSpec::new(0)
    };
    let report = batch(&Of::<Keepers>::new(), 0..4, &spec, 2).unwrap();
    let reasons = [
        "no message Copy was delivered",
        "no message Kept was delivered",
        "no operation was compared",
        "recovered never happened",
    ];
    assert_eq!(report.vacuous, reasons);
    assert_eq!(report.exit_code(), 2);
}

/// A script in which nobody calls.
fn bare_keepers() -> dpat_model::Script {
    let mut script = dpat_model::Script::new("keepers", dpat_model::Nodes::Count(3), 7);
    for client in 0..2 {
        script.ops.push(dpat_model::Op {
            when: dpat_model::Trigger::At(0),
            fault: Fault::Calls {
                client,
                keep: Vec::new(),
            },
        });
    }
    script
}
