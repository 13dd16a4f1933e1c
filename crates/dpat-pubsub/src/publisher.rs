//! The publisher's side.

use crate::backend::Backend;
use crate::error::PublishError;
use crate::hub::{Hub, Route, Sent};
use crate::message::{Draft, Message, Published};
use crate::pubsub::Owner;
use crate::subject::Subject;
use std::fmt;
use std::sync::Arc;

/// Publishes to one subject.
///
/// It remembers who subscribes, and looks again only when somebody subscribed or left. What one publisher publishes, each
/// subscriber gets in that order; it publishes one message after the other, therefore `&mut`. Clone it for another task.
///
/// # Examples
/// ```
/// # dpat_testkit::run_with(|| false, async {
/// use dpat_pubsub::PubSub;
///
/// let hub = PubSub::default();
/// let mut created = hub.publisher("orders.eu.created")?;
/// let published = created.publish("order 7").await?;
/// assert_eq!(published.reached, Some(0), "nobody subscribes");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
pub struct Publisher {
    subject: Subject,
    kind: Kind,
}

enum Kind {
    Memory {
        owner: Arc<Owner>,
        route: Option<Route>,
    },
    Backend(Arc<dyn Backend>),
}

impl Clone for Publisher {
    fn clone(&self) -> Self {
        let kind = match &self.kind {
            Kind::Memory { owner, .. } => Kind::Memory {
                owner: Arc::clone(owner),
                route: None,
            },
            Kind::Backend(backend) => Kind::Backend(Arc::clone(backend)),
        };
        Self {
            subject: self.subject.clone(),
            kind,
        }
    }
}

impl Publisher {
    pub(crate) fn in_memory(owner: Arc<Owner>, subject: Subject) -> Self {
        let route = None;
        Self {
            subject,
            kind: Kind::Memory { owner, route },
        }
    }

    pub(crate) fn of_backend(backend: Arc<dyn Backend>, subject: Subject) -> Self {
        Self {
            subject,
            kind: Kind::Backend(backend),
        }
    }

    /// Returns the subject.
    #[must_use]
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    /// Publishes a message; waits while subscribers with [`Overflow::Await`](crate::Overflow::Await) have no room.
    ///
    /// # Errors
    /// [`PublishError`].
    ///
    /// # Cancel safety
    /// Dropped before its first poll, nothing happens. Dropped while it waits, the subscribers that it waits for lose the
    /// message, counted as lag; all others have it.
    pub async fn publish(&mut self, draft: impl Into<Draft>) -> Result<Published, PublishError> {
        let draft = draft.into();
        match &mut self.kind {
            Kind::Memory { owner, route } => {
                let sent = send(owner.hub(), route, &self.subject, draft)?;
                finish(sent).await
            }
            Kind::Backend(backend) => publish_to(&**backend, self.subject.clone(), draft).await,
        }
    }

    /// Publishes a message without waiting: subscribers that would have to be waited for lose it, counted as lag.
    ///
    /// # Errors
    /// [`PublishError`]; [`PublishError::Unsupported`] if a backend has to be asked.
    pub fn publish_now(&mut self, draft: impl Into<Draft>) -> Result<Published, PublishError> {
        match &mut self.kind {
            Kind::Memory { owner, route } => {
                let sent = send(owner.hub(), route, &self.subject, draft.into())?;
                Ok(finish_now(sent))
            }
            Kind::Backend(backend) => Err(not_at_once(&**backend)),
        }
    }
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher")
            .field("subject", &self.subject)
            .finish_non_exhaustive()
    }
}

#[inline]
pub(crate) fn send(
    hub: &Arc<Hub>,
    route: &mut Option<Route>,
    subject: &Subject,
    draft: Draft,
) -> Result<Sent, PublishError> {
    let route = match route {
        Some(route) => route,
        None => route.insert(hub.route(subject)?),
    };
    hub.send(route, subject, draft)
}

#[inline]
pub(crate) async fn finish((published, waiting): Sent) -> Result<Published, PublishError> {
    match waiting {
        None => Ok(published),
        Some(waiting) => Ok(waiting.await),
    }
}

pub(crate) fn finish_now((published, waiting): Sent) -> Published {
    match waiting {
        None => published,
        Some(waiting) => waiting.give_up(),
    }
}

pub(crate) async fn publish_to(
    backend: &dyn Backend,
    subject: Subject,
    draft: Draft,
) -> Result<Published, PublishError> {
    use crate::config::Capability;
    draft.check(backend.payload_bytes_max())?;
    let message = Message::new(subject, draft);
    if message.headers().next().is_some() {
        backend
            .capabilities()
            .require(&[Capability::Headers], backend.name())?;
    }
    let published = backend.publish(message).await;
    published.map_err(PublishError::Backend)
}

pub(crate) fn not_at_once(backend: &dyn Backend) -> PublishError {
    crate::Unsupported::new("publishing without waiting", backend.name()).into()
}
