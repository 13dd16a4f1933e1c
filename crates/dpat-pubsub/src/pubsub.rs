//! The hub's handle.

use crate::backend::Backend;
use crate::config::{Builder, Capabilities, Capability, Wanted};
use crate::error::{PublishError, SubjectError, SubscribeError, Unsupported};
use crate::hub::Hub;
use crate::message::{Draft, Message, Published};
use crate::publisher::{Publisher, finish, finish_now, not_at_once, publish_to, send};
use crate::request::Requester;
use crate::subject::{Filter, Subject};
use crate::subscription::{Subscribe, Subscription};
use dpat_core::Sleep;
use std::fmt;
use std::sync::Arc;

/// A hub that messages are published to and subscribed at: in memory, or an engine. Cloning shares it.
///
/// A hub in memory ends with [`close`](Self::close), or when the last clone and the last [`Publisher`] are dropped: its
/// subscriptions then end after what is in their buffers.
///
/// # Examples
/// ```
/// # dpat_testkit::run_with(|| false, async {
/// use dpat_pubsub::{Delivery, Overflow, PubSub};
///
/// let hub = PubSub::default();
/// let mut orders = hub.subscribe("orders.*.created").capacity(2).await?;
/// let mut created = hub.publisher("orders.eu.created")?;
/// for order in ["1", "2", "3"] {
///     created.publish(order).await?;
/// }
/// // The buffer holds two, and the oldest went.
/// assert_eq!(orders.recv().await?, Delivery::Lagged(1));
/// let message = orders.recv().await?.message().expect("a message");
/// assert_eq!((message.subject().as_str(), &message.payload()[..]), ("orders.eu.created", &b"2"[..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct PubSub {
    kind: Kind,
}

#[derive(Clone)]
enum Kind {
    Memory(Arc<Owner>),
    Backend(Arc<dyn Backend>),
}

/// Closes a hub with its last handle. Subscriptions keep the hub, and not this.
pub(crate) struct Owner(Arc<Hub>);

impl Owner {
    #[inline]
    pub(crate) fn hub(&self) -> &Arc<Hub> {
        &self.0
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// What a hub in memory can do: everything that was compiled in.
const MEMORY: Capabilities = Capabilities::of(&[
    Capability::Groups,
    Capability::Replay,
    Capability::Headers,
    Capability::Reach,
    Capability::ExactCapacity,
    Capability::Await,
    Capability::DropOldest,
    Capability::DropNewest,
    Capability::Disconnect,
    Capability::Conflate,
    #[cfg(feature = "spill")]
    Capability::Spill,
]);

/// A hub in memory with the default settings.
impl Default for PubSub {
    fn default() -> Self {
        Self::in_memory(Builder::default())
    }
}

impl PubSub {
    /// Starts to set up a hub in memory.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn in_memory(config: Builder) -> Self {
        let hub = Arc::new(Hub::new(config));
        Self {
            kind: Kind::Memory(Arc::new(Owner(hub))),
        }
    }

    /// Makes a hub of a backend.
    #[must_use]
    pub fn on(backend: Arc<dyn Backend>) -> Self {
        Self {
            kind: Kind::Backend(backend),
        }
    }

    /// Returns the backend's name; `memory` for a hub in memory.
    #[must_use]
    pub fn backend_name(&self) -> &'static str {
        match &self.kind {
            Kind::Memory(_) => "memory",
            Kind::Backend(backend) => backend.name(),
        }
    }

    /// Returns what the hub can do.
    #[must_use]
    pub fn capabilities(&self) -> Capabilities {
        match &self.kind {
            Kind::Memory(_) => MEMORY,
            Kind::Backend(backend) => backend.capabilities(),
        }
    }

    /// Checks at start-up that the hub can do what the program will ask for.
    ///
    /// # Errors
    /// [`Unsupported`] names the first that is missing.
    pub fn require(&self, wanted: &[Capability]) -> Result<(), Unsupported> {
        self.capabilities().require(wanted, self.backend_name())
    }

    /// Returns the largest payload, in bytes.
    #[must_use]
    pub fn payload_bytes_max(&self) -> usize {
        match &self.kind {
            Kind::Memory(owner) => owner.hub().payload_bytes_max(),
            Kind::Backend(backend) => backend.payload_bytes_max(),
        }
    }

    /// Makes a publisher for a subject, the fast way to publish.
    ///
    /// # Errors
    /// [`SubjectError`].
    pub fn publisher<S>(&self, subject: S) -> Result<Publisher, SubjectError>
    where
        S: TryInto<Subject>,
        S::Error: Into<SubjectError>,
    {
        let subject = subject.try_into().map_err(Into::into)?;
        Ok(match &self.kind {
            Kind::Memory(owner) => Publisher::in_memory(Arc::clone(owner), subject),
            Kind::Backend(backend) => Publisher::of_backend(Arc::clone(backend), subject),
        })
    }

    /// Publishes one message; waits while subscribers with [`Overflow::Await`](crate::Overflow::Await) have no room.
    ///
    /// It looks up who subscribes each time, which [`Publisher`] does not. Messages of one task arrive in the order in
    /// which it awaited their publication.
    ///
    /// # Errors
    /// [`PublishError`].
    ///
    /// # Cancel safety
    /// Dropped before its first poll, nothing happens. Dropped while it waits, the subscribers that it waits for lose the
    /// message, counted as lag; all others have it.
    pub async fn publish<S>(
        &self,
        subject: S,
        draft: impl Into<Draft>,
    ) -> Result<Published, PublishError>
    where
        S: TryInto<Subject>,
        S::Error: Into<SubjectError>,
    {
        let subject = subject.try_into().map_err(Into::into)?;
        let draft = draft.into();
        match &self.kind {
            Kind::Memory(owner) => {
                let sent = send(owner.hub(), &mut None, &subject, draft)?;
                finish(sent).await
            }
            Kind::Backend(backend) => publish_to(&**backend, subject, draft).await,
        }
    }

    /// Publishes one message without waiting: subscribers that would have to be waited for lose it, counted as lag.
    ///
    /// # Errors
    /// [`PublishError`]; [`PublishError::Unsupported`] if a backend has to be asked.
    pub fn publish_now<S>(
        &self,
        subject: S,
        draft: impl Into<Draft>,
    ) -> Result<Published, PublishError>
    where
        S: TryInto<Subject>,
        S::Error: Into<SubjectError>,
    {
        let subject = subject.try_into().map_err(Into::into)?;
        match &self.kind {
            Kind::Memory(owner) => {
                let sent = send(owner.hub(), &mut None, &subject, draft.into())?;
                Ok(finish_now(sent))
            }
            Kind::Backend(backend) => Err(not_at_once(&**backend)),
        }
    }

    /// Answers a message, if it asks for an answer.
    ///
    /// # Errors
    /// [`PublishError::NoReply`] if it does not.
    ///
    /// # Cancel safety
    /// That of [`publish`](Self::publish).
    pub async fn reply(
        &self,
        request: &Message,
        draft: impl Into<Draft>,
    ) -> Result<Published, PublishError> {
        match request.reply_to() {
            Some(inbox) => self.publish(inbox, draft).await,
            None => Err(PublishError::NoReply),
        }
    }

    /// Makes requests that wait 5 s for their answer, by the clock of `time`.
    pub fn requester<T: Sleep>(&self, time: T) -> Requester<T> {
        Requester::new(self.clone(), time)
    }

    /// Subscribes when it is awaited.
    pub fn subscribe<F>(&self, filter: F) -> Subscribe<'_>
    where
        F: TryInto<Filter>,
        F::Error: Into<SubjectError>,
    {
        Subscribe::new(self, filter.try_into().map_err(Into::into))
    }

    pub(crate) fn subscribe_now(&self, wanted: Wanted) -> Result<Subscription, SubscribeError> {
        match &self.kind {
            Kind::Memory(owner) => {
                let subscribed = owner.hub().subscribe(wanted)?;
                Ok(Subscription::in_memory(Arc::clone(owner.hub()), subscribed))
            }
            Kind::Backend(backend) => {
                Err(Unsupported::new("subscribing without waiting", backend.name()).into())
            }
        }
    }

    pub(crate) async fn subscribe_wanted(
        &self,
        wanted: Wanted,
    ) -> Result<Subscription, SubscribeError> {
        let Kind::Backend(backend) = &self.kind else {
            return self.subscribe_now(wanted);
        };
        let mut needed = vec![wanted.overflow.capability()];
        if wanted.group.is_some() {
            needed.push(Capability::Groups);
        }
        if wanted.replay > 0 {
            needed.push(Capability::Replay);
        }
        self.require(&needed)?;
        let source = backend.subscribe(wanted).await;
        source
            .map(Subscription::of_backend)
            .map_err(SubscribeError::Backend)
    }

    /// Returns a subject that nobody has subscribed to, for answers.
    #[must_use]
    pub fn inbox(&self) -> Subject {
        match &self.kind {
            Kind::Memory(owner) => owner.hub().inbox(),
            Kind::Backend(backend) => backend.inbox(),
        }
    }

    /// Forgets the retained messages of a subject.
    ///
    /// # Errors
    /// [`SubjectError`].
    pub fn forget<S>(&self, subject: S) -> Result<(), SubjectError>
    where
        S: TryInto<Subject>,
        S::Error: Into<SubjectError>,
    {
        let subject = subject.try_into().map_err(Into::into)?;
        if let Kind::Memory(owner) = &self.kind {
            owner.hub().forget(&subject);
        }
        Ok(())
    }

    /// Ends all subscriptions, once they have read what they have. Publishing fails from now on.
    ///
    /// # Cancel safety
    /// A hub in memory is closed at the first poll; with a backend the effect is unknown if it is dropped.
    pub async fn close(&self) {
        match &self.kind {
            Kind::Memory(owner) => owner.hub().close(),
            Kind::Backend(backend) => backend.close().await,
        }
    }
}

impl fmt::Debug for PubSub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PubSub")
            .field("backend", &self.backend_name())
            .finish_non_exhaustive()
    }
}
