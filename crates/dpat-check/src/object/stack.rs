//! Last-in-first-out stack.

use super::Object;
use super::queue::{Op, read_put_take};
use crate::error::BadOperation;
use crate::history::Operation;
use crate::sequential::Sequential;
use crate::value::Ids;

/// `push v`, `pop` → v, or nil from an empty stack. Empty at the beginning.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stack;

impl Sequential for Stack {
    type State = Vec<u32>;
    type Op = Op;

    fn initial(&self) -> Vec<u32> {
        Vec::new()
    }

    fn step(&self, holds: &Vec<u32>, op: &Op) -> Option<Vec<u32>> {
        let mut after;
        match *op {
            Op::TakeNothing => return holds.is_empty().then(Vec::new),
            Op::Take(value) if holds.last() != Some(&value) => return None,
            Op::Put(value) => {
                after = holds.clone();
                after.push(value);
            }
            Op::Take(_) | Op::TakeAny => {
                after = holds.clone();
                after.pop();
            }
        }
        Some(after)
    }

    fn weight(&self, holds: &Vec<u32>) -> usize {
        4 + holds.len() / 2
    }

    fn reads_only(&self, op: &Op) -> bool {
        matches!(op, Op::TakeNothing)
    }
}

impl Object for Stack {
    fn read<'a>(
        &self,
        index: usize,
        operation: &'a Operation,
        ids: &mut Ids<'a>,
    ) -> Result<Option<Op>, BadOperation> {
        read_put_take(index, operation, ids, "push", "pop")
    }
}
