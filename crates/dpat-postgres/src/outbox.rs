//! An outbox in a PostgreSQL database.

mod claims;
mod row;
pub(crate) mod statements;
mod store;

use std::fmt;
use std::sync::Arc;

use dpat_core::{Uuid7, Wall};
use dpat_outbox::{AppendError, Appended, Event, Limits, Signal, Ticket};
use tokio::time::Instant;

use crate::config::Config;
use crate::connection::Pool;
use crate::error::{EngineError, OpenError};
use crate::gauge::{Gauge, Room};
use crate::listener::Listener;
use crate::schema;
use crate::sql::{Part, nanos, number, unsigned};
use crate::sync::Mutex;
use crate::tx::{Row, Transaction, Value};
use statements::Statements;
pub use store::LAG_ROWS_MAX;

/// An outbox in a PostgreSQL database: appends in your transactions, and a [`Store`](dpat_outbox::Store) for relays. Clones
/// share it.
///
/// The store has connections of its own, and one that listens: an append that commits wakes the relays of all processes.
///
/// Transactions commit in another order than they append. Nothing is found by a cursor over positions, so that an event
/// that commits late is not passed over. Events of one key keep the order of their positions among those that are
/// committed when they are claimed: order the transactions that append to one key by what they change, as a lock of the
/// row that the key names does by itself.
///
/// # Examples
/// ```no_run
/// use dpat_core::{Clock, SystemClock, SystemEntropy, Uuid7Generator};
/// use dpat_outbox::{Event, Limits};
/// use dpat_postgres::{Config, Outbox, commit};
///
/// static IDS: Uuid7Generator = Uuid7Generator::new();
///
/// # async fn example(client: &mut tokio_postgres::Client) -> Result<(), Box<dyn std::error::Error>> {
/// let config = Config::new("postgres://shop:secret@127.0.0.1:5432/shop", "orders")?;
/// let outbox = Outbox::open(&config, Limits::DEFAULT).await?;
///
/// let now = SystemClock.wall();
/// let event = Event::builder(IDS.next(now, &SystemEntropy)?, "orders.completed").build()?;
/// let mut tx = client.transaction().await?;
/// tx.execute("UPDATE own SET state = 'completed' WHERE id = 7", &[]).await?; // the change
/// outbox.append(&mut tx, &event, now).await?; // and what is told of it
/// commit(tx).await?; // both, or neither
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Outbox {
    shared: Arc<Shared>,
}

struct Shared {
    pool: Arc<Pool>,
    statements: Statements,
    limits: Limits,
    gauge: Mutex<Gauge>,
    signal: Arc<Signal>,
    _listener: Option<Listener>,
}

impl Outbox {
    /// Opens the outbox of this schema and prefix. Within a tokio runtime, on which its connections live.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open(config: &Config, limits: Limits) -> Result<Self, OpenError> {
        let pool = Pool::new(config);
        schema::open(&pool, Part::Outbox).await?;
        let signal = Arc::new(Signal::new());
        let wakes = Arc::clone(&signal);
        let listener = config.notifies.then(|| {
            let text = config.sql("{schema}.{prefix}");
            Listener::start(&pool, "dpat_outbox", text, move || wakes.notify())
        });
        Ok(Self {
            shared: Arc::new(Shared {
                statements: Statements::of(config),
                limits,
                gauge: Mutex::new(Gauge::default()),
                signal,
                _listener: listener,
                pool,
            }),
        })
    }

    /// Adds an event to your transaction; relays see it once the transaction is committed.
    ///
    /// After an error of the database its transaction can only be rolled back: PostgreSQL refuses what follows.
    ///
    /// The limits are checked by a count that is at most one second old, or fifty times as old as it took, and is made anew
    /// before an eighth of the room that it found is filled. What other processes append within that time comes on top of
    /// the limits.
    ///
    /// # Errors
    /// [`AppendError`].
    ///
    /// # Cancel safety
    /// The event may be in the transaction: roll it back.
    pub async fn append(
        &self,
        tx: &mut impl Transaction,
        event: &Event,
        now: Wall,
    ) -> Result<Appended, AppendError> {
        let Shared {
            statements, pool, ..
        } = &*self.shared;
        let encoded = event.encode();
        let bytes = encoded.len() as u64;
        if let Some(full) = self.full(tx, bytes).await? {
            return match self.known(tx, event).await? {
                Some(id) => Ok(Appended::Duplicate(id)),
                None => Err(full),
            };
        }
        let id = event.id().to_bytes();
        let params = [
            Value::Bytes(&id),
            Value::Text(event.topic()),
            Value::MaybeText(event.key()),
            Value::MaybeText(event.dedup()),
            Value::Int(nanos(now)),
            Value::Bytes(&encoded),
            Value::Bool(pool.config.notifies),
        ];
        let text = match tx.keeps() {
            true => &statements.append,
            false => &statements.call_append,
        };
        let mut rows = tx.rows(text, &params).await?;
        let position = rows.first_mut().map(|row| row.maybe_int(0)).transpose()?;
        if let Some(position) = position.flatten() {
            self.shared.gauge.with(|gauge| gauge.added(bytes));
            return Ok(Appended::New(row::position(position)));
        }
        match self.known(tx, event).await? {
            Some(id) => Ok(Appended::Duplicate(id)),
            None => {
                let what = "it was there, and is gone: do it again";
                let row = event.dedup().unwrap_or_default();
                Err(EngineError::inconsistent(&statements.events, row, what).into())
            }
        }
    }

    /// The limit that the backlog has reached. Counts if the last count says too little.
    async fn full(
        &self,
        tx: &mut impl Transaction,
        bytes: u64,
    ) -> Result<Option<AppendError>, EngineError> {
        let Shared { limits, gauge, .. } = &*self.shared;
        let room = Room {
            rows: limits.backlog_rows,
            bytes: limits.backlog_bytes,
        };
        let began = Instant::now();
        if gauge.with(|gauge| gauge.has_room(room, bytes, began)) {
            return Ok(None);
        }
        let most = [Value::Int(number(limits.backlog_rows))];
        let backlog = &self.shared.statements.backlog;
        let (rows, counted) = counts(&mut tx.rows(backlog, &most).await?)?;
        gauge.with(|gauge| gauge.counted(rows, counted, began, Instant::now()));
        let full = |field, limit| Some(AppendError::Full { field, limit });
        if rows >= limits.backlog_rows {
            return Ok(full("backlog_rows", limits.backlog_rows));
        }
        if counted.saturating_add(bytes) > limits.backlog_bytes {
            return Ok(full("backlog_bytes", limits.backlog_bytes));
        }
        Ok(None)
    }

    /// The event that is there already with the same id or deduplication key.
    async fn known(
        &self,
        tx: &mut impl Transaction,
        event: &Event,
    ) -> Result<Option<Uuid7>, EngineError> {
        let statements = &self.shared.statements;
        let id = event.id().to_bytes();
        let params = [Value::Bytes(&id), Value::MaybeText(event.dedup())];
        let mut found = tx.rows(&statements.appended, &params).await?;
        let Some(row) = found.first_mut() else {
            return Ok(None);
        };
        let row_name = event.dedup().unwrap_or_default();
        let found: [u8; 16] = row.bytes(0)?.try_into().map_err(|_| {
            EngineError::inconsistent(&statements.events, row_name, "its id is none")
        })?;
        let id = Uuid7::from_bytes(found)
            .map_err(|error| EngineError::corrupt(&statements.events, row_name, error))?;
        Ok(Some(id))
    }

    /// Tells the relays of this process to look.
    ///
    /// Not needed where appends notify; they do unless [`Config::notify`] says otherwise.
    pub fn notify(&self) {
        self.shared.signal.notify();
    }

    /// Returns what [`Store::wait`](dpat_outbox::Store::wait) takes; to be asked for before looking.
    #[must_use]
    pub fn ticket(&self) -> Ticket {
        self.shared.signal.ticket()
    }
}

/// Events and bytes of a count.
fn counts(rows: &mut [Row]) -> Result<(u64, u64), EngineError> {
    let row = rows.first_mut().ok_or_else(|| EngineError::column(0))?;
    Ok((unsigned(row.int(0)?), unsigned(row.int(1)?)))
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox")
            .field("table", &self.shared.statements.events)
            .field("limits", &self.shared.limits)
            .finish_non_exhaustive()
    }
}
