//! Sends in transactions of sqlx.

use dpat_core::{Clock, Wall};
use dpat_queue::{Message, SendError, Sent};
use sqlx::Sqlite;
use sqlx::sqlite::SqliteRow;

use super::QueueStore;
use super::backend::backend;
use super::message::Stored;
use super::rows::{full, id, unsigned};
use crate::error::EngineError;
use crate::in_sqlx::{Tx, column, commit_sqlx, execute, find, statement};
use crate::sql::{nanos, number};

impl QueueStore {
    /// Sends a message in your transaction of sqlx, as [`QueueTx::send`](crate::QueueTx::send) does in one of rusqlite.
    ///
    /// Begin it `IMMEDIATE`: what has a deduplication key is looked for before anything is written.
    ///
    /// # Errors
    /// [`SendError`]. Unless the backend failed, the transaction may go on without the message.
    ///
    /// # Cancel safety
    /// The message may be in the transaction, even without its deduplication key: roll it back.
    ///
    /// # Examples
    /// ```
    /// use dpat_core::ManualTime;
    /// use dpat_queue::Message;
    /// use dpat_sqlite::sqlx::{self, SqlitePool};
    /// use dpat_sqlite::{Config, QueueSettings, QueueStore};
    ///
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("shop.db");
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// let config = Config::new(path, "charges")?;
    /// let store = QueueStore::open(&config, QueueSettings::DEFAULT, ManualTime::new())?;
    /// let pool = SqlitePool::connect_with(config.sqlx_options()).await?;
    /// sqlx::query("CREATE TABLE own (id TEXT)").execute(&pool).await?;
    ///
    /// let mut tx = pool.begin_with("BEGIN IMMEDIATE").await?;
    /// let change = sqlx::query("INSERT INTO own VALUES ('order-7')"); // the change
    /// change.execute(&mut *tx).await?;
    /// store.send_sqlx(&mut tx, &Message::new("charge order 7")).await?; // and what is to be done for it
    /// store.commit_sqlx(tx).await?; // both, or neither
    ///
    /// assert_eq!(store.queue().receive().await?.payload(), "charge order 7");
    /// # pool.close().await;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn send_sqlx(
        &self,
        tx: &mut sqlx::Transaction<'_, Sqlite>,
        message: &Message,
    ) -> Result<Sent, SendError> {
        message.check(self.shared.settings.message_bytes_max)?;
        if self.shared.is_closed() {
            return Err(SendError::Closed);
        }
        let now = self.shared.time.wall();
        let sent = match message.get_dedup() {
            None => self.add_sqlx(tx, message, now).await?,
            Some(dedup) => self.add_once_sqlx(tx, message, dedup, now).await?,
        };
        self.shared.sent(sent);
        Ok(sent)
    }

    /// Commits a transaction of sqlx and tells the receivers of this process.
    ///
    /// # Errors
    /// As [`commit_sqlx`](crate::commit_sqlx).
    ///
    /// # Cancel safety
    /// Once polled it may be committed, and the receivers find it by the clock.
    pub async fn commit_sqlx(&self, tx: sqlx::Transaction<'_, Sqlite>) -> Result<(), EngineError> {
        commit_sqlx(tx).await?;
        self.notify();
        Ok(())
    }

    /// Sends unless the deduplication key is remembered.
    async fn add_once_sqlx(
        &self,
        tx: &mut Tx<'_>,
        message: &Message,
        dedup: &str,
        now: Wall,
    ) -> Result<Sent, SendError> {
        let statements = &self.shared.statements;
        let forget = statement(&statements.forget_dedups).bind(nanos(now));
        execute(tx, forget).await.map_err(backend)?;
        let known = find(tx, statement(&statements.dedup).bind(dedup)).await;
        if let Some(row) = known.map_err(backend)? {
            return Ok(Sent::duplicate(id(column(&row, 0).map_err(backend)?)));
        }
        let limit = self.shared.settings.dedup_max;
        let counts = self.counts_sqlx(tx).await.map_err(backend)?;
        if unsigned(column(&counts, 4).map_err(backend)?) >= limit {
            return Err(SendError::Full {
                field: "dedup_max",
                limit,
            });
        }
        let sent = self.add_sqlx(tx, message, now).await?;
        let remember = statement(&statements.remember)
            .bind(dedup)
            .bind(super::rows::key(sent.id))
            .bind(nanos(now + self.shared.settings.dedup_window));
        execute(tx, remember).await.map_err(backend)?;
        Ok(sent)
    }

    /// Adds a message; what has ended makes room.
    async fn add_sqlx(
        &self,
        tx: &mut Tx<'_>,
        message: &Message,
        now: Wall,
    ) -> Result<Sent, SendError> {
        let insert = self.insert_sqlx(tx, message, now).await;
        let mut added = insert.map_err(backend)?;
        if added.is_none() {
            self.tick_sqlx(tx, now).await.map_err(backend)?;
            let insert = self.insert_sqlx(tx, message, now).await;
            added = insert.map_err(backend)?;
        }
        if let Some(added) = added {
            return Ok(Sent::new(id(added)));
        }
        let counts = self.counts_sqlx(tx).await.map_err(backend)?;
        let live = unsigned(column(&counts, 0).map_err(backend)?);
        Err(full(&self.shared.settings, live))
    }

    async fn insert_sqlx(
        &self,
        tx: &mut Tx<'_>,
        message: &Message,
        now: Wall,
    ) -> Result<Option<i64>, EngineError> {
        let Stored {
            not_before,
            expires,
            bytes,
            headers,
        } = Stored::of(message, now);
        let settings = &self.shared.settings;
        let send = statement(&self.shared.statements.send)
            .bind(message.get_key())
            .bind(message.get_priority())
            .bind(nanos(now))
            .bind(not_before)
            .bind(expires)
            .bind(bytes)
            .bind(headers)
            .bind(message.payload().to_vec())
            .bind(number(settings.messages_max))
            .bind(number(settings.bytes_max));
        let row = find(tx, send).await?;
        row.map(|row| column(&row, 0)).transpose()
    }

    async fn tick_sqlx(&self, tx: &mut Tx<'_>, now: Wall) -> Result<(), EngineError> {
        let statements = &self.shared.statements;
        let ended = execute(tx, statement(&statements.end).bind(nanos(now))).await?;
        self.shared.stats.with(|stats| stats.expired += ended);
        execute(tx, statement(&statements.make_ready).bind(nanos(now))).await?;
        Ok(())
    }

    async fn counts_sqlx(&self, tx: &mut Tx<'_>) -> Result<SqliteRow, EngineError> {
        let statements = &self.shared.statements;
        let row = find(tx, statement(&statements.counts)).await?;
        row.ok_or_else(|| {
            EngineError::inconsistent(&statements.counted, 1, "the row of counts is gone")
        })
    }
}
