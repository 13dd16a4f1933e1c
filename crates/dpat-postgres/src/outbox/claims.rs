//! Claims: what may be sent, given to one relay.

use std::collections::{BTreeMap, BTreeSet};

use dpat_core::Wall;
use dpat_outbox::{Claim, Claimed};

use super::row::{Row, Written, event, position, row, state};
use super::statements::Statements;
use crate::error::EngineError;
use crate::sql::{limit, nanos, unsigned};
use crate::tx::{Run as On, Value};

/// How often a claim looks again because what it found waits behind others of its key.
const ROUNDS_MAX: usize = 8;

/// A claim under way.
pub(super) struct Claiming<'c, R> {
    on: &'c mut R,
    statements: &'c Statements,
    claim: &'c Claim,
    taken: Vec<Row>,
    bytes: u64,
    is_full: bool,
}

/// What a claim did.
pub(super) struct Taken {
    pub(super) claimed: Vec<Claimed>,
    /// Whether there is something to commit.
    pub(super) changed: bool,
}

/// The place of the first event of a key, and the first events.
type Run = (i64, Vec<Row>);

/// The first event of a key, or an event without one, as far as the index knows.
enum Head {
    Loose(Row),
    Keyed { position: i64, key: String },
}

impl<'c, R: On> Claiming<'c, R> {
    pub(super) fn new(on: &'c mut R, statements: &'c Statements, claim: &'c Claim) -> Self {
        Self {
            on,
            statements,
            claim,
            taken: Vec::new(),
            bytes: 0,
            is_full: false,
        }
    }

    pub(super) async fn run(mut self) -> Result<Taken, EngineError> {
        let mut changed = false;
        for _ in 0..ROUNDS_MAX {
            let heads = self.heads().await?;
            let mut runs = self.runs(&heads).await?;
            let mut written = Written::default();
            let mut behind = Vec::new();
            for head in heads {
                let (run, first) = match head {
                    Head::Loose(row) => {
                        let first = row.position;
                        (vec![row], first)
                    }
                    Head::Keyed { position, key } => {
                        let Some((first, run)) = runs.get_mut(&key) else {
                            continue;
                        };
                        if *first != position {
                            // It waits behind another of its key; once that is done it is found again.
                            behind.extend((*first < position).then_some(position));
                            continue;
                        }
                        (std::mem::take(run), position)
                    }
                };
                self.take(run, first, &mut written);
            }
            written.write(self.on, self.statements).await?;
            if !behind.is_empty() {
                let params = [Value::Ints(&behind)];
                self.on.rows(&self.statements.demote, &params).await?;
            }
            changed |= !written.is_empty() || !behind.is_empty();
            if self.is_full || behind.is_empty() {
                break;
            }
        }
        Ok(Taken {
            claimed: self.claimed().await?,
            changed,
        })
    }

    /// Claims as much of a run as there is room for.
    fn take(&mut self, run: Vec<Row>, first: i64, written: &mut Written) {
        let Claim {
            rows_max,
            bytes_max,
            lane_rows_max,
            ..
        } = *self.claim;
        for mut row in run.into_iter().take(lane_rows_max) {
            if self.is_full {
                return;
            }
            let too_large = self.bytes.saturating_add(row.bytes) > bytes_max as u64;
            if self.taken.len() == rows_max || (!self.taken.is_empty() && too_large) {
                self.is_full = true;
                return;
            }
            let claim = self.claim;
            if !row.state.claim(claim.token, claim.now, claim.lease) {
                return;
            }
            written.add(row.position, &row.state, row.position == first);
            self.bytes = self.bytes.saturating_add(row.bytes);
            self.taken.push(row);
        }
    }

    /// What can be claimed that no other relay holds, in its order; the rows without a key and the lanes are locked.
    async fn heads(&mut self) -> Result<Vec<Head>, EngineError> {
        let left = self.claim.rows_max.saturating_sub(self.taken.len());
        let params = [Value::Int(nanos(self.claim.now)), Value::Int(limit(left))];
        let mut heads = Vec::new();
        for mut read in self.on.rows(&self.statements.loose, &params).await? {
            let position = read.int(0)?;
            let order = (read.int(1)?, position);
            let bytes = unsigned(read.int(2)?);
            let state = state(
                position,
                read.int(3)?,
                read.maybe_bytes(4)?,
                self.statements,
            )?;
            let row = Row {
                position,
                key: None,
                bytes,
                state,
            };
            heads.push((order, Head::Loose(row)));
        }
        for mut read in self.on.rows(&self.statements.heads, &params).await? {
            let position = read.int(0)?;
            let order = (read.int(1)?, position);
            let key = read.text(2)?;
            heads.push((order, Head::Keyed { position, key }));
        }
        heads.sort_by_key(|(order, _)| *order);
        Ok(heads.into_iter().map(|(_, head)| head).collect())
    }

    /// The first events of each key, as they are now that the lanes are locked.
    async fn runs(&mut self, heads: &[Head]) -> Result<BTreeMap<String, Run>, EngineError> {
        let keys = heads.iter().filter_map(|head| match head {
            Head::Keyed { key, .. } => Some(key.as_str()),
            Head::Loose(_) => None,
        });
        let keys: BTreeSet<&str> = keys.collect();
        let mut runs: BTreeMap<String, Run> = BTreeMap::new();
        if keys.is_empty() {
            return Ok(runs);
        }
        let keys: Vec<&str> = keys.into_iter().collect();
        let params = [
            Value::Texts(&keys),
            Value::Int(limit(self.claim.lane_rows_max.max(1))),
        ];
        for mut read in self.on.rows(&self.statements.runs, &params).await? {
            let row = row(&mut read, self.statements)?;
            let key = row.key.clone().unwrap_or_default();
            let (first, run) = runs.entry(key).or_insert((row.position, Vec::new()));
            *first = row.position.min(*first);
            run.push(row);
        }
        for (_, run) in runs.values_mut() {
            run.sort_by_key(|row| row.position);
        }
        Ok(runs)
    }

    async fn claimed(self) -> Result<Vec<Claimed>, EngineError> {
        let Self {
            on,
            statements,
            claim,
            taken,
            ..
        } = self;
        if taken.is_empty() {
            return Ok(Vec::new());
        }
        let positions: Vec<i64> = taken.iter().map(|row| row.position).collect();
        let mut contents = contents(on, statements, &positions).await?;
        let claimed = taken.into_iter().map(|row| {
            let bytes = contents.remove(&row.position).ok_or_else(|| {
                let what = "its state is there, and the event is gone";
                EngineError::inconsistent(&statements.events, row.position, what)
            })?;
            Ok(Claimed {
                position: position(row.position),
                event: event(row.position, &bytes, statements)?,
                attempts: row.state.attempts(),
                replays: row.state.replays(),
                appended_at: row.state.appended_at(),
                first_claim: row.state.first_claim().unwrap_or(claim.now),
            })
        });
        claimed.collect()
    }
}

/// The events at these places, as they are stored.
pub(super) async fn contents(
    on: &mut impl On,
    statements: &Statements,
    positions: &[i64],
) -> Result<BTreeMap<i64, Vec<u8>>, EngineError> {
    let params = [Value::Ints(positions)];
    let rows = on.rows(&statements.contents, &params).await?;
    let read = rows
        .into_iter()
        .map(|mut row| Ok((row.int(0)?, row.bytes(1)?)));
    read.collect()
}

/// From when on something can be claimed.
pub(super) async fn next_due(
    on: &mut impl On,
    statements: &Statements,
) -> Result<Option<Wall>, EngineError> {
    let mut rows = on.rows(&statements.next_due, &[]).await?;
    let due = match rows.first_mut() {
        None => None,
        Some(row) => row.maybe_int(0)?,
    };
    Ok(due.map(|due| Wall::from_nanos(unsigned(due))))
}
