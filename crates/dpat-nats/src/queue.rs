//! `dpat-queue` on a JetStream stream and its consumer.

mod backend;
mod fresh;
mod letters;
mod out;
mod settings;
mod streams;
mod wire;

use std::fmt;
use std::sync::Arc;

use async_nats::Subject;
use dpat_queue::{Capabilities, Capability, OrderScope, Queue, Survives};
use tokio::sync::watch;

use crate::connection::Connection;
use crate::error::EngineError;
use crate::jetstream::JetStream;
use crate::open::OpenError;
use crate::sync::Mutex;
use crate::version::ServerVersion;
use fresh::Fresh;
use out::Out;
pub use settings::QueueSettings;
use streams::{CONSUMER, Opened, Rooms};
use wire::{AckForm, HEADER_ROOM};

/// From which version on delivery can be stopped.
const PAUSE: ServerVersion = ServerVersion::new(2, 11, 0);

/// The largest payload, if a server takes more.
const PAYLOAD_MAX: usize = 1 << 20;

/// A queue in a JetStream stream: work-queue retention, one durable consumer that all receivers share, and a second stream
/// for dead letters. Cloning shares it.
///
/// # Examples
/// ```no_run
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// use dpat_nats::dpat_queue::{Message, Outcome};
/// use dpat_nats::{Config, Connection, QueueSettings, StreamQueue};
///
/// let connection = Connection::open(&Config::new("nats://127.0.0.1:4222")?).await?;
/// let queue = StreamQueue::open(&connection, QueueSettings::new("orders")?).await?.queue();
/// queue.send(Message::new("order 7").dedup("order-7")).await?;
/// let delivery = queue.receive().await?;
/// queue.settle(delivery.receipt, Outcome::Done).await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct StreamQueue {
    inner: Arc<Inner>,
}

struct Inner {
    js: JetStream,
    settings: QueueSettings,
    rooms: Rooms,
    fresh: Fresh,
    message_bytes_max: usize,
    /// What is published to, and what is asked for messages.
    ready: Subject,
    next: String,
    /// How the server wants to be acknowledged, as the last delivery said.
    ack_form: Mutex<AckForm>,
    out: Out,
    drained: watch::Sender<bool>,
}

/// What is in a queue, as the server counts it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueStatus {
    /// Messages that are there, those that are out included.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Messages that were never handed out.
    pub fresh: u64,
    /// Messages that are out, or wait for their retry.
    pub out: u64,
    /// Messages that were handed out more than once, and are not settled.
    pub redelivered: u64,
    /// Receivers that wait.
    pub waiting: u64,
    /// Dead letters.
    pub dead: u64,
}

impl StreamQueue {
    /// Makes what is missing, or checks that it is there, as [`QueueSettings::make`] says.
    ///
    /// # Errors
    /// [`OpenError`] names the setting, stream or permission at fault. What is there with another setting is not changed.
    ///
    /// # Cancel safety
    /// Dropped before its end, some of what was missing may have been made.
    pub async fn open(connection: &Connection, settings: QueueSettings) -> Result<Self, OpenError> {
        settings.check()?;
        let message_bytes_max = fitting(connection, settings.message_bytes_max)?;
        let js = JetStream::new(connection);
        let Opened { rooms, last_seq } = streams::open(&js, &settings).await?;
        let name = &settings.name;
        Ok(Self {
            inner: Arc::new(Inner {
                message_bytes_max,
                ready: settings.ready_subject().into(),
                next: format!("$JS.API.CONSUMER.MSG.NEXT.{name}.{CONSUMER}"),
                ack_form: Mutex::new(AckForm::of(name, CONSUMER)),
                out: Out::default(),
                drained: watch::Sender::new(false),
                js,
                rooms,
                fresh: Fresh::new(last_seq),
                settings,
            }),
        })
    }

    /// Returns the queue.
    #[must_use]
    pub fn queue(&self) -> Queue {
        Queue::on(Arc::new(self.clone()))
    }

    /// Asks the server what is in the queue.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn status(&self) -> Result<QueueStatus, EngineError> {
        let Inner { js, settings, .. } = &*self.inner;
        let stream = js.stream(&settings.name).await?;
        let dead = js.stream(&settings.dead_name()).await?;
        let consumer = js.consumer(&settings.name, CONSUMER).await?;
        Ok(QueueStatus {
            messages: stream.state.messages,
            bytes: stream.state.bytes,
            fresh: consumer.num_pending,
            out: consumer.num_ack_pending,
            redelivered: consumer.num_redelivered,
            waiting: consumer.num_waiting,
            dead: dead.state.messages,
        })
    }

    /// Removes streams, consumer and all that is in them.
    ///
    /// # Errors
    /// [`EngineError`]; it can be repeated.
    pub async fn delete(&self) -> Result<(), EngineError> {
        let Inner { js, settings, .. } = &*self.inner;
        for stream in [settings.name.clone(), settings.dead_name()] {
            match js.delete_stream(&stream).await {
                Ok(()) | Err(EngineError::NoStream { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl fmt::Debug for StreamQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamQueue")
            .field("settings", &self.inner.settings)
            .finish_non_exhaustive()
    }
}

impl Inner {
    /// An acknowledged message is in the page cache of the servers: that survives their processes.
    fn capabilities(&self) -> Capabilities {
        let all = Capabilities::of(&[
            Capability::Extend,
            Capability::Dedup,
            Capability::DeadLetters,
            Capability::Pause,
        ]);
        let offered = match self.js.connection().server_version() >= PAUSE {
            true => all,
            false => all.without(Capability::Pause),
        };
        offered
            .with_order(OrderScope::Queue)
            .with_survival(Survives::ProcessKill)
            .with_message_bytes_max(self.message_bytes_max)
    }
}

/// The largest payload that fits the server's limit with any headers.
fn fitting(connection: &Connection, wanted: Option<usize>) -> Result<usize, OpenError> {
    let max_payload = connection.payload_max();
    let most = max_payload.saturating_sub(HEADER_ROOM);
    match wanted {
        None if most > 0 => Ok(most.min(PAYLOAD_MAX)),
        Some(wanted) if wanted <= most => Ok(wanted),
        wanted => Err(OpenError::PayloadMax {
            wanted: wanted.unwrap_or(1),
            most,
            max_payload,
        }),
    }
}
