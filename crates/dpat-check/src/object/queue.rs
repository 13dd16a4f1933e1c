//! First-in-first-out queue.

use std::collections::VecDeque;

use super::{NIL, Object, no_such};
use crate::error::BadOperation;
use crate::history::Operation;
use crate::sequential::Sequential;
use crate::value::Ids;

/// `enqueue v`, `dequeue` → v, or nil from an empty queue. Empty at the beginning.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Queue;

/// Operations of queue and stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Op {
    Put(u32),
    Take(u32),
    TakeNothing,
    /// Of unknown outcome: takes something if there is something.
    TakeAny,
}

impl Sequential for Queue {
    type State = VecDeque<u32>;
    type Op = Op;

    fn initial(&self) -> VecDeque<u32> {
        VecDeque::new()
    }

    fn step(&self, holds: &VecDeque<u32>, op: &Op) -> Option<VecDeque<u32>> {
        let mut after;
        match *op {
            Op::TakeNothing => return holds.is_empty().then(VecDeque::new),
            Op::Take(value) if holds.front() != Some(&value) => return None,
            Op::Put(value) => {
                after = holds.clone();
                after.push_back(value);
            }
            Op::Take(_) | Op::TakeAny => {
                after = holds.clone();
                after.pop_front();
            }
        }
        Some(after)
    }

    fn weight(&self, holds: &VecDeque<u32>) -> usize {
        4 + holds.len() / 2
    }

    fn reads_only(&self, op: &Op) -> bool {
        matches!(op, Op::TakeNothing)
    }
}

impl Object for Queue {
    fn read<'a>(
        &self,
        index: usize,
        operation: &'a Operation,
        ids: &mut Ids<'a>,
    ) -> Result<Option<Op>, BadOperation> {
        read_put_take(index, operation, ids, "enqueue", "dequeue")
    }
}

/// Reads the two operations of queue and stack.
pub(super) fn read_put_take<'a>(
    index: usize,
    operation: &'a Operation,
    ids: &mut Ids<'a>,
    put: &str,
    take: &str,
) -> Result<Option<Op>, BadOperation> {
    let op = if operation.f == put {
        match ids.id(&operation.value) {
            NIL => return Err(operation.bad(index, "value", format!("{put} has a value"))),
            value => Op::Put(value),
        }
    } else if operation.f == take {
        match operation.result().map(|value| ids.id(value)) {
            None => Op::TakeAny,
            Some(NIL) => Op::TakeNothing,
            Some(value) => Op::Take(value),
        }
    } else {
        return Err(no_such(index, operation, &format!("{put}, {take}")));
    };
    Ok((!operation.failed()).then_some(op))
}
