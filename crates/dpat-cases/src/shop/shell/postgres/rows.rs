//! Rows, markers and events in PostgreSQL, within one transaction of many callers.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use dpat_core::Wall;
use dpat_idempotency::Key;
use dpat_idempotency::inbox;
use dpat_outbox::{AppendError, Appended, Event};
use dpat_postgres::tokio_postgres::types::{FromSql, ToSql, Type};
use dpat_postgres::tokio_postgres::{Row, Transaction};
use dpat_postgres::{Config, Outbox, sql};
use tokio::runtime::Runtime;

use super::super::group::{Rows, below, engine};
use super::super::relay::OutboxRows;
use super::{Failed, Line};
use crate::shop::service::ports::{Read, StoreError, Table, Write};

/// The shop's own tables, beside those of outbox and inbox: its rows, and whose turn it is to write them.
const TABLES: &str = "\
CREATE TABLE IF NOT EXISTS {schema}.{prefix}_rows (
  tab text NOT NULL,
  key text COLLATE \"C\" NOT NULL,
  value bytea NOT NULL,
  PRIMARY KEY (tab, key)
);
CREATE TABLE IF NOT EXISTS {schema}.{prefix}_writer (
  one bigint PRIMARY KEY CHECK (one = 1),
  life bigint NOT NULL,
  number bigint NOT NULL
);
INSERT INTO {schema}.{prefix}_writer VALUES (1, 0, 0) ON CONFLICT DO NOTHING";

const ENTER: &str =
    "UPDATE {schema}.{prefix}_writer SET life = life + 1, number = 0 RETURNING life";
const LAST: &str = "SELECT life, number FROM {schema}.{prefix}_writer FOR UPDATE";
const MARK: &str =
    "UPDATE {schema}.{prefix}_writer SET number = $2 WHERE life = $1 RETURNING number";
const GET: &str = "SELECT value FROM {schema}.{prefix}_rows WHERE tab = $1 AND key = $2";
const SCAN: &str = "\
SELECT key, value FROM {schema}.{prefix}_rows WHERE tab = $1 AND key >= $2 AND key < $3 ORDER BY key";
const PUT: &str = "\
INSERT INTO {schema}.{prefix}_rows (tab, key, value)
SELECT * FROM unnest($1::text[], $2::text[], $3::bytea[])
ON CONFLICT (tab, key) DO UPDATE SET value = excluded.value";
const REMOVE: &str = "\
DELETE FROM {schema}.{prefix}_rows AS known USING unnest($1::text[], $2::text[]) AS gone (tab, key)
WHERE known.tab = gone.tab AND known.key = gone.key";
const MARKERS: &str = "SELECT count(*) FROM {schema}.{prefix}_markers";
const ARRIVED: &str =
    "SELECT key FROM {schema}.{prefix}_states WHERE sent_at IS NOT NULL AND key IS NOT NULL";

/// The statements, for the tables of one service.
pub(super) struct Texts {
    pub(super) tables: String,
    pub(super) enter: String,
    pub(super) last: String,
    pub(super) markers: String,
    mark: String,
    get: String,
    scan: String,
    put: String,
    remove: String,
    arrived: String,
    marker: String,
    set_marker: String,
    sweep: String,
}

impl Texts {
    pub(super) fn of(config: &Config) -> Self {
        Self {
            tables: config.sql(TABLES),
            enter: config.sql(ENTER),
            last: config.sql(LAST),
            markers: config.sql(MARKERS),
            mark: config.sql(MARK),
            get: config.sql(GET),
            scan: config.sql(SCAN),
            put: config.sql(PUT),
            remove: config.sql(REMOVE),
            arrived: config.sql(ARRIVED),
            marker: config.sql(sql::MARKER),
            set_marker: config.sql(sql::SET_MARKER),
            sweep: config.sql(sql::SWEEP),
        }
    }
}

type Param<'p> = (&'p (dyn ToSql + Sync), Type);

const fn text<'p>(value: &'p &str) -> Param<'p> {
    (value, Type::TEXT)
}

const fn int(value: &i64) -> Param<'_> {
    (value, Type::INT8)
}

/// Everything within the transaction of a group. What is changed goes to the server at the end, all at once.
pub(super) struct Tables<'t> {
    pub(super) runtime: &'t Runtime,
    pub(super) tx: Transaction<'t>,
    pub(super) texts: &'t Texts,
    pub(super) outbox: &'t Outbox,
    /// Life and number, by which a commit is found again.
    pub(super) token: [i64; 2],
    /// The first failure of the engine.
    pub(super) failed: RefCell<Option<Failed>>,
    pub(super) changes: Changes,
    /// How many markers there are once the group is committed.
    pub(super) markers: Markers,
}

/// How many markers of the inbox there are. The writer is alone, and needs not to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Markers {
    pub(super) count: u64,
    pub(super) max: u64,
}

impl Markers {
    /// Counts one more.
    fn add(&mut self) -> Result<(), StoreError> {
        if self.count >= self.max {
            return Err(engine(format_args!(
                "markers: there are {} already",
                self.max
            )));
        }
        self.count += 1;
        Ok(())
    }

    fn sweep(&mut self, swept: usize) {
        let swept = u64::try_from(swept).unwrap_or(u64::MAX);
        self.count = self.count.saturating_sub(swept);
    }
}

/// What the group has changed so far; none stands for a row that is removed.
#[derive(Default)]
pub(super) struct Changes {
    rows: BTreeMap<(Table, String), Option<Vec<u8>>>,
    markers: BTreeMap<Key, (Bytes, Wall)>,
    /// The messages that had a marker before.
    marked: BTreeSet<Key>,
    /// Whether something is on the server already.
    is_begun: bool,
}

impl Changes {
    fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.markers.is_empty() && !self.is_begun
    }

    /// The changed rows of a table whose keys begin with a prefix.
    fn of<'c>(
        &'c self,
        table: Table,
        prefix: &'c str,
    ) -> impl Iterator<Item = (&'c str, Option<&'c Vec<u8>>)> {
        let from = (table, prefix.to_owned());
        let rows = self.rows.range(from..);
        rows.map(|((of, key), value)| (*of, key.as_str(), value.as_ref()))
            .take_while(move |(of, key, _)| *of == table && key.starts_with(prefix))
            .map(|(_, key, value)| (key, value))
    }
}

impl Tables<'_> {
    fn failed(&self, failed: Failed) -> StoreError {
        let (Failed::Away(error) | Failed::Broken(error)) = &failed;
        let error = error.clone();
        self.failed.borrow_mut().get_or_insert(failed);
        error
    }

    async fn ask(&self, text: &str, params: &[Param<'_>]) -> Result<Vec<Row>, Failed> {
        Ok(self.tx.query_typed(text, params).await?)
    }

    fn query(&self, text: &str, params: &[Param<'_>]) -> Result<Vec<Row>, StoreError> {
        Line::wait(self.runtime, self.ask(text, params)).map_err(|failed| self.failed(failed))
    }

    /// Sends what has changed, with the token of the group: one way there and back for all of it.
    pub(super) fn flush(&mut self) -> Result<(), StoreError> {
        let changes = std::mem::take(&mut self.changes);
        if changes.is_empty() {
            return Ok(());
        }
        Line::wait(self.runtime, self.send(&changes)).map_err(|failed| self.failed(failed))
    }

    async fn send(&self, changes: &Changes) -> Result<(), Failed> {
        let (mut put, mut removed) = (<[Vec<&str>; 2]>::default(), <[Vec<&str>; 2]>::default());
        let mut values: Vec<&[u8]> = Vec::new();
        for ((table, key), value) in &changes.rows {
            let into = match value {
                Some(value) => {
                    values.push(value);
                    &mut put
                }
                None => &mut removed,
            };
            into[0].push(table.0);
            into[1].push(key);
        }
        let texts = self.texts;
        let mark = self.mark();
        let put = async {
            let params = [
                (&put[0] as &(dyn ToSql + Sync), Type::TEXT_ARRAY),
                (&put[1], Type::TEXT_ARRAY),
                (&values, Type::BYTEA_ARRAY),
            ];
            match values.is_empty() {
                true => Ok(()),
                false => self.ask(&texts.put, &params).await.map(drop),
            }
        };
        let remove = async {
            let params = [
                (&removed[0] as &(dyn ToSql + Sync), Type::TEXT_ARRAY),
                (&removed[1], Type::TEXT_ARRAY),
            ];
            match removed[0].is_empty() {
                true => Ok(()),
                false => self.ask(&texts.remove, &params).await.map(drop),
            }
        };
        let markers = changes.markers.iter().map(|(key, (marker, at))| async {
            let (scope, id, at, marker) = (key.scope(), key.id(), sql::nanos(*at), &marker[..]);
            let params = [text(&scope), text(&id), int(&at), (&marker, Type::BYTEA)];
            self.ask(&texts.set_marker, &params).await
        });
        let markers = futures_util::future::try_join_all(markers);
        let all = futures_util::future::try_join4(mark, put, remove, markers);
        all.await.map(drop)
    }

    /// Writes down which group it is, if this life may still write.
    async fn mark(&self) -> Result<(), Failed> {
        let [life, number] = self.token;
        let params = [int(&life), int(&number)];
        let marked = self.ask(&self.texts.mark, &params).await?;
        match marked.is_empty() {
            // Another life of this writer has begun.
            true => Err(Failed::Broken(StoreError::Closed)),
            false => Ok(()),
        }
    }
}

fn cell<'r, T: FromSql<'r>>(row: &'r Row, at: usize) -> Result<T, StoreError> {
    row.try_get(at).map_err(engine)
}

impl Read for Tables<'_> {
    fn get(&self, table: Table, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        if let Some(changed) = self.changes.rows.get(&(table, key.to_owned())) {
            return Ok(changed.clone());
        }
        let rows = self.query(&self.texts.get, &[text(&table.0), text(&key)])?;
        rows.first().map(|row| cell(row, 0)).transpose()
    }

    fn scan(
        &self,
        table: Table,
        prefix: &str,
        row: &mut dyn FnMut(&str, &[u8]) -> bool,
    ) -> Result<(), StoreError> {
        let end = below(prefix);
        let params = [text(&table.0), text(&prefix), (&end, Type::TEXT)];
        let found = self.query(&self.texts.scan, &params)?;
        let mut rows: BTreeMap<&str, &[u8]> = BTreeMap::new();
        for one in &found {
            rows.insert(cell(one, 0)?, cell(one, 1)?);
        }
        for (key, value) in self.changes.of(table, prefix) {
            match value {
                Some(value) => drop(rows.insert(key, value)),
                None => drop(rows.remove(key)),
            }
        }
        rows.iter().all(|(key, value)| row(key, value));
        Ok(())
    }

    fn acknowledged(&self, key: &mut dyn FnMut(&str)) -> Result<(), StoreError> {
        for found in &self.query(&self.texts.arrived, &[])? {
            key(cell(found, 0)?);
        }
        Ok(())
    }
}

impl inbox::Markers for Tables<'_> {
    type Error = StoreError;

    /// Nobody else accepts messages of this service: its writer is alone, by its life.
    fn marker(&mut self, key: &Key) -> Result<Option<Bytes>, StoreError> {
        if let Some((marker, _)) = self.changes.markers.get(key) {
            return Ok(Some(marker.clone()));
        }
        let (scope, id) = (key.scope(), key.id());
        let rows = self.query(&self.texts.marker, &[text(&scope), text(&id)])?;
        let marker: Option<Vec<u8>> = rows.first().map(|row| cell(row, 0)).transpose()?;
        if marker.is_some() {
            self.changes.marked.insert(key.clone());
        }
        Ok(marker.map(Bytes::from))
    }

    fn set_marker(&mut self, key: &Key, marker: Bytes, at: Wall) -> Result<(), StoreError> {
        let Changes {
            markers, marked, ..
        } = &mut self.changes;
        if !markers.contains_key(key) && !marked.contains(key) {
            self.markers.add()?;
        }
        markers.insert(key.clone(), (marker, at));
        Ok(())
    }
}

impl Write for Tables<'_> {
    fn put(&mut self, table: Table, key: &str, value: &[u8]) -> Result<(), StoreError> {
        let value = Some(value.to_owned());
        self.changes.rows.insert((table, key.to_owned()), value);
        Ok(())
    }

    fn remove(&mut self, table: Table, key: &str) -> Result<(), StoreError> {
        self.changes.rows.insert((table, key.to_owned()), None);
        Ok(())
    }

    fn append(&mut self, event: &Event, now: Wall) -> Result<Option<Appended>, StoreError> {
        self.changes.is_begun = true;
        let Self {
            runtime,
            tx,
            outbox,
            ..
        } = self;
        let appending = async {
            match outbox.append(tx, event, now).await {
                Ok(appended) => Ok(Some(appended)),
                Err(AppendError::Full { .. }) => Ok(None),
                Err(error) => Err(Failed::of(&error)),
            }
        };
        Line::wait(runtime, appending).map_err(|failed| self.failed(failed))
    }

    fn forget(&mut self, before: Wall, max: usize) -> Result<usize, StoreError> {
        self.changes.is_begun = true;
        let (before, max) = (sql::nanos(before), i64::try_from(max).unwrap_or(i64::MAX));
        let rows = self.query(&self.texts.sweep, &[int(&before), int(&max)])?;
        let swept: Option<i64> = rows.first().map(|row| cell(row, 0)).transpose()?;
        let swept = swept.map_or(0, |swept| usize::try_from(swept).unwrap_or(0));
        self.markers.sweep(swept);
        Ok(swept)
    }
}

impl Rows for Tables<'_> {
    fn outbox(&mut self) -> Result<&mut dyn OutboxRows, StoreError> {
        Err(engine("the relay has connections of its own"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_markers_are_added_than_there_may_be() {
        let mut markers = Markers { count: 2, max: 3 };
        markers.add().unwrap();
        let full = engine("markers: there are 3 already").to_string();
        assert_eq!(markers.add().unwrap_err().to_string(), full);
        assert_eq!(markers.count, 3);
        markers.sweep(2);
        markers.add().unwrap();
        assert_eq!(markers.count, 2);
    }
}
