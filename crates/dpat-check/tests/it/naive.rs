//! Objects and a search written again, as simply as possible, to compare with.

use dpat_check::{Model, Operation, Outcome, Value};

/// What an object does; written on plain values. `None`: the result is impossible here.
pub(crate) fn step(model: Model, state: &Value, op: &Operation) -> Option<Value> {
    let result = op.result();
    let known = |expected: &Value| result.is_none_or(|result| result == expected);
    let elements = || state.list().map(<[Value]>::to_vec).unwrap_or_default();
    match (model, &*op.f) {
        (Model::Register | Model::CasRegister, "read") => known(state).then(|| state.clone()),
        (Model::Register | Model::CasRegister, "write") => Some(op.value.clone()),
        (Model::CasRegister, "cas") => {
            let [old, new] = op.value.list()? else {
                return None;
            };
            match op.outcome {
                Outcome::Fail(_) => (old != state).then(|| state.clone()),
                _ => (old == state).then(|| new.clone()),
            }
        }
        (Model::Kv, f) => {
            let [key, value] = op.value.list()? else {
                return None;
            };
            let mut entries = elements();
            let found = entries
                .iter()
                .position(|entry| entry.list().unwrap()[0] == *key);
            let holds = found.map_or(Value::Nil, |at| entries[at].list().unwrap()[1].clone());
            let after = match f {
                "get" => {
                    let seen = result.map(|result| result.list().unwrap()[1].clone());
                    return seen
                        .is_none_or(|seen| seen == holds || (seen == "".into() && holds.is_nil()))
                        .then(|| state.clone());
                }
                "put" => value.clone(),
                _ => {
                    let text = format!("{}{}", holds.text().unwrap_or(""), value.text()?);
                    Value::from(&*text)
                }
            };
            let entry = Value::List(vec![key.clone(), after]);
            match found {
                Some(at) => entries[at] = entry,
                None => entries.push(entry),
            }
            Some(Value::List(entries))
        }
        (Model::Queue, "enqueue") | (Model::Stack, "push") => {
            let mut after = elements();
            after.push(op.value.clone());
            Some(Value::List(after))
        }
        (Model::Queue, _) | (Model::Stack, _) => {
            let mut after = elements();
            let at = if model == Model::Queue {
                0
            } else {
                after.len().max(1) - 1
            };
            let taken = if after.is_empty() {
                Value::Nil
            } else {
                after.remove(at)
            };
            known(&taken).then_some(Value::List(after))
        }
        (Model::Set, f) => {
            let mut after = elements();
            let found = after.iter().position(|element| *element == op.value);
            let answer = match (f, found) {
                ("read", _) => {
                    let mut seen = result.and_then(Value::list).map(<[Value]>::to_vec);
                    if let Some(seen) = &mut seen {
                        seen.sort();
                        seen.dedup();
                    }
                    return seen
                        .is_none_or(|seen| seen == after)
                        .then_some(Value::List(after));
                }
                ("add", None) => {
                    after.push(op.value.clone());
                    after.sort();
                    true
                }
                ("remove", Some(at)) => {
                    after.remove(at);
                    true
                }
                ("contains", found) => found.is_some(),
                _ => false,
            };
            let answered = result
                .and_then(Value::list)
                .and_then(|parts| match parts[1] {
                    Value::Bool(answered) => Some(answered),
                    _ => None,
                });
            answered
                .is_none_or(|seen| seen == answer)
                .then_some(Value::List(after))
        }
        (Model::Counter, "read") => known(state).then(|| state.clone()),
        (Model::Counter, _) => {
            let after = Value::Int(state.int().unwrap_or(0) + op.value.int()?);
            let seen = result.and_then(Value::list).map(|parts| parts[1].clone());
            seen.is_none_or(|seen| seen == after).then_some(after)
        }
        (Model::Lock, f) => {
            let state = elements();
            let process = Value::Int(i64::try_from(op.process).unwrap());
            let (holder, last) = match &state[..] {
                [holder, last] => (holder.clone(), last.clone()),
                _ => (Value::Nil, Value::Nil),
            };
            if f == "release" {
                return (holder == process).then(|| Value::List(vec![Value::Nil, last]));
            }
            let token = result.filter(|token| !token.is_nil()).cloned();
            let rises = token.as_ref().is_none_or(|token| *token > last);
            let last = token.unwrap_or(last);
            (holder.is_nil() && rises).then(|| Value::List(vec![process, last]))
        }
        _ => None,
    }
}

pub(crate) fn initial(model: Model) -> Value {
    match model {
        Model::Counter => Value::Int(0),
        Model::Register | Model::CasRegister => Value::Nil,
        _ => Value::List(Vec::new()),
    }
}

/// Says whether an operation must have happened by the time of event `until`.
pub(crate) fn required(op: &Operation, until: usize) -> bool {
    let differs = op.f == "cas" && op.outcome == Outcome::Fail(op.value.clone());
    (op.result().is_some() || differs) && op.returned.is_some_and(|returned| returned <= until)
}

/// Tries every order of the operations in `among` that real time allows.
pub(crate) fn linearizable(
    model: Model,
    operations: &[Operation],
    among: &[usize],
    until: usize,
) -> bool {
    fn place(
        model: Model,
        operations: &[Operation],
        left: &mut Vec<usize>,
        until: usize,
        state: &Value,
    ) -> bool {
        if !left.iter().any(|at| required(&operations[*at], until)) {
            return true;
        }
        for position in 0..left.len() {
            let at = left[position];
            let op = &operations[at];
            let late = left.iter().any(|other| {
                let other = &operations[*other];
                required(other, until) && other.returned.is_some_and(|end| end < op.called)
            });
            if late {
                continue;
            }
            if let Some(after) = step(model, state, op) {
                left.remove(position);
                let found = place(model, operations, left, until, &after);
                left.insert(position, at);
                if found {
                    return true;
                }
            }
        }
        false
    }
    let possible = |at: &&usize| {
        let op = &operations[**at];
        !op.failed() || required(op, usize::MAX)
    };
    let mut left: Vec<usize> = among.iter().filter(possible).copied().collect();
    place(model, operations, &mut left, until, &initial(model))
}
