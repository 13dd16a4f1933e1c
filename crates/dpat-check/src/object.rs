//! The objects that histories are checked against, and how they read operations.

pub(crate) mod counter;
pub(crate) mod kv;
pub(crate) mod lock;
pub(crate) mod queue;
pub(crate) mod register;
pub(crate) mod set;
pub(crate) mod stack;

pub(crate) use counter::Counter;
pub(crate) use kv::{Entry, Store};
pub(crate) use lock::Lock;
pub(crate) use queue::Queue;
pub(crate) use register::Register;
pub(crate) use set::Elements;
pub(crate) use stack::Stack;

use std::hash::Hash;

use crate::error::BadOperation;
use crate::history::{History, Operation};
use crate::sequential::Sequential;
use crate::value::{Ids, Value};

/// An object that reads its operations from a history.
pub(crate) trait Object: Sequential<Op: Clone + Eq + Hash> {
    /// Reads an operation; none if it constrains nothing.
    fn read<'a>(
        &self,
        index: usize,
        operation: &'a Operation,
        ids: &mut Ids<'a>,
    ) -> Result<Option<Self::Op>, BadOperation>;
}

/// An operation as a checker needs it.
#[derive(Clone, Debug)]
pub(crate) struct Item<O> {
    /// Its place among the invocations.
    pub(crate) index: usize,
    pub(crate) op: O,
    pub(crate) called: u64,
    pub(crate) returned: Option<u64>,
}

/// Reads all operations of a history.
pub(crate) fn read_all<T: Object>(
    object: &T,
    history: &History,
) -> Result<Vec<Item<T::Op>>, BadOperation> {
    let mut ids = ids_with_nil();
    let mut items = Vec::with_capacity(history.operations().len());
    for (index, operation) in history.operations().iter().enumerate() {
        if let Some(op) = object.read(index, operation, &mut ids)? {
            items.push(Item {
                index,
                op,
                called: operation.called as u64,
                returned: operation.returned.map(|returned| returned as u64),
            });
        }
    }
    Ok(items)
}

/// The number of nil, what registers hold at the beginning.
pub(crate) const NIL: u32 = 0;

fn ids_with_nil<'a>() -> Ids<'a> {
    let mut ids = Ids::default();
    ids.id(&Value::Nil);
    ids
}

/// Makes the error about a function that the object does not have.
fn no_such(index: usize, operation: &Operation, has: &str) -> BadOperation {
    let f = &operation.f;
    operation.bad(index, "f", format!("`{f}` is none of {has}"))
}
