//! Key–value store: one register with append per key.

use super::{Object, no_such};
use crate::error::BadOperation;
use crate::history::Operation;
use crate::sequential::Sequential;
use crate::value::{Ids, Value};

/// `get [k nil]` → `[k v]`, `put [k v]`, `append [k text]`. A key holds nothing at the beginning; nil and "" are both
/// that.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Store;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Change {
    Get(Value),
    Put(Value),
    Append(Box<str>),
}

/// An operation on a key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Op {
    pub(crate) key: u32,
    pub(crate) change: Change,
}

/// One key of a history.
///
/// A text that begins no read of the history, and a value that no read shows, are all the same: no append makes them
/// readable, and a put does not care. Such states are joined, since otherwise each order of appends would be one.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// What is read, sorted.
    reads: Vec<Value>,
}

impl Entry {
    pub(crate) fn new<'a>(changes: impl Iterator<Item = &'a Change>) -> Self {
        let mut reads: Vec<_> = changes
            .filter_map(|change| match change {
                Change::Get(value) => Some(value.clone()),
                Change::Put(_) | Change::Append(_) => None,
            })
            .collect();
        reads.sort_unstable();
        reads.dedup();
        Self { reads }
    }

    /// Returns the value unless no read can ever show it or what is appended to it.
    fn readable(&self, value: Value) -> Option<Value> {
        if value.is_nil() {
            return Some(value);
        }
        let first = self.reads.partition_point(|read| *read < value);
        let read = self.reads.get(first)?;
        let begins = match (read.text(), value.text()) {
            (Some(read), Some(text)) => read.starts_with(text),
            _ => *read == value,
        };
        begins.then_some(value)
    }
}

impl Sequential for Entry {
    /// The value; none if no read can show it.
    type State = Option<Value>;
    type Op = Change;

    fn initial(&self) -> Option<Value> {
        Some(Value::Nil)
    }

    fn step(&self, holds: &Option<Value>, op: &Change) -> Option<Option<Value>> {
        match (op, holds) {
            (Change::Get(value), _) => (holds.as_ref() == Some(value)).then(|| holds.clone()),
            (Change::Put(value), _) => Some(self.readable(value.clone())),
            (Change::Append(_), None) => Some(None),
            (Change::Append(_), Some(value)) => {
                Some(change(value, op).and_then(|after| self.readable(after)))
            }
        }
    }

    fn weight(&self, holds: &Option<Value>) -> usize {
        4 + holds.as_ref().and_then(Value::text).map_or(0, str::len) / 16
    }

    fn reads_only(&self, op: &Change) -> bool {
        matches!(op, Change::Get(_))
    }
}

/// Applies an operation to the value of a key.
fn change(holds: &Value, op: &Change) -> Option<Value> {
    match op {
        Change::Get(value) => (value == holds).then(|| holds.clone()),
        Change::Put(value) => Some(value.clone()),
        Change::Append(more) if more.is_empty() => Some(holds.clone()),
        Change::Append(more) => {
            let text = match holds {
                Value::Nil => "",
                // Nobody appends to what is no text.
                other => other.text()?,
            };
            Some(Value::Str(format!("{text}{more}").into()))
        }
    }
}

/// All keys at once, for models that do not compose by key.
impl Sequential for Store {
    type State = std::collections::BTreeMap<u32, Value>;
    type Op = Op;

    fn initial(&self) -> Self::State {
        Self::State::new()
    }

    fn step(&self, holds: &Self::State, op: &Op) -> Option<Self::State> {
        let next = change(holds.get(&op.key).unwrap_or(&Value::Nil), &op.change)?;
        let mut after = holds.clone();
        if next.is_nil() {
            after.remove(&op.key);
        } else {
            after.insert(op.key, next);
        }
        Some(after)
    }

    fn weight(&self, holds: &Self::State) -> usize {
        let texts = holds.values().filter_map(Value::text).map(str::len);
        4 + holds.len() * 4 + texts.sum::<usize>() / 16
    }

    fn reads_only(&self, op: &Op) -> bool {
        matches!(op.change, Change::Get(_))
    }
}

impl Object for Store {
    fn read<'a>(
        &self,
        index: usize,
        operation: &'a Operation,
        ids: &mut Ids<'a>,
    ) -> Result<Option<Op>, BadOperation> {
        let Some([key, argument]) = operation.value.list() else {
            return Err(operation.bad(index, "value", "an operation on a key has [key value]"));
        };
        let change = match &*operation.f {
            "get" | "read" => {
                let Some(result) = operation.result() else {
                    return Ok(None);
                };
                match result.list() {
                    Some([same, value]) if same == key => Change::Get(something(value)),
                    _ => return Err(operation.bad_result(index, "a get returns [key value]")),
                }
            }
            "put" | "write" => Change::Put(something(argument)),
            "append" => match argument.text() {
                Some(text) => Change::Append(text.into()),
                None => return Err(operation.bad(index, "value", "an append has [key text]")),
            },
            _ => return Err(no_such(index, operation, "get, put, append")),
        };
        let key = ids.id(key);
        Ok((!operation.failed()).then_some(Op { key, change }))
    }
}

/// An empty text is what a key without a value reads as.
fn something(value: &Value) -> Value {
    match value.text() {
        Some("") => Value::Nil,
        Some(text) => Value::Str(text.into()),
        None => value.clone(),
    }
}
