//! Changes of rows that are asked for at one time, in one statement.

use std::collections::BTreeMap;

use bytes::Bytes;
use dpat_core::Wall;
use dpat_idempotency::{Inserted, Key, Row, Version};
use tokio::time::Instant;

use super::{ResponseStore, Shared};
use crate::connection::Session;
use crate::error::EngineError;
use crate::gauge::Room;
use crate::join::{Most, WAITING_MAX, is_of_one};
use crate::sql::{nanos, number, unsigned};
use crate::tx::{self, Run, Value};

/// Two, so that one commits while the next is on its way.
pub(super) const TOGETHER: Most = Most {
    turns: 2,
    items: 128,
    bytes: 4 << 20,
    waiting: WAITING_MAX,
};

/// A row that is to be there: over one of a version, or where none is.
pub(super) struct Put {
    pub(super) key: Key,
    pub(super) over: Option<Version>,
    pub(super) record: Bytes,
    pub(super) expires: Option<Wall>,
}

impl Put {
    fn over(&self) -> Option<i64> {
        self.over.map(|version| number(version.0))
    }

    fn expires(&self) -> Option<i64> {
        self.expires.map(nanos)
    }
}

/// What came of a put. One over a version that was not there has found nothing.
pub(super) type Done = Result<Inserted, EngineError>;

impl ResponseStore {
    /// Puts a row, with others of its kind that are asked for at the same time.
    pub(super) async fn put(&self, put: Put) -> Done {
        let Shared {
            pool,
            inserts,
            updates,
            ..
        } = &*self.shared;
        let joiner = match put.over {
            None => inserts,
            Some(_) => updates,
        };
        let store = self.clone();
        let work = move |puts: Vec<Put>| {
            let store = store.clone();
            async move { store.put_all(&puts).await }
        };
        let bytes = put.key.as_bytes().len() + put.record.len();
        joiner.answered(pool, (put, 1, bytes), work).await?
    }

    /// All are over versions, or none is.
    async fn put_all(&self, puts: &[Put]) -> Vec<Done> {
        if let [put] = puts {
            return vec![self.put_one(put).await];
        }
        match self.put_many(puts).await {
            Ok(Some(done)) => return done.into_iter().map(Ok).collect(),
            Err(error) if !is_of_one(&error) => {
                return puts.iter().map(|_| Err(error.clone())).collect();
            }
            // Perhaps not all have room, or one is refused: each is told alone.
            Ok(None) | Err(_) => {}
        }
        let mut done = Vec::with_capacity(puts.len());
        for put in puts {
            done.push(self.put_one(put).await);
        }
        done
    }

    async fn put_one(&self, put: &Put) -> Done {
        let Shared {
            pool, statements, ..
        } = &*self.shared;
        let mut session = pool.session().await?;
        if let Some(full) = self.full(&mut session, std::slice::from_ref(put)).await? {
            session.done();
            return Err(full);
        }
        let key = Value::Bytes(put.key.as_bytes());
        let (expires, record) = (Value::MaybeInt(put.expires()), Value::Bytes(&put.record));
        let rows = match put.over() {
            None => {
                let params = [key, expires, record];
                session.change(&statements.insert, &params).await?
            }
            Some(version) => {
                let params = [key, expires, record, Value::Int(version)];
                session.change(&statements.update, &params).await?
            }
        };
        session.done();
        let mut rows = rows.into_iter();
        let first = rows.next().map(|mut read| inserted(&mut read, 0));
        Ok(first.transpose()?.unwrap_or(Inserted::Found(None)))
    }

    /// In one statement; none if there may be no room for all.
    async fn put_many(&self, puts: &[Put]) -> Result<Option<Vec<Inserted>>, EngineError> {
        let Shared {
            pool, statements, ..
        } = &*self.shared;
        let mut session = pool.session().await?;
        if self.full(&mut session, puts).await?.is_some() {
            session.done();
            return Ok(None);
        }
        let mut each = Each::of(puts);
        let puts = each.firsts();
        let keys: Vec<&[u8]> = puts.iter().map(|put| put.key.as_bytes()).collect();
        let expires: Vec<Option<i64>> = puts.iter().map(|put| put.expires()).collect();
        let records: Vec<&[u8]> = puts.iter().map(|put| &put.record[..]).collect();
        let versions: Vec<i64> = puts.iter().filter_map(|put| put.over()).collect();
        let (keys, records) = (Value::BytesList(&keys), Value::BytesList(&records));
        let expires = Value::MaybeInts(&expires);
        let rows = if versions.is_empty() {
            let params = [keys, expires, records];
            session.change(&statements.insert_many, &params).await?
        } else {
            let params = [keys, expires, records, Value::Ints(&versions)];
            session.change(&statements.update_many, &params).await?
        };
        session.done();
        for mut read in rows {
            let (key, over) = (read.bytes(0)?, read.maybe_int(1)?);
            each.found(&key, over, inserted(&mut read, 2)?);
        }
        Ok(Some(each.answers()))
    }

    /// Counts if the last count says too little. None: there is room for all.
    async fn full(
        &self,
        session: &mut Session,
        puts: &[Put],
    ) -> Result<Option<EngineError>, EngineError> {
        let Shared {
            gauge,
            limits,
            statements,
            ..
        } = &*self.shared;
        let room = Room {
            rows: limits.rows,
            bytes: limits.bytes,
        };
        let began = Instant::now();
        let sizes = || puts.iter().map(|put| put.record.len() as u64);
        // What was added for nothing asks for a count sooner.
        let has_room = gauge.with(|gauge| {
            sizes().all(|bytes| {
                let has_room = gauge.has_room(room, bytes, began);
                if has_room {
                    gauge.added(bytes);
                }
                has_room
            })
        });
        if has_room {
            return Ok(None);
        }
        let most = [Value::Int(number(limits.rows).saturating_add(1))];
        let mut rows = session.rows(&statements.count, &most).await?;
        let row = rows.first_mut().ok_or_else(|| EngineError::column(0))?;
        let (records, counted) = (unsigned(row.int(0)?), unsigned(row.int(1)?));
        gauge.with(|gauge| {
            gauge.counted(records, counted, began, Instant::now());
            sizes().for_each(|bytes| gauge.added(bytes));
        });
        let is_new = puts.iter().any(|put| put.over.is_none());
        if is_new && records.saturating_add(puts.len() as u64) > limits.rows {
            return Ok(Some(EngineError::full("rows", limits.rows)));
        }
        if is_new && counted.saturating_add(sizes().sum()) > limits.bytes {
            return Ok(Some(EngineError::full("bytes", limits.bytes)));
        }
        Ok(None)
    }
}

/// What a row of an insert or update says, from the column `at` on.
fn inserted(read: &mut tx::Row, at: usize) -> Result<Inserted, EngineError> {
    let version = Version(unsigned(read.int(at)?));
    Ok(match read.maybe_bytes(at + 1)? {
        None => Inserted::New(Some(version)),
        Some(bytes) => Inserted::Found(Some(Row {
            version,
            bytes: bytes.into(),
        })),
    })
}

/// The rows that are wanted: a statement takes each once, all statements in one order, so that no two wait for each other.
struct Each<'p> {
    puts: &'p [Put],
    /// By key and version: the place of the first call that wants it.
    firsts: BTreeMap<(&'p [u8], Option<i64>), usize>,
    /// What came of the calls; only that of the first of each row is used.
    done: Vec<Inserted>,
}

impl<'p> Each<'p> {
    fn of(puts: &'p [Put]) -> Self {
        let mut firsts = BTreeMap::new();
        for (at, put) in puts.iter().enumerate() {
            firsts.entry((put.key.as_bytes(), put.over())).or_insert(at);
        }
        Self {
            puts,
            firsts,
            done: vec![Inserted::Found(None); puts.len()],
        }
    }

    fn firsts(&self) -> Vec<&'p Put> {
        self.firsts.values().map(|at| &self.puts[*at]).collect()
    }

    /// A row that was seen, and was gone when another was put, does not hide that.
    fn found(&mut self, key: &[u8], over: Option<i64>, new: Inserted) {
        if let Some(first) = self.firsts.get(&(key, over))
            && let Some(known) = self.done.get_mut(*first)
            && !matches!(known, Inserted::New(_))
        {
            *known = new;
        }
    }

    /// To each as if the calls came one behind the other.
    fn answers(&self) -> Vec<Inserted> {
        let answer = |(at, put): (usize, &Put)| {
            let first = self.firsts[&(put.key.as_bytes(), put.over())];
            match (&self.done[first], put.over) {
                (Inserted::New(_), Some(_)) if at != first => Inserted::Found(None),
                // It is the row that the first has put.
                (Inserted::New(Some(version)), None) if at != first => Inserted::Found(Some(Row {
                    version: *version,
                    bytes: self.puts[first].record.clone(),
                })),
                (done, _) => done.clone(),
            }
        };
        self.puts.iter().enumerate().map(answer).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(id: &str, over: Option<u64>, record: &'static str) -> Put {
        Put {
            key: Key::new("s", id).unwrap(),
            over: over.map(Version),
            record: Bytes::from_static(record.as_bytes()),
            expires: None,
        }
    }

    fn row(version: u64, record: &'static str) -> Inserted {
        Inserted::Found(Some(Row {
            version: Version(version),
            bytes: Bytes::from_static(record.as_bytes()),
        }))
    }

    #[test]
    fn a_key_that_comes_twice_is_answered_as_two_calls_in_a_row() {
        let puts = [
            put("b", None, "1"),
            put("a", None, "2"),
            put("b", None, "3"),
            put("c", None, "4"),
        ];
        let mut each = Each::of(&puts);
        let records: Vec<&[u8]> = each.firsts().iter().map(|put| &put.record[..]).collect();
        assert_eq!(
            records,
            [b"2", b"1", b"4"],
            "each once, in the order of keys"
        );
        each.found(puts[0].key.as_bytes(), None, row(5, "gone"));
        each.found(
            puts[0].key.as_bytes(),
            None,
            Inserted::New(Some(Version(7))),
        );
        each.found(puts[0].key.as_bytes(), None, row(5, "gone"));
        each.found(puts[1].key.as_bytes(), None, row(6, "there"));
        let new = Inserted::New(Some(Version(7)));
        let none = Inserted::Found(None);
        assert_eq!(each.answers(), [new, row(6, "there"), row(7, "1"), none]);
    }

    #[test]
    fn of_two_updates_of_one_version_the_first_is_made() {
        let puts = [
            put("a", Some(1), "1"),
            put("a", Some(1), "2"),
            put("a", Some(2), "3"),
        ];
        let mut each = Each::of(&puts);
        assert_eq!(each.firsts().len(), 2);
        each.found(
            puts[0].key.as_bytes(),
            Some(1),
            Inserted::New(Some(Version(9))),
        );
        let none = Inserted::Found(None);
        let new = Inserted::New(Some(Version(9)));
        assert_eq!(each.answers(), [new, none.clone(), none]);
    }
}
