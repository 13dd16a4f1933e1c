//! Where the servers are, who logs in, and how long to wait.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use async_nats::ServerAddr;
use dpat_core::{Class, Classify, Effect};

use crate::headers::unescape;

/// How long connecting may take, unless told otherwise: 5 s.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a call waits for the server, unless told otherwise: 5 s.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest of all timeouts: 60 s.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(60);

/// How often the server is asked whether it is there, unless told otherwise: every 10 s.
pub const PING_INTERVAL: Duration = Duration::from_secs(10);

/// The shortest and the longest pause between attempts to connect again, unless told otherwise: 50 ms and 5 s.
pub const RECONNECT_DELAYS: (Duration, Duration) =
    (Duration::from_millis(50), Duration::from_secs(5));

/// The messages that wait to be written, unless told otherwise: 2 048.
pub const PENDING_MAX: usize = 2_048;

/// The messages of a subscription between the socket and its own buffer, unless told otherwise: 65 536.
pub const CLIENT_BUFFER: usize = 1 << 16;

/// The most servers in one URL: 16.
pub const SERVERS_MAX: usize = 16;

/// The longest name of a connection, in bytes: 64.
pub const NAME_BYTES_MAX: usize = 64;

/// A setting that cannot be. Nothing was tried.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A URL is none of a NATS server. What it says is not shown: it may have a password in it.
    #[error(
        "url: the {at}. one {reason}; write it as nats://HOST:PORT, several with commas between"
    )]
    Url {
        /// Which of them, from 1 on.
        at: usize,
        /// What is wrong.
        reason: &'static str,
    },
    /// A value is outside of its range.
    #[error("{field}: {given} is not between {min} and {max}")]
    OutOfRange {
        /// The setting, with its unit.
        field: &'static str,
        /// What was asked for.
        given: u64,
        /// The least.
        min: u64,
        /// The most.
        max: u64,
    },
    /// A name has letters that NATS does not take there, or a length.
    #[error("{field}: {got:?} is no name of 1 to {max} letters, digits, `-` and `_`")]
    Name {
        /// The setting.
        field: &'static str,
        /// The most bytes.
        max: usize,
        /// What was given, cut.
        got: Box<str>,
    },
    /// The text of the credentials is none. It is not shown.
    #[error("credentials: not in the form of a credentials file, with a token and a seed")]
    Credentials,
}

impl Classify for ConfigError {
    fn class(&self) -> Class {
        Class::InvalidInput
    }

    fn effect(&self) -> Effect {
        Effect::NotDone
    }
}

/// Checks that a number is in its range.
pub(crate) fn within(
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

/// Checks a name that becomes a part of subjects.
pub(crate) fn check_name(field: &'static str, name: &str, max: usize) -> Result<(), ConfigError> {
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_');
    if (1..=max).contains(&name.len()) && name.chars().all(allowed) {
        return Ok(());
    }
    Err(ConfigError::Name {
        field,
        max,
        got: name.chars().take(max).collect(),
    })
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// How a client shows who it is. Never shown by `Debug`.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) enum Login {
    #[default]
    None,
    Password {
        user: String,
        password: String,
    },
    Token(String),
    Nkey(String),
    Credentials(String),
}

/// Certificates of the connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tls {
    pub(crate) required: bool,
    pub(crate) roots: Option<PathBuf>,
    pub(crate) client: Option<(PathBuf, PathBuf)>,
}

/// How to connect. Nothing of a login is ever shown.
///
/// | setting | default |
/// |---|---|
/// | `name` | `dpat` |
/// | `connect_timeout`, `request_timeout` | 5 s each |
/// | `ping_interval` | 10 s |
/// | `reconnect_delays` | from 50 ms, doubling, to 5 s, with jitter |
/// | `reconnects_max` | none: it goes on trying |
/// | `pending_max` | 2 048 messages |
/// | `client_buffer` | 65 536 messages |
/// | `inbox_prefix` | `_INBOX` |
///
/// # Examples
/// ```
/// use dpat_nats::Config;
///
/// let config = Config::new("nats://shop:secret@one:4222,nats://two")?.name("orders")?;
/// assert_eq!(config.servers(), "one:4222, two:4222");
/// assert!(!format!("{config:?}").contains("secret"));
///
/// let error = Config::new("http://one").unwrap_err();
/// assert!(error.to_string().starts_with("url: the 1. one is not of the scheme nats or tls"));
/// # Ok::<(), dpat_nats::ConfigError>(())
/// ```
#[derive(Clone)]
#[must_use]
pub struct Config {
    pub(crate) addresses: Vec<ServerAddr>,
    pub(crate) name: String,
    pub(crate) login: Login,
    pub(crate) tls: Tls,
    pub(crate) connect_timeout: Duration,
    pub(crate) request_timeout: Duration,
    pub(crate) ping_interval: Duration,
    pub(crate) reconnect_delays: (Duration, Duration),
    pub(crate) reconnects_max: Option<usize>,
    pub(crate) pending_max: usize,
    pub(crate) client_buffer: usize,
    pub(crate) inbox_prefix: String,
}

impl Config {
    /// Takes the URL of a server, or of up to 16 with commas between.
    ///
    /// A URL is `nats://HOST:PORT`, or `tls://…`, and may have `USER:PASSWORD@` or `TOKEN@` before the host. The port is 4222
    /// unless it says another.
    ///
    /// # Errors
    /// [`ConfigError::Url`] says which one is wrong, and never shows it.
    pub fn new(url: &str) -> Result<Self, ConfigError> {
        let mut addresses = Vec::new();
        let mut login = None;
        for (index, one) in url.split(',').enumerate() {
            let at = index + 1;
            let (address, own) = address(at, one.trim())?;
            if login.is_some() && own.is_some() && own != login {
                let reason = "has another login than an earlier one";
                return Err(ConfigError::Url { at, reason });
            }
            login = own.or(login);
            addresses.push(address);
        }
        within(
            "url, servers in it",
            addresses.len() as u64,
            1,
            SERVERS_MAX as u64,
        )?;
        Ok(Self {
            addresses,
            name: "dpat".to_owned(),
            login: login.unwrap_or_default(),
            tls: Tls::default(),
            connect_timeout: CONNECT_TIMEOUT,
            request_timeout: REQUEST_TIMEOUT,
            ping_interval: PING_INTERVAL,
            reconnect_delays: RECONNECT_DELAYS,
            reconnects_max: None,
            pending_max: PENDING_MAX,
            client_buffer: CLIENT_BUFFER,
            inbox_prefix: "_INBOX".to_owned(),
        })
    }

    /// Names the connection, as the server's monitoring shows it.
    ///
    /// # Errors
    /// [`ConfigError::Name`].
    pub fn name(mut self, name: &str) -> Result<Self, ConfigError> {
        check_name("name", name, NAME_BYTES_MAX)?;
        self.name = name.to_owned();
        Ok(self)
    }

    /// Logs in with a user and a password, in place of those of the URL.
    pub fn user_and_password(mut self, user: &str, password: &str) -> Self {
        let (user, password) = (user.to_owned(), password.to_owned());
        self.login = Login::Password { user, password };
        self
    }

    /// Logs in with a token.
    pub fn token(mut self, token: &str) -> Self {
        self.login = Login::Token(token.to_owned());
        self
    }

    /// Logs in by signing with the seed of an nkey.
    pub fn nkey(mut self, seed: &str) -> Self {
        self.login = Login::Nkey(seed.to_owned());
        self
    }

    /// Logs in with the text of a credentials file.
    ///
    /// # Errors
    /// [`ConfigError::Credentials`].
    pub fn credentials(mut self, text: &str) -> Result<Self, ConfigError> {
        if async_nats::ConnectOptions::with_credentials(text).is_err() {
            return Err(ConfigError::Credentials);
        }
        self.login = Login::Credentials(text.to_owned());
        Ok(self)
    }

    /// Refuses a connection without TLS, as `tls://` does.
    pub fn require_tls(mut self) -> Self {
        self.tls.required = true;
        self
    }

    /// Trusts the certificates of this file beside those of the system.
    pub fn root_certificates(mut self, file: impl Into<PathBuf>) -> Self {
        self.tls.roots = Some(file.into());
        self
    }

    /// Shows the server this certificate, with its key.
    pub fn client_certificate(
        mut self,
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Self {
        self.tls.client = Some((certificate.into(), key.into()));
        self
    }

    /// Sets how long connecting may take: 10 ms to 60 s.
    ///
    /// # Errors
    /// [`ConfigError::OutOfRange`].
    pub fn connect_timeout(mut self, timeout: Duration) -> Result<Self, ConfigError> {
        let max = millis(TIMEOUT_MAX);
        within("connect_timeout, ms", millis(timeout), 10, max)?;
        self.connect_timeout = timeout;
        Ok(self)
    }

    /// Sets how long a call waits for the server, connecting again included: 10 ms to 60 s.
    ///
    /// # Errors
    /// [`ConfigError::OutOfRange`].
    pub fn request_timeout(mut self, timeout: Duration) -> Result<Self, ConfigError> {
        let max = millis(TIMEOUT_MAX);
        within("request_timeout, ms", millis(timeout), 10, max)?;
        self.request_timeout = timeout;
        Ok(self)
    }

    /// Sets how often the server is asked whether it is there: 100 ms to 60 s. After three silent ones the connection is made anew.
    ///
    /// # Errors
    /// [`ConfigError::OutOfRange`].
    pub fn ping_interval(mut self, interval: Duration) -> Result<Self, ConfigError> {
        let max = millis(TIMEOUT_MAX);
        within("ping_interval, ms", millis(interval), 100, max)?;
        self.ping_interval = interval;
        Ok(self)
    }

    /// Sets the shortest and the longest pause between attempts to connect again: 1 ms to 60 s.
    ///
    /// # Errors
    /// [`ConfigError::OutOfRange`].
    pub fn reconnect_delays(
        mut self,
        shortest: Duration,
        longest: Duration,
    ) -> Result<Self, ConfigError> {
        let max = millis(TIMEOUT_MAX);
        within("reconnect_delays, longest, ms", millis(longest), 1, max)?;
        within(
            "reconnect_delays, shortest, ms",
            millis(shortest),
            1,
            millis(longest),
        )?;
        self.reconnect_delays = (shortest, longest);
        Ok(self)
    }

    /// Sets after how many attempts in a row it is given up: 1 to 1 000 000. Everything fails from then on.
    ///
    /// # Errors
    /// [`ConfigError::OutOfRange`].
    pub fn reconnects_max(mut self, attempts: usize) -> Result<Self, ConfigError> {
        within("reconnects_max", attempts as u64, 1, 1_000_000)?;
        self.reconnects_max = Some(attempts);
        Ok(self)
    }

    /// Sets how many messages may wait to be written: 1 to 2²⁰. Who wants to write more waits.
    ///
    /// # Errors
    /// [`ConfigError::OutOfRange`].
    pub fn pending_max(mut self, messages: usize) -> Result<Self, ConfigError> {
        within("pending_max", messages as u64, 1, 1 << 20)?;
        self.pending_max = messages;
        Ok(self)
    }

    /// Sets how many messages of a subscription may wait between the socket and its own buffer: 1 to 2²⁰.
    ///
    /// # Errors
    /// [`ConfigError::OutOfRange`].
    pub fn client_buffer(mut self, messages: usize) -> Result<Self, ConfigError> {
        within("client_buffer", messages as u64, 1, 1 << 20)?;
        self.client_buffer = messages;
        Ok(self)
    }

    /// Sets what the subjects of answers begin with, for accounts that may not use `_INBOX`.
    ///
    /// # Errors
    /// [`ConfigError::Name`].
    pub fn inbox_prefix(mut self, prefix: &str) -> Result<Self, ConfigError> {
        check_name("inbox_prefix", prefix, NAME_BYTES_MAX)?;
        self.inbox_prefix = prefix.to_owned();
        Ok(self)
    }

    /// Returns the hosts and ports, without logins.
    #[must_use]
    pub fn servers(&self) -> String {
        let shown = |one: &ServerAddr| format!("{}:{}", one.host(), one.port());
        let shown: Vec<String> = self.addresses.iter().map(shown).collect();
        shown.join(", ")
    }
}

/// Reads an address, and the login in it, which the address loses: the client writes addresses into its events.
fn address(at: usize, text: &str) -> Result<(ServerAddr, Option<Login>), ConfigError> {
    let wrong = |reason| ConfigError::Url { at, reason };
    if text.is_empty() {
        return Err(wrong("is empty"));
    }
    let scheme = text.split_once("://").map(|(scheme, _)| scheme);
    if scheme.is_some_and(|scheme| !matches!(scheme, "nats" | "tls")) {
        return Err(wrong("is not of the scheme nats or tls"));
    }
    let address: ServerAddr = text.parse().map_err(|_| wrong("is no URL"))?;
    if address.host().is_empty() {
        return Err(wrong("has no host"));
    }
    if address.port() == 0 {
        return Err(wrong("has the port 0"));
    }
    let plain = |text: &str| String::from_utf8(unescape(text, '%')?).ok();
    let login = match (address.username(), address.password()) {
        (None, None) => None,
        (Some(token), None) => plain(token).map(Login::Token),
        (user, Some(password)) => plain(user.unwrap_or_default())
            .zip(plain(password))
            .map(|(user, password)| Login::Password { user, password }),
    };
    let mut url = address.into_inner();
    let cleared = url.set_username("").and_then(|()| url.set_password(None));
    let address = cleared.ok().and_then(|()| ServerAddr::from_url(url).ok());
    Ok((address.ok_or(wrong("has no host"))?, login))
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("servers", &self.servers())
            .field("name", &self.name)
            .field("connect_timeout", &self.connect_timeout)
            .field("request_timeout", &self.request_timeout)
            .finish_non_exhaustive()
    }
}
