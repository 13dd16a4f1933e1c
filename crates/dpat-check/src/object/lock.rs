//! Fenced mutual exclusion.

use super::{Object, no_such};
use crate::error::BadOperation;
use crate::history::Operation;
use crate::sequential::Sequential;
use crate::value::{Ids, Value};

/// `acquire` → fencing token, or nil without one, and `release` by the holder. Free at the beginning; each token is
/// above all earlier ones.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lock;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Op {
    Acquire { process: u64, token: Option<i64> },
    Release { process: u64 },
}

/// Who holds it, and the last token that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    holder: Option<u64>,
    token: Option<i64>,
}

impl Sequential for Lock {
    type State = State;
    type Op = Op;

    fn initial(&self) -> State {
        State {
            holder: None,
            token: None,
        }
    }

    fn step(&self, state: &State, op: &Op) -> Option<State> {
        match *op {
            Op::Acquire { process, token } => {
                let rises = token.is_none() || token > state.token;
                (state.holder.is_none() && rises).then_some(State {
                    holder: Some(process),
                    token: token.or(state.token),
                })
            }
            Op::Release { process } => (state.holder == Some(process)).then_some(State {
                holder: None,
                ..*state
            }),
        }
    }
}

impl Object for Lock {
    fn read<'a>(
        &self,
        index: usize,
        operation: &'a Operation,
        _ids: &mut Ids<'a>,
    ) -> Result<Option<Op>, BadOperation> {
        let process = operation.process;
        let op = match (&*operation.f, operation.result()) {
            ("acquire", None | Some(Value::Nil)) => Op::Acquire {
                process,
                token: None,
            },
            ("acquire", Some(Value::Int(token))) => Op::Acquire {
                process,
                token: Some(*token),
            },
            ("acquire", Some(_)) => {
                return Err(operation.bad_result(index, "acquire returns a token or nil"));
            }
            ("release", _) => Op::Release { process },
            _ => return Err(no_such(index, operation, "acquire, release")),
        };
        Ok((!operation.failed()).then_some(op))
    }
}
