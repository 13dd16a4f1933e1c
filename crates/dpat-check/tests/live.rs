//! Verdicts on recorded histories.
//!
//! They are in the folder that `DPAT_DATA` names; without it each test reports itself as ignored.

use std::fs::File;
use std::path::{Path, PathBuf};

use dpat_check::{
    Format, History, Limits, Model, Outcome, Parsed, Value, Verdict, check_linearizable, parse,
};
use dpat_model::{Event, Kind};
use libtest_mimic::{Arguments, Failed, Trial};

/// Which histories are linearizable, after Porcupine's models.
const RECORDED: &[(&str, Model, bool)] = &[
    ("etcd/etcd_000.log", Model::CasRegister, false),
    ("etcd/etcd_001.log", Model::CasRegister, false),
    ("etcd/etcd_002.log", Model::CasRegister, true),
    ("etcd/etcd_005.log", Model::CasRegister, true),
    ("etcd/etcd_006.log", Model::CasRegister, false),
    ("etcd/etcd_007.log", Model::CasRegister, true),
    ("etcd/etcd_012.log", Model::CasRegister, false),
    ("etcd/etcd_018.log", Model::CasRegister, true),
    ("etcd/etcd_022.log", Model::CasRegister, false),
    ("etcd/etcd_025.log", Model::CasRegister, true),
    ("etcd/etcd_031.log", Model::CasRegister, true),
    ("etcd/etcd_036.log", Model::CasRegister, false),
    ("kv/c01-ok.txt", Model::Kv, true),
    ("kv/c01-bad.txt", Model::Kv, false),
    ("kv/c10-ok.txt", Model::Kv, true),
    ("kv/c10-bad.txt", Model::Kv, false),
];

fn main() {
    let arguments = Arguments::from_args();
    let folder = std::env::var_os("DPAT_DATA").map(|data| PathBuf::from(data).join("histories"));
    let mut trials = Vec::new();
    for (file, model, linearizable) in RECORDED {
        let path = folder.as_ref().map(|folder| folder.join(file));
        let trial = |name: &str, test: fn(&Path, Model, bool) -> Result<(), Failed>| {
            let path = path.clone();
            Trial::test(format!("{name}::{file}"), move || match path {
                Some(path) => test(&path, *model, *linearizable),
                None => Err("DPAT_DATA is not set".into()),
            })
            .with_kind(if folder.is_none() {
                "DPAT_DATA is not set"
            } else {
                ""
            })
            .with_ignored_flag(folder.is_none())
        };
        trials.push(trial("verdict", verdict_is_known));
        if *linearizable {
            trials.push(trial("mutated", wrong_reads_are_found));
        }
    }
    libtest_mimic::run(&arguments, trials).exit();
}

fn read(path: &Path) -> Result<Parsed, Failed> {
    Ok(parse(
        File::open(path)?,
        &path.display().to_string(),
        Format::Auto,
    )?)
}

fn verdict_is_known(path: &Path, model: Model, linearizable: bool) -> Result<(), Failed> {
    let history = read(path)?.history;
    let verdict = check_linearizable(&history, model, &Limits::default())?;
    match verdict {
        Verdict::Ok if linearizable => Ok(()),
        Verdict::Violation(violation) if !linearizable => {
            assert!(!violation.longest_prefix.is_empty());
            assert!(!violation.longest_prefix.contains(&violation.blocked));
            Ok(())
        }
        other => Err(format!("{other:?}").into()),
    }
}

/// Gives each read in turn a value that nobody wrote.
fn wrong_reads_are_found(path: &Path, model: Model, _linearizable: bool) -> Result<(), Failed> {
    let history = read(path)?.history;
    let mut mutated = 0;
    for (index, operation) in history.operations().iter().enumerate() {
        let Outcome::Ok(result) = &operation.outcome else {
            continue;
        };
        let wrong = match (&*operation.f, result.list()) {
            ("read", _) => Value::Int(9),
            ("get", Some([key, _])) => Value::List(vec![key.clone(), "nobody wrote this".into()]),
            _ => continue,
        };
        let changed = with_result(&history, index, &wrong)?;
        let verdict = check_linearizable(&changed, model, &Limits::default())?;
        if verdict.violation().is_none() {
            return Err(format!("{verdict:?} although line {} is wrong", operation.line).into());
        }
        mutated += 1;
    }
    assert!(mutated >= 10, "only {mutated} reads");
    Ok(())
}

/// Returns the history with another result of one operation.
fn with_result(history: &History, changed: usize, result: &Value) -> Result<History, Failed> {
    let mut events = Vec::new();
    for (index, operation) in history.operations().iter().enumerate() {
        let event = |kind, value: &Value| Event {
            time_ns: 0,
            process: operation.process,
            kind,
            f: operation.f.clone(),
            value: value.clone(),
        };
        events.push((operation.called, event(Kind::Invoke, &operation.value)));
        let end = match &operation.outcome {
            Outcome::Ok(_) if index == changed => event(Kind::Ok, result),
            Outcome::Ok(value) => event(Kind::Ok, value),
            Outcome::Fail(value) => event(Kind::Fail, value),
            Outcome::Info => continue,
        };
        events.push((operation.returned.unwrap_or(usize::MAX), end));
    }
    events.sort_by_key(|(at, _)| *at);
    Ok(History::from_events(
        events.into_iter().map(|(_, event)| event),
    )?)
}
