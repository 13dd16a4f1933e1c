//! Sequential and causal consistency, session guarantees, convergence.

use dpat_check::{Causal, Format, History, Limits, Model, Operation, Session, Value, Verdict};
use dpat_check::{check_causal, check_convergence, check_linearizable, check_sequential};
use dpat_check::{check_session, parse};
use dpat_core::{Entropy, SplitMix64};

use crate::naive;
use crate::random::{Shape, history as small};

/// Makes a history of `process f value` calls, one after the other.
fn history(calls: &[&str]) -> History {
    let mut text = String::new();
    for call in calls {
        let mut words = call.splitn(3, ' ');
        let mut word = || words.next().unwrap();
        let (process, f, value) = (word(), word(), word());
        for kind in ["invoke", "ok"] {
            text += &format!("{{:process {process} :type :{kind} :f :{f} :value {value}}}\n");
        }
    }
    parse(text.as_bytes(), "h", Format::JepsenEdn)
        .unwrap()
        .history
}

fn rule(verdict: &Verdict) -> Option<&'static str> {
    verdict.violation().and_then(|violation| violation.rule)
}

/// Tries every order that keeps the order of each process.
fn sequential(model: Model, operations: &[Operation]) -> bool {
    fn place(model: Model, lanes: &mut Vec<Vec<&Operation>>, state: &Value) -> bool {
        let required = |op: &&Operation| naive::required(op, usize::MAX);
        if !lanes.iter().flatten().any(required) {
            return true;
        }
        for lane in 0..lanes.len() {
            if lanes[lane].is_empty() {
                continue;
            }
            let op = lanes[lane].remove(0);
            let after = naive::step(model, state, op);
            let found = after.is_some_and(|after| place(model, lanes, &after));
            lanes[lane].insert(0, op);
            if found {
                return true;
            }
        }
        false
    }
    let processes = operations
        .iter()
        .map(|op| op.process)
        .max()
        .map_or(0, |last| last + 1);
    let mut lanes: Vec<Vec<&Operation>> = (0..processes)
        .map(|process| {
            let own = operations.iter().filter(|op| op.process == process);
            own.filter(|op| !op.failed() || naive::required(op, usize::MAX))
                .collect()
        })
        .collect();
    place(model, &mut lanes, &naive::initial(model))
}

#[test]
fn sequential_consistency_agrees_with_trying_everything() {
    let models = [
        Model::Register,
        Model::CasRegister,
        Model::Kv,
        Model::Queue,
        Model::Set,
        Model::Stack,
        Model::Counter,
        Model::Lock,
    ];
    for model in models {
        let mut counts = [0, 0];
        for seed in 0..1500 {
            let unique = seed % 2 == 0;
            let history = small(
                Shape {
                    model,
                    unique,
                    operations: 7,
                },
                seed,
            );
            let limits = Limits::default();
            let Ok(verdict) = check_sequential(&history, model, &limits) else {
                continue;
            };
            let expected = sequential(model, history.operations());
            assert_eq!(
                verdict.is_ok(),
                expected,
                "{model} seed {seed}: {history:#?}"
            );
            counts[usize::from(expected)] += 1;
            if check_linearizable(&history, model, &limits)
                .unwrap()
                .is_ok()
            {
                assert!(expected, "{model} seed {seed}");
            }
            if let Some(violation) = verdict.violation() {
                assert!(!violation.longest_prefix.contains(&violation.blocked));
            }
        }
        assert!(
            counts.iter().all(|count| *count >= 100),
            "{model}: {counts:?}"
        );
    }
}

#[test]
fn a_stale_read_is_sequential_but_not_linearizable() {
    let stale = history(&["0 write 1", "1 read nil", "1 read 1"]);
    let limits = Limits::default();
    assert!(
        check_sequential(&stale, Model::Register, &limits)
            .unwrap()
            .is_ok()
    );
    assert!(
        !check_linearizable(&stale, Model::Register, &limits)
            .unwrap()
            .is_ok()
    );
}

#[test]
fn each_bad_pattern_of_causality_is_found() {
    let weak = |calls: &[&str]| rule(&check_causal(&history(calls), Causal::Weak).unwrap());
    let convergent =
        |calls: &[&str]| rule(&check_causal(&history(calls), Causal::Convergent).unwrap());
    assert_eq!(weak(&["0 write 1", "1 read nil", "1 read 1"]), None);
    assert_eq!(weak(&["0 read 7"]), Some("thin-air-read"));
    assert_eq!(weak(&["0 read 1", "0 write 1"]), Some("cyclic-co"));
    assert_eq!(
        weak(&["0 write 1", "0 read nil"]),
        Some("write-co-init-read")
    );
    assert_eq!(
        weak(&["0 write 1", "0 write 2", "1 read 2", "1 read 1"]),
        Some("write-co-read")
    );
    // The question overtaken by its answer, on two keys.
    let answer = [
        "0 put [:q 1]",
        "1 get [:q 1]",
        "1 put [:a 1]",
        "2 get [:a 1]",
        "2 get [:q nil]",
    ];
    assert_eq!(weak(&answer), Some("write-co-init-read"));
    // Two replicas that never agree on the order of two writes.
    let forked = [
        "0 write 1",
        "1 write 2",
        "2 read 1",
        "2 read 2",
        "3 read 2",
        "3 read 1",
    ];
    assert_eq!(weak(&forked), None);
    assert_eq!(convergent(&forked), Some("cyclic-cf"));
}

/// Decides by the definitions: for convergence, tries every order of the writes.
fn causal(operations: &[Operation]) -> (bool, bool) {
    let of = |at: usize| {
        let parts = operations[at].final_value().list().unwrap();
        (
            operations[at].f == "put",
            parts[0].clone(),
            parts[1].clone(),
        )
    };
    let count = operations.len();
    let mut before = vec![vec![false; count]; count];
    let mut from = vec![None; count];
    for at in 0..count {
        for other in 0..count {
            let program = operations[other].process == operations[at].process && other < at;
            let reads =
                of(other).0 && !of(at).0 && of(other).1 == of(at).1 && of(other).2 == of(at).2;
            before[other][at] |= program || reads;
            if reads {
                from[at] = Some(other);
            }
        }
    }
    for middle in 0..count {
        for left in 0..count {
            for right in 0..count {
                before[left][right] |= before[left][middle] && before[middle][right];
            }
        }
    }
    if (0..count).any(|at| before[at][at]) {
        return (false, false);
    }
    let past = |at: usize| {
        let known = (0..count).filter(move |other| of(*other).0 && of(*other).1 == of(at).1);
        known.filter(|other| before[*other][at]).collect::<Vec<_>>()
    };
    let reads: Vec<usize> = (0..count).filter(|at| !of(*at).0).collect();
    let weak = reads.iter().all(|read| match from[*read] {
        None => past(*read).is_empty(),
        Some(write) => !past(*read).iter().any(|other| before[write][*other]),
    });
    let writes: Vec<usize> = (0..count).filter(|at| of(*at).0).collect();
    let mut orders = vec![Vec::new()];
    for _ in &writes {
        let mut longer = Vec::new();
        for order in &orders {
            for next in &writes {
                let late = |earlier: &usize| before[*next][*earlier];
                if !order.contains(next) && !order.iter().any(late) {
                    longer.push([&order[..], &[*next]].concat());
                }
            }
        }
        orders = longer;
    }
    let convergent = orders.iter().any(|order: &Vec<usize>| {
        reads.iter().all(|read| {
            let past = past(*read);
            order
                .iter()
                .rev()
                .find(|write| past.contains(write))
                .copied()
                == from[*read]
        })
    });
    (weak, convergent)
}

#[test]
fn causality_agrees_with_its_definition() {
    let mut counts = [[0, 0], [0, 0]];
    for seed in 0..4000 {
        let random = SplitMix64::new(seed);
        let mut written: Vec<Vec<i64>> = vec![vec![], vec![]];
        let mut calls = Vec::new();
        for value in 1..=8 {
            let key = usize::from(random.below(2) == 0);
            let process = random.below(3);
            if random.below(2) == 0 {
                written[key].push(value);
                calls.push(format!("{process} put [{key} {value}]"));
                continue;
            }
            // Mostly the last write, often an older one or nothing.
            let back = usize::try_from(random.below(3)).unwrap();
            let seen = written[key].iter().rev().nth(back);
            let seen = seen.map_or("nil".into(), i64::to_string);
            calls.push(format!("{process} get [{key} {seen}]"));
        }
        let calls: Vec<&str> = calls.iter().map(String::as_str).collect();
        let history = history(&calls);
        let (weak, convergent) = causal(history.operations());
        let is = |level| check_causal(&history, level).unwrap().is_ok();
        assert_eq!(
            (is(Causal::Weak), is(Causal::Convergent)),
            (weak, convergent),
            "{calls:?}"
        );
        let ordered = check_sequential(&history, Model::Kv, &Limits::default()).unwrap();
        assert!(convergent || !ordered.is_ok(), "{calls:?}");
        counts[0][usize::from(weak)] += 1;
        counts[1][usize::from(convergent)] += 1;
    }
    assert!(
        counts.iter().flatten().all(|count| *count >= 200),
        "{counts:?}"
    );
}

#[test]
fn each_session_guarantee_is_broken_alone() {
    use Session::{MonotonicReads, MonotonicWrites, ReadYourWrites, WritesFollowReads};
    let all = [
        ReadYourWrites,
        MonotonicReads,
        MonotonicWrites,
        WritesFollowReads,
    ];
    let broken = |calls: &[&str]| -> Vec<Session> {
        let history = history(calls);
        let breaks = |session: &Session| {
            let verdict = check_session(&history, *session).unwrap();
            assert!(verdict.is_ok() || rule(&verdict) == Some(session.name()));
            !verdict.is_ok()
        };
        all.into_iter().filter(breaks).collect()
    };
    assert_eq!(
        broken(&["0 write 1", "0 read 1", "1 read nil", "1 read 1"]),
        []
    );
    assert_eq!(broken(&["0 write 1", "0 read nil"]), [ReadYourWrites]);
    assert_eq!(
        broken(&["0 write 1", "1 read 1", "1 read nil"]),
        [MonotonicReads]
    );
    let writes = [
        "0 put [:x 1]",
        "0 put [:y 1]",
        "1 get [:y 1]",
        "1 get [:x nil]",
    ];
    assert_eq!(broken(&writes), [MonotonicWrites]);
    let follow = [
        "0 put [:x 1]",
        "1 get [:x 1]",
        "1 put [:y 1]",
        "2 get [:y 1]",
        "2 get [:x nil]",
    ];
    assert_eq!(broken(&follow), [WritesFollowReads]);
}

#[test]
fn replicas_with_equal_deliveries_have_equal_states() {
    let verdict = |calls: &[&str]| check_convergence(&history(calls)).unwrap();
    let fine = [
        "0 deliver :a",
        "0 deliver :b",
        "1 deliver :b",
        "1 read 2",
        "1 deliver :a",
        "1 read 3",
        "0 read 3",
    ];
    assert!(verdict(&fine).is_ok());
    let diverged = [
        "0 deliver :a",
        "0 deliver :b",
        "1 deliver :b",
        "1 deliver :a",
        "1 read 3",
        "0 read 4",
    ];
    let found = verdict(&diverged);
    assert_eq!(rule(&found), Some("diverged"));
    assert_eq!(
        found.violation().map(|violation| violation.blocked),
        Some(5)
    );
}
