//! A queue in a PostgreSQL database.

mod backend;
mod clock;
mod manage;
mod message;
mod receive;
mod rows;
mod send;
mod settle;
pub(crate) mod statements;
mod together;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dpat_core::{AnyTime, Sleep, Wall};
use dpat_outbox::Signal;
use dpat_queue::{ConfigError, Message, Queue, SendError, Sent, Settlement, Stats, Survives};
use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::config::Config;
use crate::connection::Pool;
use crate::error::{EngineError, OpenError};
use crate::gauge::Gauge;
use crate::join::Joiner;
use crate::listener::Listener;
use crate::schema;
use crate::sql::Part;
use crate::sync::Mutex;
use crate::tx::{Run, Transaction};
use clock::ServerClock;
use statements::Statements;
use together::{Receives, Sents, Settled};

/// Whose clock decides when leases end, delays pass and messages expire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QueueClock {
    /// The server's: all processes agree, whatever their own clocks show.
    ///
    /// A handle reads it at opening, with each look of a receive, and with each count of its sends. Between two of these its
    /// monotonic clock runs on, so that two handles differ by less than the fastest round trip.
    #[default]
    Server,
    /// That of the process that calls: for tests with a clock of their own. Processes whose clocks differ end each other's
    /// leases too early or too late.
    Caller,
}

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
    /// How often a receive that waits looks by the clock, beside what it is notified of: 1 ms to 1 min.
    pub poll: Duration,
    /// Whose clock decides.
    pub clock: QueueClock,
}

impl QueueSettings {
    /// Leases of 30 s, a window of 5 min with 100 000 keys, 100 000 messages in 256 MiB, payloads of 1 MiB, 10 000 dead
    /// letters in 64 MiB, a look every 100 ms, by the server's clock.
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
        clock: QueueClock::Server,
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

/// A queue in a PostgreSQL database: sends in your transactions, and the backend of a [`dpat_queue::Queue`]. Clones share it.
///
/// Any number of processes may use one queue; leases are by the server's clock. What an acknowledged message survives is
/// what the server said of its settings at opening: with `synchronous_commit = off` nothing, with `fsync = off` or
/// `full_page_writes = off` a killed process.
///
/// # Examples
/// ```no_run
/// use dpat_core::TokioTime;
/// use dpat_queue::{Message, Outcome};
/// use dpat_postgres::{Config, QueueSettings, QueueStore, commit};
///
/// # async fn example(client: &mut tokio_postgres::Client) -> Result<(), Box<dyn std::error::Error>> {
/// let config = Config::new("postgres://shop:secret@127.0.0.1:5432/shop", "charges")?;
/// let store = QueueStore::open(&config, QueueSettings::DEFAULT, TokioTime).await?;
///
/// let mut tx = client.transaction().await?;
/// tx.execute("UPDATE own SET state = 'completed' WHERE id = 7", &[]).await?; // the change
/// store.send(&mut tx, &Message::new("charge order 7")).await?; // and what is to be done for it
/// commit(tx).await?; // both, or neither
///
/// let queue = store.queue();
/// let delivery = queue.receive().await?;
/// queue.settle(delivery.receipt, Outcome::Done).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct QueueStore {
    shared: Arc<Shared>,
}

struct Shared {
    pool: Arc<Pool>,
    statements: Statements,
    settings: QueueSettings,
    time: AnyTime,
    /// Names this handle in the leases that it takes.
    holder: i64,
    /// By the settings of the server when it was opened.
    survives: Survives,
    closed: AtomicBool,
    signal: Arc<Signal>,
    /// What is known of the server's clock.
    clock: Mutex<ServerClock>,
    sends: Arc<Joiner<Vec<Message>, Sents>>,
    receives: Arc<Joiner<usize, Receives>>,
    settlements: Arc<Joiner<Vec<Settlement>, Settled>>,
    gauge: Mutex<Gauge>,
    dedups: Mutex<Gauge>,
    /// What has gone through this handle.
    stats: Mutex<Stats>,
    _listener: Option<Listener>,
}

impl QueueStore {
    /// Opens the queue of this schema and prefix. Within a tokio runtime, on which its connections live.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open(
        config: &Config,
        settings: QueueSettings,
        time: impl Sleep + 'static,
    ) -> Result<Self, OpenError> {
        settings.check()?;
        let pool = Pool::new(config);
        schema::open(&pool, Part::Queue).await?;
        let statements = Statements::of(config);
        let mut session = pool.session().await?;
        let mut drawn = session.rows(&statements.draw, &[]).await?;
        let asked = Instant::now();
        let mut clock = ServerClock::new(asked);
        let (shows, survives) = survives(&mut session, &statements.durable).await?;
        clock.read(shows, asked, Instant::now());
        session.done();
        let row = drawn.first_mut().ok_or_else(|| EngineError::column(0))?;
        let holder = row.int(0)?;
        let signal = Arc::new(Signal::new());
        let wakes = Arc::clone(&signal);
        let listener = config.notifies.then(|| {
            let text = config.sql("{schema}.{prefix}");
            Listener::start(&pool, "dpat_queue", text, move || wakes.notify())
        });
        Ok(Self {
            shared: Arc::new(Shared {
                statements,
                settings,
                time: AnyTime::new(time),
                holder,
                survives,
                closed: AtomicBool::new(false),
                signal,
                clock: Mutex::new(clock),
                sends: Joiner::new(together::SENDS, Handle::current()),
                receives: Joiner::new(together::RECEIVES, Handle::current()),
                settlements: Joiner::new(together::SETTLEMENTS, Handle::current()),
                gauge: Mutex::new(Gauge::default()),
                dedups: Mutex::new(Gauge::default()),
                stats: Mutex::new(Stats::default()),
                _listener: listener,
                pool,
            }),
        })
    }

    /// Returns the queue.
    #[must_use]
    pub fn queue(&self) -> Queue {
        Queue::on(Arc::new(self.clone()))
    }

    /// Sends a message in your transaction; it can be received once that is committed.
    ///
    /// The limits are checked as those of an outbox: by a count that may be a second old. Sends of different transactions
    /// wait for each other only where they have the same deduplication key.
    ///
    /// # Errors
    /// [`SendError`]. Unless the backend failed, the transaction may go on without the message.
    ///
    /// # Cancel safety
    /// The message may be in the transaction: roll it back.
    pub async fn send(
        &self,
        tx: &mut impl Transaction,
        message: &Message,
    ) -> Result<Sent, SendError> {
        self.send_on(tx, message).await
    }

    /// Tells the receivers of this process to look.
    ///
    /// Not needed where sends notify; they do unless [`Config::notify`] says otherwise.
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
    pub async fn release_all(&self) -> Result<u64, EngineError> {
        self.release_now().await
    }
}

/// What the server's clock shows, and what survives.
async fn survives(on: &mut impl Run, text: &str) -> Result<(Wall, Survives), EngineError> {
    let mut rows = on.rows(text, &[]).await?;
    let row = rows.first_mut().ok_or_else(|| EngineError::column(0))?;
    let survives = match (row.int(1)? != 0, row.int(2)? != 0) {
        (false, _) => Survives::Nothing,
        (true, false) => Survives::ProcessKill,
        (true, true) => Survives::PowerLoss,
    };
    Ok((rows::wall(row.int(0)?), survives))
}

impl Shared {
    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
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
