//! Linearizability against the search that tries everything.

use dpat_check::{Limits, Model, Verdict, check_linearizable};

use crate::naive;
use crate::random::{Shape, history};

/// Compares verdict and explanation on small random histories.
fn agrees(model: Model, unique: bool) {
    let shape = Shape {
        model,
        unique,
        operations: 7,
    };
    let mut verdicts = [0, 0];
    for seed in 0..3000 {
        let history = history(shape, seed);
        let operations = history.operations();
        let all: Vec<usize> = (0..operations.len()).collect();
        let expected = naive::linearizable(model, operations, &all, usize::MAX);
        let Ok(verdict) = check_linearizable(&history, model, &Limits::default()) else {
            continue; // distorted beyond what the model reads
        };
        assert_eq!(
            verdict.is_ok(),
            expected,
            "{model} seed {seed}: {history:#?}"
        );
        verdicts[usize::from(expected)] += 1;
        let Verdict::Violation(violation) = verdict else {
            continue;
        };

        // The prefix is an order that happened, and the blocked operation is the first that has no place.
        let context = || format!("{model} seed {seed}: {violation:?} {history:#?}");
        let part: Vec<usize> = match (&violation.key, model) {
            (None, _) => all,
            (Some(key), Model::Kv) => {
                let of = |at: &usize| operations[*at].value.list().unwrap()[0] == *key;
                all.into_iter().filter(of).collect()
            }
            (Some(key), _) => all
                .into_iter()
                .filter(|at| operations[*at].value == *key)
                .collect(),
        };
        let returned = operations[violation.blocked].returned.unwrap();
        assert!(
            !naive::linearizable(model, operations, &part, returned),
            "{}",
            context()
        );
        let mut state = naive::initial(model);
        for (position, at) in violation.longest_prefix.iter().enumerate() {
            let after = naive::step(model, &state, &operations[*at]);
            state = after.unwrap_or_else(|| panic!("{}", context()));
            for later in &violation.longest_prefix[position + 1..] {
                let end = operations[*later].returned.unwrap_or(usize::MAX);
                assert!(end > operations[*at].called, "{}", context());
            }
        }
        for at in part {
            let needed = naive::required(&operations[at], returned - 1);
            assert!(
                !needed || violation.longest_prefix.contains(&at),
                "{}",
                context()
            );
        }
    }
    assert!(
        verdicts.iter().all(|count| *count >= 300),
        "{model}: {verdicts:?}"
    );
}

#[test]
fn register_agrees_with_trying_everything() {
    agrees(Model::Register, false);
    agrees(Model::Register, true);
}

#[test]
fn cas_register_agrees_with_trying_everything() {
    agrees(Model::CasRegister, false);
}

#[test]
fn kv_agrees_with_trying_everything() {
    agrees(Model::Kv, false);
    agrees(Model::Kv, true);
}

#[test]
fn queue_agrees_with_trying_everything() {
    agrees(Model::Queue, false);
    agrees(Model::Queue, true);
}

#[test]
fn stack_agrees_with_trying_everything() {
    agrees(Model::Stack, false);
    agrees(Model::Stack, true);
}

#[test]
fn set_agrees_with_trying_everything() {
    agrees(Model::Set, false);
    agrees(Model::Set, true);
}

#[test]
fn counter_agrees_with_trying_everything() {
    agrees(Model::Counter, false);
}

#[test]
fn lock_agrees_with_trying_everything() {
    agrees(Model::Lock, false);
}
