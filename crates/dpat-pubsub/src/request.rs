//! Request and reply.

use crate::config::Overflow;
use crate::error::{Closed, RequestError, SubjectError};
use crate::message::{Delivery, Draft, Message};
use crate::pubsub::PubSub;
use crate::subject::Subject;
use dpat_core::{Deadline, Sleep};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

/// Makes requests: publishes a message that says where answers go, and waits for the first one.
///
/// Answers that come later, or a second time, reach nobody. Cloning shares the hub.
///
/// # Examples
/// ```
/// use dpat_core::ManualTime;
/// use dpat_pubsub::{PubSub, RequestError};
///
/// # dpat_testkit::run_with(|| false, async {
/// let hub = PubSub::default();
/// let requester = hub.requester(ManualTime::new());
/// let nobody = requester.request("stock.check", "socks").await;
/// assert!(matches!(nobody, Err(RequestError::NoResponders)));
/// # });
/// ```
#[derive(Clone, Debug)]
pub struct Requester<T> {
    pubsub: PubSub,
    time: T,
    timeout: Duration,
}

impl<T: Sleep> Requester<T> {
    pub(crate) fn new(pubsub: PubSub, time: T) -> Self {
        Self {
            pubsub,
            time,
            timeout: Duration::from_secs(5),
        }
    }

    /// Sets how long [`request`](Self::request) waits.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Publishes a request and waits for its first answer.
    ///
    /// A draft that says where answers go is answered here all the same.
    ///
    /// # Errors
    /// [`RequestError`]; by its effect it says whether the request may have been handled.
    ///
    /// # Cancel safety
    /// Dropped before its end, the answer reaches nobody; whether the request was published depends on when.
    pub async fn request<S>(
        &self,
        subject: S,
        draft: impl Into<Draft>,
    ) -> Result<Message, RequestError>
    where
        S: TryInto<Subject>,
        S::Error: Into<SubjectError>,
    {
        let deadline = Deadline::after(self.time.now(), self.timeout);
        self.request_until(deadline, subject, draft).await
    }

    /// Publishes a request and waits for its first answer until the deadline.
    ///
    /// # Errors
    /// [`RequestError`]; by its effect it says whether the request may have been handled.
    ///
    /// # Cancel safety
    /// That of [`request`](Self::request).
    pub async fn request_until<S>(
        &self,
        deadline: Deadline,
        subject: S,
        draft: impl Into<Draft>,
    ) -> Result<Message, RequestError>
    where
        S: TryInto<Subject>,
        S::Error: Into<SubjectError>,
    {
        let subject = subject.try_into().map_err(|error| {
            let error: SubjectError = error.into();
            RequestError::Publish(error.into())
        })?;
        let within = deadline.remaining(self.time.now());
        let mut answer = pin!(self.answer(subject, draft.into()));
        // Far away at most: a deadline that never passes never wakes.
        let mut timer = pin!(self.time.sleep_until(deadline.instant()));
        poll_fn(|cx| {
            if let Poll::Ready(answer) = answer.as_mut().poll(cx) {
                return Poll::Ready(answer);
            }
            match timer.as_mut().poll(cx) {
                Poll::Ready(()) => Poll::Ready(Err(RequestError::Timeout { within })),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }

    async fn answer(&self, subject: Subject, draft: Draft) -> Result<Message, RequestError> {
        let inbox = self.pubsub.inbox();
        let mut answers = self
            .pubsub
            .subscribe(&inbox)
            .capacity(1)
            .overflow(Overflow::DropNewest)
            .await?;
        let published = self.pubsub.publish(subject, draft.reply_to(inbox)).await?;
        if published.reached == Some(0) && published.lost == 0 {
            return Err(RequestError::NoResponders);
        }
        loop {
            match answers.recv().await {
                Ok(Delivery::Message(message)) => return Ok(message),
                Ok(Delivery::Lagged(_)) => {}
                Err(Closed::NoResponders) => return Err(RequestError::NoResponders),
                Err(closed) => return Err(closed.into()),
            }
        }
    }
}
