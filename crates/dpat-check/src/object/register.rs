//! Register and compare-and-set register.

use super::{NIL, Object, no_such};
use crate::error::BadOperation;
use crate::history::{Operation, Outcome};
use crate::sequential::Sequential;
use crate::value::Ids;

/// `read`, `write v`, and, with `cas`, `cas [old new]`. Nil at the beginning.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Register {
    pub(crate) cas: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Op {
    Read(u32),
    Write(u32),
    Cas(u32, u32),
    /// A cas that found another value.
    Differs(u32),
}

impl Sequential for Register {
    type State = u32;
    type Op = Op;

    fn initial(&self) -> u32 {
        NIL
    }

    fn step(&self, holds: &u32, op: &Op) -> Option<u32> {
        match *op {
            Op::Read(value) => (value == *holds).then_some(value),
            Op::Write(value) => Some(value),
            Op::Cas(old, new) => (old == *holds).then_some(new),
            Op::Differs(old) => (old != *holds).then_some(*holds),
        }
    }

    fn reads_only(&self, op: &Op) -> bool {
        matches!(op, Op::Read(_) | Op::Differs(_))
    }
}

impl Object for Register {
    fn read<'a>(
        &self,
        index: usize,
        operation: &'a Operation,
        ids: &mut Ids<'a>,
    ) -> Result<Option<Op>, BadOperation> {
        Ok(match &*operation.f {
            "read" => operation.result().map(|value| Op::Read(ids.id(value))),
            "write" => (!operation.failed()).then(|| Op::Write(ids.id(&operation.value))),
            "cas" if self.cas => {
                let Some([old, new]) = operation.value.list() else {
                    return Err(operation.bad(index, "value", "a cas has [old new]"));
                };
                match &operation.outcome {
                    Outcome::Ok(_) | Outcome::Info => Some(Op::Cas(ids.id(old), ids.id(new))),
                    // A failure that repeats the argument is the answer of the comparison, any other a failed call.
                    Outcome::Fail(value) if *value == operation.value => {
                        Some(Op::Differs(ids.id(old)))
                    }
                    Outcome::Fail(_) => None,
                }
            }
            _ if self.cas => return Err(no_such(index, operation, "read, write, cas")),
            _ => return Err(no_such(index, operation, "read, write")),
        })
    }
}
