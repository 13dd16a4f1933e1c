//! Lists that are appended to and read as a whole.
//!
//! The longest read of a key is the order of its versions; what was appended and is not in it came later.

use super::{Inferred, Part, RW, Rule, WR, WW, Writers, parts, writers};
use crate::error::BadOperation;
use crate::hash::{Map, Set};
use crate::history::History;
use crate::value::Value;

/// The reads of a key from outside the reading transaction.
#[derive(Default)]
struct Reads<'a> {
    longest: &'a [Value],
    by: Vec<(usize, &'a [Value])>,
}

pub(super) fn infer(history: &History, inferred: &mut Inferred) -> Result<(), BadOperation> {
    let mut all = Vec::with_capacity(history.operations().len());
    for (index, operation) in history.operations().iter().enumerate() {
        all.push(parts(index, operation, "append")?);
    }
    let writers = writers(history, &all)?;
    let mut keys: Vec<&Value> = Vec::new();
    let mut reads: Map<&Value, Reads<'_>> = Map::default();
    for (index, parts) in all.iter().enumerate() {
        let mut own: Map<&Value, Own<'_>> = Map::default();
        for part in parts {
            match *part {
                Part::Write { key, value } => own.entry(key).or_default().appended.push(value),
                Part::Read { key, value } => {
                    let list = match value {
                        Value::Nil => &[],
                        Value::List(list) => &list[..],
                        _ => {
                            let operation = &history.operations()[index];
                            return Err(operation.bad_result(index, "a read of a key is a list"));
                        }
                    };
                    let own = own.entry(key).or_default();
                    let Some(outside) = own.outside(list) else {
                        inferred.found(Rule::Internal, vec![index], key);
                        continue;
                    };
                    own.seen = Some(outside);
                    let entry = reads.entry(key).or_insert_with(|| {
                        keys.push(key);
                        Reads::default()
                    });
                    entry.by.push((index, outside));
                    if outside.len() > entry.longest.len() {
                        entry.longest = outside;
                    }
                }
            }
        }
    }
    for key in keys {
        versions(key, &reads[key], &writers, inferred);
    }
    unread(history, &all, &reads, inferred);
    Ok(())
}

/// What a transaction did to a key so far.
#[derive(Default)]
struct Own<'a> {
    appended: Vec<&'a Value>,
    /// What it saw before its own appends.
    seen: Option<&'a [Value]>,
}

impl<'a> Own<'a> {
    /// Cuts the own appends off a list; none if they are not its end, or what is left differs from an earlier read.
    fn outside(&self, list: &'a [Value]) -> Option<&'a [Value]> {
        let length = list.len().checked_sub(self.appended.len())?;
        let (outside, own) = list.split_at(length);
        let same = own.iter().eq(self.appended.iter().copied());
        (same && self.seen.is_none_or(|seen| seen == outside)).then_some(outside)
    }
}

/// Reads what the versions of one key say.
fn versions(key: &Value, reads: &Reads<'_>, writers: &Writers<'_>, inferred: &mut Inferred) {
    let mut distinct = Set::default();
    let longest = reads.longest;
    let reader = reads
        .by
        .iter()
        .find(|(_, list)| list.len() == longest.len());
    let reader = reader.map_or(0, |(reader, _)| *reader);
    if !longest.iter().all(|element| distinct.insert(element)) {
        inferred.found(Rule::DuplicateElements, vec![reader], key);
        return;
    }
    let mut last = None;
    for element in longest {
        let Some(writer) = writers.get(&(key, element)) else {
            inferred.found(Rule::ThinAir, vec![reader], key);
            return;
        };
        if writer.failed {
            inferred.found(Rule::G1a, vec![writer.transaction, reader], key);
        }
        if let Some(last) = last {
            inferred.graph.add(last, writer.transaction, WW);
        }
        last = Some(writer.transaction);
    }
    for (reader, list) in &reads.by {
        if longest[..list.len()] != **list {
            let other = reads
                .by
                .iter()
                .find(|(_, other)| other.len() == longest.len());
            let other = other.map_or(*reader, |(other, _)| *other);
            inferred.found(Rule::IncompatibleOrder, vec![*reader, other], key);
            continue;
        }
        let seen = list.last().and_then(|element| writers.get(&(key, element)));
        if let Some(writer) = seen {
            inferred.graph.add(writer.transaction, *reader, WR);
            if writer.intermediate && writer.transaction != *reader {
                inferred.found(Rule::G1b, vec![writer.transaction, *reader], key);
            }
        }
        let next = longest.get(list.len());
        if let Some(writer) = next.and_then(|element| writers.get(&(key, element))) {
            inferred.graph.add(*reader, writer.transaction, RW);
        }
    }
}

/// Puts appends that happened and that no read shows behind all that is read.
fn unread(
    history: &History,
    all: &[Vec<Part<'_>>],
    reads: &Map<&Value, Reads<'_>>,
    inferred: &mut Inferred,
) {
    // By key: what is read, who reads all of it, and who wrote its end.
    let mut ends: Map<&Value, (Set<&Value>, Vec<usize>)> = Map::default();
    for (key, reads) in reads {
        let all = reads
            .by
            .iter()
            .filter(|(_, list)| list.len() == reads.longest.len());
        let readers = all.map(|(reader, _)| *reader).collect();
        ends.insert(key, (reads.longest.iter().collect(), readers));
    }
    let mut last = Map::default();
    for (index, parts) in all.iter().enumerate() {
        for part in parts {
            if let Part::Write { key, value } = *part {
                let end = reads.get(key).and_then(|reads| reads.longest.last());
                if end == Some(value) {
                    last.insert(key, index);
                }
            }
        }
    }
    for (index, parts) in all.iter().enumerate() {
        if history.operations()[index].result().is_none() {
            continue;
        }
        for part in parts {
            let Part::Write { key, value } = *part else {
                continue;
            };
            let Some((seen, readers)) = ends.get(key) else {
                continue;
            };
            if !seen.contains(value) {
                for reader in readers {
                    inferred.graph.add(*reader, index, RW);
                }
                if let Some(last) = last.get(key) {
                    inferred.graph.add(*last, index, WW);
                }
            }
        }
    }
}
