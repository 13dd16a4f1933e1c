//! Where the tables are, how long to wait for other writers, and on which threads.

use std::path::{Path, PathBuf};
use std::time::Duration;

use dpat_core::{Class, Classify, Effect};

/// The longest prefix of table names, in bytes: 48.
pub const PREFIX_BYTES_MAX: usize = 48;

/// How long a connection waits for other writers unless told otherwise: 5 s.
pub const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest time that a connection waits for other writers: 60 s.
pub const BUSY_TIMEOUT_MAX: Duration = Duration::from_secs(60);

/// A [`Config`] that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The prefix is no name.
    #[error(
        "prefix: `{got}` is no name of 1 to {PREFIX_BYTES_MAX} bytes: take lower-case letters, digits and `_`, and no digit first"
    )]
    Prefix {
        /// The prefix, or the beginning of a long one.
        got: String,
    },
    /// The busy timeout is too long.
    #[error("busy_timeout: {got:?} is more than {BUSY_TIMEOUT_MAX:?}")]
    BusyTimeout {
        /// What was asked for.
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

/// Which thread waits for the disk, and for other writers: a database has one at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Threads {
    /// The one that polls. Right where it may block: a thread of the relay's own, tests.
    #[default]
    Caller,
    /// One of tokio's blocking threads. The futures must then be polled within a tokio runtime.
    #[cfg(feature = "tokio")]
    TokioBlocking,
}

/// Who makes the tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tables {
    /// Opening does: it makes what is missing, and brings what is older to this version.
    #[default]
    Make,
    /// Your own migrations, by the texts in [`sql`](crate::sql); opening checks that they are there.
    Expect,
}

/// Where the tables are, how long to wait for other writers, and on which threads.
///
/// # Examples
/// ```
/// use dpat_sqlite::Config;
///
/// let config = Config::new("shop.db", "orders")?;
/// let error = Config::new("shop.db", "my-orders").unwrap_err();
/// assert!(error.to_string().starts_with("prefix: `my-orders` is no name of 1 to 48 bytes"));
/// # let _ = config;
/// # Ok::<(), dpat_sqlite::ConfigError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub(crate) path: PathBuf,
    pub(crate) prefix: String,
    pub(crate) busy_timeout: Duration,
    pub(crate) threads: Threads,
    pub(crate) tables: Tables,
}

impl Config {
    /// Takes the file, and the prefix of the tables in it: `PREFIX_schema` and so on.
    ///
    /// # Errors
    /// [`ConfigError::Prefix`].
    pub fn new(path: impl Into<PathBuf>, prefix: impl Into<String>) -> Result<Self, ConfigError> {
        let prefix = prefix.into();
        let letter = |byte: u8| byte == b'_' || byte.is_ascii_lowercase();
        let first = prefix.bytes().next().is_some_and(letter);
        let all = prefix
            .bytes()
            .all(|byte| letter(byte) || byte.is_ascii_digit());
        if !first || !all || prefix.len() > PREFIX_BYTES_MAX {
            return Err(ConfigError::Prefix {
                got: prefix.chars().take(PREFIX_BYTES_MAX).collect(),
            });
        }
        Ok(Self {
            path: path.into(),
            prefix,
            busy_timeout: BUSY_TIMEOUT,
            threads: Threads::Caller,
            tables: Tables::Make,
        })
    }

    /// Sets how long a connection waits for other writers before it says so: [`BUSY_TIMEOUT`], unless told otherwise.
    ///
    /// # Errors
    /// [`ConfigError::BusyTimeout`].
    pub fn busy_timeout(mut self, timeout: Duration) -> Result<Self, ConfigError> {
        if timeout > BUSY_TIMEOUT_MAX {
            return Err(ConfigError::BusyTimeout { got: timeout });
        }
        self.busy_timeout = timeout;
        Ok(self)
    }

    /// Sets which threads wait for the disk: the caller's, unless told otherwise.
    #[must_use]
    pub const fn threads(mut self, threads: Threads) -> Self {
        self.threads = threads;
        self
    }

    /// Sets who makes the tables: opening does, unless told otherwise.
    #[must_use]
    pub const fn tables(mut self, tables: Tables) -> Self {
        self.tables = tables;
        self
    }

    /// Returns the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the prefix of the tables.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }
}
