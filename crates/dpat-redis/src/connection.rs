//! One connection for all callers, made again when it breaks.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dpat_core::{Backoff, Delays, Jitter, SystemEntropy};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, PushInfo, PushKind, Value};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::config::Config;
use crate::error::EngineError;
use crate::sync::Mutex;

/// Between tries to connect: 50 ms, doubling, up to 2 s, half of it random.
const FIRST_DELAY: Duration = Duration::from_millis(50);
const LAST_DELAY: Duration = Duration::from_secs(2);

/// Gets what the server pushes; last of a connection, that it is broken.
pub(crate) type OnPush = Arc<dyn Fn(PushInfo) + Send + Sync>;

/// A connection that callers share: each sends when it likes, and the answers find them. Nothing blocks it.
pub(crate) struct Link {
    client: Client,
    address: String,
    timeout: Duration,
    /// What is subscribed to on every new connection, and who hears of it.
    listens: Option<(Vec<String>, OnPush)>,
    /// The connection, until it is found broken.
    live: Mutex<Option<Live>>,
    /// Held by the one who connects; the others wait for it.
    tries: tokio::sync::Mutex<Tries>,
}

struct Tries {
    delays: Delays,
    /// Not before this is another try made.
    retry_at: Option<Instant>,
}

impl Default for Tries {
    fn default() -> Self {
        Self {
            delays: delays(),
            retry_at: None,
        }
    }
}

/// A connection, and whether it broke.
#[derive(Clone)]
pub(crate) struct Live {
    pub(crate) connection: MultiplexedConnection,
    broken: Arc<AtomicBool>,
}

impl Live {
    pub(crate) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    /// Whether they are the same connection.
    #[cfg(feature = "pubsub")]
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.broken, &other.broken)
    }

    fn give_up(&self) {
        self.broken.store(true, Ordering::Release);
    }
}

fn delays() -> Delays {
    let backoff = Backoff::exponential(FIRST_DELAY, 2.0, LAST_DELAY).unwrap_or(Backoff::DEFAULT);
    backoff.with_jitter(Jitter::Equal).delays()
}

impl Link {
    pub(crate) fn new(config: &Config) -> Result<Self, EngineError> {
        Self::listening(config, None)
    }

    /// A connection of its own for what is pushed.
    pub(crate) fn listening(
        config: &Config,
        listens: Option<(Vec<String>, OnPush)>,
    ) -> Result<Self, EngineError> {
        let address = config.address();
        let client = Client::open(config.info.clone())
            .map_err(|error| EngineError::connecting(&address, error))?;
        Ok(Self {
            client,
            address,
            timeout: config.timeout,
            listens,
            live: Mutex::new(None),
            tries: tokio::sync::Mutex::default(),
        })
    }

    /// Another connection to the same server, for what is pushed there.
    #[cfg(feature = "pubsub")]
    pub(crate) fn beside(&self, on_push: OnPush) -> Self {
        Self {
            client: self.client.clone(),
            address: self.address.clone(),
            timeout: self.timeout,
            listens: Some((Vec::new(), on_push)),
            live: Mutex::new(None),
            tries: tokio::sync::Mutex::default(),
        }
    }

    /// When a call that begins now must have ended.
    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.timeout
    }

    /// Sends a command and reads its answer, by the deadline.
    pub(crate) async fn call(&self, command: &Cmd, by: Instant) -> Result<Value, EngineError> {
        let live = self.live(by).await?;
        let mut connection = live.connection.clone();
        self.answered(&live, by, command.query_async(&mut connection))
            .await
    }

    /// Subscribes to channels and patterns, and waits until the server has said so.
    #[cfg(feature = "pubsub")]
    pub(crate) async fn subscribe(
        &self,
        live: &Live,
        (channels, patterns): &(Vec<&str>, Vec<&str>),
        by: Instant,
    ) -> Result<(), EngineError> {
        let mut connection = live.connection.clone();
        if !channels.is_empty() {
            self.answered(live, by, connection.subscribe(channels))
                .await?;
        }
        if !patterns.is_empty() {
            self.answered(live, by, connection.psubscribe(patterns))
                .await?;
        }
        Ok(())
    }

    /// Takes that back.
    #[cfg(feature = "pubsub")]
    pub(crate) async fn unsubscribe(
        &self,
        live: &Live,
        (channels, patterns): &(Vec<&str>, Vec<&str>),
        by: Instant,
    ) -> Result<(), EngineError> {
        let mut connection = live.connection.clone();
        if !channels.is_empty() {
            self.answered(live, by, connection.unsubscribe(channels))
                .await?;
        }
        if !patterns.is_empty() {
            self.answered(live, by, connection.punsubscribe(patterns))
                .await?;
        }
        Ok(())
    }

    /// Waits for an answer, and gives the connection up where there will be none.
    async fn answered<T>(
        &self,
        live: &Live,
        by: Instant,
        answer: impl Future<Output = redis::RedisResult<T>>,
    ) -> Result<T, EngineError> {
        match timeout_at(by, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => {
                if error.is_unrecoverable_error() || error.is_io_error() {
                    live.give_up();
                }
                Err(EngineError::answer(&self.address, error))
            }
            Err(_) => {
                // Whatever holds it up holds up the next one, too.
                live.give_up();
                Err(EngineError::timeout(&self.address))
            }
        }
    }

    /// Returns the connection; makes one if there is none.
    pub(crate) async fn live(&self, by: Instant) -> Result<Live, EngineError> {
        match timeout_at(by, self.connected(true)).await {
            Ok(Ok(Some(live))) => Ok(live),
            Ok(Err(error)) => Err(error),
            Ok(Ok(None)) | Err(_) => Err(self.not_connected()),
        }
    }

    pub(crate) fn not_connected(&self) -> EngineError {
        EngineError::not_connected(&self.address)
    }

    /// The deadline has passed, of a call that was begun or not.
    #[cfg(any(feature = "queue", feature = "idempotency"))]
    pub(crate) fn late(&self, begun: bool) -> EngineError {
        match begun {
            true => EngineError::timeout(&self.address),
            false => EngineError::waited(&self.address),
        }
    }

    /// Whether there is a connection, as far as is known without asking.
    pub(crate) fn is_live(&self) -> bool {
        self.known().is_some()
    }

    fn known(&self) -> Option<Live> {
        self.live.with(|live| {
            if live.as_ref().is_some_and(Live::is_broken) {
                *live = None;
            }
            live.clone()
        })
    }

    /// As [`live`](Self::live), but does not wait for the time of the next try.
    pub(crate) async fn live_soon(&self, by: Instant) -> Option<Live> {
        let connected = timeout_at(by, self.connected(false)).await;
        connected.ok()?.ok()?
    }

    async fn connected(&self, waits: bool) -> Result<Option<Live>, EngineError> {
        if let Some(live) = self.known() {
            return Ok(Some(live));
        }
        let mut tries = self.tries.lock().await;
        // Whoever was before may have made one.
        if let Some(live) = self.known() {
            return Ok(Some(live));
        }
        if let Some(at) = tries.retry_at.filter(|at| *at > Instant::now()) {
            if !waits {
                return Ok(None);
            }
            sleep_until(at).await;
        }
        // If this future is dropped in the middle, the next try waits all the same.
        tries.retry_at = Some(Instant::now() + tries.delays.next_delay(&SystemEntropy));
        let live = self.connect().await?;
        *tries = Tries::default();
        self.live.with(|known| *known = Some(live.clone()));
        Ok(Some(live))
    }

    async fn connect(&self) -> Result<Live, EngineError> {
        let broken = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&broken);
        let on_push = self
            .listens
            .as_ref()
            .map(|(_, on_push)| Arc::clone(on_push));
        let pushed = move |info: PushInfo| -> Result<(), redis::aio::SendError> {
            if info.kind == PushKind::Disconnection {
                seen.store(true, Ordering::Release);
            }
            if let Some(on_push) = &on_push {
                on_push(info);
            }
            Ok(())
        };
        // Deadlines are those of the calls; by itself the client would give up after 500 ms.
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.timeout))
            .set_response_timeout(None)
            .set_push_sender(pushed);
        let failed = |error| EngineError::connecting(&self.address, error);
        let connected = self
            .client
            .get_multiplexed_async_connection_with_config(&config);
        let mut connection = connected.await.map_err(failed)?;
        if let Some((channels, _)) = self
            .listens
            .as_ref()
            .filter(|(channels, _)| !channels.is_empty())
        {
            connection.subscribe(channels).await.map_err(failed)?;
        }
        Ok(Live { connection, broken })
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}
