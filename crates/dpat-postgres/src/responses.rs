//! The rows of a response store in a PostgreSQL database.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use dpat_core::Wall;
use dpat_idempotency::{Change, Inserted, Key, Row, Store, StoreError, Swap, Version};
use tokio::time::Instant;

use crate::config::Config;
use crate::connection::{Pool, Session};
use crate::error::{EngineError, OpenError};
use crate::gauge::{Gauge, Room};
use crate::schema;
use crate::sql::{Part, limit, nanos, number, unsigned};
use crate::sync::Mutex;
use crate::tx::{self, Run, Value};

const LOAD: &str = "SELECT version, record FROM {schema}.{prefix}_records WHERE key = $1";

const INSERT: &str = "\
INSERT INTO {schema}.{prefix}_records (key, version, expires, bytes, record)
VALUES ($1, nextval('{schema}.{prefix}_versions'), $2, length($1) + length($3), $3)
ON CONFLICT DO NOTHING
RETURNING version";

/// What was put, or else what is there: neither, if it has come or gone while the statement ran.
const INSERT_OR_LOAD: &str = "\
WITH new AS (
  INSERT INTO {schema}.{prefix}_records (key, version, expires, bytes, record)
  VALUES ($1, nextval('{schema}.{prefix}_versions'), $2, length($1) + length($3), $3)
  ON CONFLICT DO NOTHING
  RETURNING version
)
SELECT version, NULL::bytea FROM new
UNION ALL
SELECT version, record FROM {schema}.{prefix}_records WHERE key = $1 AND NOT EXISTS (SELECT FROM new)";

const UPDATE: &str = "\
UPDATE {schema}.{prefix}_records
SET version = nextval('{schema}.{prefix}_versions'), expires = $2, bytes = length($1) + length($3), record = $3
WHERE key = $1 AND version = $4
RETURNING version";

const REMOVE: &str =
    "DELETE FROM {schema}.{prefix}_records WHERE key = $1 AND version = $2 RETURNING version";

const SCAN: &str = "\
SELECT key, version, record FROM {schema}.{prefix}_records WHERE key > $1 ORDER BY key LIMIT $2";

const PURGE: &str = "\
WITH gone AS (
  DELETE FROM {schema}.{prefix}_records WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM {schema}.{prefix}_records WHERE expires <= $1 ORDER BY expires LIMIT $2
    FOR UPDATE SKIP LOCKED
  )) RETURNING 1
)
SELECT count(*)::bigint FROM gone";

/// Up to a hundred thousand rows are counted; of more the statistics of the server tell.
const COUNT: &str = "\
SELECT
  (CASE WHEN counted < 100000 THEN counted ELSE greatest(counted, known) END)::bigint,
  (CASE WHEN counted < 100000 THEN total ELSE total / counted * greatest(counted, known) END)::bigint
FROM (
  SELECT
    count(*)::numeric, coalesce(sum(bytes), 0)::numeric,
    (SELECT reltuples::numeric FROM pg_class WHERE oid = '{schema}.{prefix}_records'::regclass)
  FROM (SELECT bytes FROM {schema}.{prefix}_records LIMIT least($1, 100000)) AS seen
) AS all_of (counted, total, known)";

/// How much a [`ResponseStore`] holds before it refuses new keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseLimits {
    /// Rows.
    pub rows: u64,
    /// Bytes of keys and rows.
    pub bytes: u64,
}

impl ResponseLimits {
    /// A million rows, 1 GiB.
    pub const DEFAULT: Self = Self {
        rows: 1_000_000,
        bytes: 1 << 30,
    };
}

impl Default for ResponseLimits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// A [`Store`] of [`dpat_idempotency::Responses`] in a PostgreSQL database. Clones share it, and its own connections.
///
/// # Examples
/// ```no_run
/// use dpat_idempotency::AnyStore;
/// use dpat_postgres::{Config, ResponseLimits, ResponseStore};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let config = Config::new("postgres://shop:secret@127.0.0.1:5432/shop", "api")?;
/// let store = ResponseStore::open(&config, ResponseLimits::DEFAULT).await?;
/// let any = AnyStore::new(store); // for `dpat_idempotency::Responses`
/// # let _ = any;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ResponseStore {
    shared: Arc<Shared>,
}

struct Shared {
    pool: Arc<Pool>,
    statements: Statements,
    limits: ResponseLimits,
    gauge: Mutex<Gauge>,
}

pub(crate) struct Statements {
    records: String,
    load: String,
    insert: String,
    insert_or_load: String,
    update: String,
    remove: String,
    scan: String,
    purge: String,
    count: String,
}

impl Statements {
    pub(crate) fn of(config: &Config) -> Self {
        Self {
            records: config.table("records"),
            load: config.sql(LOAD),
            insert: config.sql(INSERT),
            insert_or_load: config.sql(INSERT_OR_LOAD),
            update: config.sql(UPDATE),
            remove: config.sql(REMOVE),
            scan: config.sql(SCAN),
            purge: config.sql(PURGE),
            count: config.sql(COUNT),
        }
    }

    /// Every statement by its name: what the tests of plans look at.
    pub(crate) fn all(self) -> Vec<(&'static str, String)> {
        vec![
            ("load", self.load),
            ("insert", self.insert),
            ("insert_or_load", self.insert_or_load),
            ("update", self.update),
            ("remove", self.remove),
            ("scan", self.scan),
            ("purge", self.purge),
            ("count", self.count),
        ]
    }
}

/// Version and bytes, from the column `at` on.
fn row(read: &mut tx::Row, at: usize) -> Result<Row, EngineError> {
    Ok(Row {
        version: Version(unsigned(read.int(at)?)),
        bytes: read.bytes(at + 1)?.into(),
    })
}

impl ResponseStore {
    /// Opens the response store of this schema and prefix. Within a tokio runtime, on which its connections live.
    ///
    /// The limits are checked by a count that may be a second old; of more than a hundred thousand rows the statistics of
    /// the server tell.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open(config: &Config, limits: ResponseLimits) -> Result<Self, OpenError> {
        let pool = Pool::new(config);
        schema::open(&pool, Part::Responses).await?;
        Ok(Self {
            shared: Arc::new(Shared {
                pool,
                statements: Statements::of(config),
                limits,
                gauge: Mutex::new(Gauge::default()),
            }),
        })
    }

    async fn load_now(&self, key: &Key) -> Result<Option<Row>, EngineError> {
        let Shared {
            pool, statements, ..
        } = &*self.shared;
        let mut session = pool.session().await?;
        let params = [Value::Bytes(key.as_bytes())];
        let mut rows = session.rows(&statements.load, &params).await?;
        session.done();
        rows.first_mut().map(|read| row(read, 0)).transpose()
    }

    async fn swap_now(
        &self,
        key: &Key,
        expected: Option<Version>,
        change: &Change,
    ) -> Result<Swap, EngineError> {
        let Shared {
            pool, statements, ..
        } = &*self.shared;
        let key = Value::Bytes(key.as_bytes());
        let version = expected.map(|version| number(version.0));
        let mut session = pool.session().await?;
        let done = match (change, version) {
            (Change::Put { bytes, expires }, _) => {
                self.room(&mut session, version.is_none(), bytes.len() as u64)
                    .await?;
                let expires = Value::MaybeInt(expires.map(nanos));
                let record = Value::Bytes(bytes);
                let rows = match version {
                    None => {
                        let params = [key, expires, record];
                        session.change(&statements.insert, &params).await?
                    }
                    Some(version) => {
                        let params = [key, expires, record, Value::Int(version)];
                        session.change(&statements.update, &params).await?
                    }
                };
                !rows.is_empty()
            }
            (Change::Remove, Some(version)) => {
                let params = [key, Value::Int(version)];
                let rows = session.change(&statements.remove, &params).await?;
                !rows.is_empty()
            }
            // Nothing is to be there, and nothing is removed.
            (Change::Remove, None) => session.rows(&statements.load, &[key]).await?.is_empty(),
        };
        session.done();
        Ok(match done {
            true => Swap::Done,
            false => Swap::Conflict,
        })
    }

    async fn insert_now(
        &self,
        key: &Key,
        bytes: &[u8],
        expires: Option<Wall>,
    ) -> Result<Inserted, EngineError> {
        let Shared {
            pool, statements, ..
        } = &*self.shared;
        let mut session = pool.session().await?;
        self.room(&mut session, true, bytes.len() as u64).await?;
        let params = [
            Value::Bytes(key.as_bytes()),
            Value::MaybeInt(expires.map(nanos)),
            Value::Bytes(bytes),
        ];
        let rows = session.change(&statements.insert_or_load, &params).await?;
        session.done();
        let Some(mut read) = rows.into_iter().next() else {
            return Ok(Inserted::Found(None));
        };
        let version = Version(unsigned(read.int(0)?));
        Ok(match read.maybe_bytes(1)? {
            None => Inserted::New(Some(version)),
            Some(bytes) => Inserted::Found(Some(Row {
                version,
                bytes: bytes.into(),
            })),
        })
    }

    /// Counts if the last count says too little.
    async fn room(
        &self,
        session: &mut Session,
        is_new: bool,
        bytes: u64,
    ) -> Result<(), EngineError> {
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
        let has_room = gauge.with(|gauge| {
            let has_room = gauge.has_room(room, bytes, began);
            if has_room {
                gauge.added(bytes);
            }
            has_room
        });
        if has_room {
            return Ok(());
        }
        let most = [Value::Int(number(limits.rows).saturating_add(1))];
        let mut rows = session.rows(&statements.count, &most).await?;
        let row = rows.first_mut().ok_or_else(|| EngineError::column(0))?;
        let (records, counted) = (unsigned(row.int(0)?), unsigned(row.int(1)?));
        gauge.with(|gauge| {
            gauge.counted(records, counted, began, Instant::now());
            gauge.added(bytes);
        });
        if is_new && records >= limits.rows {
            return Err(EngineError::full("rows", limits.rows));
        }
        if is_new && counted.saturating_add(bytes) > limits.bytes {
            return Err(EngineError::full("bytes", limits.bytes));
        }
        Ok(())
    }

    async fn scan_now(
        &self,
        after: Option<&Key>,
        max: usize,
    ) -> Result<Vec<(Key, Row)>, EngineError> {
        let Shared {
            pool, statements, ..
        } = &*self.shared;
        let mut session = pool.session().await?;
        // No key is empty.
        let after = after.map_or(&[][..], Key::as_bytes);
        let params = [Value::Bytes(after), Value::Int(limit(max))];
        let found = session.rows(&statements.scan, &params).await?;
        session.done();
        let keyed = found.into_iter().enumerate().map(|(at, mut read)| {
            let key = Key::from_bytes(&read.bytes(0)?)
                .map_err(|error| EngineError::corrupt(&statements.records, at, error))?;
            Ok((key, row(&mut read, 1)?))
        });
        keyed.collect()
    }

    async fn purge_now(&self, now: Wall, max: usize) -> Result<usize, EngineError> {
        let Shared {
            pool, statements, ..
        } = &*self.shared;
        let mut session = pool.session().await?;
        let params = [Value::Int(nanos(now)), Value::Int(limit(max))];
        let mut rows = session.change(&statements.purge, &params).await?;
        session.done();
        let row = rows.first_mut().ok_or_else(|| EngineError::column(0))?;
        Ok(usize::try_from(row.int(0)?).unwrap_or(0))
    }
}

#[async_trait]
impl Store for ResponseStore {
    async fn load(&self, key: &Key) -> Result<Option<Row>, StoreError> {
        Ok(self.load_now(key).await?)
    }

    async fn swap(
        &self,
        key: &Key,
        expected: Option<Version>,
        change: Change,
    ) -> Result<Swap, StoreError> {
        Ok(self.swap_now(key, expected, &change).await?)
    }

    async fn insert(
        &self,
        key: &Key,
        bytes: Bytes,
        expires: Option<Wall>,
    ) -> Result<Inserted, StoreError> {
        Ok(self.insert_now(key, &bytes, expires).await?)
    }

    async fn scan(&self, after: Option<&Key>, max: usize) -> Result<Vec<(Key, Row)>, StoreError> {
        Ok(self.scan_now(after, max).await?)
    }

    async fn purge(&self, now: Wall, max: usize) -> Result<usize, StoreError> {
        Ok(self.purge_now(now, max).await?)
    }
}

impl fmt::Debug for ResponseStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseStore")
            .field("table", &self.shared.statements.records)
            .field("limits", &self.shared.limits)
            .finish_non_exhaustive()
    }
}
