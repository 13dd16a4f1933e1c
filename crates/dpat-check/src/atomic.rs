//! Atomicity of distributed transactions: one outcome for all who take part.

use std::collections::{BTreeMap, HashMap};

use crate::error::BadOperation;
use crate::history::{History, Operation};
use crate::value::Value;
use crate::verdict::{Verdict, Violation};

/// A protocol that makes several parts one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Protocol {
    /// Two- and three-phase commit: `vote {tx, yes}` and `decide {tx, commit}` with booleans, a process a participant.
    ///
    /// Rules: `split` (one committed, one aborted), `against-vote` (committed although one voted no).
    Commit,
    /// Try, confirm, cancel: `try`, `confirm` and `cancel`, each `{tx, branch}`.
    ///
    /// Rules: `split` (one branch confirmed, one cancelled), `hanging` (a try that was called after the cancel of its
    /// branch had returned took effect), `untried` (confirmed before it was tried).
    Tcc,
    /// Sagas: `step {tx, step, after: [steps]}`, `undo {tx, step}`, `end {tx, done}` with a boolean.
    ///
    /// Rules: `order` (a step before one that it comes after, or undone after it), `left` (ended as undone with a step
    /// that was not), `undone` (ended as done with a step undone), `untried` (undone before it was called).
    Saga,
}

/// Decides whether every transaction has one outcome.
///
/// Only what is certain counts: an operation has happened when it returned *ok*, and may have from its call on. A
/// violation has the transaction as `key`.
///
/// # Errors
/// [`BadOperation`] if the protocol does not have an operation of the history.
pub fn check_atomicity(history: &History, protocol: Protocol) -> Result<Verdict, BadOperation> {
    // In the order of the first operation.
    let mut place: HashMap<&Value, usize> = HashMap::new();
    let mut transactions: Vec<(&Value, Vec<Part<'_>>)> = Vec::new();
    let (known, more): (&[&str], &str) = match protocol {
        Protocol::Commit => (&["vote", "decide"], ""),
        Protocol::Tcc => (&["try", "confirm", "cancel"], "branch"),
        Protocol::Saga => (&["step", "undo", "end"], "step"),
    };
    for (index, operation) in history.operations().iter().enumerate() {
        let f = &*operation.f;
        if !known.contains(&f) {
            let reason = format!("`{f}` is none of {}", known.join(", "));
            return Err(operation.bad(index, "f", reason));
        }
        let more = match f {
            "vote" => "yes",
            "decide" => "commit",
            "end" => "done",
            _ => more,
        };
        let detail = operation.value.field(more);
        let wants_truth = matches!(f, "vote" | "decide" | "end");
        let (Some(tx), Some(detail)) = (operation.value.field("tx"), detail) else {
            return Err(operation.bad(index, "value", format!("a {f} has {{tx, {more}}}")));
        };
        if wants_truth && !matches!(detail, Value::Bool(_)) {
            return Err(operation.bad(index, "value", format!("{more} is true or false")));
        }
        let at = *place.entry(tx).or_insert_with(|| {
            transactions.push((tx, Vec::new()));
            transactions.len() - 1
        });
        transactions[at].1.push(Part {
            index,
            operation,
            detail,
        });
    }
    for (tx, parts) in transactions {
        let broken = match protocol {
            Protocol::Commit => commit(&parts),
            Protocol::Tcc => tcc(&parts),
            Protocol::Saga => saga(&parts),
        };
        if let Some((rule, with)) = broken {
            return Ok(Verdict::violated(Violation {
                key: Some(tx.clone()),
                blocked: with.iter().copied().max().unwrap_or(0),
                with,
                rule: Some(rule),
                ..Violation::default()
            }));
        }
    }
    Ok(Verdict::Ok)
}

/// An operation of a transaction.
struct Part<'a> {
    index: usize,
    operation: &'a Operation,
    /// The branch, the step, or what was decided.
    detail: &'a Value,
}

impl Part<'_> {
    fn happened(&self, f: &str) -> bool {
        self.operation.f == f && self.operation.result().is_some()
    }

    fn may(&self, f: &str) -> bool {
        self.operation.f == f && !self.operation.failed()
    }

    fn returned(&self) -> usize {
        self.operation.returned.unwrap_or(usize::MAX)
    }
}

type Broken = Option<(&'static str, Vec<usize>)>;

fn commit(parts: &[Part<'_>]) -> Broken {
    let first = |f: &str, truth: bool| {
        let same = |part: &&Part<'_>| part.happened(f) && *part.detail == Value::Bool(truth);
        parts.iter().find(same).map(|part| part.index)
    };
    let committed = first("decide", true)?;
    if let Some(aborted) = first("decide", false) {
        return Some(("split", vec![committed, aborted]));
    }
    let no = first("vote", false)?;
    Some(("against-vote", vec![no, committed]))
}

fn tcc(parts: &[Part<'_>]) -> Broken {
    let confirmed = parts.iter().find(|part| part.happened("confirm"));
    let cancelled = parts.iter().find(|part| part.happened("cancel"));
    if let (Some(confirmed), Some(cancelled)) = (confirmed, cancelled) {
        return Some(("split", vec![confirmed.index, cancelled.index]));
    }
    for part in parts {
        let same = |other: &&Part<'_>| other.detail == part.detail;
        if part.happened("try") {
            let late = |other: &&Part<'_>| {
                other.happened("cancel") && other.returned() < part.operation.called
            };
            if let Some(cancel) = parts.iter().filter(same).find(late) {
                return Some(("hanging", vec![cancel.index, part.index]));
            }
        }
        let tried = |other: &Part<'_>| other.may("try") && other.operation.called < part.returned();
        if part.happened("confirm") && !parts.iter().filter(same).any(tried) {
            return Some(("untried", vec![part.index]));
        }
    }
    None
}

fn saga(parts: &[Part<'_>]) -> Broken {
    let steps: BTreeMap<&Value, &Part<'_>> = parts
        .iter()
        .filter(|part| part.may("step"))
        .map(|part| (part.detail, part))
        .collect();
    let undos = |step: &Value| {
        let step = step.clone();
        parts
            .iter()
            .filter(move |part| part.may("undo") && *part.detail == step)
    };
    for part in parts.iter().filter(|part| part.happened("undo")) {
        let called = steps.get(part.detail).map(|step| step.operation.called);
        if called.is_none_or(|called| called > part.returned()) {
            return Some(("untried", vec![part.index]));
        }
    }
    for (name, step) in steps.iter().filter(|(_, step)| step.happened("step")) {
        let after = step.operation.value.field("after").and_then(Value::list);
        for earlier in after.unwrap_or_default() {
            match steps.get(earlier) {
                Some(before) if before.operation.called < step.returned() => {}
                before => {
                    let before = before.map(|before| before.index);
                    return Some(("order", before.into_iter().chain([step.index]).collect()));
                }
            }
            // The earlier step may be undone only after the later one was.
            let first = undos(earlier)
                .filter(|undo| undo.happened("undo"))
                .min_by_key(|it| it.returned());
            let later = undos(name).map(|undo| undo.operation.called).min();
            if let Some(first) = first {
                if later.is_none_or(|later| first.returned() < later) {
                    return Some(("order", vec![step.index, first.index]));
                }
            }
        }
    }
    let end = parts.iter().find(|part| part.happened("end"))?;
    if *end.detail == Value::Bool(true) {
        let undone = parts.iter().find(|part| part.happened("undo"))?;
        return Some(("undone", vec![undone.index, end.index]));
    }
    let left = steps.iter().find(|(name, step)| {
        let undone = undos(name).any(|undo| undo.operation.called < end.returned());
        step.happened("step") && !undone
    });
    left.map(|(_, step)| ("left", vec![step.index, end.index]))
}
