//! Which server, which keys, and how long to wait.

use std::fmt;
use std::time::Duration;

use dpat_core::{Class, Classify, Effect};
use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion};

use crate::server::Durability;

/// The longest name, and the longest prefix of keys, in bytes: 48.
pub const NAME_BYTES_MAX: usize = 48;

/// Within how long a call ends unless told otherwise, connecting included: 5 s.
pub const TIMEOUT: Duration = Duration::from_secs(5);

/// The longest time that a call may take: 60 s.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(60);

/// A [`Config`] that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The URL is none of Redis. It is not repeated here: it may have a password in it.
    #[error(
        "url: {reason}: write `redis://[user][:password@]host[:port][/database]`, reserved characters as %XX"
    )]
    Url {
        /// What is wrong.
        reason: &'static str,
    },
    /// The URL asks for TLS, and the client was built without.
    #[error(
        "url: `rediss` asks for TLS, and the client is built without: add the crate `redis` with its feature `tokio-rustls-comp` or `tokio-native-tls-comp` to your own dependencies"
    )]
    Tls,
    /// A part of the keys is no name.
    #[error(
        "{field}: `{got}` is no name of 1 to {NAME_BYTES_MAX} bytes: take lower-case letters, digits, `_`, `-` and `.`"
    )]
    Name {
        /// Which part.
        field: &'static str,
        /// What was given, or the beginning of a long one.
        got: String,
    },
    /// The time for a call is none, or too long.
    #[error("timeout: {got:?} is not between 1ms and {TIMEOUT_MAX:?}")]
    Timeout {
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

/// Which server, which keys, and how long to wait.
///
/// Everything is kept below keys that begin with `PREFIX:{NAME}:`. What is in braces decides where a cluster keeps a key, so
/// that all keys of a name are on one node.
///
/// # Examples
/// ```
/// use dpat_redis::Config;
///
/// let config = Config::new("redis://user:secret@127.0.0.1:6379/0", "orders")?;
/// assert!(!format!("{config:?}").contains("secret"));
///
/// let error = Config::new("127.0.0.1:6379", "orders").unwrap_err();
/// assert!(error.to_string().starts_with("url: it has no scheme"));
/// # Ok::<(), dpat_redis::ConfigError>(())
/// ```
#[derive(Clone)]
pub struct Config {
    pub(crate) info: ConnectionInfo,
    pub(crate) prefix: String,
    pub(crate) name: String,
    pub(crate) timeout: Duration,
    pub(crate) durability: Option<Durability>,
}

impl Config {
    /// Takes the URL of the server, and the name of what is kept there.
    ///
    /// # Errors
    /// [`ConfigError::Url`], [`ConfigError::Tls`], [`ConfigError::Name`].
    pub fn new(url: &str, name: impl Into<String>) -> Result<Self, ConfigError> {
        Ok(Self {
            info: info(url)?,
            prefix: "dpat".to_owned(),
            name: checked("name", name.into())?,
            timeout: TIMEOUT,
            durability: None,
        })
    }

    /// Sets the beginning of all keys: `dpat`, unless told otherwise.
    ///
    /// # Errors
    /// [`ConfigError::Name`].
    pub fn prefix(mut self, prefix: impl Into<String>) -> Result<Self, ConfigError> {
        self.prefix = checked("prefix", prefix.into())?;
        Ok(self)
    }

    /// Sets within how long a call ends, connecting included: [`TIMEOUT`], unless told otherwise.
    ///
    /// # Errors
    /// [`ConfigError::Timeout`].
    pub fn timeout(mut self, timeout: Duration) -> Result<Self, ConfigError> {
        if timeout < Duration::from_millis(1) || timeout > TIMEOUT_MAX {
            return Err(ConfigError::Timeout { got: timeout });
        }
        self.timeout = timeout;
        Ok(self)
    }

    /// States what the server's storage survives, in the place of what it says itself.
    ///
    /// For servers that do not show their settings, and for those whose operator promises more.
    #[must_use]
    pub const fn durability(mut self, durability: Durability) -> Self {
        self.durability = Some(durability);
        self
    }

    /// Returns host and port, or the path of the socket.
    #[must_use]
    pub fn address(&self) -> String {
        match self.info.addr() {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
                format!("{host}:{port}")
            }
            ConnectionAddr::Unix(path) => path.display().to_string(),
            _ => "the server".to_owned(),
        }
    }

    /// A key, or the name of a channel.
    pub(crate) fn key(&self, part: &str) -> String {
        format!("{}:{{{}}}:{part}", self.prefix, self.name)
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("address", &self.address())
            .field("database", &self.info.redis_settings().db())
            .field("prefix", &self.prefix)
            .field("name", &self.name)
            .field("timeout", &self.timeout)
            .field("durability", &self.durability)
            .finish_non_exhaustive()
    }
}

fn info(url: &str) -> Result<ConnectionInfo, ConfigError> {
    let refused = |reason| Err(ConfigError::Url { reason });
    let Some((scheme, _)) = url.split_once("://") else {
        return refused("it has no scheme");
    };
    let is_tls = match scheme {
        "redis" | "valkey" | "unix" | "redis+unix" | "valkey+unix" => false,
        "rediss" | "valkeys" => true,
        _ => return refused("its scheme is none of Redis"),
    };
    let Ok(info) = url.into_connection_info() else {
        return match is_tls && !has_tls() {
            true => Err(ConfigError::Tls),
            false => refused("it does not parse"),
        };
    };
    if !info.addr().is_supported() {
        return match is_tls {
            true => Err(ConfigError::Tls),
            false => refused("this platform has no such sockets"),
        };
    }
    // Pushed messages need the third version of the protocol.
    let settings = info.redis_settings().clone();
    let settings = settings
        .set_protocol(ProtocolVersion::RESP3)
        .set_skip_set_lib_name();
    Ok(info.set_redis_settings(settings))
}

/// Whether the client has TLS: whether it takes the plainest URL of it.
fn has_tls() -> bool {
    let plain = "rediss://localhost".into_connection_info();
    plain.is_ok_and(|info| info.addr().is_supported())
}

fn checked(field: &'static str, name: String) -> Result<String, ConfigError> {
    let letter = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-' | b'.')
    };
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(letter) {
        let got = name.chars().take(NAME_BYTES_MAX).collect();
        return Err(ConfigError::Name { field, got });
    }
    Ok(name)
}
