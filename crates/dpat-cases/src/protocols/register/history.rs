//! What clients of a register saw.

use dpat_check::{History, Limits, Model, Operation, Value, Verdict, check_linearizable};
use dpat_model::Answer;
use dpat_sim::Recorder;

use super::{Op, Reply};

/// Records calls as the checkers read them.
#[derive(Debug)]
pub(in super::super) struct Calls {
    recorder: Recorder<Value>,
}

impl Calls {
    pub(in super::super) fn new(clients: u32) -> Self {
        let recorder = Recorder::new(clients);
        Self { recorder }
    }

    pub(in super::super) fn asked(&mut self, now_ns: u64, client: u32, op: Op) {
        let (f, argument) = match op {
            Op::Read => ("read", Value::Nil),
            Op::Write(new) => ("write", value(Some(new))),
        };
        self.recorder.invoke(now_ns, client, f, argument);
    }

    pub(in super::super) fn answered(
        &mut self,
        now_ns: u64,
        client: u32,
        op: Op,
        answer: &Answer<Reply>,
    ) {
        let argument = match op {
            Op::Read => Value::Nil,
            Op::Write(new) => value(Some(new)),
        };
        let recorder = &mut self.recorder;
        match answer {
            Answer::Reply(Reply::Value(read)) => recorder.ok(now_ns, client, value(*read)),
            Answer::Reply(Reply::Written) => recorder.ok(now_ns, client, argument),
            Answer::Reply(Reply::Refused(_)) | Answer::NotDone(_) => {
                recorder.fail(now_ns, client, argument)
            }
            Answer::Reply(Reply::Unknown) | Answer::Unknown => {
                recorder.info(now_ns, client, argument)
            }
        };
    }

    /// Returns the history so far, or why it is none.
    pub(in super::super) fn history(&self) -> Result<History, String> {
        let events = self.recorder.events().iter().cloned();
        History::from_events(events).map_err(|error| error.to_string())
    }
}

/// Decides whether a history is one of a single register.
pub(in super::super) fn linearizable(history: &History) -> Result<Verdict, String> {
    // A search without an end would stop every run after it.
    let limits = Limits::default().configurations_max(200_000);
    check_linearizable(history, Model::Register, &limits).map_err(|error| error.to_string())
}

/// Counts the operations that certainly happened: those that a checker compares.
pub(in super::super) fn happened(history: &History) -> u64 {
    let results = history.operations().iter().filter_map(Operation::result);
    results.count() as u64
}

/// Tells an operation in words.
pub(in super::super) fn told(history: &History, operation: usize) -> String {
    let Some(operation) = history.operations().get(operation) else {
        return format!("operation {operation}");
    };
    let (process, f, value) = (operation.process, &operation.f, operation.final_value());
    format!("{f} {value} of process {process}")
}

fn value(of: Option<u64>) -> Value {
    of.map_or(Value::Nil, |of| {
        Value::Int(i64::try_from(of).unwrap_or(i64::MAX))
    })
}
