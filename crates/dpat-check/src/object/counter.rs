//! Counter.

use super::{Object, no_such};
use crate::error::BadOperation;
use crate::history::Operation;
use crate::sequential::Sequential;
use crate::value::{Ids, Value};

/// `add n`, optionally → `[n sum]`, and `read` → sum. Zero at the beginning, wrapping.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counter;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Op {
    Read(i64),
    /// With the sum after it, if it was returned.
    Add(i64, Option<i64>),
}

impl Sequential for Counter {
    type State = i64;
    type Op = Op;

    fn initial(&self) -> i64 {
        0
    }

    fn step(&self, holds: &i64, op: &Op) -> Option<i64> {
        match *op {
            Op::Read(sum) => (sum == *holds).then_some(sum),
            Op::Add(more, sum) => {
                let after = holds.wrapping_add(more);
                sum.is_none_or(|sum| sum == after).then_some(after)
            }
        }
    }

    fn reads_only(&self, op: &Op) -> bool {
        matches!(op, Op::Read(_))
    }
}

impl Object for Counter {
    fn read<'a>(
        &self,
        index: usize,
        operation: &'a Operation,
        _ids: &mut Ids<'a>,
    ) -> Result<Option<Op>, BadOperation> {
        let result = operation.result();
        let op = match &*operation.f {
            "read" => match result.map(Value::int) {
                None => return Ok(None),
                Some(Some(sum)) => Op::Read(sum),
                Some(None) => return Err(operation.bad_result(index, "a read returns an integer")),
            },
            "add" => {
                let Some(more) = operation.value.int() else {
                    return Err(operation.bad(index, "value", "an add has an integer"));
                };
                match result.and_then(Value::list) {
                    Some([_, Value::Int(sum)]) => Op::Add(more, Some(*sum)),
                    Some(_) => return Err(operation.bad_result(index, "an add returns [n sum]")),
                    None => Op::Add(more, None),
                }
            }
            _ => return Err(no_such(index, operation, "read, add")),
        };
        Ok((!operation.failed()).then_some(op))
    }
}
