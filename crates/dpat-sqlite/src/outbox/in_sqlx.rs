//! Appends in transactions of sqlx.

use dpat_core::{Uuid7, Wall};
use dpat_outbox::{AppendError, Appended, Event, Limits};
use sqlx::Sqlite;

use super::row::{position, unsigned};
use super::rows::{full, known_id};
use super::{Outbox, Shared};
use crate::error::EngineError;
use crate::in_sqlx::{Tx, column, commit_sqlx, find, statement};
use crate::sql::{nanos, number};

impl Outbox {
    /// Adds an event to your transaction of sqlx, as [`Outbox::append`] does to one of rusqlite.
    ///
    /// # Errors
    /// [`AppendError`]. Roll the transaction back; from [`AppendError::Full`] it may go on without the event.
    ///
    /// # Cancel safety
    /// The event may be in the transaction, as a whole: roll it back.
    ///
    /// # Examples
    /// ```
    /// use dpat_core::{Clock, SystemClock, SystemEntropy, Uuid7Generator};
    /// use dpat_outbox::{Event, Limits};
    /// use dpat_sqlite::sqlx::{self, SqlitePool};
    /// use dpat_sqlite::{Config, Outbox};
    ///
    /// static IDS: Uuid7Generator = Uuid7Generator::new();
    ///
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("shop.db");
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// let config = Config::new(path, "orders")?;
    /// let outbox = Outbox::open(&config, Limits::DEFAULT)?;
    /// let pool = SqlitePool::connect_with(config.sqlx_options()).await?;
    /// sqlx::query("CREATE TABLE own (id TEXT)").execute(&pool).await?;
    ///
    /// let now = SystemClock.wall();
    /// let event = Event::builder(IDS.next(now, &SystemEntropy)?, "orders.completed").build()?;
    /// let mut tx = pool.begin_with("BEGIN IMMEDIATE").await?;
    /// let change = sqlx::query("INSERT INTO own VALUES ('order-7')"); // the change
    /// change.execute(&mut *tx).await?;
    /// outbox.append_sqlx(&mut tx, &event, now).await?; // and what is told of it
    /// outbox.commit_sqlx(tx).await?; // both, or neither
    /// # assert_eq!(outbox.lag_now()?.backlog_rows, 1);
    /// # pool.close().await;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn append_sqlx(
        &self,
        tx: &mut sqlx::Transaction<'_, Sqlite>,
        event: &Event,
        now: Wall,
    ) -> Result<Appended, AppendError> {
        let Shared {
            statements, limits, ..
        } = &*self.shared;
        let append = statement(&statements.append)
            .bind(event.id().to_bytes().to_vec())
            .bind(event.topic())
            .bind(event.key())
            .bind(event.dedup())
            .bind(nanos(now))
            .bind(event.encode().to_vec())
            .bind(number(limits.backlog_rows))
            .bind(number(limits.backlog_bytes));
        if let Some(row) = find(tx, append).await? {
            return Ok(Appended::New(position(column(&row, 0)?)));
        }
        if let Some(id) = self.known_sqlx(tx, event).await? {
            return Ok(Appended::Duplicate(id));
        }
        Err(self.full_sqlx(tx, *limits).await?)
    }

    /// Commits a transaction of sqlx and tells the relays of this process.
    ///
    /// # Errors
    /// As [`commit_sqlx`](crate::commit_sqlx).
    ///
    /// # Cancel safety
    /// Once polled it may be committed, and the relays find it by the clock.
    pub async fn commit_sqlx(&self, tx: sqlx::Transaction<'_, Sqlite>) -> Result<(), EngineError> {
        commit_sqlx(tx).await?;
        self.notify();
        Ok(())
    }

    /// The event that is there already with the same id or deduplication key.
    async fn known_sqlx(
        &self,
        tx: &mut Tx<'_>,
        event: &Event,
    ) -> Result<Option<Uuid7>, EngineError> {
        let statements = &self.shared.statements;
        let appended = statement(&statements.appended)
            .bind(event.id().to_bytes().to_vec())
            .bind(event.dedup());
        let Some(row) = find(tx, appended).await? else {
            return Ok(None);
        };
        let id: &[u8] = column(&row, 0)?;
        let id = id.try_into().map_err(|error| {
            EngineError::corrupt(&statements.events, event.dedup().unwrap_or_default(), error)
        })?;
        known_id(statements, event, id).map(Some)
    }

    /// Which limit is reached.
    async fn full_sqlx(&self, tx: &mut Tx<'_>, limits: Limits) -> Result<AppendError, EngineError> {
        let statements = &self.shared.statements;
        let row = find(tx, statement(&statements.counts)).await?;
        let row = row.ok_or_else(|| {
            EngineError::inconsistent(&statements.counted, 1, "the row of counts is gone")
        })?;
        Ok(full(limits, unsigned(column(&row, 0)?)))
    }
}
