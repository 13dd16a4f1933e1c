//! Values in place of bytes.

use crate::error::{Closed, PublishError};
use crate::message::{Delivery, Draft, Message, Published, Value};
use crate::publisher::Publisher;
use crate::subscription::Subscription;
use bytes::Bytes;
use dpat_core::{Class, Classify, Effect};
use std::error::Error;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;
use std::task::{Context, Poll};

/// How values of a type become payloads, and come back.
///
/// With the feature `codec` every codec of `dpat-codec` is one, as `Coded(codec)`.
///
/// # Examples
/// ```
/// use bytes::Bytes;
/// use dpat_pubsub::{Form, FormError};
///
/// #[derive(Clone)]
/// struct Decimal;
/// impl Form<u64> for Decimal {
///     fn encode(&self, value: &u64) -> Result<Bytes, FormError> {
///         Ok(value.to_string().into())
///     }
///     fn decode(&self, payload: &Bytes) -> Result<u64, FormError> {
///         let text = std::str::from_utf8(payload).map_err(FormError::new)?;
///         text.parse().map_err(FormError::new)
///     }
/// }
/// ```
pub trait Form<T>: Send + Sync {
    /// Returns the payload of a value.
    ///
    /// # Errors
    /// [`FormError`] if the form cannot say it.
    fn encode(&self, value: &T) -> Result<Bytes, FormError>;

    /// Reads a value from all of a payload.
    ///
    /// # Errors
    /// [`FormError`] if it is none.
    fn decode(&self, payload: &Bytes) -> Result<T, FormError>;
}

/// No form: values stay within the process, behind an `Arc`.
///
/// Subscribers of the same type get the very value. Others, and engines, get an empty payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InProcess;

impl<T> Form<T> for InProcess {
    fn encode(&self, _: &T) -> Result<Bytes, FormError> {
        Ok(Bytes::new())
    }

    fn decode(&self, _: &Bytes) -> Result<T, FormError> {
        Err(FormError::new("the message has no value of this type"))
    }
}

/// The form of a codec of `dpat-codec`.
///
/// # Examples
/// ```
/// use dpat_codec::Json;
/// use dpat_pubsub::{Coded, PubSub};
///
/// let hub = PubSub::default();
/// let prices = hub.publisher("price.gold")?.typed::<u64, _>(Coded(Json::DEFAULT));
/// # Ok::<(), dpat_pubsub::SubjectError>(())
/// ```
#[cfg(feature = "codec")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Coded<C>(pub C);

#[cfg(feature = "codec")]
impl<T, C> Form<T> for Coded<C>
where
    T: serde::Serialize + serde::de::DeserializeOwned,
    C: dpat_codec::Codec + Send + Sync,
{
    fn encode(&self, value: &T) -> Result<Bytes, FormError> {
        let bytes = self.0.to_vec(value).map_err(FormError::new)?;
        Ok(bytes.into())
    }

    fn decode(&self, payload: &Bytes) -> Result<T, FormError> {
        self.0.decode(payload).map_err(FormError::new)
    }
}

/// A value without a payload, or a payload without a value.
#[derive(Clone, Debug)]
pub struct FormError(Arc<dyn Error + Send + Sync>);

impl FormError {
    /// Wraps the reason.
    pub fn new(reason: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(Arc::from(reason.into()))
    }
}

impl fmt::Display for FormError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for FormError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

/// A value that was not published.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishValueError {
    /// The value has no payload; nothing was published.
    #[error("encode: {0}")]
    Encode(#[source] FormError),
    /// The message was not published.
    #[error(transparent)]
    Publish(#[from] PublishError),
}

impl Classify for PublishValueError {
    fn class(&self) -> Class {
        match self {
            Self::Encode(_) => Class::InvalidInput,
            Self::Publish(error) => error.class(),
        }
    }

    fn effect(&self) -> Effect {
        match self {
            Self::Encode(_) => Effect::NotDone,
            Self::Publish(error) => error.effect(),
        }
    }
}

/// Publishes values to one subject; made by [`Publisher::typed`].
///
/// # Examples
/// ```
/// # dpat_testkit::run_with(|| false, async {
/// use dpat_pubsub::{InProcess, PubSub, TypedDelivery};
///
/// struct Price { cents: u64 }
///
/// let hub = PubSub::default();
/// let mut prices = hub.subscribe("price.*").await?.typed::<Price, _>(InProcess);
/// let mut gold = hub.publisher("price.gold")?.typed::<Price, _>(InProcess);
/// gold.publish(Price { cents: 7 }).await?;
/// let TypedDelivery::Value(price) = prices.recv().await? else { panic!("no value") };
/// assert_eq!((price.cents, price.message().subject().as_str()), (7, "price.gold"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
pub struct TypedPublisher<T, F> {
    publisher: Publisher,
    form: F,
    values: PhantomData<fn(T)>,
}

impl Publisher {
    /// Publishes values of one type from now on.
    #[must_use]
    pub fn typed<T, F: Form<T>>(self, form: F) -> TypedPublisher<T, F>
    where
        T: Send + Sync + 'static,
    {
        TypedPublisher {
            publisher: self,
            form,
            values: PhantomData,
        }
    }
}

impl<T: Send + Sync + 'static, F: Form<T>> TypedPublisher<T, F> {
    /// Publishes a value, as [`Publisher::publish`] does its payload.
    ///
    /// # Errors
    /// [`PublishValueError`].
    ///
    /// # Cancel safety
    /// That of [`Publisher::publish`].
    pub async fn publish(
        &mut self,
        value: impl Into<Arc<T>>,
    ) -> Result<Published, PublishValueError> {
        let draft = self.draft(value.into())?;
        Ok(self.publisher.publish(draft).await?)
    }

    /// Publishes a value without waiting, as [`Publisher::publish_now`] does its payload.
    ///
    /// # Errors
    /// [`PublishValueError`].
    pub fn publish_now(
        &mut self,
        value: impl Into<Arc<T>>,
    ) -> Result<Published, PublishValueError> {
        let draft = self.draft(value.into())?;
        Ok(self.publisher.publish_now(draft)?)
    }

    fn draft(&self, value: Arc<T>) -> Result<Draft, PublishValueError> {
        let payload = self
            .form
            .encode(&value)
            .map_err(PublishValueError::Encode)?;
        let value: Value = value;
        Ok(Draft::new(payload).value(value))
    }
}

impl<T, F: fmt::Debug> fmt::Debug for TypedPublisher<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TypedPublisher")
            .field("publisher", &self.publisher)
            .field("form", &self.form)
            .finish_non_exhaustive()
    }
}

/// Values in place of messages; made by [`Subscription::typed`].
pub struct TypedSubscription<T, F> {
    subscription: Subscription,
    form: F,
    values: PhantomData<fn() -> T>,
}

impl Subscription {
    /// Yields values of one type from now on.
    #[must_use]
    pub fn typed<T, F: Form<T>>(self, form: F) -> TypedSubscription<T, F>
    where
        T: Send + Sync + 'static,
    {
        TypedSubscription {
            subscription: self,
            form,
            values: PhantomData,
        }
    }
}

/// What a typed subscription yields.
#[derive(Debug)]
#[non_exhaustive]
pub enum TypedDelivery<T> {
    /// A value.
    Value(TypedMessage<T>),
    /// So many messages were lost here, between the previous one and the next one.
    Lagged(u64),
    /// A message whose payload is no value of the type.
    Malformed(Message, FormError),
}

/// A value with the message that it came in.
#[derive(Debug)]
pub struct TypedMessage<T> {
    value: Arc<T>,
    message: Message,
}

impl<T> Clone for TypedMessage<T> {
    fn clone(&self) -> Self {
        Self {
            value: Arc::clone(&self.value),
            message: self.message.clone(),
        }
    }
}

impl<T> TypedMessage<T> {
    /// Returns the value; one that was published in this process is shared, and was not decoded.
    #[must_use]
    pub fn value(&self) -> &Arc<T> {
        &self.value
    }

    /// Returns the message.
    #[must_use]
    pub fn message(&self) -> &Message {
        &self.message
    }
}

impl<T> Deref for TypedMessage<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: Send + Sync + 'static, F: Form<T>> TypedSubscription<T, F> {
    /// Waits for what is next.
    ///
    /// # Errors
    /// [`Closed`] once nothing more will come, and everything in the buffer was read.
    ///
    /// # Cancel safety
    /// Dropped before its end, it has taken nothing.
    pub async fn recv(&mut self) -> Result<TypedDelivery<T>, Closed> {
        let delivery = self.subscription.recv().await?;
        Ok(self.typed_delivery(delivery))
    }

    /// The poll form of [`recv`](Self::recv), for streams; see [`Subscription::poll_recv`].
    ///
    /// # Errors
    /// [`Closed`] once nothing more will come, and everything in the buffer was read.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<TypedDelivery<T>, Closed>> {
        match self.subscription.poll_recv(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(delivery)) => Poll::Ready(Ok(self.typed_delivery(delivery))),
            Poll::Ready(Err(closed)) => Poll::Ready(Err(closed)),
        }
    }

    /// Takes what is next if it is there.
    ///
    /// # Errors
    /// [`Closed`] once nothing more will come, and everything in the buffer was read.
    pub fn try_recv(&mut self) -> Result<Option<TypedDelivery<T>>, Closed> {
        let delivery = self.subscription.try_recv()?;
        Ok(delivery.map(|delivery| self.typed_delivery(delivery)))
    }

    /// Returns the subscription.
    #[must_use]
    pub fn into_inner(self) -> Subscription {
        self.subscription
    }

    fn typed_delivery(&self, delivery: Delivery) -> TypedDelivery<T> {
        let message = match delivery {
            Delivery::Message(message) => message,
            Delivery::Lagged(lost) => return TypedDelivery::Lagged(lost),
        };
        let shared = message.value().cloned();
        if let Some(value) = shared.and_then(|value| value.downcast::<T>().ok()) {
            return TypedDelivery::Value(TypedMessage { value, message });
        }
        match self.form.decode(message.payload()) {
            Ok(value) => TypedDelivery::Value(TypedMessage {
                value: Arc::new(value),
                message,
            }),
            Err(error) => TypedDelivery::Malformed(message, error),
        }
    }
}

impl<T, F: fmt::Debug> fmt::Debug for TypedSubscription<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TypedSubscription")
            .field("subscription", &self.subscription)
            .field("form", &self.form)
            .finish_non_exhaustive()
    }
}
