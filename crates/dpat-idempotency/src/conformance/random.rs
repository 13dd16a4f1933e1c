//! Random operations on a store against a map, and the shrinker.

use std::collections::BTreeMap;

use bytes::Bytes;
use dpat_core::{Entropy, SplitMix64, Wall};

use super::{Harness, Violation, ensure_eq, key};
use crate::key::Key;
use crate::store::{Change, Row, Store, Swap, Version};

/// How many seeds a law tries.
pub(super) const SEEDS: u64 = 32;
const OPS: u64 = 60;
const KEYS: u64 = 4;

/// One random operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Op {
    /// [`Store::load`].
    Load {
        /// Which key.
        key: u64,
    },
    /// [`Store::swap`] that puts a row.
    Put {
        /// Which key.
        key: u64,
        /// Whether it expects what is there.
        fresh: bool,
        /// The content.
        content: u64,
        /// From when it may be forgotten.
        expires: Option<u64>,
    },
    /// [`Store::swap`] that removes a row.
    Remove {
        /// Which key.
        key: u64,
        /// Whether it expects what is there.
        fresh: bool,
    },
    /// [`Store::purge`].
    Purge {
        /// The time.
        now: u64,
        /// At most so many.
        max: usize,
    },
    /// [`Harness::reopen`].
    Reopen,
}

impl Op {
    fn draw(entropy: &SplitMix64) -> Self {
        let key = entropy.below(KEYS);
        let fresh = entropy.below(4) > 0;
        match entropy.below(16) {
            0..=2 => Self::Load { key },
            3..=9 => Self::Put {
                key,
                fresh,
                content: entropy.below(3),
                expires: (entropy.below(2) == 0).then(|| entropy.below(8)),
            },
            10..=12 => Self::Remove { key, fresh },
            13..=14 => Self::Purge {
                now: entropy.below(8),
                max: usize::try_from(entropy.below(4)).unwrap_or(0),
            },
            _ => Self::Reopen,
        }
    }
}

/// Runs the operations of a seed, and shrinks them if they show a violation.
pub(super) fn check<H: Harness>(harness: &H, seed: u64) -> Result<(), Violation> {
    let entropy = SplitMix64::stream(seed, "store");
    let mut ops: Vec<Op> = (0..OPS).map(|_| Op::draw(&entropy)).collect();
    let Err(mut violation) = run(harness, &ops) else {
        return Ok(());
    };
    let mut index = 0;
    while index < ops.len() {
        let mut fewer = ops.clone();
        fewer.remove(index);
        match run(harness, &fewer) {
            Err(smaller) => (ops, violation) = (fewer, smaller),
            Ok(()) => index += 1,
        }
    }
    Err(Violation::new(format!("seed {seed}: {violation}; {ops:?}")))
}

#[derive(Debug)]
struct Known {
    content: Bytes,
    expires: Option<u64>,
}

fn id(number: u64) -> Key {
    key(&number.to_string())
}

fn run<H: Harness>(harness: &H, ops: &[Op]) -> Result<(), Violation> {
    let mut store = harness.fresh();
    let mut model: BTreeMap<Key, Known> = BTreeMap::new();
    let mut stale: BTreeMap<Key, Version> = BTreeMap::new();
    for op in ops {
        if *op == Op::Reopen {
            store = harness.reopen(store);
            continue;
        }
        harness.run(step(&store, op, &mut model, &mut stale))?;
        let rows = harness.run(store.scan(None, 99))?;
        let found: Vec<(Key, Bytes)> = rows
            .into_iter()
            .map(|(key, row)| (key, row.bytes))
            .collect();
        let known: Vec<(Key, Bytes)> = model
            .iter()
            .map(|(key, known)| (key.clone(), known.content.clone()))
            .collect();
        ensure_eq!(found, known, format!("rows after {op:?}"));
    }
    Ok(())
}

async fn step(
    store: &impl Store,
    op: &Op,
    model: &mut BTreeMap<Key, Known>,
    stale: &mut BTreeMap<Key, Version>,
) -> Result<(), Violation> {
    match *op {
        Op::Load { key } => {
            let row: Option<Row> = store.load(&id(key)).await?;
            let known = model.get(&id(key)).map(|known| &known.content);
            ensure_eq!(row.as_ref().map(|row| &row.bytes), known, "load");
        }
        Op::Put {
            key,
            fresh,
            content,
            expires,
        } => {
            let content = Bytes::from(vec![7; usize::try_from(content).unwrap_or(0)]);
            let change = Change::Put {
                bytes: content.clone(),
                expires: expires.map(Wall::from_nanos),
            };
            if swap(store, &id(key), fresh, change, stale).await? {
                model.insert(id(key), Known { content, expires });
            }
        }
        Op::Remove { key, fresh } => {
            if swap(store, &id(key), fresh, Change::Remove, stale).await? {
                model.remove(&id(key));
            }
        }
        Op::Purge { now, max } => {
            let purged = store.purge(Wall::from_nanos(now), max).await?;
            let due: Vec<Key> = model
                .iter()
                .filter(|(_, known)| known.expires.is_some_and(|expires| expires <= now))
                .map(|(key, _)| key.clone())
                .collect();
            ensure_eq!(purged, due.len().min(max), "purged");
            // Any of those that are due may go first.
            for key in due {
                if store.load(&key).await?.is_none() {
                    model.remove(&key);
                }
            }
        }
        Op::Reopen => {}
    }
    Ok(())
}

/// Swaps from the version that is there, or from one that was; returns whether it was done.
async fn swap(
    store: &impl Store,
    key: &Key,
    fresh: bool,
    change: Change,
    stale: &mut BTreeMap<Key, Version>,
) -> Result<bool, Violation> {
    let now = store.load(key).await?.map(|row| row.version);
    let expected = match fresh {
        true => now,
        // None, where there is a row; a former version otherwise.
        false if now.is_some() => None,
        false => Some(stale.get(key).copied().unwrap_or(Version(7))),
    };
    let swapped = store.swap(key, expected, change).await?;
    let should = if expected == now {
        Swap::Done
    } else {
        Swap::Conflict
    };
    ensure_eq!(swapped, should, "swap");
    if let Some(version) = now {
        stale.insert(key.clone(), version);
    }
    Ok(swapped == Swap::Done)
}
