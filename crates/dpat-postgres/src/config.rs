//! Which server, which tables, and how long to wait.

use std::fmt;
use std::time::Duration;

use dpat_core::{Class, Classify, Effect};
use tokio_postgres::config::{Host, SslMode};

use crate::tls::Tls;

/// The longest prefix of table names, in bytes: 32.
pub const PREFIX_BYTES_MAX: usize = 32;

/// The longest name of a schema, in bytes: 63, as PostgreSQL has it.
pub const SCHEMA_BYTES_MAX: usize = 63;

/// Within how long a connection is made, unless told otherwise: 5 s.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Within how long a call ends unless told otherwise, connecting included: 10 s.
pub const TIMEOUT: Duration = Duration::from_secs(10);

/// The longest time that a call may take: 5 min.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(300);

/// How many connections a store has at most, unless told otherwise: 4. One more listens.
pub const CONNECTIONS: usize = 4;

/// How many connections a store may be allowed: 64.
pub const CONNECTIONS_MAX: usize = 64;

/// A [`Config`] that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The URL is none of PostgreSQL. It is not repeated here: it may have a password in it.
    #[error(
        "url: {reason}: write `postgres://user[:password]@host[:port]/database`, reserved characters as %XX"
    )]
    Url {
        /// What is wrong.
        reason: &'static str,
    },
    /// The URL asks for TLS, and there is no connector.
    #[error("url: `sslmode=require` asks for TLS: give a connector to `Config::tls`")]
    Tls,
    /// A name that is none.
    #[error(
        "{field}: `{got}` is no name of 1 to {max} bytes: take lower-case letters, digits and `_`, and no digit first"
    )]
    Name {
        /// Which setting.
        field: &'static str,
        /// What was given, or the beginning of a long one.
        got: String,
        /// The longest.
        max: usize,
    },
    /// A time is none, or too long.
    #[error("{field}: {got:?} is not between 1ms and {TIMEOUT_MAX:?}")]
    Timeout {
        /// Which setting.
        field: &'static str,
        /// What was asked for.
        got: Duration,
    },
    /// The number of connections is none, or too large.
    #[error("connections: {got} is not between 1 and {CONNECTIONS_MAX}")]
    Connections {
        /// What was asked for.
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

/// Who makes the tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tables {
    /// Opening does: it makes what is missing, and brings what is older to this version.
    #[default]
    Make,
    /// Your own migrations, by the texts in [`sql`](crate::sql); opening checks that they are there.
    Expect,
}

/// Which server, which tables, and how long to wait.
///
/// # Examples
/// ```
/// use dpat_postgres::Config;
///
/// let config = Config::new("postgres://shop:secret@127.0.0.1:5432/shop", "orders")?;
/// assert!(!format!("{config:?}").contains("secret"));
///
/// let error = Config::new("127.0.0.1:5432", "orders").unwrap_err();
/// assert!(error.to_string().starts_with("url: it has no scheme"));
/// # Ok::<(), dpat_postgres::ConfigError>(())
/// ```
#[derive(Clone)]
pub struct Config {
    pub(crate) client: tokio_postgres::Config,
    pub(crate) tls: Tls,
    pub(crate) schema: String,
    pub(crate) prefix: String,
    pub(crate) connect_timeout: Duration,
    pub(crate) timeout: Duration,
    pub(crate) connections: usize,
    pub(crate) tables: Tables,
    pub(crate) notifies: bool,
}

impl Config {
    /// Takes the URL of the database, and the prefix of the tables in it: `PREFIX_schema` and so on.
    ///
    /// # Errors
    /// [`ConfigError::Url`], [`ConfigError::Name`].
    pub fn new(url: &str, prefix: impl Into<String>) -> Result<Self, ConfigError> {
        Ok(Self {
            client: client(url)?,
            tls: Tls::none(),
            schema: "public".to_owned(),
            prefix: name("prefix", prefix.into(), PREFIX_BYTES_MAX)?,
            connect_timeout: CONNECT_TIMEOUT,
            timeout: TIMEOUT,
            connections: CONNECTIONS,
            tables: Tables::Make,
            notifies: true,
        })
    }

    /// Sets the schema of the tables: `public`, unless told otherwise.
    ///
    /// # Errors
    /// [`ConfigError::Name`].
    pub fn schema(mut self, schema: impl Into<String>) -> Result<Self, ConfigError> {
        self.schema = name("schema", schema.into(), SCHEMA_BYTES_MAX)?;
        Ok(self)
    }

    /// Sets how connections are encrypted: by a connector of tokio-postgres, for instance `tokio-postgres-rustls`.
    #[must_use]
    pub fn tls<T>(mut self, connector: T) -> Self
    where
        T: tokio_postgres::tls::MakeTlsConnect<tokio_postgres::Socket>
            + Clone
            + Send
            + Sync
            + 'static,
        T::Stream: Send + 'static,
        T::TlsConnect: Send,
        <T::TlsConnect as tokio_postgres::tls::TlsConnect<tokio_postgres::Socket>>::Future: Send,
    {
        self.tls = Tls::by(connector);
        self
    }

    /// Sets within how long a connection is made: [`CONNECT_TIMEOUT`], unless told otherwise.
    ///
    /// # Errors
    /// [`ConfigError::Timeout`].
    pub fn connect_timeout(mut self, timeout: Duration) -> Result<Self, ConfigError> {
        self.connect_timeout = time("connect_timeout", timeout)?;
        Ok(self)
    }

    /// Sets within how long a call ends, connecting included: [`TIMEOUT`], unless told otherwise.
    ///
    /// The server ends a statement after this time, too.
    ///
    /// # Errors
    /// [`ConfigError::Timeout`].
    pub fn timeout(mut self, timeout: Duration) -> Result<Self, ConfigError> {
        self.timeout = time("timeout", timeout)?;
        Ok(self)
    }

    /// Sets how many connections a store has at most: [`CONNECTIONS`], unless told otherwise. One more listens.
    ///
    /// # Errors
    /// [`ConfigError::Connections`].
    pub fn connections(mut self, connections: usize) -> Result<Self, ConfigError> {
        if connections == 0 || connections > CONNECTIONS_MAX {
            return Err(ConfigError::Connections { got: connections });
        }
        self.connections = connections;
        Ok(self)
    }

    /// Sets who makes the tables: opening does, unless told otherwise.
    #[must_use]
    pub const fn tables(mut self, tables: Tables) -> Self {
        self.tables = tables;
        self
    }

    /// Sets whether changes notify and stores listen: they do, unless told otherwise.
    ///
    /// PostgreSQL commits the transactions that notify one after another. Where thousands commit in a second, turn it off:
    /// stores then look by the clock alone.
    #[must_use]
    pub const fn notify(mut self, notifies: bool) -> Self {
        self.notifies = notifies;
        self
    }

    /// Returns host and port of the server, or the folder of its socket; of several the first.
    #[must_use]
    pub fn address(&self) -> String {
        let port = self.client.get_ports().first().copied().unwrap_or(5432);
        match self.client.get_hosts().first() {
            Some(Host::Tcp(host)) => format!("{host}:{port}"),
            #[cfg(unix)]
            Some(Host::Unix(path)) => path.display().to_string(),
            None => match self.client.get_hostaddrs().first() {
                Some(address) => format!("{address}:{port}"),
                None => "the server".to_owned(),
            },
        }
    }

    /// The name of a table or channel part, for errors.
    pub(crate) fn table(&self, part: &str) -> String {
        format!("{}.{}_{part}", self.schema, self.prefix)
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("address", &self.address())
            .field("database", &self.client.get_dbname())
            .field("schema", &self.schema)
            .field("prefix", &self.prefix)
            .field("connect_timeout", &self.connect_timeout)
            .field("timeout", &self.timeout)
            .field("connections", &self.connections)
            .field("tables", &self.tables)
            .field("notify", &self.notifies)
            .finish_non_exhaustive()
    }
}

fn client(url: &str) -> Result<tokio_postgres::Config, ConfigError> {
    let refused = |reason| Err(ConfigError::Url { reason });
    match url.split_once("://") {
        None => return refused("it has no scheme"),
        Some(("postgres" | "postgresql", _)) => {}
        Some(_) => return refused("its scheme is not `postgres`"),
    }
    let Ok(mut client) = url.parse::<tokio_postgres::Config>() else {
        return refused("it does not parse");
    };
    if client.get_hosts().is_empty() && client.get_hostaddrs().is_empty() {
        return refused("it has no host");
    }
    if client.get_application_name().is_none() {
        client.application_name("dpat");
    }
    Ok(client)
}

impl Config {
    /// What can be seen only once everything is set.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let must = !matches!(
            self.client.get_ssl_mode(),
            SslMode::Disable | SslMode::Prefer
        );
        match must && self.tls.is_none() {
            true => Err(ConfigError::Tls),
            false => Ok(()),
        }
    }
}

fn name(field: &'static str, name: String, max: usize) -> Result<String, ConfigError> {
    let letter = |byte: u8| byte == b'_' || byte.is_ascii_lowercase();
    let first = name.bytes().next().is_some_and(letter);
    let all = name
        .bytes()
        .all(|byte| letter(byte) || byte.is_ascii_digit());
    if !first || !all || name.len() > max {
        let got = name.chars().take(max).collect();
        return Err(ConfigError::Name { field, got, max });
    }
    Ok(name)
}

fn time(field: &'static str, got: Duration) -> Result<Duration, ConfigError> {
    match got >= Duration::from_millis(1) && got <= TIMEOUT_MAX {
        true => Ok(got),
        false => Err(ConfigError::Timeout { field, got }),
    }
}
