//! Publish–subscribe on channels.

mod envelope;
mod hub;
mod pattern;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use dpat_core::{Entropy, SystemEntropy};
use dpat_pubsub::{
    Backend, BackendError, Capabilities, Capability, Message, PAYLOAD_BYTES_MAX, PubSub, Published,
    Source, SourceBuffer, Subject, Wanted,
};

use crate::config::Config;
use crate::error::OpenError;
use crate::server::ServerInfo;
use hub::Hub;

/// What channels offer.
const CAPABILITIES: Capabilities = Capabilities::of(&[
    Capability::Headers,
    Capability::DropOldest,
    Capability::DropNewest,
    Capability::Disconnect,
]);

/// The largest payload that a hub can be set to take: 16 MiB, half of what a server lets a subscriber leave unread.
const LARGEST_PAYLOAD: usize = 16 << 20;

/// A hub on the channels of a server: the backend of a [`dpat_pubsub::PubSub`]. Clones share it, and its two connections.
///
/// At most once: what is published while a subscriber is not connected never comes; it is told then by a
/// [`Delivery::Lagged`](dpat_pubsub::Delivery::Lagged) of 0, which means that nobody has counted. What a subscriber is too slow for is
/// counted in its own bounded buffer.
///
/// # Examples
/// ```no_run
/// use dpat_redis::{ChannelHub, Config};
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let config = Config::new("redis://127.0.0.1/", "orders")?;
/// let hub = ChannelHub::open(&config).await?.hub();
/// let mut created = hub.subscribe("orders.*.created").capacity(100).await?;
/// hub.publish("orders.eu.created", "order 7").await?;
/// println!("{:?}", created.recv().await?);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct ChannelHub {
    hub: Arc<Hub>,
    payload_bytes_max: usize,
    info: ServerInfo,
}

impl ChannelHub {
    /// Connects, and looks at the server. Payloads of up to 1 MiB.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open(config: &Config) -> Result<Self, OpenError> {
        let hub = Hub::new(config)?;
        let info = hub.ask(config).await?;
        info.check_version(config)?;
        Ok(Self {
            hub,
            payload_bytes_max: PAYLOAD_BYTES_MAX,
            info,
        })
    }

    /// Sets the largest payload: up to 16 MiB; more is taken for that.
    #[must_use]
    pub fn payload_bytes_max(mut self, bytes: usize) -> Self {
        self.payload_bytes_max = bytes.min(LARGEST_PAYLOAD);
        self
    }

    /// Returns the hub.
    #[must_use]
    pub fn hub(&self) -> PubSub {
        PubSub::on(Arc::new(self.clone()))
    }

    /// Returns what the server said of itself when the hub was opened.
    #[must_use]
    pub fn server(&self) -> &ServerInfo {
        &self.info
    }
}

impl fmt::Debug for ChannelHub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChannelHub")
            .field("hub", &self.hub)
            .field("payload_bytes_max", &self.payload_bytes_max)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Backend for ChannelHub {
    fn name(&self) -> &'static str {
        "redis"
    }

    fn capabilities(&self) -> Capabilities {
        CAPABILITIES
    }

    fn payload_bytes_max(&self) -> usize {
        self.payload_bytes_max
    }

    async fn publish(&self, message: Message) -> Result<Published, BackendError> {
        let clients = self.hub.publish(&message).await?;
        let mut published = Published::default();
        // Of others it is the number of connections and patterns, not that of subscriptions.
        published.reached = (clients == 0).then_some(0);
        Ok(published)
    }

    async fn subscribe(&self, wanted: Wanted) -> Result<Box<dyn Source>, BackendError> {
        let buffer = SourceBuffer::new(self.name(), wanted.capacity, &wanted.overflow)?;
        Ok(Box::new(self.hub.subscribe(wanted.filter, buffer).await?))
    }

    fn inbox(&self) -> Subject {
        let (one, other) = (SystemEntropy.next_u64(), SystemEntropy.next_u64());
        let inbox = format!("_INBOX.{one:016x}{other:016x}");
        inbox.parse().expect("two tokens of letters and digits")
    }

    async fn close(&self) {
        self.hub.close().await;
    }
}
