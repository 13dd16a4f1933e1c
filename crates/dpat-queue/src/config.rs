//! Every limit of an embedded queue, validated once.

use std::time::Duration;

use dpat_core::{AnyTime, Sleep};

use crate::error::ConfigError;
use crate::queue::Queue;
use crate::rules::Rules;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// In which order messages are received that are ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// The highest priority first, the oldest of them first. Low priorities may wait for ever.
    #[default]
    Strict,
    /// A message gains one priority for each such time that it could have been delivered, so that all of them come.
    Aged(Duration),
}

/// What a send does when there is no room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// It is refused.
    #[default]
    Refuse,
    /// It waits for room.
    Wait,
    /// The oldest messages of the lowest priority go that are not out; if that is not enough, the send is refused.
    DropOldest,
}

/// Configures an embedded queue.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use dpat_core::ManualTime;
/// use dpat_queue::{ConfigError, Order, Queue};
///
/// let time = ManualTime::new();
/// let queue = Queue::builder()
///     .messages_max(1_000)
///     .visibility(Duration::from_secs(60))
///     .order(Order::Aged(Duration::from_secs(10)))
///     .in_memory(time.clone())?;
/// # drop(queue);
/// let refused = Queue::builder().messages_max(0).in_memory(time).unwrap_err();
/// assert_eq!(refused.to_string(), "messages_max: 0 is not between 1 and 100000000");
/// # Ok::<(), ConfigError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Builder {
    pub(crate) config: Config,
}

/// The settings of an embedded queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Config {
    pub(crate) messages_max: u64,
    pub(crate) bytes_max: u64,
    pub(crate) message_bytes_max: usize,
    pub(crate) when_full: WhenFull,
    pub(crate) order: Order,
    pub(crate) visibility: Duration,
    pub(crate) dedup_window: Duration,
    pub(crate) dedup_max: u64,
    pub(crate) dead_max: u64,
    pub(crate) dead_bytes_max: u64,
    pub(crate) batch_max: usize,
    pub(crate) waiters_max: usize,
    pub(crate) rules: Rules,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            config: Config {
                messages_max: 100_000,
                bytes_max: 256 << 20,
                message_bytes_max: 1 << 20,
                when_full: WhenFull::Refuse,
                order: Order::Strict,
                visibility: Duration::from_secs(30),
                dedup_window: Duration::from_secs(5 * 60),
                dedup_max: 100_000,
                dead_max: 10_000,
                dead_bytes_max: 64 << 20,
                batch_max: 1_000,
                waiters_max: 10_000,
                rules: Rules::default(),
            },
        }
    }
}

impl Builder {
    /// Sets how many messages may be there, dead letters left out; 100 000 by default.
    pub const fn messages_max(mut self, messages: u64) -> Self {
        self.config.messages_max = messages;
        self
    }

    /// Sets how many bytes the messages may take, dead letters left out; 256 MiB by default.
    pub const fn bytes_max(mut self, bytes: u64) -> Self {
        self.config.bytes_max = bytes;
        self
    }

    /// Sets the largest payload; 1 MiB by default, at most 16 MiB.
    pub const fn message_bytes_max(mut self, bytes: usize) -> Self {
        self.config.message_bytes_max = bytes;
        self
    }

    /// Sets what a send does when there is no room; it is refused by default.
    pub const fn when_full(mut self, when_full: WhenFull) -> Self {
        self.config.when_full = when_full;
        self
    }

    /// Sets the order in which messages are received; strictly by priority by default.
    pub const fn order(mut self, order: Order) -> Self {
        self.config.order = order;
        self
    }

    /// Sets for how long a received message is leased; 30 s by default, 1 ms to 1 day.
    pub const fn visibility(mut self, visibility: Duration) -> Self {
        self.config.visibility = visibility;
        self
    }

    /// Sets for how long a deduplication key is remembered; 5 minutes by default, at most 30 days.
    pub const fn dedup_window(mut self, window: Duration) -> Self {
        self.config.dedup_window = window;
        self
    }

    /// Sets how many deduplication keys are remembered; 100 000 by default. Sends with one more are refused.
    pub const fn dedup_max(mut self, keys: u64) -> Self {
        self.config.dedup_max = keys;
        self
    }

    /// Sets how many dead letters are kept; 10 000 by default. One more is not rejected: it stays out.
    pub const fn dead_max(mut self, messages: u64) -> Self {
        self.config.dead_max = messages;
        self
    }

    /// Sets how many bytes the dead letters may take; 64 MiB by default.
    pub const fn dead_bytes_max(mut self, bytes: u64) -> Self {
        self.config.dead_bytes_max = bytes;
        self
    }

    /// Sets how many messages one receive may return; 1 000 by default, at most 10 000.
    pub const fn batch_max(mut self, messages: usize) -> Self {
        self.config.batch_max = messages;
        self
    }

    /// Sets how many callers may wait to receive, and as many to send; 10 000 by default.
    pub const fn waiters_max(mut self, callers: usize) -> Self {
        self.config.waiters_max = callers;
        self
    }

    /// Leaves a rule out, to see that tests find it.
    #[cfg(feature = "test-util")]
    pub const fn mutant(mut self, mutant: Option<crate::testing::Mutant>) -> Self {
        self.config.rules.left_out = mutant;
        self
    }

    /// Makes a queue in memory. It ends with its last handle.
    ///
    /// # Errors
    /// [`ConfigError`] names the first field that is out of its range.
    pub fn in_memory(self, time: impl Sleep + 'static) -> Result<Queue, ConfigError> {
        let config = self.validated()?;
        Ok(Queue::in_memory(config, AnyTime::new(time)))
    }

    pub(crate) fn validated(self) -> Result<Config, ConfigError> {
        let config = self.config;
        range("messages_max", config.messages_max, 1, 100_000_000)?;
        range("bytes_max", config.bytes_max, 1, 1 << 40)?;
        let payload = config.message_bytes_max as u64;
        range("message_bytes_max", payload, 1, 16 << 20)?;
        let ms = Duration::from_millis(1);
        time("visibility", config.visibility, ms, DAY)?;
        time("dedup_window", config.dedup_window, ms, 30 * DAY)?;
        if let Order::Aged(step) = config.order {
            time("order", step, ms, 30 * DAY)?;
        }
        range("dedup_max", config.dedup_max, 0, 10_000_000)?;
        range("dead_max", config.dead_max, 0, 10_000_000)?;
        range("dead_bytes_max", config.dead_bytes_max, 0, 1 << 40)?;
        range("batch_max", config.batch_max as u64, 1, 10_000)?;
        range("waiters_max", config.waiters_max as u64, 1, 1_000_000)?;
        Ok(config)
    }
}

pub(crate) fn range(
    field: &'static str,
    given: u64,
    min: u64,
    max: u64,
) -> Result<(), ConfigError> {
    if (min..=max).contains(&given) {
        return Ok(());
    }
    Err(ConfigError::OutOfRange {
        field,
        given,
        min,
        max,
    })
}

/// Checks a time; the error has it in milliseconds.
pub(crate) fn time(
    field: &'static str,
    given: Duration,
    min: Duration,
    max: Duration,
) -> Result<(), ConfigError> {
    if (min..=max).contains(&given) {
        return Ok(());
    }
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    Err(ConfigError::OutOfRange {
        field,
        given: millis(given),
        min: millis(min),
        max: millis(max),
    })
}
