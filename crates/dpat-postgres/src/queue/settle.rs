//! Settles and extends what was handed out.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dpat_core::Wall;
use dpat_queue::{Outcome, Receipt, SettleError, Settlement};

use super::QueueStore;
use super::receive::KEYED;
use super::rows::{BEGIN, Held, count, cut, key};
use crate::connection::Session;
use crate::error::EngineError;
use crate::sql::{nanos, number};
use crate::tx::{Run, Value};

/// The count of a delivery, and whether its message has a key.
fn token(receipt: Receipt) -> (i64, bool) {
    let count = receipt.token() & (KEYED - 1);
    (
        i64::try_from(count).unwrap_or(i64::MAX),
        receipt.token() & KEYED != 0,
    )
}

/// Whether it is done, and has no key: what one statement does.
pub(super) fn is_plain(one: &Settlement) -> bool {
    matches!(one.outcome, Outcome::Done) && !token(one.receipt).1
}

/// What a receipt holds that has a say.
fn live(held: &mut BTreeMap<i64, Held>, receipt: Receipt, now: Wall) -> Option<&mut Held> {
    let row = held.get_mut(&key(receipt.id()))?;
    let has_say = row.is_live && row.is_held && !row.has_ended(now);
    (has_say && row.count == token(receipt).0).then_some(row)
}

/// What is changed by a batch.
#[derive(Default)]
struct Changes<'b> {
    done: Vec<i64>,
    retried: Vec<i64>,
    dues: Vec<i64>,
    reasons: Vec<Option<&'b str>>,
    rejected: Vec<i64>,
    whys: Vec<&'b str>,
}

impl QueueStore {
    pub(super) async fn settle_now(
        &self,
        batch: &[Settlement],
    ) -> Result<Vec<Result<(), SettleError>>, EngineError> {
        let session = self.shared.pool.session().await?;
        match batch.iter().all(is_plain) {
            true => self.settle_plain(session, batch).await,
            false => self.settle_locked(session, batch).await,
        }
    }

    /// Messages without keys that are done: in one statement.
    async fn settle_plain(
        &self,
        mut session: Session,
        batch: &[Settlement],
    ) -> Result<Vec<Result<(), SettleError>>, EngineError> {
        let receipts = batch
            .iter()
            .map(|one| (key(one.receipt.id()), token(one.receipt).0));
        // In the order in which everybody locks them.
        let sorted: BTreeSet<(i64, i64)> = receipts.clone().collect();
        let ids: Vec<i64> = sorted.iter().map(|one| one.0).collect();
        let counts: Vec<i64> = sorted.iter().map(|one| one.1).collect();
        let params = [
            Value::Ints(&ids),
            Value::Ints(&counts),
            Value::Int(nanos(self.now())),
        ];
        let text = &self.shared.statements.done_loose;
        let rows = session.change(text, &params).await?;
        session.done();
        let gone = rows
            .into_iter()
            .map(|mut row| Ok((row.int(0)?, row.int(1)?)));
        let mut gone = gone.collect::<Result<BTreeSet<(i64, i64)>, EngineError>>()?;
        let done = gone.len() as u64;
        self.shared.stats.with(|stats| stats.done += done);
        // The second of two settlements of one delivery is stale.
        let answers = receipts.map(|receipt| match gone.remove(&receipt) {
            true => Ok(()),
            false => Err(SettleError::Stale),
        });
        Ok(answers.collect())
    }

    async fn settle_locked(
        &self,
        mut session: Session,
        batch: &[Settlement],
    ) -> Result<Vec<Result<(), SettleError>>, EngineError> {
        session.batch(BEGIN).await?;
        let ids: Vec<i64> = batch.iter().map(|one| key(one.receipt.id())).collect();
        let mut held = self.locked(&mut session, &ids).await?;
        let now = self.now();
        let settings = self.shared.settings;
        let is_rejected = |one: &Settlement| matches!(one.outcome, Outcome::Reject { .. });
        let mut dead = match batch.iter().any(is_rejected) {
            true => {
                let most = [Value::Int(number(settings.dead_max).saturating_add(1))];
                count(&mut session, &self.shared.statements.count_dead, &most).await?
            }
            false => (0, 0),
        };
        let mut changes = Changes::default();
        let mut keys = BTreeSet::new();
        let mut settled = Vec::with_capacity(batch.len());
        for one in batch {
            let Some(row) = live(&mut held, one.receipt, now) else {
                settled.push(Err(SettleError::Stale));
                continue;
            };
            match &one.outcome {
                Outcome::Done => changes.done.push(row.id),
                Outcome::Retry { delay, reason } => {
                    changes.retried.push(row.id);
                    changes.dues.push(nanos(now + *delay));
                    let reason = Some(cut(reason)).filter(|reason| !reason.is_empty());
                    changes.reasons.push(reason);
                }
                Outcome::Reject { reason } => {
                    if let Err(full) = self.dead_room(dead, row.bytes) {
                        settled.push(Err(full));
                        continue;
                    }
                    dead = (dead.0 + 1, dead.1 + row.bytes);
                    changes.rejected.push(row.id);
                    changes.whys.push(cut(reason));
                }
            }
            row.is_held = false;
            keys.extend(row.key.clone());
            settled.push(Ok(()));
        }
        self.apply(&mut session, &changes, now).await?;
        let keys: BTreeSet<&str> = keys.iter().map(String::as_str).collect();
        let (_, left) = self.promote(&mut session, &keys, now).await?;
        // Also if it was found before: a receive passes over what is locked here.
        let is_news = left > 0 || !changes.retried.is_empty();
        let tell = self.telling().filter(|_| is_news);
        session.commit_and_tell(tell).await?;
        self.shared.stats.with(|stats| {
            stats.done += changes.done.len() as u64;
            stats.retried += changes.retried.len() as u64;
            stats.rejected += changes.rejected.len() as u64;
        });
        Ok(settled)
    }

    /// Whether one more dead letter has room beside so many, with so many bytes.
    fn dead_room(&self, dead: (u64, u64), bytes: u64) -> Result<(), SettleError> {
        let settings = &self.shared.settings;
        let full = |field, limit| Err(SettleError::DeadLettersFull { field, limit });
        if dead.0 >= settings.dead_max {
            return full("dead_max", settings.dead_max);
        }
        if dead.1.saturating_add(bytes) > settings.dead_bytes_max {
            return full("dead_bytes_max", settings.dead_bytes_max);
        }
        Ok(())
    }

    async fn apply(
        &self,
        session: &mut Session,
        changes: &Changes<'_>,
        now: Wall,
    ) -> Result<(), EngineError> {
        let statements = &self.shared.statements;
        if !changes.retried.is_empty() {
            let params = [
                Value::Ints(&changes.retried),
                Value::Ints(&changes.dues),
                Value::MaybeTexts(&changes.reasons),
            ];
            session.rows(&statements.retry, &params).await?;
        }
        if !changes.rejected.is_empty() {
            let params = [
                Value::Ints(&changes.rejected),
                Value::Texts(&changes.whys),
                Value::Int(nanos(now)),
            ];
            session.rows(&statements.reject, &params).await?;
        }
        if !changes.done.is_empty() {
            let params = [Value::Ints(&changes.done)];
            session.rows(&statements.delete, &params).await?;
        }
        Ok(())
    }

    pub(super) async fn extend_now(
        &self,
        batch: &[Receipt],
        by: Duration,
    ) -> Result<Vec<Result<(), SettleError>>, EngineError> {
        let mut session = self.shared.pool.begin().await?;
        let ids: Vec<i64> = batch.iter().map(|receipt| key(receipt.id())).collect();
        let mut held = self.locked(&mut session, &ids).await?;
        let now = self.now();
        let mut extended = Vec::new();
        let answers = batch
            .iter()
            .map(|receipt| match live(&mut held, *receipt, now) {
                Some(row) => {
                    extended.push(row.id);
                    Ok(())
                }
                None => Err(SettleError::Stale),
            });
        let answers: Vec<_> = answers.collect();
        let params = [Value::Ints(&extended), Value::Int(nanos(now + by))];
        session
            .rows(&self.shared.statements.extend, &params)
            .await?;
        session.commit().await?;
        Ok(answers)
    }
}
