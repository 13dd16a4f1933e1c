//! A queue on a stream.

mod backend;
mod body;
mod calls;
mod scripts;
mod wakes;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dpat_core::{AnyTime, Entropy, Sleep, SystemEntropy};
use dpat_queue::{ConfigError, Message, Queue, SendError, Sent, SettleError, Settlement, Stats};

use crate::config::Config;
use crate::connection::Link;
use crate::error::{EngineError, OpenError};
use crate::join::Joiner;
use crate::server::ServerInfo;
use crate::sync::Mutex;
use backend::TOGETHER;
use calls::Received;
use scripts::Scripts;
use wakes::Wakes;

/// Whose clock decides when leases end, delays pass and messages expire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QueueClock {
    /// The server's: all processes agree, and their own clocks have no say.
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
    /// How often a receive that waits looks when nothing wakes it: 1 ms to 1 min.
    pub poll: Duration,
    /// Whose clock decides.
    pub clock: QueueClock,
}

impl QueueSettings {
    /// Leases of 30 s, a window of 5 min with 100 000 keys, 100 000 messages in 256 MiB, payloads of 1 MiB, 10 000 dead
    /// letters in 64 MiB, a look every second, by the server's clock.
    pub const DEFAULT: Self = Self {
        visibility: Duration::from_secs(30),
        dedup_window: Duration::from_secs(5 * 60),
        dedup_max: 100_000,
        messages_max: 100_000,
        bytes_max: 256 << 20,
        message_bytes_max: 1 << 20,
        dead_max: 10_000,
        dead_bytes_max: 64 << 20,
        poll: Duration::from_secs(1),
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

/// A queue on a server: the backend of a [`dpat_queue::Queue`]. Clones share it, and its connection.
///
/// Any number of processes may use one queue. All of them should have the same settings: each enforces its own.
///
/// # Examples
/// ```no_run
/// use dpat_queue::{Message, Outcome};
/// use dpat_redis::{Config, QueueSettings, QueueStore};
/// # use dpat_core::ManualTime as TokioTime;
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let config = Config::new("redis://127.0.0.1/", "charges")?;
/// // `dpat_core::TokioTime`, of its feature `tokio`
/// let store = QueueStore::open(&config, QueueSettings::DEFAULT, TokioTime::default()).await?;
/// let queue = store.queue();
/// queue.send(Message::new("charge order 7")).await?;
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
    link: Link,
    wakes: Wakes,
    scripts: Scripts,
    keys: Vec<String>,
    channel: String,
    settings: QueueSettings,
    time: AnyTime,
    info: ServerInfo,
    /// Names this handle in the leases that it takes.
    consumer: u64,
    closed: AtomicBool,
    /// What has gone through this handle.
    stats: Mutex<Stats>,
    sends: Joiner<Message, Result<Sent, SendError>>,
    receives: Joiner<usize, Received>,
    settlements: Joiner<Settlement, Result<(), SettleError>>,
}

impl QueueStore {
    /// Connects, looks at the server, and opens the queue of this name; makes it if it is not there.
    ///
    /// `time` is what waiting is measured by; what is due is decided by [`QueueSettings::clock`].
    ///
    /// # Errors
    /// [`OpenError`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves an empty queue or none.
    pub async fn open(
        config: &Config,
        settings: QueueSettings,
        time: impl Sleep + 'static,
    ) -> Result<Self, OpenError> {
        settings.check()?;
        let link = Link::new(config)?;
        let info = ServerInfo::ask(&link, config).await?;
        info.check(config)?;
        let channel = config.key("queue:wake");
        let wakes = Wakes::new(config, &channel)?;
        let store = Self {
            shared: Arc::new(Shared {
                link,
                wakes,
                scripts: Scripts::new(),
                keys: scripts::KEYS.iter().map(|key| config.key(key)).collect(),
                channel,
                settings,
                time: AnyTime::new(time),
                info,
                consumer: SystemEntropy.next_u64(),
                closed: AtomicBool::new(false),
                stats: Mutex::new(Stats::default()),
                sends: Joiner::new(TOGETHER),
                receives: Joiner::new(TOGETHER),
                settlements: Joiner::new(TOGETHER),
            }),
        };
        store.shared.open(config).await?;
        Ok(store)
    }

    /// Returns the queue.
    #[must_use]
    pub fn queue(&self) -> Queue {
        Queue::on(Arc::new(self.clone()))
    }

    /// Returns what the server said of itself when the queue was opened.
    #[must_use]
    pub fn server(&self) -> &ServerInfo {
        &self.shared.info
    }

    /// Ends all leases, whoever has them, and returns how many: their messages come again at once, and their receipts are
    /// stale.
    ///
    /// For the start of a process that is the only one to receive, so that it need not wait for the leases of its
    /// predecessor. A thousand in one script.
    ///
    /// # Errors
    /// [`EngineError`]; some may have ended.
    pub async fn release_all(&self) -> Result<u64, EngineError> {
        let mut released = 0;
        loop {
            let (some, has_more) = self.shared.release().await?;
            released += some;
            if !has_more {
                return Ok(released);
            }
        }
    }
}

impl Shared {
    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }
}

impl fmt::Debug for QueueStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueStore")
            .field("link", &self.shared.link)
            .field("keys", &self.shared.keys.first())
            .field("settings", &self.shared.settings)
            .finish_non_exhaustive()
    }
}
