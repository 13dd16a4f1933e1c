//! Every limit of a queue, validated once.

use std::time::Duration;

use crate::config::{ConfigError, check_name, millis, within};
use crate::open::{Make, STREAM_NAME_BYTES_MAX};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The settings of a queue.
///
/// | setting | default |
/// |---|---|
/// | `make` | [`Make::Create`] |
/// | `messages_max`, `bytes_max` | 100 000, 256 MiB |
/// | `message_bytes_max` | what fits the server's `max_payload`, at most 1 MiB |
/// | `visibility` | 30 s |
/// | `dedup_window` | 5 min |
/// | `dead_max`, `dead_bytes_max` | 10 000, 64 MiB |
/// | `out_max` | 10 000 messages out at once |
/// | `waiters_max` | 512 |
/// | `deliveries_max` | none |
/// | `replicas` | 1 |
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use dpat_nats::QueueSettings;
///
/// let settings = QueueSettings::new("orders")?.visibility(Duration::from_secs(60)).messages_max(1_000);
/// settings.check()?;
/// let error = QueueSettings::new("orders.eu").unwrap_err();
/// assert!(error.to_string().starts_with("queue: \"orders.eu\" is no name"));
/// # Ok::<(), dpat_nats::ConfigError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct QueueSettings {
    pub(crate) name: String,
    pub(crate) make: Make,
    pub(crate) messages_max: u64,
    pub(crate) bytes_max: u64,
    pub(crate) message_bytes_max: Option<usize>,
    pub(crate) visibility: Duration,
    pub(crate) dedup_window: Duration,
    pub(crate) dead_max: u64,
    pub(crate) dead_bytes_max: u64,
    pub(crate) out_max: u64,
    pub(crate) waiters_max: u64,
    pub(crate) deliveries_max: Option<u32>,
    pub(crate) replicas: usize,
}

impl QueueSettings {
    /// Takes the name: the streams are `NAME` and `NAME_dead`.
    ///
    /// # Errors
    /// [`ConfigError::Name`].
    pub fn new(name: &str) -> Result<Self, ConfigError> {
        check_name("queue", name, STREAM_NAME_BYTES_MAX)?;
        Ok(Self {
            name: name.to_owned(),
            make: Make::Create,
            messages_max: 100_000,
            bytes_max: 256 << 20,
            message_bytes_max: None,
            visibility: Duration::from_secs(30),
            dedup_window: Duration::from_secs(5 * 60),
            dead_max: 10_000,
            dead_bytes_max: 64 << 20,
            out_max: 10_000,
            waiters_max: 512,
            deliveries_max: None,
            replicas: 1,
        })
    }

    /// Sets who makes the streams and the consumer.
    pub const fn make(mut self, make: Make) -> Self {
        self.make = make;
        self
    }

    /// Sets how many messages may be there, those that are out included; dead letters are counted apart.
    pub const fn messages_max(mut self, messages: u64) -> Self {
        self.messages_max = messages;
        self
    }

    /// Sets how many bytes the messages may take.
    pub const fn bytes_max(mut self, bytes: u64) -> Self {
        self.bytes_max = bytes;
        self
    }

    /// Sets the largest payload.
    pub const fn message_bytes_max(mut self, bytes: usize) -> Self {
        self.message_bytes_max = Some(bytes);
        self
    }

    /// Sets how long a lease is: 100 ms to a day.
    pub const fn visibility(mut self, visibility: Duration) -> Self {
        self.visibility = visibility;
        self
    }

    /// Sets for how long deduplication keys are remembered: 100 ms to a day.
    pub const fn dedup_window(mut self, window: Duration) -> Self {
        self.dedup_window = window;
        self
    }

    /// Sets how many dead letters may be there.
    pub const fn dead_max(mut self, letters: u64) -> Self {
        self.dead_max = letters;
        self
    }

    /// Sets how many bytes the dead letters may take.
    pub const fn dead_bytes_max(mut self, bytes: u64) -> Self {
        self.dead_bytes_max = bytes;
        self
    }

    /// Sets how many messages may be out at once, of all receivers together; no more are handed out then.
    pub const fn out_max(mut self, messages: u64) -> Self {
        self.out_max = messages;
        self
    }

    /// Sets how many receivers may wait at once.
    pub const fn waiters_max(mut self, waiters: u64) -> Self {
        self.waiters_max = waiters;
        self
    }

    /// Makes a dead letter of a message that was handed out so often already, when it would be handed out again.
    pub const fn deliveries_max(mut self, deliveries: u32) -> Self {
        self.deliveries_max = Some(deliveries);
        self
    }

    /// Sets how many servers of a cluster keep each message: 1, 3 or 5.
    pub const fn replicas(mut self, replicas: usize) -> Self {
        self.replicas = replicas;
        self
    }

    /// Checks the limits; opening does.
    ///
    /// # Errors
    /// [`ConfigError::OutOfRange`] names the setting.
    pub fn check(&self) -> Result<(), ConfigError> {
        const MESSAGES: u64 = 100_000_000;
        const BYTES: u64 = 1 << 50;
        let day = millis(DAY);
        within("messages_max", self.messages_max, 1, MESSAGES)?;
        within("bytes_max", self.bytes_max, 1_024, BYTES)?;
        let largest = self.message_bytes_max.unwrap_or(1);
        within("message_bytes_max", largest as u64, 1, 64 << 20)?;
        within("visibility, ms", millis(self.visibility), 100, day)?;
        within("dedup_window, ms", millis(self.dedup_window), 100, day)?;
        within("dead_max", self.dead_max, 1, MESSAGES)?;
        within("dead_bytes_max", self.dead_bytes_max, 1_024, BYTES)?;
        within("out_max", self.out_max, 1, 1_000_000)?;
        within("waiters_max", self.waiters_max, 1, 100_000)?;
        let deliveries = self.deliveries_max.unwrap_or(1);
        within("deliveries_max", deliveries.into(), 1, 1_000_000)?;
        within("replicas", self.replicas as u64, 1, 5)
    }

    pub(crate) fn dead_name(&self) -> String {
        format!("{}_dead", self.name)
    }

    /// What messages are published to.
    pub(crate) fn ready_subject(&self) -> String {
        format!("dpat.queue.{}.ready", self.name)
    }

    /// What the subject of every dead letter begins with.
    pub(crate) fn dead_prefix(&self) -> String {
        format!("dpat.queue.{}.dead.", self.name)
    }
}
