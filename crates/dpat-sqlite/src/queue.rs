//! A queue in a SQLite database.

mod backend;
#[cfg(feature = "sqlx")]
mod in_sqlx;
mod message;
#[cfg(test)]
mod plans;
mod rows;
mod statements;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dpat_core::{AnyTime, Sleep};
use dpat_outbox::Signal;
use dpat_queue::{ConfigError, Queue, Sent, Stats};
use rusqlite::Transaction;

use crate::config::Config;
use crate::connection::Own;
use crate::error::{EngineError, OpenError, commit};
use crate::schema;
use crate::sql::Part;
use crate::sync::Mutex;
pub use rows::QueueTx;
use statements::Statements;

/// The limits and times of a [`QueueStore`], with bounds that opening checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueSettings {
    /// How long a received message is leased: 1 ms to 1 day.
    pub visibility: Duration,
    /// How long a deduplication key is remembered: 1 ms to 30 days.
    pub dedup_window: Duration,
    /// How many deduplication keys are remembered: up to 10 000 000. Sends with one more are refused.
    pub dedup_max: u64,
    /// How many messages may be there, dead letters left out: 1 to 100 000 000.
    pub messages_max: u64,
    /// How many bytes they may take: 1 byte to 1 TiB.
    pub bytes_max: u64,
    /// The largest payload: 1 byte to 16 MiB.
    pub message_bytes_max: usize,
    /// How many dead letters are kept: up to 10 000 000. One more is not rejected: it stays out.
    pub dead_max: u64,
    /// How many bytes the dead letters may take: up to 1 TiB.
    pub dead_bytes_max: u64,
    /// How often a receive that waits looks for what other processes sent: 1 ms to 1 min.
    pub poll: Duration,
}

impl QueueSettings {
    /// Leases of 30 s, a window of 5 min with 100 000 keys, 100 000 messages in 256 MiB, payloads of 1 MiB, 10 000 dead
    /// letters in 64 MiB, a look every 100 ms.
    pub const DEFAULT: Self = Self {
        visibility: Duration::from_secs(30),
        dedup_window: Duration::from_secs(5 * 60),
        dedup_max: 100_000,
        messages_max: 100_000,
        bytes_max: 256 << 20,
        message_bytes_max: 1 << 20,
        dead_max: 10_000,
        dead_bytes_max: 64 << 20,
        poll: Duration::from_millis(100),
    };

    fn check(&self) -> Result<(), ConfigError> {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let day = 24 * 60 * 60 * 1_000;
        for (field, given, min, max) in [
            ("visibility", millis(self.visibility), 1, day),
            ("dedup_window", millis(self.dedup_window), 1, 30 * day),
            ("dedup_max", self.dedup_max, 0, 10_000_000),
            ("messages_max", self.messages_max, 1, 100_000_000),
            ("bytes_max", self.bytes_max, 1, 1 << 40),
            (
                "message_bytes_max",
                self.message_bytes_max as u64,
                1,
                16 << 20,
            ),
            ("dead_max", self.dead_max, 0, 10_000_000),
            ("dead_bytes_max", self.dead_bytes_max, 0, 1 << 40),
            ("poll", millis(self.poll), 1, 60_000),
        ] {
            if !(min..=max).contains(&given) {
                return Err(ConfigError::OutOfRange {
                    field,
                    given,
                    min,
                    max,
                });
            }
        }
        Ok(())
    }
}

impl Default for QueueSettings {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// A queue in a SQLite database: sends in your transactions, and the backend of a [`dpat_queue::Queue`]. Clones share it.
///
/// Several processes of one machine may use one queue; leases are by their wall clocks.
///
/// # Examples
/// ```
/// use dpat_core::ManualTime;
/// use dpat_queue::{Message, Outcome};
/// use dpat_sqlite::{Config, QueueSettings, QueueStore};
/// # fn run<T>(future: impl Future<Output = T>) -> T {
/// #     let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
/// #     match std::pin::pin!(future).poll(&mut cx) {
/// #         std::task::Poll::Ready(output) => output,
/// #         std::task::Poll::Pending => panic!("nothing to wait for"),
/// #     }
/// # }
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("shop.db");
/// let config = Config::new(path, "charges")?;
/// let store = QueueStore::open(&config, QueueSettings::DEFAULT, ManualTime::new())?;
/// let mut connection = config.connect()?;
/// connection.execute("CREATE TABLE own (id TEXT)", [])?;
///
/// let tx = connection.transaction()?;
/// tx.execute("INSERT INTO own VALUES ('order-7')", [])?; // the change
/// store.within(&tx).send(&Message::new("charge order 7"))?; // and what is to be done for it
/// store.commit(tx)?; // both, or neither
///
/// let queue = store.queue();
/// let delivery = run(queue.receive())?;
/// assert_eq!(delivery.payload(), "charge order 7");
/// run(queue.settle(delivery.receipt, Outcome::Done))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct QueueStore {
    shared: Arc<Shared>,
}

struct Shared {
    own: Own,
    statements: Statements,
    settings: QueueSettings,
    time: AnyTime,
    /// Names this handle in the leases that it takes.
    holder: i64,
    closed: AtomicBool,
    signal: Signal,
    /// What has gone through this handle.
    stats: Mutex<Stats>,
}

impl QueueStore {
    /// Opens the queue of this file and prefix.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(
        config: &Config,
        settings: QueueSettings,
        time: impl Sleep + 'static,
    ) -> Result<Self, OpenError> {
        settings.check()?;
        let connection = config.connect()?;
        schema::open(&connection, config, Part::Queue)?;
        let statements = Statements::of(config);
        let own = Own::new(connection, config.threads);
        let holder = own.write(
            |tx| {
                tx.query_row(&statements.draw_holder, [], |row| row.get(0))
                    .map_err(EngineError::of)
            },
            |_| true,
        )?;
        Ok(Self {
            shared: Arc::new(Shared {
                own,
                statements,
                settings,
                time: AnyTime::new(time),
                holder,
                closed: AtomicBool::new(false),
                signal: Signal::new(),
                stats: Mutex::new(Stats::default()),
            }),
        })
    }

    /// Returns the queue.
    #[must_use]
    pub fn queue(&self) -> Queue {
        Queue::on(Arc::new(self.clone()))
    }

    /// Returns the queue within a transaction on the same file.
    #[must_use]
    pub fn within<'t>(&'t self, tx: &'t Transaction<'_>) -> QueueTx<'t> {
        QueueTx::new(tx, &self.shared)
    }

    /// Commits a transaction and tells the receivers of this process.
    ///
    /// # Errors
    /// As [`commit`](crate::commit).
    pub fn commit(&self, tx: Transaction<'_>) -> Result<(), EngineError> {
        commit(tx)?;
        self.notify();
        Ok(())
    }

    /// Tells the receivers of this process to look, after a transaction was committed otherwise.
    ///
    /// Without it, and in other processes, they look by the clock ([`QueueSettings::poll`]).
    pub fn notify(&self) {
        self.shared.signal.notify();
    }

    /// Ends all leases, whoever has them, and returns how many: their messages come again at once, and their receipts are
    /// stale.
    ///
    /// For the start of a process that is the only one to receive, so that it need not wait for the leases of its
    /// predecessor.
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn release_all(&self) -> Result<u64, EngineError> {
        let released = self
            .shared
            .own
            .write(|tx| self.within(tx).release_all(), |released| *released > 0)?;
        self.notify();
        Ok(released)
    }
}

impl Shared {
    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Counts what was sent, or known.
    fn sent(&self, sent: Sent) {
        self.stats.with(|stats| match sent.is_duplicate() {
            true => stats.duplicates += 1,
            false => stats.sent += 1,
        });
    }
}

impl fmt::Debug for QueueStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueStore")
            .field("table", &self.shared.statements.messages)
            .field("settings", &self.shared.settings)
            .finish_non_exhaustive()
    }
}
