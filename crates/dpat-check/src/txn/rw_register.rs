//! Registers with unique writes.
//!
//! The order of versions is known where a transaction read one and wrote the next, and from the beginning to all.

use super::{Inferred, Part, RW, Rule, WR, WW, parts, writers};
use crate::error::BadOperation;
use crate::graph::Graph;
use crate::hash::Map;
use crate::history::History;
use crate::value::Value;

pub(super) fn infer(history: &History, inferred: &mut Inferred) -> Result<(), BadOperation> {
    let mut all = Vec::with_capacity(history.operations().len());
    for (index, operation) in history.operations().iter().enumerate() {
        all.push(parts(index, operation, "w")?);
    }
    let writers = writers(history, &all)?;
    // By key and version: who read it from outside, and what replaced it.
    let mut readers: Map<(&Value, &Value), Vec<usize>> = Map::default();
    let mut replaced: Vec<(&Value, &Value, &Value)> = Vec::new();
    for (index, parts) in all.iter().enumerate() {
        let operation = &history.operations()[index];
        let mut own: Map<&Value, &Value> = Map::default();
        let mut outside: Map<&Value, &Value> = Map::default();
        let mut written: Vec<&Value> = Vec::new();
        for part in parts {
            match *part {
                Part::Write { key, value } => {
                    if value.is_nil() {
                        return Err(operation.bad(index, "value", "nil is never written"));
                    }
                    own.insert(key, value);
                    written.push(key);
                }
                Part::Read { key, value } => match own.insert(key, value) {
                    Some(before) if before != value => {
                        inferred.found(Rule::Internal, vec![index], key);
                    }
                    Some(_) => {}
                    None => {
                        outside.insert(key, value);
                        readers.entry((key, value)).or_default().push(index);
                    }
                },
            }
        }
        if !operation.failed() {
            written.dedup();
            for key in written {
                if let (Some(before), Some(after)) = (outside.get(key), own.get(key)) {
                    replaced.push((key, before, after));
                }
            }
        }
    }
    for ((key, value), readers) in &readers {
        if value.is_nil() {
            continue;
        }
        for reader in readers {
            match writers.get(&(*key, *value)) {
                None => inferred.found(Rule::ThinAir, vec![*reader], key),
                Some(writer) => {
                    inferred.graph.add(writer.transaction, *reader, WR);
                    let both = || vec![writer.transaction, *reader];
                    if writer.failed {
                        inferred.found(Rule::G1a, both(), key);
                    } else if writer.intermediate {
                        inferred.found(Rule::G1b, both(), key);
                    }
                }
            }
        }
    }
    // Every version that surely exists replaces the beginning.
    for ((key, value), writer) in &writers {
        let exists = history.operations()[writer.transaction].result().is_some()
            || readers.contains_key(&(*key, *value));
        if exists && !writer.failed {
            replaced.push((key, &Value::Nil, value));
        }
    }
    for (key, before, after) in &replaced {
        let Some(next) = writers.get(&(*key, *after)) else {
            continue;
        };
        if let Some(writer) = writers.get(&(*key, *before)) {
            inferred.graph.add(writer.transaction, next.transaction, WW);
        }
        for reader in readers.get(&(*key, *before)).into_iter().flatten() {
            inferred.graph.add(*reader, next.transaction, RW);
        }
    }
    cyclic(&replaced, &writers, inferred);
    Ok(())
}

/// Looks for versions that come before themselves.
fn cyclic(
    replaced: &[(&Value, &Value, &Value)],
    writers: &super::Writers<'_>,
    inferred: &mut Inferred,
) {
    let mut ids = Map::default();
    let mut edges = Vec::new();
    for (key, before, after) in replaced {
        let mut id = |version| {
            let next = ids.len();
            *ids.entry((*key, version)).or_insert(next)
        };
        edges.push((id(*before), id(*after)));
    }
    let mut graph = Graph::new(ids.len());
    for (before, after) in edges {
        graph.add(before, after, 1);
    }
    let components = graph.components(1);
    let mut members: Map<u32, (&Value, Vec<usize>)> = Map::default();
    for ((key, version), id) in &ids {
        let writer = writers.get(&(*key, *version));
        if let (Some(component), Some(writer)) = (components[*id], writer) {
            let entry = members
                .entry(component)
                .or_insert_with(|| (key, Vec::new()));
            entry.1.push(writer.transaction);
        }
    }
    for (key, mut transactions) in members.into_values() {
        transactions.sort_unstable();
        inferred.found(Rule::CyclicVersions, transactions, key);
    }
}
