//! The connection that everything of this crate shares.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{
    Client, ConnectErrorKind, ConnectOptions, HeaderMap, Message, PublishError, PublishErrorKind,
    Statistics, Subject, Subscriber, ToSubject,
};
use bytes::Bytes;
use dpat_core::{Backoff, Entropy as _, SystemEntropy};
use tokio::sync::broadcast;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::answers::{Answer, Answers, Place};
use crate::config::{Config, Login};
use crate::error::{Access, ConnectError, EngineError};
use crate::signals::{Refusal, Signals, refused};
use crate::sync::Mutex;
use crate::version::ServerVersion;

/// How often a call that waits for a connection looks by itself, should the client not tell.
const LOOK: Duration = Duration::from_millis(100);

/// How long a version is good for, should the client tell of the next server a moment after it has connected to it.
const TOLD: Duration = Duration::from_millis(100);

/// A connection to NATS, which everything of this crate shares. Cloning is cheap.
///
/// It connects again by itself, with pauses that grow. Calls wait for that until their deadline. It needs a tokio runtime: the
/// client runs in tasks of it. It ends with its last clone, or with [`close`](Self::close).
///
/// # Examples
/// ```no_run
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// use dpat_nats::{Config, Connection};
///
/// let connection = Connection::open(&Config::new("nats://127.0.0.1:4222")?.name("orders")?).await?;
/// println!("NATS {}", connection.server_version());
/// connection.close().await;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Connection {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    statistics: Arc<Statistics>,
    signals: Arc<Signals>,
    answers: Answers,
    request_timeout: Duration,
    servers: String,
    inbox_prefix: String,
    #[cfg(feature = "pubsub")]
    client_buffer: usize,
    closed: AtomicBool,
    version: Mutex<Known>,
}

/// The version that a server has told, on the connection of a number.
#[derive(Clone, Copy)]
struct Known {
    version: ServerVersion,
    connection: u64,
    at: Instant,
}

impl Connection {
    /// Connects, once, within [`Config::connect_timeout`].
    ///
    /// # Errors
    /// [`ConnectError`] names the setting at fault. Nothing is left behind.
    ///
    /// # Cancel safety
    /// Dropped before its end, there is no connection.
    pub async fn open(config: &Config) -> Result<Self, ConnectError> {
        let signals = Arc::new(Signals::new());
        let client = connect(config, &signals).await?;
        let version = ServerVersion::read(&client.server_info().version);
        if version < ServerVersion::OLDEST {
            return Err(ConnectError::TooOld {
                found: client.server_info().version,
            });
        }
        let known = Known {
            version,
            connection: client.statistics().connects.load(Ordering::Relaxed),
            at: Instant::now(),
        };
        // From before the subscription on, so that no refusal of it is missed.
        let mut refusals = signals.refusals();
        let answers = Answers::open(&client, &signals)
            .await
            .map_err(|_| EngineError::Closed)?;
        let connection = Self {
            inner: Arc::new(Inner {
                statistics: client.statistics(),
                client,
                signals,
                answers,
                request_timeout: config.request_timeout,
                servers: config.servers(),
                inbox_prefix: config.inbox_prefix.clone(),
                #[cfg(feature = "pubsub")]
                client_buffer: config.client_buffer,
                closed: AtomicBool::new(false),
                version: Mutex::new(known),
            }),
        };
        let answers = connection.inner.answers.filter();
        match connection.round_trip(&answers, &mut refusals).await {
            Ok(()) => Ok(connection),
            Err(EngineError::Denied { .. }) => Err(ConnectError::Inbox {
                prefix: config.inbox_prefix.clone(),
            }),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns the version of the server that it is connected to.
    #[must_use]
    pub fn server_version(&self) -> ServerVersion {
        let (connection, now) = (self.connects(), Instant::now());
        self.inner.version.with(|known| {
            let age = now.saturating_duration_since(known.at);
            if known.connection != connection || age >= TOLD {
                *known = Known {
                    // The client clones all that the server has told.
                    version: ServerVersion::read(&self.inner.client.server_info().version),
                    connection,
                    at: now,
                };
            }
            known.version
        })
    }

    /// Says whether it is connected now.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.inner.client.connection_state() == State::Connected && !self.is_closed()
    }

    /// Returns how often it has connected, the first time included.
    #[must_use]
    pub fn connects(&self) -> u64 {
        self.inner.statistics.connects.load(Ordering::Relaxed)
    }

    /// Writes what waits, then ends everything on it. What is called afterwards is refused as not done.
    ///
    /// # Cancel safety
    /// Once it was polled, the connection stays closed.
    pub async fn close(&self) {
        self.inner.closed.store(true, Ordering::Release);
        let deadline = self.deadline();
        let client = &self.inner.client;
        // A connection that is not there has nothing that could be written.
        drop(timeout_at(deadline, client.flush()).await);
        drop(timeout_at(deadline, client.drain()).await);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.inner.closed.load(Ordering::Acquire) || self.inner.signals.is_given_up()
    }

    pub(crate) fn signals(&self) -> &Arc<Signals> {
        &self.inner.signals
    }

    pub(crate) fn request_timeout(&self) -> Duration {
        self.inner.request_timeout
    }

    /// When a call that begins now ends.
    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.inner.request_timeout
    }

    pub(crate) fn payload_max(&self) -> usize {
        self.inner.client.max_payload()
    }

    /// How many messages of a subscription have room at the client.
    #[cfg(feature = "pubsub")]
    pub(crate) fn client_buffer(&self) -> usize {
        self.inner.client_buffer
    }

    pub(crate) fn new_inbox(&self) -> String {
        self.inner.client.new_inbox()
    }

    /// Says whether a subject is one that [`new_inbox`](Self::new_inbox) made, of this connection or another one.
    #[cfg(feature = "pubsub")]
    pub(crate) fn is_inbox(&self, subject: &str) -> bool {
        let rest = subject.strip_prefix(&*self.inner.inbox_prefix);
        rest.is_some_and(|rest| rest.starts_with('.') && !rest.contains(['*', '>']))
    }

    /// Makes a place for the answer to a request that is published on the connection of this number.
    pub(crate) fn place(&self, to: Subject, connection: u64) -> Place {
        self.inner.answers.place(Some(to), connection)
    }

    /// Waits for the answer to a request that was published `to` this subject.
    pub(crate) async fn answer(
        &self,
        place: Place,
        to: &str,
        deadline: Instant,
    ) -> Result<Message, EngineError> {
        // It may have gone before the place was made.
        let is_gone = !self.is_on(place.connection);
        tokio::select! {
            biased;
            answer = place.answer() => match answer {
                Answer::Message(message) => Ok(message),
                Answer::Refused => Err(EngineError::Denied {
                    access: Access::Publish,
                    subject: to.to_owned(),
                }),
                Answer::Lost => Err(EngineError::Lost),
            },
            () = std::future::ready(()), if is_gone => Err(EngineError::Lost),
            () = sleep_until(deadline) => Err(EngineError::Timeout {
                subject: to.to_owned(),
                within: self.inner.request_timeout,
            }),
        }
    }

    /// Says whether the connection of this number is there.
    fn is_on(&self, number: u64) -> bool {
        self.connects() == number && self.is_connected()
    }

    /// Waits for the connection; returns its number.
    pub(crate) async fn ready(&self, deadline: Instant) -> Result<u64, EngineError> {
        match self.is_connected() {
            true => Ok(self.connects()),
            // Apart, so that calls are small that have one.
            false => Box::pin(self.connected(deadline)).await,
        }
    }

    async fn connected(&self, deadline: Instant) -> Result<u64, EngineError> {
        let mut changes = self.inner.signals.changes();
        loop {
            if self.is_closed() {
                return Err(EngineError::Closed);
            }
            if self.is_connected() {
                return Ok(self.connects());
            }
            let now = Instant::now();
            if now >= deadline {
                return Err(EngineError::NotConnected {
                    within: self.inner.request_timeout,
                });
            }
            // It looks again in any case.
            drop(timeout_at(deadline.min(now + LOOK), changes.changed()).await);
        }
    }

    /// Waits until the connection of this number is gone.
    pub(crate) async fn lost(&self, number: u64) {
        let mut changes = self.inner.signals.changes();
        while self.is_on(number) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Hands a message to the client.
    pub(crate) async fn publish(
        &self,
        subject: impl ToSubject,
        reply: Option<impl ToSubject>,
        headers: HeaderMap,
        payload: Bytes,
        deadline: Instant,
    ) -> Result<(), EngineError> {
        let client = &self.inner.client;
        let publish = async {
            match (reply, headers.is_empty()) {
                (Some(reply), true) => client.publish_with_reply(subject, reply, payload).await,
                (Some(reply), false) => {
                    client
                        .publish_with_reply_and_headers(subject, reply, headers, payload)
                        .await
                }
                (None, true) => client.publish(subject, payload).await,
                (None, false) => client.publish_with_headers(subject, headers, payload).await,
            }
        };
        self.handed(pin!(publish), || deadline).await
    }

    /// Hands a message to the client that has neither headers nor a place for an answer.
    #[cfg(feature = "pubsub")]
    pub(crate) async fn publish_plain(
        &self,
        subject: impl ToSubject,
        payload: Bytes,
    ) -> Result<(), EngineError> {
        let publish = pin!(self.inner.client.publish(subject, payload));
        self.handed(publish, || self.deadline()).await
    }

    /// Waits until the client has room. It is asked first, and only then for the time: most often it has.
    async fn handed(
        &self,
        mut publish: Pin<&mut impl Future<Output = Result<(), PublishError>>>,
        deadline: impl FnOnce() -> Instant,
    ) -> Result<(), EngineError> {
        let first = poll_fn(|cx| Poll::Ready(publish.as_mut().poll(cx))).await;
        let published = match first {
            Poll::Ready(published) => Some(published),
            Poll::Pending => timeout_at(deadline(), publish).await.ok(),
        };
        match published {
            Some(published) => published.map_err(|error| self.refused_by_client(&error)),
            None => Err(EngineError::Congested {
                within: self.inner.request_timeout,
            }),
        }
    }

    fn refused_by_client(&self, error: &PublishError) -> EngineError {
        match error.kind() {
            PublishErrorKind::MaxPayloadExceeded => EngineError::TooLarge {
                max: self.payload_max(),
            },
            PublishErrorKind::InvalidSubject => EngineError::Malformed {
                what: "the subject".to_owned(),
            },
            PublishErrorKind::Send => EngineError::Closed,
        }
    }

    /// Subscribes; the server may refuse later.
    pub(crate) async fn subscribe(
        &self,
        filter: &str,
        group: Option<&str>,
        deadline: Instant,
    ) -> Result<Subscriber, EngineError> {
        let client = &self.inner.client;
        let subscribe = async {
            match group {
                Some(group) => {
                    client
                        .queue_subscribe(filter.to_owned(), group.to_owned())
                        .await
                }
                None => client.subscribe(filter.to_owned()).await,
            }
        };
        match timeout_at(deadline, subscribe).await {
            Ok(subscribed) => subscribed.map_err(|_| EngineError::Closed),
            Err(_) => Err(EngineError::Congested {
                within: self.inner.request_timeout,
            }),
        }
    }

    /// Sends a request and waits for its answer until the deadline.
    pub(crate) async fn request(
        &self,
        subject: &str,
        headers: HeaderMap,
        payload: Bytes,
        deadline: Instant,
    ) -> Result<Message, EngineError> {
        let number = self.ready(deadline).await?;
        let to = Subject::from(subject);
        let place = self.place(to.clone(), number);
        self.publish(to, Some(&place), headers, payload, deadline)
            .await?;
        self.answer(place, subject, deadline).await
    }

    /// Returns once the server has seen everything that was written before, a subscription to `subscribed` above all.
    ///
    /// The client tells of refusals in a task of its own, which may lag behind the answer that followed the refusal. So it asks
    /// once more, that the task has had its turn. A refusal that comes later yet is told to who reads the subscription.
    ///
    /// `refusals` are those since before the subscription.
    pub(crate) async fn round_trip(
        &self,
        subscribed: &str,
        refusals: &mut broadcast::Receiver<Refusal>,
    ) -> Result<(), EngineError> {
        self.seen(subscribed, refusals).await?;
        self.seen(subscribed, refusals).await
    }

    /// One message to the server and back.
    async fn seen(
        &self,
        subscribed: &str,
        refusals: &mut broadcast::Receiver<Refusal>,
    ) -> Result<(), EngineError> {
        let deadline = self.deadline();
        let number = self.ready(deadline).await?;
        let place = self.inner.answers.place(None, number);
        self.publish(
            &place,
            None::<Subject>,
            HeaderMap::new(),
            Bytes::new(),
            deadline,
        )
        .await?;
        let mine = |one: &Refusal| one.access == Access::Subscribe && one.subject == subscribed;
        tokio::select! {
            biased;
            refusal = refused(refusals, mine) => Err(EngineError::Denied {
                access: Access::Subscribe,
                subject: refusal.subject,
            }),
            answer = self.answer(place, subscribed, deadline) => match answer {
                // It was seen, which is what was asked.
                Ok(_) | Err(EngineError::Denied { .. }) => Ok(()),
                Err(EngineError::Lost) if self.is_closed() => Err(EngineError::Closed),
                Err(error) => Err(error),
            },
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("servers", &self.inner.servers)
            .field("is_connected", &self.is_connected())
            .finish_non_exhaustive()
    }
}

async fn connect(config: &Config, signals: &Arc<Signals>) -> Result<Client, ConnectError> {
    let timeout = || ConnectError::Timeout {
        servers: config.servers(),
        within: config.connect_timeout,
    };
    let connecting = options(config, signals).connect(&config.addresses[..]);
    let error = match tokio::time::timeout(config.connect_timeout, connecting).await {
        Ok(Ok(client)) => return Ok(client),
        Ok(Err(error)) => error,
        Err(_) => return Err(timeout()),
    };
    let servers = config.servers();
    Err(match error.kind() {
        ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
            ConnectError::Login { servers }
        }
        ConnectErrorKind::Tls => ConnectError::Tls {
            servers,
            source: Box::new(error),
        },
        ConnectErrorKind::TimedOut => timeout(),
        _ => ConnectError::Unreachable {
            servers,
            source: Box::new(error),
        },
    })
}

fn options(config: &Config, signals: &Arc<Signals>) -> ConnectOptions {
    let events = Arc::clone(signals);
    let (shortest, longest) = config.reconnect_delays;
    let backoff = Backoff::exponential(shortest, 2.0, longest).unwrap_or_default();
    let mut options = logged_in(&config.login)
        .name(&config.name)
        .connection_timeout(config.connect_timeout)
        .ping_interval(config.ping_interval)
        .client_capacity(config.pending_max)
        .subscription_capacity(config.client_buffer)
        .custom_inbox_prefix(&config.inbox_prefix)
        .max_reconnects(config.reconnects_max)
        .require_tls(config.tls.required)
        .reconnect_delay_callback(move |attempt| delay(backoff, attempt))
        .event_callback(move |event| {
            let events = Arc::clone(&events);
            async move { events.on(event) }
        });
    if let Some(roots) = &config.tls.roots {
        options = options.add_root_certificates(roots.clone());
    }
    if let Some((certificate, key)) = &config.tls.client {
        options = options.add_client_certificate(certificate.clone(), key.clone());
    }
    options
}

fn logged_in(login: &Login) -> ConnectOptions {
    let options = ConnectOptions::new();
    match login {
        Login::None => options,
        Login::Password { user, password } => {
            options.user_and_password(user.clone(), password.clone())
        }
        Login::Token(token) => options.token(token.clone()),
        Login::Nkey(seed) => options.nkey(seed.clone()),
        // `Config::credentials` has read it once.
        Login::Credentials(text) => options.credentials(text).unwrap_or_default(),
    }
}

/// The pause before an attempt; the first is made at once.
fn delay(backoff: Backoff, attempt: usize) -> Duration {
    match u32::try_from(attempt).unwrap_or(u32::MAX) {
        0 | 1 => Duration::ZERO,
        attempt => {
            let half = backoff.nominal(attempt - 2) / 2;
            half + half.mul_f64(SystemEntropy.unit_f64())
        }
    }
}
