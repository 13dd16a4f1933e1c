//! Set of elements.

use std::collections::BTreeSet;

use super::{Object, no_such};
use crate::error::BadOperation;
use crate::history::Operation;
use crate::sequential::Sequential;
use crate::value::{Ids, Value};

/// `add v` and `remove v`, each optionally → `[v changed]`, `contains v` → `[v truth]`, `read` → all elements.
/// Empty at the beginning.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Elements;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Op {
    /// With the answer whether it was new, if it had one.
    Add(u32, Option<bool>),
    /// With the answer whether it was there, if it had one.
    Remove(u32, Option<bool>),
    Contains(u32, bool),
    Read(BTreeSet<u32>),
}

impl Op {
    /// Returns the element, unless it is about all of them.
    pub(crate) const fn element(&self) -> Option<u32> {
        match self {
            Self::Add(element, _) | Self::Remove(element, _) | Self::Contains(element, _) => {
                Some(*element)
            }
            Self::Read(_) => None,
        }
    }
}

impl Sequential for Elements {
    type State = BTreeSet<u32>;
    type Op = Op;

    fn initial(&self) -> BTreeSet<u32> {
        BTreeSet::new()
    }

    fn step(&self, holds: &BTreeSet<u32>, op: &Op) -> Option<BTreeSet<u32>> {
        let mut after = holds.clone();
        let fits = match op {
            Op::Add(element, new) => {
                let changed = after.insert(*element);
                new.is_none_or(|new| new == changed)
            }
            Op::Remove(element, there) => {
                let changed = after.remove(element);
                there.is_none_or(|there| there == changed)
            }
            Op::Contains(element, there) => holds.contains(element) == *there,
            Op::Read(elements) => elements == holds,
        };
        fits.then_some(after)
    }

    fn weight(&self, holds: &BTreeSet<u32>) -> usize {
        4 + holds.len() / 2
    }

    fn reads_only(&self, op: &Op) -> bool {
        matches!(
            op,
            Op::Contains(..) | Op::Read(_) | Op::Add(_, Some(false)) | Op::Remove(_, Some(false))
        )
    }
}

impl Object for Elements {
    fn read<'a>(
        &self,
        index: usize,
        operation: &'a Operation,
        ids: &mut Ids<'a>,
    ) -> Result<Option<Op>, BadOperation> {
        let result = operation.result();
        let answer = match result.and_then(Value::list) {
            Some([element, Value::Bool(answer)]) if *element == operation.value => Some(*answer),
            _ => None,
        };
        let op = match &*operation.f {
            "add" => Op::Add(ids.id(&operation.value), answer),
            "remove" => Op::Remove(ids.id(&operation.value), answer),
            "contains" => match (result, answer) {
                (None, _) => return Ok(None),
                (_, Some(there)) => Op::Contains(ids.id(&operation.value), there),
                _ => return Err(operation.bad_result(index, "contains returns [element truth]")),
            },
            "read" => match result.map(Value::list) {
                None => return Ok(None),
                Some(Some(elements)) => Op::Read(elements.iter().map(|it| ids.id(it)).collect()),
                Some(None) => return Err(operation.bad_result(index, "a read returns a list")),
            },
            _ => return Err(no_such(index, operation, "add, remove, contains, read")),
        };
        Ok((!operation.failed()).then_some(op))
    }
}
