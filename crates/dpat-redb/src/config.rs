//! Where the tables are, and which threads wait for the disk.

use dpat_core::{Class, Classify, Effect};

/// The longest prefix of table names, in bytes: 64.
pub const PREFIX_BYTES_MAX: usize = 64;

/// A [`Config`] that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The prefix is empty or too long.
    #[error("prefix: {got} bytes are not within 1..={PREFIX_BYTES_MAX}")]
    Prefix {
        /// Bytes of the prefix.
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

/// Which thread waits for the disk, and for other writers: a database has one at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Threads {
    /// The one that polls. Right where it may block: a thread of the relay's own, tests, simulations.
    #[default]
    Caller,
    /// One of tokio's blocking threads. The futures must then be polled within a tokio runtime.
    #[cfg(feature = "tokio")]
    TokioBlocking,
}

/// Where the tables are, and which threads wait for the disk.
///
/// # Examples
/// ```
/// use dpat_redb::Config;
///
/// let config = Config::new("orders.outbox")?;
/// let error = Config::new("").unwrap_err();
/// assert_eq!(error.to_string(), "prefix: 0 bytes are not within 1..=64");
/// # let _ = config;
/// # Ok::<(), dpat_redb::ConfigError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub(crate) prefix: String,
    pub(crate) threads: Threads,
}

impl Config {
    /// Names the tables `PREFIX.meta` and so on; two in one database need two prefixes.
    ///
    /// # Errors
    /// [`ConfigError::Prefix`].
    pub fn new(prefix: impl Into<String>) -> Result<Self, ConfigError> {
        let prefix = prefix.into();
        if prefix.is_empty() || prefix.len() > PREFIX_BYTES_MAX {
            return Err(ConfigError::Prefix { got: prefix.len() });
        }
        Ok(Self {
            prefix,
            threads: Threads::Caller,
        })
    }

    /// Sets which threads wait for the disk: the caller's, unless told otherwise.
    #[must_use]
    pub const fn threads(mut self, threads: Threads) -> Self {
        self.threads = threads;
        self
    }

    /// Returns the full name of a table.
    pub(crate) fn table(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }
}
