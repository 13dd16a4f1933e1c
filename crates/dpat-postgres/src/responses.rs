//! The rows of a response store in a PostgreSQL database.

mod together;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use dpat_core::Wall;
use dpat_idempotency::{Change, Inserted, Key, Row, Store, StoreError, Swap, Version};
use tokio::runtime::Handle;

use crate::config::Config;
use crate::connection::Pool;
use crate::error::{EngineError, OpenError};
use crate::gauge::Gauge;
use crate::join::Joiner;
use crate::schema;
use crate::sql::{Part, limit, nanos, number, unsigned};
use crate::sync::Mutex;
use crate::tx::{self, Run, Value};
use together::{Done, Put, TOGETHER};

const LOAD: &str = "SELECT version, record FROM {schema}.{prefix}_records WHERE key = $1";

/// What was put, or else what is there: neither, if it has come or gone while the statement ran.
const INSERT: &str = "\
WITH new AS (
  INSERT INTO {schema}.{prefix}_records (key, version, expires, bytes, record)
  VALUES ($1, nextval('{schema}.{prefix}_versions'), $2, length($1) + length($3), $3)
  ON CONFLICT DO NOTHING
  RETURNING version
)
SELECT version, NULL::bytea FROM new
UNION ALL
SELECT version, record FROM {schema}.{prefix}_records WHERE key = $1 AND NOT EXISTS (SELECT FROM new)";

/// As [`INSERT`], of several keys, each once and in order. What was there before is returned also where it has gone meanwhile, beside
/// what was put then.
const INSERT_MANY: &str = "\
WITH new AS (
  INSERT INTO {schema}.{prefix}_records (key, version, expires, bytes, record)
  SELECT key, nextval('{schema}.{prefix}_versions'), expires, length(key) + length(record), record
  FROM unnest($1, $2, $3) AS n (key, expires, record)
  ON CONFLICT DO NOTHING
  RETURNING key, version
)
SELECT key, NULL::bigint, version, NULL::bytea FROM new
UNION ALL
SELECT key, NULL::bigint, version, record FROM {schema}.{prefix}_records WHERE key = ANY ($1)";

const UPDATE: &str = "\
UPDATE {schema}.{prefix}_records
SET version = nextval('{schema}.{prefix}_versions'), expires = $2, bytes = length($1) + length($3), record = $3
WHERE key = $1 AND version = $4
RETURNING version, NULL::bytea";

/// As [`UPDATE`], of several keys and versions, each once and in order.
const UPDATE_MANY: &str = "\
UPDATE {schema}.{prefix}_records AS r
SET
  version = nextval('{schema}.{prefix}_versions'), expires = n.expires, bytes = length(n.key) + length(n.record),
  record = n.record
FROM unnest($1, $2, $3, $4) AS n (key, expires, record, version)
WHERE r.key = n.key AND r.version = n.version
RETURNING n.key, n.version, r.version, NULL::bytea";

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
    inserts: Arc<Joiner<Put, Done>>,
    updates: Arc<Joiner<Put, Done>>,
}

pub(crate) struct Statements {
    records: String,
    load: String,
    insert: String,
    insert_many: String,
    update: String,
    update_many: String,
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
            insert_many: config.sql(INSERT_MANY),
            update: config.sql(UPDATE),
            update_many: config.sql(UPDATE_MANY),
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
            ("insert_many", self.insert_many),
            ("update", self.update),
            ("update_many", self.update_many),
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
                inserts: Joiner::new(TOGETHER, Handle::current()),
                updates: Joiner::new(TOGETHER, Handle::current()),
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

    async fn remove_now(&self, key: &Key, expected: Option<Version>) -> Result<Swap, EngineError> {
        let Shared {
            pool, statements, ..
        } = &*self.shared;
        let key = Value::Bytes(key.as_bytes());
        let mut session = pool.session().await?;
        let done = match expected {
            Some(version) => {
                let params = [key, Value::Int(number(version.0))];
                let rows = session.change(&statements.remove, &params).await?;
                !rows.is_empty()
            }
            // Nothing is to be there, and nothing is removed.
            None => session.rows(&statements.load, &[key]).await?.is_empty(),
        };
        session.done();
        Ok(match done {
            true => Swap::Done,
            false => Swap::Conflict,
        })
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
        let Change::Put { bytes, expires } = change else {
            return Ok(self.remove_now(key, expected).await?);
        };
        let put = Put {
            key: key.clone(),
            over: expected,
            record: bytes,
            expires,
        };
        Ok(match self.put(put).await? {
            Inserted::New(_) => Swap::Done,
            Inserted::Found(_) => Swap::Conflict,
        })
    }

    async fn insert(
        &self,
        key: &Key,
        bytes: Bytes,
        expires: Option<Wall>,
    ) -> Result<Inserted, StoreError> {
        let put = Put {
            key: key.clone(),
            over: None,
            record: bytes,
            expires,
        };
        Ok(self.put(put).await?)
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
