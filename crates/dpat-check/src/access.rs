//! Reads and writes of keys where each value is written once.

use std::collections::HashMap;

use crate::error::BadOperation;
use crate::history::History;
use crate::value::Value;

/// A read or write that happened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Access {
    /// Its place among the invocations.
    pub(crate) index: usize,
    pub(crate) lane: usize,
    /// Its place within the process.
    pub(crate) position: usize,
    pub(crate) key: usize,
    pub(crate) kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Write,
    /// The access that wrote it; none for nil at the beginning.
    Read(Option<usize>),
}

/// The accesses of a history, process by process.
#[derive(Debug, Default)]
pub(crate) struct Accesses {
    pub(crate) all: Vec<Access>,
    /// By process.
    pub(crate) lanes: Vec<Vec<usize>>,
    /// By key and process: the writes in their order.
    pub(crate) writes: HashMap<(usize, usize), Vec<usize>>,
    /// A read of what nobody wrote.
    pub(crate) thin_air: Option<usize>,
}

impl Accesses {
    /// Reads `read`, `write v` and `get [k nil]` → `[k v]`, `put [k v]`.
    pub(crate) fn read(history: &History) -> Result<Self, BadOperation> {
        // Which write a value of a key comes from, and which values were read.
        let mut writer: HashMap<(&Value, &Value), usize> = HashMap::new();
        let mut accesses = Vec::new();
        let mut seen = std::collections::HashSet::new();
        for (index, operation) in history.operations().iter().enumerate() {
            let writes = match &*operation.f {
                "read" | "get" => false,
                "write" | "put" => true,
                f => {
                    let reason = format!("`{f}` is none of read, write, get, put");
                    return Err(operation.bad(index, "f", reason));
                }
            };
            let value = if writes {
                Some(&operation.value)
            } else {
                operation.result()
            };
            let (key, value) = match (&*operation.f, value) {
                (_, None) => continue,
                ("read" | "write", Some(value)) => (&Value::Nil, value),
                (_, Some(value)) => match value.list() {
                    Some([key, value]) => (key, value),
                    _ => return Err(operation.bad(index, "value", "a key has [key value]")),
                },
            };
            let value = if value.text() == Some("") {
                &Value::Nil
            } else {
                value
            };
            if operation.failed() {
                continue;
            }
            if writes {
                if value.is_nil() {
                    return Err(operation.bad(index, "value", "nil is never written"));
                }
                if writer.insert((key, value), index).is_some() {
                    return Err(operation.bad(index, "value", format!("{value} is written twice")));
                }
            } else {
                seen.insert((key, value));
            }
            accesses.push((index, key, value, writes));
        }

        let mut found = Self::default();
        let mut keys = HashMap::new();
        let mut lanes = HashMap::new();
        // By invocation: the access.
        let mut of = HashMap::new();
        // A write of unknown outcome that nobody saw need not have happened.
        accesses.retain(|(index, key, value, _)| {
            let returned = history.operations()[*index].returned.is_some();
            returned || seen.contains(&(*key, *value))
        });
        for (index, key, value, writes) in &accesses {
            let next = keys.len();
            let key_id = *keys.entry(*key).or_insert(next);
            let next = lanes.len();
            let process = history.operations()[*index].process;
            let lane = *lanes.entry(process).or_insert(next);
            found.lanes.resize_with(lanes.len(), Vec::new);
            let access = found.all.len();
            of.insert(*index, access);
            if *writes {
                found.writes.entry((key_id, lane)).or_default().push(access);
            } else if !value.is_nil() && !writer.contains_key(&(*key, *value)) {
                found.thin_air = found.thin_air.or(Some(*index));
            }
            found.all.push(Access {
                index: *index,
                lane,
                position: found.lanes[lane].len(),
                key: key_id,
                kind: if *writes {
                    Kind::Write
                } else {
                    Kind::Read(None)
                },
            });
            found.lanes[lane].push(access);
        }
        for (access, (_, key, value, _)) in found.all.iter_mut().zip(&accesses) {
            if let Kind::Read(from) = &mut access.kind {
                *from = writer
                    .get(&(*key, *value))
                    .and_then(|index| of.get(index))
                    .copied();
            }
        }
        Ok(found)
    }

    /// Returns the last write to a key by a process before a position.
    pub(crate) fn last_write(&self, key: usize, lane: usize, before: usize) -> Option<usize> {
        let writes = self.writes.get(&(key, lane))?;
        let count = writes.partition_point(|write| self.all[*write].position < before);
        count.checked_sub(1).map(|last| writes[last])
    }
}
