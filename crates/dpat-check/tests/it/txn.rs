//! Anomalies of transactions: each by a history that has it, and all against every serial order.

use dpat_check::{Format, History, Limits, Model, Rule, Transactions, Value, check};
use dpat_check::{Operation, Outcome, find_anomalies, parse};
use dpat_core::{Entropy, SplitMix64};
use dpat_model::{Event, Kind};

/// Makes transactions one after the other, each with how it ended.
fn history(transactions: &[(&str, &str)]) -> History {
    let mut text = String::new();
    for (process, (kind, parts)) in transactions.iter().enumerate() {
        for kind in ["invoke", kind] {
            text += &format!("{{:process {process} :type :{kind} :f :txn :value [{parts}]}}\n");
        }
    }
    parse(text.as_bytes(), "h", Format::JepsenEdn)
        .unwrap()
        .history
}

/// The first anomaly and its transactions.
fn found(kind: Transactions, transactions: &[(&str, &str)]) -> Option<(Rule, Vec<usize>)> {
    let found = find_anomalies(&history(transactions), kind, &Limits::default()).unwrap();
    found
        .anomalies
        .into_iter()
        .next()
        .map(|first| (first.rule, first.transactions))
}

#[test]
fn each_anomaly_of_lists_is_found() {
    let list = |transactions: &[_]| found(Transactions::ListAppend, transactions);
    assert_eq!(
        list(&[("ok", "[:append :x 1] [:r :x [1]]"), ("ok", "[:r :x [1]]")]),
        None
    );
    assert_eq!(
        list(&[("info", "[:append :x 1]"), ("ok", "[:r :x []]")]),
        None
    );
    assert_eq!(
        list(&[("ok", "[:append :x 1] [:r :x []]")]),
        Some((Rule::Internal, vec![0]))
    );
    assert_eq!(
        list(&[("ok", "[:r :x [1]]")]),
        Some((Rule::ThinAir, vec![0]))
    );
    let twice = [("ok", "[:append :x 1]"), ("ok", "[:r :x [1 1]]")];
    assert_eq!(list(&twice), Some((Rule::DuplicateElements, vec![1])));
    let forked = [
        ("ok", "[:append :x 1]"),
        ("ok", "[:append :x 2]"),
        ("ok", "[:r :x [1]]"),
        ("ok", "[:r :x [2 1]]"),
    ];
    assert_eq!(list(&forked), Some((Rule::IncompatibleOrder, vec![2, 3])));
    assert_eq!(
        list(&[("fail", "[:append :x 1]"), ("ok", "[:r :x [1]]")]),
        Some((Rule::G1a, vec![0, 1]))
    );
    assert_eq!(
        list(&[
            ("ok", "[:append :x 1] [:append :x 2]"),
            ("ok", "[:r :x [1]]"),
            ("ok", "[:r :x [1 2]]")
        ]),
        Some((Rule::G1b, vec![0, 1]))
    );
    let g0 = [
        ("ok", "[:append :x 1] [:append :y 1]"),
        ("ok", "[:append :x 2] [:append :y 2]"),
        ("ok", "[:r :x [1 2]]"),
        ("ok", "[:r :y [2 1]]"),
    ];
    assert_eq!(list(&g0).map(|(rule, _)| rule), Some(Rule::G0));
    let g1c = [
        ("ok", "[:append :x 1] [:r :y [1]]"),
        ("ok", "[:append :y 1] [:r :x [1]]"),
    ];
    assert_eq!(list(&g1c).map(|(rule, _)| rule), Some(Rule::G1c));
    // A lost update: both read the beginning and append.
    let single = [
        ("ok", "[:r :x []] [:append :x 1]"),
        ("ok", "[:r :x []] [:append :x 2]"),
        ("ok", "[:r :x [1 2]]"),
    ];
    assert_eq!(list(&single).map(|(rule, _)| rule), Some(Rule::GSingle));
    let skew = [
        ("ok", "[:r :x []] [:append :y 1]"),
        ("ok", "[:r :y []] [:append :x 1]"),
    ];
    assert_eq!(list(&skew).map(|(rule, _)| rule), Some(Rule::G2));
}

#[test]
fn each_anomaly_of_registers_is_found() {
    let register = |transactions: &[_]| found(Transactions::RwRegister, transactions);
    let fine = [
        ("ok", "[:w :x 1] [:r :x 1]"),
        ("ok", "[:r :x 1] [:w :x 2]"),
        ("ok", "[:r :x 2]"),
    ];
    assert_eq!(register(&fine), None);
    assert_eq!(
        register(&[("ok", "[:w :x 1] [:r :x nil]")]),
        Some((Rule::Internal, vec![0]))
    );
    assert_eq!(
        register(&[("ok", "[:r :x 1]")]),
        Some((Rule::ThinAir, vec![0]))
    );
    let aborted = [("fail", "[:w :x 1]"), ("ok", "[:r :x 1]")];
    assert_eq!(register(&aborted), Some((Rule::G1a, vec![0, 1])));
    let between = [("ok", "[:w :x 1] [:w :x 2]"), ("ok", "[:r :x 1]")];
    assert_eq!(register(&between), Some((Rule::G1b, vec![0, 1])));
    let turn = [("ok", "[:r :x 2] [:w :x 1]"), ("ok", "[:r :x 1] [:w :x 2]")];
    assert_eq!(register(&turn), Some((Rule::CyclicVersions, vec![0, 1])));
    let flow = [("ok", "[:w :x 1] [:r :y 1]"), ("ok", "[:w :y 1] [:r :x 1]")];
    assert_eq!(register(&flow).map(|(rule, _)| rule), Some(Rule::G1c));
    let torn = [
        ("ok", "[:w :x 1] [:w :y 1]"),
        ("ok", "[:r :x 1] [:r :y nil]"),
    ];
    assert_eq!(register(&torn).map(|(rule, _)| rule), Some(Rule::GSingle));
    let skew = [
        ("ok", "[:r :x nil] [:w :y 1]"),
        ("ok", "[:r :y nil] [:w :x 1]"),
    ];
    assert_eq!(register(&skew).map(|(rule, _)| rule), Some(Rule::G2));
}

#[test]
fn a_cycle_names_its_transactions_and_rule() {
    let skew = [
        ("ok", "[:r :x []] [:append :y 1]"),
        ("ok", "[:r :y []] [:append :x 1]"),
    ];
    let verdict = check(&history(&skew), Model::ListAppend, &Limits::default()).unwrap();
    let violation = verdict.violation().unwrap();
    assert_eq!((violation.rule, violation.blocked), (Some("G2"), 1));
    assert_eq!(violation.with.len(), 2);
}

#[test]
fn what_is_no_transaction_is_refused() {
    let error = |transactions: &[_], model| {
        let error = check(&history(transactions), model, &Limits::default()).unwrap_err();
        error.in_file("h").to_string()
    };
    let twice = [("ok", "[:append :x 1]"), ("ok", "[:append :x 1]")];
    assert_eq!(
        error(&twice, Model::ListAppend),
        "h:3:1: value: 1 is written to :x twice"
    );
    assert_eq!(
        error(&[("ok", "[:w :x 1]")], Model::ListAppend),
        "h:2:1: value: a txn has parts [append key value] and [r key value]"
    );
    assert_eq!(
        error(&[("ok", "[:r :x 1]")], Model::ListAppend),
        "h:2:1: value: a read of a key is a list"
    );
}

/// Runs three transactions whose parts interleave, then reads all keys. Some are lucky and serializable.
fn random(seed: u64, write: &'static str) -> History {
    let random = SplitMix64::new(seed);
    let mut keys = vec![Vec::<i64>::new(); 2];
    let mut events = Vec::new();
    let mut push = |process, kind, parts: &[Value]| {
        let value = Value::List(parts.to_vec());
        events.push(Event {
            time_ns: 0,
            process,
            kind,
            f: "txn".into(),
            value,
        });
    };
    let shown = |list: &[i64]| match write {
        "append" => Value::from(list.to_vec()),
        _ => list.last().map_or(Value::Nil, |last| Value::Int(*last)),
    };
    let part = |f: &str, key: usize, value| {
        Value::List(vec![
            f.into(),
            Value::Int(i64::try_from(key).unwrap()),
            value,
        ])
    };
    let mut planned: Vec<Vec<(bool, usize, i64)>> = Vec::new();
    for transaction in 0..3 {
        let parts: Vec<_> = (0..=random.below(3))
            .map(|at| {
                let key = usize::from(random.below(2) == 0);
                let value = transaction * 10 + i64::try_from(at).unwrap();
                (random.below(2) == 0, key, value)
            })
            .collect();
        let ask = |(writes, key, value): &(bool, usize, i64)| match writes {
            true => part(write, *key, Value::Int(*value)),
            false => part("r", *key, Value::Nil),
        };
        push(
            transaction.unsigned_abs(),
            Kind::Invoke,
            &parts.iter().map(ask).collect::<Vec<_>>(),
        );
        planned.push(parts);
    }
    let mut done: Vec<Vec<Value>> = vec![Vec::new(); 3];
    while done
        .iter()
        .zip(&planned)
        .any(|(done, planned)| done.len() < planned.len())
    {
        let transaction = usize::try_from(random.below(3)).unwrap();
        // Often all at once, so that serializable runs are not rare.
        let steps = if random.below(3) == 0 { 1 } else { 3 };
        for _ in 0..steps {
            let at = done[transaction].len();
            let Some((writes, key, value)) = planned[transaction].get(at) else {
                break;
            };
            done[transaction].push(if *writes {
                keys[*key].push(*value);
                part(write, *key, Value::Int(*value))
            } else {
                part("r", *key, shown(&keys[*key]))
            });
        }
    }
    for (process, parts) in done.iter().enumerate() {
        let kind = match random.below(8) {
            0 => Kind::Info,
            1 => Kind::Fail,
            _ => Kind::Ok,
        };
        push(process as u64, kind, parts);
    }
    let last: Vec<_> = (0..2)
        .map(|key| part("r", key, shown(&keys[key])))
        .collect();
    push(
        9,
        Kind::Invoke,
        &[part("r", 0, Value::Nil), part("r", 1, Value::Nil)],
    );
    push(9, Kind::Ok, &last);
    History::from_events(events).unwrap()
}

/// Tries every serial order of what happened and what may have.
fn serializable(operations: &[Operation], write: &str) -> bool {
    fn place(left: &mut Vec<&Operation>, keys: &[Vec<Value>], write: &str) -> bool {
        if left
            .iter()
            .all(|operation| operation.outcome == Outcome::Info)
        {
            return true;
        }
        for position in 0..left.len() {
            let operation = left.remove(position);
            let mut after = keys.to_vec();
            let fits = operation.final_value().list().unwrap().iter().all(|part| {
                let [f, key, value] = part.list().unwrap() else {
                    return false;
                };
                let list = &mut after[usize::try_from(key.int().unwrap()).unwrap()];
                if f.text() == Some(write) {
                    list.push(value.clone());
                    return true;
                }
                let shown = match write {
                    "append" => Value::List(list.clone()),
                    _ => list.last().cloned().unwrap_or_default(),
                };
                operation.outcome == Outcome::Info || *value == shown
            });
            let found = fits && place(left, &after, write);
            left.insert(position, operation);
            if found {
                return true;
            }
        }
        false
    }
    let mut left: Vec<_> = operations
        .iter()
        .filter(|operation| !operation.failed())
        .collect();
    place(&mut left, &[Vec::new(), Vec::new()], write)
}

#[test]
fn lists_agree_with_trying_every_serial_order() {
    let mut counts = [0, 0];
    for seed in 0..4000 {
        let history = random(seed, "append");
        let expected = serializable(history.operations(), "append");
        let verdict = check(&history, Model::ListAppend, &Limits::default()).unwrap();
        assert_eq!(
            verdict.is_ok(),
            expected,
            "seed {seed}: {verdict:?} {history:#?}"
        );
        counts[usize::from(expected)] += 1;
    }
    assert!(counts.iter().all(|count| *count > 500), "{counts:?}");
}

#[test]
fn registers_raise_no_false_alarm() {
    let mut counts = [0, 0];
    for seed in 0..4000 {
        let history = random(seed, "w");
        let verdict = check(&history, Model::RwRegister, &Limits::default()).unwrap();
        if !verdict.is_ok() {
            let serial = serializable(history.operations(), "w");
            assert!(!serial, "seed {seed}: {verdict:?} {history:#?}");
        }
        counts[usize::from(verdict.is_ok())] += 1;
    }
    assert!(counts.iter().all(|count| *count > 500), "{counts:?}");
}
