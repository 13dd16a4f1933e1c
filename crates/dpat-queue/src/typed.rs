//! Values instead of bytes.

use std::marker::PhantomData;

use dpat_codec::{Codec, DecodeError, EncodeError};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::message::{Delivery, Message};

/// Turns values of one type into messages and back.
///
/// # Examples
/// ```
/// # dpat_testkit::run_with(|| false, async {
/// use dpat_codec::Postcard;
/// use dpat_core::ManualTime;
/// use dpat_queue::{Queue, Typed};
///
/// let queue = Queue::builder().in_memory(ManualTime::new())?;
/// let orders: Typed<(u64, String), _> = Typed::new(Postcard::DEFAULT);
/// queue.send(orders.message(&(7, "two cups".to_owned()))?.key("order-7")).await?;
///
/// let delivery = queue.receive().await?;
/// assert_eq!(orders.value(&delivery)?, (7, "two cups".to_owned()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Typed<T, C> {
    codec: C,
    value: PhantomData<fn(T) -> T>,
}

impl<T: Serialize + DeserializeOwned, C: Codec> Typed<T, C> {
    /// Takes a codec.
    pub const fn new(codec: C) -> Self {
        Self {
            codec,
            value: PhantomData,
        }
    }

    /// Makes a message of a value.
    ///
    /// # Errors
    /// [`EncodeError`].
    pub fn message(&self, value: &T) -> Result<Message, EncodeError> {
        Ok(Message::new(self.codec.to_vec(value)?))
    }

    /// Reads the value of a delivery. A [`Worker`](crate::Worker) rejects what cannot be read: `?` in its handler does that.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn value(&self, delivery: &Delivery) -> Result<T, DecodeError> {
        self.codec.decode(delivery.payload())
    }
}
