//! `dpat-pubsub` on the subjects of core NATS.

mod source;

use std::fmt;
use std::sync::Arc;

use async_nats::{HeaderMap, ToSubject};
use async_trait::async_trait;
use dpat_core::Classify as _;
use dpat_pubsub::{
    Backend, BackendError, Capabilities, Capability, Message, PubSub, Published, Source,
    SourceBuffer, Subject, Wanted,
};
use tokio::sync::watch;

use crate::connection::Connection;
use crate::error::{Access, EngineError};
use crate::headers;
use crate::sync::Mutex;
use source::{Reader, Subscribed, Told};

/// A subject, as the client copies it.
struct Text(Subject);

impl ToSubject for Text {
    fn to_subject(&self) -> async_nats::Subject {
        self.0.as_str().into()
    }
}

/// What core NATS offers.
const CAPABILITIES: Capabilities = Capabilities::of(&[
    Capability::Groups,
    Capability::Headers,
    Capability::DropOldest,
    Capability::DropNewest,
    Capability::Disconnect,
]);

/// A hub on core NATS: its subjects are those of NATS, and its queue groups, too. Cloning shares it.
///
/// At most once: what is published while a subscriber is not connected never comes. What a subscriber is too slow for is
/// counted in its own bounded buffer, and told by [`Delivery::Lagged`](dpat_pubsub::Delivery::Lagged).
///
/// # Examples
/// ```no_run
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// use dpat_nats::{Config, Connection, CorePubSub};
///
/// let connection = Connection::open(&Config::new("nats://127.0.0.1:4222")?).await?;
/// let hub = CorePubSub::new(&connection).hub();
/// let mut created = hub.subscribe("orders.*.created").capacity(100).await?;
/// hub.publish("orders.eu.created", "order 7").await?;
/// println!("{:?}", created.recv().await?);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct CorePubSub {
    inner: Arc<Inner>,
}

struct Inner {
    connection: Connection,
    /// Tells the readers that this hub is closed.
    closed: watch::Sender<bool>,
    /// The last subject that was published to, as both sides have it.
    last: Mutex<Option<(Subject, async_nats::Subject)>>,
}

impl CorePubSub {
    /// Makes a hub on a connection. Several hubs may share one; each is closed for itself.
    #[must_use]
    pub fn new(connection: &Connection) -> Self {
        Self {
            inner: Arc::new(Inner {
                connection: connection.clone(),
                closed: watch::Sender::new(false),
                last: Mutex::new(None),
            }),
        }
    }

    /// Returns the hub.
    #[must_use]
    pub fn hub(&self) -> PubSub {
        PubSub::on(Arc::new(self.clone()))
    }
}

impl fmt::Debug for CorePubSub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CorePubSub")
            .field("connection", &self.inner.connection)
            .finish_non_exhaustive()
    }
}

pub(crate) fn failed(error: EngineError) -> BackendError {
    BackendError::new(error.class(), error.effect(), error)
}

impl Inner {
    /// A subject as the client has it; that of the last message is that of the next one more often than not.
    fn text(&self, subject: &Subject) -> async_nats::Subject {
        self.last.with(|last| match last {
            Some((ours, theirs)) if ours == subject => theirs.clone(),
            _ => {
                let theirs = Text(subject.clone()).to_subject();
                last.insert((subject.clone(), theirs)).1.clone()
            }
        })
    }

    fn open(&self) -> Result<(), EngineError> {
        if *self.closed.borrow() {
            return Err(EngineError::Closed);
        }
        Ok(())
    }

    async fn publish(&self, message: Message) -> Result<(), EngineError> {
        self.open()?;
        if !self.connection.is_connected() {
            let deadline = self.connection.deadline();
            self.connection.ready(deadline).await?;
        }
        let subject = message.subject().as_str();
        if self.connection.signals().is_refused(subject) {
            return Err(EngineError::Denied {
                access: Access::Publish,
                subject: subject.to_owned(),
            });
        }
        let to = self.text(message.subject());
        let reply = message.reply_to().cloned().map(Text);
        let list: Vec<(&str, &[u8])> = message
            .headers()
            .map(|(name, value)| (name, value.as_bytes()))
            .collect();
        if list.is_empty() && reply.is_none() {
            let payload = message.into_payload();
            return self.connection.publish_plain(to, payload).await;
        }
        let mut map = HeaderMap::new();
        headers::write(&mut map, list.iter().copied());
        let payload = message.into_payload();
        let deadline = self.connection.deadline();
        let publish = self.connection.publish(to, reply, map, payload, deadline);
        // Apart, so that a call is small that has neither headers nor a place for an answer.
        Box::pin(publish).await
    }

    async fn subscribe(
        &self,
        wanted: Wanted,
        buffer: SourceBuffer,
    ) -> Result<Subscribed, EngineError> {
        self.open()?;
        let connection = &self.connection;
        let deadline = connection.deadline();
        connection.ready(deadline).await?;
        let filter = wanted.filter.as_str();
        let group = wanted.group.as_deref();
        let refusals = connection.signals().refusals();
        let mut first_refusals = connection.signals().refusals();
        let slow = connection.signals().slow();
        let subscriber = connection.subscribe(filter, group, deadline).await?;
        connection.round_trip(filter, &mut first_refusals).await?;
        let reader = Reader {
            buffer: Arc::new(buffer),
            is_inbox: connection.is_inbox(filter),
            subscriber,
            last: None,
        };
        let told = Told {
            filter: filter.to_owned(),
            refusals,
            slow,
            closed: self.closed.subscribe(),
        };
        let room = connection.client_buffer();
        Ok(Subscribed::reading(reader, told, room))
    }
}

#[async_trait]
impl Backend for CorePubSub {
    fn name(&self) -> &'static str {
        "nats"
    }

    fn capabilities(&self) -> Capabilities {
        CAPABILITIES
    }

    fn payload_bytes_max(&self) -> usize {
        self.inner.connection.payload_max()
    }

    async fn publish(&self, message: Message) -> Result<Published, BackendError> {
        let published = self.inner.publish(message).await;
        published.map(|()| Published::default()).map_err(failed)
    }

    async fn subscribe(&self, wanted: Wanted) -> Result<Box<dyn Source>, BackendError> {
        let buffer = SourceBuffer::new(self.name(), wanted.capacity, &wanted.overflow)?;
        let subscribed = self.inner.subscribe(wanted, buffer).await;
        Ok(Box::new(subscribed.map_err(failed)?))
    }

    fn inbox(&self) -> Subject {
        let inbox = self.inner.connection.new_inbox();
        inbox
            .parse()
            .expect("a prefix of at most 64 letters and a name of 22")
    }

    async fn close(&self) {
        self.inner.closed.send_replace(true);
        // What was published before is at its subscribers' then. Without a connection nothing more comes in any case.
        let connection = &self.inner.connection;
        let mut refusals = connection.signals().refusals();
        drop(connection.round_trip("", &mut refusals).await);
    }
}
