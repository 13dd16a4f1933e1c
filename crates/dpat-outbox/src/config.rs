//! Every limit of a relay, validated once.

use std::time::Duration;

use dpat_core::{Backoff, Class, Classify, Effect};

const MIN_TIME: Duration = Duration::from_millis(1);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// What the later events of a key do when one was given up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OnPoison {
    /// They wait until it is repaired or discarded: order without gaps.
    #[default]
    Block,
    /// They go on: order with gaps.
    SetAside,
}

/// Everything that a relay can be told, validated.
#[derive(Clone, Debug, PartialEq)]
pub struct RelayConfig {
    pub(crate) in_flight_max: usize,
    pub(crate) held_rows_max: usize,
    pub(crate) held_bytes_max: usize,
    pub(crate) lane_rows_max: usize,
    pub(crate) lease: Duration,
    pub(crate) publish_timeout: Duration,
    pub(crate) poll: Duration,
    pub(crate) backoff: Backoff,
    pub(crate) refusals_max: u32,
    pub(crate) on_poison: OnPoison,
    pub(crate) give_up_after: Duration,
    pub(crate) retention: Duration,
    pub(crate) housekeeping: Duration,
    pub(crate) purge_rows: usize,
}

impl RelayConfig {
    /// Starts from the defaults.
    pub fn builder() -> RelayConfigBuilder {
        RelayConfigBuilder {
            config: Self {
                in_flight_max: 64,
                held_rows_max: 512,
                held_bytes_max: 16 << 20,
                lane_rows_max: 16,
                lease: Duration::from_secs(60),
                publish_timeout: Duration::from_secs(10),
                poll: Duration::from_secs(1),
                backoff: Backoff::exponential(
                    Duration::from_millis(100),
                    2.0,
                    Duration::from_secs(60),
                )
                .unwrap_or_default(),
                refusals_max: 3,
                on_poison: OnPoison::Block,
                give_up_after: 3 * DAY,
                retention: DAY,
                housekeeping: Duration::from_secs(30),
                purge_rows: 1_000,
            },
        }
    }

    /// Returns how long after its first attempt an event can be sent again by itself.
    ///
    /// Receivers must remember what they have seen for longer (repairs and replays come on top).
    #[must_use]
    pub fn horizon(&self) -> Duration {
        self.give_up_after + self.publish_timeout
    }

    /// Returns how long a claim holds.
    #[must_use]
    pub const fn lease(&self) -> Duration {
        self.lease
    }

    /// Returns what happens to a key one of whose events was given up.
    #[must_use]
    pub const fn on_poison(&self) -> OnPoison {
        self.on_poison
    }
}

impl Default for RelayConfig {
    fn default() -> Self {
        Self::builder().config
    }
}

/// Builds a [`RelayConfig`].
///
/// # Examples
/// ```
/// use dpat_outbox::{OnPoison, RelayConfig};
/// use std::time::Duration;
///
/// let config = RelayConfig::builder()
///     .in_flight_max(16)
///     .on_poison(OnPoison::SetAside)
///     .build()?;
/// let error = RelayConfig::builder().publish_timeout(Duration::from_secs(60)).build().unwrap_err();
/// assert_eq!(error.to_string(), "publish_timeout: 60s is not within 1ms..=30s");
/// # let _ = config;
/// # Ok::<(), dpat_outbox::ConfigError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct RelayConfigBuilder {
    config: RelayConfig,
}

impl RelayConfigBuilder {
    /// Sets how many events are on their way at once, at most one of each key. 64; 1 to 4096.
    pub const fn in_flight_max(mut self, events: usize) -> Self {
        self.config.in_flight_max = events;
        self
    }

    /// Sets how many events are claimed at once. 512; `in_flight_max` to 65 536.
    pub const fn held_rows_max(mut self, events: usize) -> Self {
        self.config.held_rows_max = events;
        self
    }

    /// Sets how many bytes of events are claimed at once. 16 MiB; at least 1, and always one event.
    pub const fn held_bytes_max(mut self, bytes: usize) -> Self {
        self.config.held_bytes_max = bytes;
        self
    }

    /// Sets how many events of one key are claimed at once. 16; 1 to `held_rows_max`.
    pub const fn lane_rows_max(mut self, events: usize) -> Self {
        self.config.lane_rows_max = events;
        self
    }

    /// Sets how long a claim holds. 60 s; 2 ms to 1 day.
    ///
    /// After a crash the events of a relay wait so long. Longer than processes' clocks differ, by far.
    pub const fn lease(mut self, lease: Duration) -> Self {
        self.config.lease = lease;
        self
    }

    /// Sets how long one publishing may take. 10 s; 1 ms to half of the lease.
    pub const fn publish_timeout(mut self, timeout: Duration) -> Self {
        self.config.publish_timeout = timeout;
        self
    }

    /// Sets how often to look for new events that nothing was told of. 1 s; 1 ms to 1 day.
    pub const fn poll(mut self, interval: Duration) -> Self {
        self.config.poll = interval;
        self
    }

    /// Sets the waits between attempts. 100 ms doubling to 60 s, the upper half of each random.
    ///
    /// The same waits hold for the whole relay while nothing succeeds.
    pub const fn backoff(mut self, backoff: Backoff) -> Self {
        self.config.backoff = backoff;
        self
    }

    /// Sets how many attempts an event has that is refused for good. 3; 1 to 1 000 000.
    pub const fn refusals_max(mut self, attempts: u32) -> Self {
        self.config.refusals_max = attempts;
        self
    }

    /// Sets what the later events of a key do when one was given up.
    pub const fn on_poison(mut self, on_poison: OnPoison) -> Self {
        self.config.on_poison = on_poison;
        self
    }

    /// Sets how long after its first attempt an event is given up. 3 days; 1 ms to 10 years.
    pub const fn give_up_after(mut self, time: Duration) -> Self {
        self.config.give_up_after = time;
        self
    }

    /// Sets how long sent events are kept, for replays and against double appends. 1 day; 0 to 10 years.
    pub const fn retention(mut self, retention: Duration) -> Self {
        self.config.retention = retention;
        self
    }

    /// Sets how often to remove what was sent long ago, and to look at the lag. 30 s; 1 ms to 1 day.
    pub const fn housekeeping(mut self, interval: Duration) -> Self {
        self.config.housekeeping = interval;
        self
    }

    /// Sets how many events are removed in one step. 1000; 1 to 1 000 000.
    pub const fn purge_rows(mut self, rows: usize) -> Self {
        self.config.purge_rows = rows;
        self
    }

    /// Validates.
    ///
    /// # Errors
    /// [`ConfigError`] for a field outside its limits.
    pub fn build(self) -> Result<RelayConfig, ConfigError> {
        let config = &self.config;
        count("in_flight_max", config.in_flight_max, 1, 4096)?;
        count(
            "held_rows_max",
            config.held_rows_max,
            config.in_flight_max,
            65_536,
        )?;
        count("held_bytes_max", config.held_bytes_max, 1, usize::MAX)?;
        count(
            "lane_rows_max",
            config.lane_rows_max,
            1,
            config.held_rows_max,
        )?;
        duration("lease", config.lease, 2 * MIN_TIME, DAY)?;
        duration(
            "publish_timeout",
            config.publish_timeout,
            MIN_TIME,
            config.lease / 2,
        )?;
        duration("poll", config.poll, MIN_TIME, DAY)?;
        let refusals = usize::try_from(config.refusals_max).unwrap_or(usize::MAX);
        count("refusals_max", refusals, 1, 1_000_000)?;
        duration("give_up_after", config.give_up_after, MIN_TIME, 10 * YEAR)?;
        duration("retention", config.retention, Duration::ZERO, 10 * YEAR)?;
        duration("housekeeping", config.housekeeping, MIN_TIME, DAY)?;
        count("purge_rows", config.purge_rows, 1, 1_000_000)?;
        Ok(self.config)
    }
}

fn count(field: &'static str, got: usize, min: usize, max: usize) -> Result<(), ConfigError> {
    if got < min || got > max {
        return Err(ConfigError::Count {
            field,
            min,
            max,
            got,
        });
    }
    Ok(())
}

fn duration(
    field: &'static str,
    got: Duration,
    min: Duration,
    max: Duration,
) -> Result<(), ConfigError> {
    if got < min || got > max {
        return Err(ConfigError::Duration {
            field,
            min,
            max,
            got,
        });
    }
    Ok(())
}

/// A [`RelayConfig`] that cannot be. Names the field and its limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A number is outside its limits.
    #[error("{field}: {got} is not within {min}..={max}")]
    Count {
        /// The field at fault.
        field: &'static str,
        /// The smallest value allowed.
        min: usize,
        /// The largest value allowed.
        max: usize,
        /// The value given.
        got: usize,
    },
    /// A duration is outside its limits.
    #[error("{field}: {got:?} is not within {min:?}..={max:?}")]
    Duration {
        /// The field at fault.
        field: &'static str,
        /// The shortest duration allowed.
        min: Duration,
        /// The longest duration allowed.
        max: Duration,
        /// The value given.
        got: Duration,
    },
}

impl Classify for ConfigError {
    fn class(&self) -> Class {
        Class::InvalidInput
    }

    fn effect(&self) -> Effect {
        Effect::NotDone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_checked_and_named() {
        let fails = |builder: RelayConfigBuilder, text: &str| {
            let error = builder.build().unwrap_err();
            assert!(error.to_string().starts_with(text), "{error}");
            assert_eq!(
                (error.class(), error.effect()),
                (Class::InvalidInput, Effect::NotDone)
            );
        };
        let relay = RelayConfig::builder;
        fails(
            relay().in_flight_max(0),
            "in_flight_max: 0 is not within 1..=4096",
        );
        fails(
            relay().held_rows_max(63),
            "held_rows_max: 63 is not within 64..=65536",
        );
        fails(relay().held_bytes_max(0), "held_bytes_max: ");
        fails(
            relay().lane_rows_max(513),
            "lane_rows_max: 513 is not within 1..=512",
        );
        fails(
            relay().lease(MIN_TIME),
            "lease: 1ms is not within 2ms..=86400s",
        );
        fails(
            relay().lease(Duration::from_secs(19)),
            "publish_timeout: 10s is not within 1ms..=9.5s",
        );
        fails(relay().poll(Duration::ZERO), "poll: ");
        fails(relay().refusals_max(0), "refusals_max: ");
        fails(relay().give_up_after(Duration::ZERO), "give_up_after: ");
        fails(relay().retention(11 * YEAR), "retention: ");
        fails(relay().housekeeping(Duration::ZERO), "housekeeping: ");
        fails(relay().purge_rows(0), "purge_rows: ");
        assert_eq!(relay().build(), Ok(RelayConfig::default()));
        assert_eq!(
            RelayConfig::default().horizon(),
            3 * DAY + Duration::from_secs(10)
        );
    }
}
