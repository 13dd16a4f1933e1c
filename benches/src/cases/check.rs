//! Linearizability against porcupine-rs, transactions against adya.

use crate::harness::{Case, Contender};
use adya::sim::{Isolation, SimOpts};
use adya::{Opts, Valid, Workload};
use dpat_check::{
    Format, History, Limits, Model, Operation, Outcome, Transactions, Value, check, find_anomalies,
    parse,
};
use dpat_model::{Event, Kind};
use porcupine_rs::{Model as PeerModel, Operation as PeerOperation};
use serde_json::Value as Json;
use std::collections::HashMap;
use std::fs::File;
use std::path::PathBuf;
use std::rc::Rc;

pub(super) const NOTES: &str = "\
What each side does:

- Histories are parsed beforehand; from then on each side prepares and decides what it got. The recorded histories are \
those of `DPAT_DATA`; where it is not set their rows are left out.
- *dpat-check* explains every violation (the longest prefix that can be ordered, the operation that has no place) and \
knows special cases; *porcupine-rs* gives the verdict only, and checks the parts of a key–value history on several \
threads. Its models here do what those of its tests do.
- *adya* says in words why each anomaly is one. Both look for the anomalies that serializability excludes.";

/// The recorded histories: file, model.
const RECORDED: [(&str, Model); 16] = [
    ("etcd/etcd_000.log", Model::CasRegister),
    ("etcd/etcd_001.log", Model::CasRegister),
    ("etcd/etcd_002.log", Model::CasRegister),
    ("etcd/etcd_005.log", Model::CasRegister),
    ("etcd/etcd_006.log", Model::CasRegister),
    ("etcd/etcd_007.log", Model::CasRegister),
    ("etcd/etcd_012.log", Model::CasRegister),
    ("etcd/etcd_018.log", Model::CasRegister),
    ("etcd/etcd_022.log", Model::CasRegister),
    ("etcd/etcd_025.log", Model::CasRegister),
    ("etcd/etcd_031.log", Model::CasRegister),
    ("etcd/etcd_036.log", Model::CasRegister),
    ("kv/c01-ok.txt", Model::Kv),
    ("kv/c01-bad.txt", Model::Kv),
    ("kv/c10-ok.txt", Model::Kv),
    ("kv/c10-bad.txt", Model::Kv),
];

pub(super) fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = RECORDED.iter().filter_map(recorded).collect();
    for transactions in [1_000, 10_000, 100_000] {
        cases.push(list_append(transactions, Isolation::Serializable));
        cases.push(list_append(transactions, Isolation::SnapshotIsolation));
    }
    cases
}

fn recorded(&(file, model): &(&'static str, Model)) -> Option<Case> {
    let folder = PathBuf::from(std::env::var_os("DPAT_DATA")?).join("histories");
    let text = File::open(folder.join(file)).ok()?;
    let history = Rc::new(parse(text, file, Format::Auto).ok()?.history);
    let ours = {
        let history = Rc::clone(&history);
        move || check(&history, model, &Limits::default()).is_ok_and(|verdict| verdict.is_ok())
    };
    let mut theirs: Box<dyn FnMut() -> bool> = if model == Model::Kv {
        let calls = calls(&history, entry);
        Box::new(move || porcupine_rs::check_operations::<Entries>(&calls))
    } else {
        let calls = calls(&history, register);
        Box::new(move || porcupine_rs::check_operations::<Register>(&calls))
    };
    assert_eq!(ours(), theirs(), "{file}: the verdicts differ");
    let case = Case::new(
        "check",
        "linearizability of a recorded history",
        "Decides one recorded history; the verdicts agree.",
        Contender::single("dpat-check", ours),
        vec![Contender::single("porcupine-rs", theirs)],
    );
    Some(case.param("history", file).param("model", model.name()))
}

fn calls<M: PeerModel>(
    history: &History,
    op: impl Fn(&Operation) -> Option<M::Op>,
) -> Vec<PeerOperation<M>> {
    let time = |position: usize| i64::try_from(position).unwrap_or(i64::MAX);
    let call = |operation: &Operation| {
        Some(PeerOperation {
            client_id: None,
            call_time: time(operation.called),
            return_time: operation.returned.map_or(i64::MAX, time),
            op: op(operation)?,
            metadata: None,
        })
    };
    history.operations().iter().filter_map(call).collect()
}

/// etcd's compare-and-set register.
#[derive(Clone, Debug)]
struct Register;

#[derive(Clone, Debug)]
enum Access {
    Read(i64),
    Write(i64),
    Swap(i64, i64),
    /// Nobody knows whether it swapped.
    Maybe(i64, i64),
    Differs(i64),
}

/// No value yet.
const NONE: i64 = i64::MIN;

impl PeerModel for Register {
    type State = i64;
    type Op = Access;
    type Metadata = ();

    fn init() -> i64 {
        NONE
    }

    fn step(state: &i64, op: &Access) -> (bool, i64) {
        match *op {
            Access::Read(value) => (*state == value, *state),
            Access::Write(value) => (true, value),
            Access::Swap(old, new) => (*state == old, new),
            Access::Maybe(old, new) => (true, if *state == old { new } else { *state }),
            Access::Differs(old) => (*state != old, *state),
        }
    }
}

fn int(value: &Value) -> i64 {
    match value {
        Value::Int(value) => *value,
        _ => NONE,
    }
}

fn register(operation: &Operation) -> Option<Access> {
    match (&*operation.f, &operation.outcome) {
        ("read", Outcome::Ok(value)) => Some(Access::Read(int(value))),
        ("write", Outcome::Ok(_) | Outcome::Info) => Some(Access::Write(int(&operation.value))),
        ("cas", outcome) => {
            let [old, new] = operation.value.list()? else {
                return None;
            };
            match outcome {
                Outcome::Ok(_) => Some(Access::Swap(int(old), int(new))),
                Outcome::Info => Some(Access::Maybe(int(old), int(new))),
                Outcome::Fail(value) if *value == operation.value => {
                    Some(Access::Differs(int(old)))
                }
                Outcome::Fail(_) => None,
            }
        }
        _ => None,
    }
}

/// Texts by key.
#[derive(Clone, Debug)]
struct Entries;

#[derive(Clone, Debug)]
struct Touch {
    key: String,
    change: Change,
}

#[derive(Clone, Debug)]
enum Change {
    Get(String),
    Put(String),
    Append(String),
}

impl PeerModel for Entries {
    type State = String;
    type Op = Touch;
    type Metadata = ();

    fn partition_operations(history: &[PeerOperation<Self>]) -> Vec<Vec<PeerOperation<Self>>> {
        let mut keys: HashMap<&str, Vec<PeerOperation<Self>>> = HashMap::new();
        for call in history {
            keys.entry(&call.op.key).or_default().push(call.clone());
        }
        keys.into_values().collect()
    }

    fn init() -> String {
        String::new()
    }

    fn step(state: &String, op: &Touch) -> (bool, String) {
        match &op.change {
            Change::Get(value) => (state == value, state.clone()),
            Change::Put(value) => (true, value.clone()),
            Change::Append(value) => (true, format!("{state}{value}")),
        }
    }
}

fn entry(operation: &Operation) -> Option<Touch> {
    let text = |value: &Value| value.text().unwrap_or_default().to_owned();
    let [key, value] = operation.final_value().list()? else {
        return None;
    };
    let value = text(value);
    Some(Touch {
        key: text(key),
        change: match (&*operation.f, &operation.outcome) {
            ("get", Outcome::Ok(_)) => Change::Get(value),
            ("put", Outcome::Ok(_) | Outcome::Info) => Change::Put(value),
            ("append", Outcome::Ok(_) | Outcome::Info) => Change::Append(value),
            _ => return None,
        },
    })
}

fn list_append(transactions: usize, isolation: Isolation) -> Case {
    let text = adya::sim::run(&SimOpts {
        isolation,
        txns: transactions,
        ..SimOpts::default()
    });
    let clean = isolation == Isolation::Serializable;
    let ours = {
        let history = History::from_events(text.lines().map(event)).expect("adya's own history");
        move || {
            find_anomalies(&history, Transactions::ListAppend, &Limits::default())
                .is_ok_and(|found| found.anomalies.is_empty())
        }
    };
    let theirs = {
        let history = adya::History::from_json(&text).expect("adya's own history");
        let options = Opts {
            models: vec!["serializable".to_owned()],
            ..Opts::default()
        };
        move || adya::check(&history, Workload::ListAppend, &options).valid == Valid::True
    };
    assert_eq!((ours(), theirs()), (clean, clean), "the verdicts differ");
    Case::new(
        "check",
        "list-append, anomalies",
        "Looks for what serializability excludes in a history made by adya's simulated store, five clients; the \
         verdicts agree. Time is given per transaction.",
        Contender::single("dpat-check", ours),
        vec![Contender::single("adya", theirs)],
    )
    .param("transactions", transactions)
    .param(
        "store",
        if clean {
            "serializable"
        } else {
            "snapshot isolation"
        },
    )
    .items(transactions as u64)
}

/// Reads a line of adya's histories.
fn event(line: &str) -> Event<Value> {
    let line: Json = serde_json::from_str(line).expect("a line of JSON");
    let number = |field: &str| line[field].as_u64().unwrap_or_default();
    Event {
        time_ns: number("time"),
        process: number("process"),
        kind: match line["type"].as_str() {
            Some("invoke") => Kind::Invoke,
            Some("ok") => Kind::Ok,
            Some("fail") => Kind::Fail,
            _ => Kind::Info,
        },
        f: "txn".into(),
        value: value(&line["value"]),
    }
}

fn value(json: &Json) -> Value {
    match json {
        Json::Array(items) => Value::List(items.iter().map(value).collect()),
        Json::Number(number) => Value::Int(number.as_i64().unwrap_or_default()),
        Json::String(text) => Value::Str(text.as_str().into()),
        _ => Value::Nil,
    }
}
