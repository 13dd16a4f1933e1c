//! Every limit of a response store, validated once.

use std::time::Duration;

use dpat_core::{Class, Classify, Effect};

/// The largest response that can be stored at all: 64 MiB.
pub const RESPONSE_BYTES_MAX: usize = 64 << 20;

const TIME_MIN: Duration = Duration::from_millis(1);
const LEASE_MAX: Duration = Duration::from_secs(24 * 60 * 60);
const RETENTION_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// What a key does whose first attempt ended nobody knows how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OnDoubt {
    /// Refuses, until somebody finds out and [resolves](crate::Responses::resolve) it.
    #[default]
    Report,
    /// Hands the key out again, as a further attempt: only where the effect itself may happen twice.
    Retake,
}

/// Everything that a response store can be told, validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub(crate) lease: Duration,
    pub(crate) retention: Duration,
    pub(crate) response_bytes_max: usize,
    pub(crate) on_doubt: OnDoubt,
}

impl Config {
    /// Starts from the defaults.
    pub const fn builder() -> ConfigBuilder {
        ConfigBuilder {
            config: Self {
                lease: Duration::from_secs(60),
                retention: Duration::from_secs(24 * 60 * 60),
                response_bytes_max: 1 << 20,
                on_doubt: OnDoubt::Report,
            },
        }
    }

    /// Returns how long a claim is held unless it is extended.
    #[must_use]
    pub const fn lease(&self) -> Duration {
        self.lease
    }

    /// Returns how long a response is kept.
    #[must_use]
    pub const fn retention(&self) -> Duration {
        self.retention
    }

    /// Returns the largest response, in bytes.
    #[must_use]
    pub const fn response_bytes_max(&self) -> usize {
        self.response_bytes_max
    }

    /// Returns what happens to keys in doubt.
    #[must_use]
    pub const fn on_doubt(&self) -> OnDoubt {
        self.on_doubt
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::builder().config
    }
}

/// Builds a [`Config`].
///
/// # Examples
/// ```
/// use dpat_idempotency::Config;
/// use std::time::Duration;
///
/// let config = Config::builder()
///     .lease(Duration::from_secs(10))
///     .retention(Duration::from_secs(7 * 24 * 60 * 60))
///     .build()?;
/// let error = Config::builder().lease(Duration::ZERO).build().unwrap_err();
/// assert_eq!(error.to_string(), "lease: 0ns is not within 1ms..=86400s");
/// # Ok::<(), dpat_idempotency::ConfigError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct ConfigBuilder {
    config: Config,
}

impl ConfigBuilder {
    /// Sets how long an operation may take before it counts as in doubt. 60 s; 1 ms to 24 h.
    ///
    /// Longer than the operation's own time limit, by more than the clocks of the processes differ.
    pub const fn lease(mut self, lease: Duration) -> Self {
        self.config.lease = lease;
        self
    }

    /// Sets how long a response is kept. 24 h; the lease to 10 years.
    ///
    /// Longer than any client goes on repeating: after it, the same key is a new operation.
    pub const fn retention(mut self, retention: Duration) -> Self {
        self.config.retention = retention;
        self
    }

    /// Sets the largest response, in bytes. 1 MiB; 0 to [`RESPONSE_BYTES_MAX`].
    pub const fn response_bytes_max(mut self, bytes: usize) -> Self {
        self.config.response_bytes_max = bytes;
        self
    }

    /// Sets what happens to keys in doubt.
    pub const fn on_doubt(mut self, on_doubt: OnDoubt) -> Self {
        self.config.on_doubt = on_doubt;
        self
    }

    /// Validates.
    ///
    /// # Errors
    /// [`ConfigError`] for a field outside its limits.
    pub fn build(self) -> Result<Config, ConfigError> {
        let Config {
            lease,
            retention,
            response_bytes_max,
            ..
        } = self.config;
        let within = |field, got, min, max| {
            if got < min || got > max {
                return Err(ConfigError::Duration {
                    field,
                    min,
                    max,
                    got,
                });
            }
            Ok(())
        };
        within("lease", lease, TIME_MIN, LEASE_MAX)?;
        within("retention", retention, lease, RETENTION_MAX)?;
        if response_bytes_max > RESPONSE_BYTES_MAX {
            return Err(ConfigError::Bytes {
                field: "response_bytes_max",
                max: RESPONSE_BYTES_MAX,
                got: response_bytes_max,
            });
        }
        Ok(self.config)
    }
}

/// A [`Config`] that cannot be. Names the field and its limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
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
    /// A size is above its limit.
    #[error("{field}: {got} bytes are more than {max}")]
    Bytes {
        /// The field at fault.
        field: &'static str,
        /// The largest size allowed.
        max: usize,
        /// The value given.
        got: usize,
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
        let second = Duration::from_secs(1);
        let fails = |builder: ConfigBuilder, text: &str| {
            let error = builder.build().unwrap_err();
            assert!(error.to_string().starts_with(text), "{error}");
            assert_eq!(
                (error.class(), error.effect()),
                (Class::InvalidInput, Effect::NotDone)
            );
        };
        fails(Config::builder().lease(LEASE_MAX + second), "lease: ");
        fails(
            Config::builder().lease(2 * second).retention(second),
            "retention: 1s",
        );
        fails(
            Config::builder().retention(RETENTION_MAX + second),
            "retention: ",
        );
        fails(
            Config::builder().response_bytes_max(RESPONSE_BYTES_MAX + 1),
            "response_bytes_max: 67108865 bytes are more than 67108864",
        );
        let config = Config::builder()
            .lease(second)
            .retention(second)
            .response_bytes_max(7)
            .on_doubt(OnDoubt::Retake)
            .build()
            .unwrap();
        assert_eq!((config.lease(), config.retention()), (second, second));
        assert_eq!(
            (config.response_bytes_max(), config.on_doubt()),
            (7, OnDoubt::Retake)
        );
        assert_eq!(Config::builder().build().unwrap(), Config::default());
    }
}
