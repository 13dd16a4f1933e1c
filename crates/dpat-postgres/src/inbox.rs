//! An inbox in a PostgreSQL database: markers in the transaction of the effect.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use dpat_core::Wall;
use dpat_idempotency::inbox::{AcceptError, Marker, Undo, Verdict};
use dpat_idempotency::{Fingerprint, Key};
use tokio::time::Instant;

use crate::config::Config;
use crate::connection::Pool;
use crate::error::{EngineError, OpenError};
use crate::gauge::{Gauge, Room};
use crate::schema;
use crate::sql::{self, Part, limit, nanos, number, unsigned};
use crate::sync::Mutex;
use crate::tx::{Transaction, Value};

/// The number of markers unless told otherwise: 10 000 000.
pub const MARKERS_MAX: u64 = 10_000_000;

/// Up to a hundred thousand rows are counted; of more the statistics of the server tell.
pub(crate) const COUNT: &str = "\
SELECT CASE
  WHEN counted < 100000 THEN counted
  ELSE greatest(
    counted, (SELECT reltuples::bigint FROM pg_class WHERE oid = '{schema}.{prefix}_markers'::regclass)
  )
END
FROM (SELECT count(*)::bigint FROM (SELECT 1 FROM {schema}.{prefix}_markers LIMIT least($1, 100000)) AS seen)
  AS all_of (counted)";

/// An inbox in a PostgreSQL database. Clones share it.
///
/// Of two transactions that accept the same message at once the second waits for the end of the first, and is told what it
/// did. It works at any isolation; above `READ COMMITTED` the second may be refused (class transient) instead.
///
/// # Examples
/// ```no_run
/// use dpat_core::{Clock, SystemClock};
/// use dpat_idempotency::{Fingerprint, Key};
/// use dpat_postgres::{Arrived, Config, Inbox, commit};
///
/// # async fn example(client: &mut tokio_postgres::Client) -> Result<(), Box<dyn std::error::Error>> {
/// let config = Config::new("postgres://shop:secret@127.0.0.1:5432/shop", "shipping")?;
/// let inbox = Inbox::open(&config).await?;
///
/// let key = Key::new("shipping", "order-7")?;
/// let mut tx = client.transaction().await?;
/// if let Arrived::First(accepting) = inbox.accept(&mut tx, &key, Fingerprint::NONE).await? {
///     tx.execute("INSERT INTO parcels VALUES ('order-7')", &[]).await?; // the effect
///     accepting.done(&mut tx, "label 1".into(), SystemClock.wall()).await?;
/// }
/// commit(tx).await?; // marker and effect, or neither
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Inbox {
    shared: Arc<Shared>,
}

struct Shared {
    pool: Arc<Pool>,
    lock: String,
    marker: String,
    set_marker: String,
    sweep: String,
    count: String,
    table: String,
    markers_max: u64,
    gauge: Mutex<Gauge>,
}

impl Inbox {
    /// Opens the inbox of this schema and prefix. Within a tokio runtime, on which its connections live.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open(config: &Config) -> Result<Self, OpenError> {
        Self::with_limit(config, MARKERS_MAX).await
    }

    /// Opens the inbox, which refuses new messages above so many markers.
    ///
    /// They are counted as the backlog of an outbox is; of more than a hundred thousand the statistics of the server tell.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn with_limit(config: &Config, markers_max: u64) -> Result<Self, OpenError> {
        let pool = Pool::new(config);
        schema::open(&pool, Part::Inbox).await?;
        Ok(Self {
            shared: Arc::new(Shared {
                pool,
                lock: config.sql(sql::LOCK_MARKER),
                marker: config.sql(sql::MARKER),
                set_marker: config.sql(sql::SET_MARKER),
                sweep: config.sql(sql::SWEEP),
                count: config.sql(COUNT),
                table: config.table("markers"),
                markers_max,
                gauge: Mutex::new(Gauge::default()),
            }),
        })
    }

    /// Asks about a message that comes: whether to act, in the same transaction, or not to.
    ///
    /// # Errors
    /// [`AcceptError`]: roll the transaction back.
    ///
    /// # Cancel safety
    /// Nothing is changed.
    pub async fn accept(
        &self,
        tx: &mut impl Transaction,
        key: &Key,
        fingerprint: Fingerprint,
    ) -> Result<Arrived, AcceptError<EngineError, EngineError>> {
        let marker = self.read(tx, key).await?;
        match Marker::judge(marker.as_ref(), fingerprint) {
            Verdict::First => {
                self.room(tx).await.map_err(AcceptError::Store)?;
                Ok(Arrived::First(Accepting {
                    inbox: self.clone(),
                    key: key.clone(),
                    fingerprint,
                }))
            }
            Verdict::Again(outcome) => Ok(Arrived::Again(outcome)),
            Verdict::Cancelled => Ok(Arrived::Cancelled),
            Verdict::Reused => Err(AcceptError::Reused),
        }
    }

    /// Cancels a message, and refuses it from now on; with [`Undo::Effect`], undo that in the same transaction.
    ///
    /// # Errors
    /// [`AcceptError`]: roll the transaction back.
    ///
    /// # Cancel safety
    /// The transaction may hold the cancellation: roll it back.
    pub async fn cancel(
        &self,
        tx: &mut impl Transaction,
        key: &Key,
        now: Wall,
    ) -> Result<Undo, AcceptError<EngineError, EngineError>> {
        let marker = self.read(tx, key).await?;
        let verdict = Marker::judge_cancel(marker.as_ref());
        match &verdict {
            Undo::Already => return Ok(verdict),
            Undo::Nothing => self.room(tx).await.map_err(AcceptError::Store)?,
            Undo::Effect(_) => {}
        }
        self.set(tx, key, &Marker::cancelled(now), now)
            .await
            .map_err(AcceptError::Store)?;
        Ok(verdict)
    }

    /// Forgets up to `max` markers that were written before `before`, in a transaction of its own; returns how many.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn sweep(&self, before: Wall, max: usize) -> Result<usize, EngineError> {
        let mut session = self.shared.pool.session().await?;
        let params = [Value::Int(nanos(before)), Value::Int(limit(max))];
        let mut rows = session.change(&self.shared.sweep, &params).await?;
        session.done();
        let row = rows.first_mut().ok_or_else(|| EngineError::column(0))?;
        Ok(usize::try_from(row.int(0)?).unwrap_or(0))
    }

    /// Waits until nobody else accepts the message, and reads its marker.
    async fn read(
        &self,
        tx: &mut impl Transaction,
        key: &Key,
    ) -> Result<Option<Marker>, AcceptError<EngineError, EngineError>> {
        let params = [Value::Text(key.scope()), Value::Text(key.id())];
        let shared = &self.shared;
        let locked = tx.rows(&shared.lock, &params).await;
        locked.map_err(AcceptError::Store)?;
        let found = tx.rows(&shared.marker, &params).await;
        let mut found = found.map_err(AcceptError::Store)?;
        let Some(row) = found.first_mut() else {
            return Ok(None);
        };
        let bytes = row.bytes(0).map_err(AcceptError::Store)?;
        let marker = Marker::decode(&bytes).map_err(AcceptError::Corrupt)?;
        Ok(Some(marker))
    }

    async fn set(
        &self,
        tx: &mut impl Transaction,
        key: &Key,
        marker: &Marker,
        at: Wall,
    ) -> Result<(), EngineError> {
        let encoded = marker.encode();
        let params = [
            Value::Text(key.scope()),
            Value::Text(key.id()),
            Value::Int(nanos(at)),
            Value::Bytes(&encoded),
        ];
        tx.rows(&self.shared.set_marker, &params).await?;
        self.shared.gauge.with(|gauge| gauge.added(0));
        Ok(())
    }

    /// Counts if the last count says too little.
    async fn room(&self, tx: &mut impl Transaction) -> Result<(), EngineError> {
        let Shared {
            gauge, markers_max, ..
        } = &*self.shared;
        let room = Room {
            rows: *markers_max,
            bytes: u64::MAX,
        };
        let began = Instant::now();
        if gauge.with(|gauge| gauge.has_room(room, 0, began)) {
            return Ok(());
        }
        let most = [Value::Int(number(*markers_max))];
        let mut rows = tx.rows(&self.shared.count, &most).await?;
        let row = rows.first_mut().ok_or_else(|| EngineError::column(0))?;
        let markers = unsigned(row.int(0)?);
        gauge.with(|gauge| gauge.counted(markers, 0, began, Instant::now()));
        match markers < *markers_max {
            true => Ok(()),
            false => Err(EngineError::full("markers", *markers_max)),
        }
    }
}

/// What is to be done about a message that came.
#[derive(Debug)]
pub enum Arrived {
    /// It is new: act in the same transaction, and then call [`Accepting::done`].
    First(Accepting),
    /// It took effect before, with this outcome: do nothing.
    Again(Bytes),
    /// It was cancelled: do nothing.
    Cancelled,
}

/// A message that takes effect in a transaction, before it is remembered.
#[derive(Debug)]
#[must_use = "an effect that is not remembered happens again"]
pub struct Accepting {
    inbox: Inbox,
    key: Key,
    fingerprint: Fingerprint,
}

impl Accepting {
    /// Remembers that the message took effect, and what is returned to whoever sends it again.
    ///
    /// # Errors
    /// [`AcceptError`]. The transaction holds the effect: roll it back.
    ///
    /// # Cancel safety
    /// The transaction holds the effect: roll it back.
    pub async fn done(
        self,
        tx: &mut impl Transaction,
        outcome: Bytes,
        now: Wall,
    ) -> Result<(), AcceptError<EngineError, EngineError>> {
        let marker = Marker::done(self.fingerprint, outcome, now)?;
        let set = self.inbox.set(tx, &self.key, &marker, now).await;
        set.map_err(AcceptError::Store)
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox")
            .field("table", &self.shared.table)
            .field("markers_max", &self.shared.markers_max)
            .finish_non_exhaustive()
    }
}
