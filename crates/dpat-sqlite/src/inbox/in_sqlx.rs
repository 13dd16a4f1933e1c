//! Accepts and cancellations in transactions of sqlx.

use bytes::Bytes;
use dpat_core::Wall;
use dpat_idempotency::inbox::{AcceptError, Accepted, Marker, Undo, Verdict};
use dpat_idempotency::{Fingerprint, Key};
use sqlx::Sqlite;

use super::Inbox;
use crate::error::EngineError;
use crate::in_sqlx::{Tx, column, execute, find, statement};
use crate::sql::{nanos, number};

impl Inbox {
    /// Lets a message take effect in your transaction of sqlx, as [`Inbox::accept`] does in one of rusqlite.
    ///
    /// Begin it `IMMEDIATE`: the marker is read before anything is written.
    ///
    /// # Errors
    /// [`AcceptError`]. The transaction may hold parts of the effect: roll it back.
    ///
    /// # Cancel safety
    /// The transaction may hold parts of the effect: roll it back.
    ///
    /// # Examples
    /// ```
    /// use dpat_core::{Clock, SystemClock};
    /// use dpat_idempotency::{Fingerprint, Key};
    /// use dpat_sqlite::sqlx::{self, SqlitePool};
    /// use dpat_sqlite::{Config, Inbox, commit_sqlx};
    ///
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("shipping.db");
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    /// let config = Config::new(path, "shipping")?;
    /// let inbox = Inbox::open(&config.connect()?, &config)?;
    /// let pool = SqlitePool::connect_with(config.sqlx_options()).await?;
    /// sqlx::query("CREATE TABLE parcels (id TEXT)").execute(&pool).await?;
    ///
    /// let key = Key::new("shipping", "order-7")?;
    /// for _delivery in 0..2 {
    ///     let mut tx = pool.begin_with("BEGIN IMMEDIATE").await?;
    ///     let now = SystemClock.wall();
    ///     inbox.accept_sqlx(&mut tx, &key, Fingerprint::NONE, now, async |tx| {
    ///         let pack = sqlx::query("INSERT INTO parcels VALUES ('order-7')"); // the effect
    ///         pack.execute(&mut **tx).await?;
    ///         Ok::<_, sqlx::Error>("label 1".into())
    ///     }).await?;
    ///     commit_sqlx(tx).await?; // marker and effect, or neither
    /// }
    /// let parcels: i64 = sqlx::query_scalar("SELECT count(*) FROM parcels").fetch_one(&pool).await?;
    /// assert_eq!(parcels, 1);
    /// # pool.close().await;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn accept_sqlx<E>(
        &self,
        tx: &mut sqlx::Transaction<'_, Sqlite>,
        key: &Key,
        fingerprint: Fingerprint,
        now: Wall,
        effect: impl AsyncFnOnce(&mut sqlx::Transaction<'_, Sqlite>) -> Result<Bytes, E>,
    ) -> Result<Accepted, AcceptError<EngineError, E>> {
        let marker = self.read_sqlx(tx, key).await?;
        match Marker::judge(marker.as_ref(), fingerprint) {
            Verdict::First => {
                let outcome = effect(tx).await.map_err(AcceptError::Effect)?;
                let marker = Marker::done(fingerprint, outcome.clone(), now)?;
                let set = self.set_sqlx(tx, key, &marker).await;
                set.map_err(AcceptError::Store)?;
                Ok(Accepted::First(outcome))
            }
            Verdict::Again(outcome) => Ok(Accepted::Again(outcome)),
            Verdict::Cancelled => Ok(Accepted::Cancelled),
            Verdict::Reused => Err(AcceptError::Reused),
        }
    }

    /// Cancels a message in your transaction of sqlx, as [`Inbox::cancel`] does in one of rusqlite.
    ///
    /// # Errors
    /// [`AcceptError`]. The transaction may hold parts of the undoing: roll it back.
    ///
    /// # Cancel safety
    /// The transaction may hold parts of the undoing: roll it back.
    pub async fn cancel_sqlx<E>(
        &self,
        tx: &mut sqlx::Transaction<'_, Sqlite>,
        key: &Key,
        now: Wall,
        undo: impl AsyncFnOnce(&mut sqlx::Transaction<'_, Sqlite>, &Bytes) -> Result<(), E>,
    ) -> Result<Undo, AcceptError<EngineError, E>> {
        let marker = self.read_sqlx(tx, key).await?;
        let verdict = Marker::judge_cancel(marker.as_ref());
        if let Undo::Effect(outcome) = &verdict {
            undo(tx, outcome).await.map_err(AcceptError::Effect)?;
        }
        if verdict != Undo::Already {
            let set = self.set_sqlx(tx, key, &Marker::cancelled(now)).await;
            set.map_err(AcceptError::Store)?;
        }
        Ok(verdict)
    }

    async fn read_sqlx<E>(
        &self,
        tx: &mut Tx<'_>,
        key: &Key,
    ) -> Result<Option<Marker>, AcceptError<EngineError, E>> {
        let marker = statement(&self.shared.marker)
            .bind(key.scope())
            .bind(key.id());
        let Some(row) = find(tx, marker).await.map_err(AcceptError::Store)? else {
            return Ok(None);
        };
        let marker: Vec<u8> = column(&row, 0).map_err(AcceptError::Store)?;
        let marker = Marker::decode(&marker).map_err(AcceptError::Corrupt)?;
        Ok(Some(marker))
    }

    async fn set_sqlx(
        &self,
        tx: &mut Tx<'_>,
        key: &Key,
        marker: &Marker,
    ) -> Result<(), EngineError> {
        let limit = self.shared.markers_max;
        let set = statement(&self.shared.set_marker)
            .bind(key.scope())
            .bind(key.id())
            .bind(nanos(marker.at()))
            .bind(marker.encode().to_vec())
            .bind(number(limit));
        match execute(tx, set).await? {
            0 => Err(EngineError::full("markers", limit)),
            _ => Ok(()),
        }
    }
}
