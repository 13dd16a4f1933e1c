//! What goes wrong on the way to Redis and in it, with its class and its effect.

use std::error::Error;
use std::fmt;

use dpat_core::{Class, Classify, Effect};
use redis::{ErrorKind, RedisError};

use crate::config::ConfigError;

/// A failure of the server, or on the way to it.
#[derive(Clone, Debug)]
pub struct EngineError {
    class: Class,
    effect: Effect,
    what: Box<str>,
    source: Option<RedisError>,
}

impl EngineError {
    fn new(class: Class, effect: Effect, what: impl Into<Box<str>>) -> Self {
        Self {
            class,
            effect,
            what: what.into(),
            source: None,
        }
    }

    /// No connection was made: nothing was sent.
    pub(crate) fn connecting(address: &str, error: RedisError) -> Self {
        let (class, advice) = match error.kind() {
            ErrorKind::AuthenticationFailed => (
                Class::Permanent,
                "the login is refused: check user and password in `url`",
            ),
            ErrorKind::RESP3NotSupported => (
                Class::Permanent,
                "the server is too old for this protocol: take Redis 7.0 or later",
            ),
            ErrorKind::InvalidClientConfig => (Class::InvalidInput, "check `url`"),
            ErrorKind::Server(_) | ErrorKind::Extension => {
                let (class, advice) = meaning(error.code().unwrap_or_default());
                (class, advice.unwrap_or("check `url`"))
            }
            _ => (
                Class::Unavailable,
                "check that the server runs, and host and port in `url`",
            ),
        };
        Self {
            class,
            effect: Effect::NotDone,
            what: format!("{address}: {error}: {advice}").into(),
            source: Some(error),
        }
    }

    /// There was no connection in time.
    pub(crate) fn not_connected(address: &str) -> Self {
        let what = format!(
            "{address}: no connection within `timeout`: check that the server runs, and host and port in `url`"
        );
        Self::new(Class::Unavailable, Effect::NotDone, what)
    }

    /// There was no answer in time.
    pub(crate) fn timeout(address: &str) -> Self {
        let what =
            format!("{address}: no answer within `timeout`: what was asked for may have happened");
        Self::new(Class::Timeout, Effect::Unknown, what)
    }

    /// It was not begun in time.
    #[cfg(any(feature = "queue", feature = "idempotency"))]
    pub(crate) fn waited(address: &str) -> Self {
        let what = format!("{address}: the calls before took all of `timeout`: nothing was begun");
        Self::new(Class::Timeout, Effect::NotDone, what)
    }

    /// The answer to a command.
    pub(crate) fn answer(address: &str, error: RedisError) -> Self {
        let code = error.code().unwrap_or_default().to_owned();
        let text = error.to_string();
        let Some(effect) = effect(&error, &code, &text) else {
            // Cut, or not readable.
            let class = match error.kind() {
                ErrorKind::Io => Class::Transient,
                _ => Class::Corrupt,
            };
            let what = format!("{address}: {text}: what was asked for may have happened");
            return Self {
                class,
                effect: Effect::Unknown,
                what: what.into(),
                source: Some(error),
            };
        };
        let (class, advice) = meaning(&code);
        let what = match advice {
            None => format!("{address}: {text}"),
            Some(advice) => format!("{address}: {text}: {advice}"),
        };
        Self {
            class,
            effect,
            what: what.into(),
            source: Some(error),
        }
    }

    /// An answer that is not what the script returns.
    pub(crate) fn unreadable(what: &str) -> Self {
        let what = format!("the answer to `{what}` is not what it should be: is it a Redis?");
        Self::new(Class::Corrupt, Effect::Unknown, what)
    }

    /// Something that is stored and does not decode.
    pub(crate) fn corrupt(what: fmt::Arguments<'_>) -> Self {
        Self::new(Class::Corrupt, Effect::Unknown, what.to_string())
    }

    /// It was closed here.
    #[cfg(feature = "pubsub")]
    pub(crate) fn closed() -> Self {
        Self::new(Class::Unavailable, Effect::NotDone, "the hub is closed")
    }

    /// No room.
    #[cfg(feature = "idempotency")]
    pub(crate) fn full(field: &str, limit: u64) -> Self {
        let what = format!("{field}: the limit of {limit} is reached");
        Self::new(Class::Overloaded, Effect::NotDone, what)
    }

    /// The same failure, seen by one who had not begun yet.
    pub(crate) fn before(&self) -> Self {
        Self {
            effect: Effect::NotDone,
            ..self.clone()
        }
    }

    /// Whether the server does not have a script.
    pub(crate) fn code(&self) -> Option<&str> {
        self.source.as_ref().and_then(RedisError::code)
    }
}

/// What a refusal of the server did; none: it is no refusal.
fn effect(error: &RedisError, code: &str, text: &str) -> Option<Effect> {
    if !matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension) {
        return None;
    }
    // What a script has done before a command in it fails stays.
    let within = text.contains("user_script") || code == "CORRUPT";
    Some(match within {
        true => Effect::Unknown,
        false => Effect::NotDone,
    })
}

/// What repeating can cure, and what to do.
fn meaning(code: &str) -> (Class, Option<&'static str>) {
    match code {
        "OOM" => (
            Class::Overloaded,
            Some("`maxmemory` is reached: receive what is there, make room, or raise it"),
        ),
        "BUSY" => (
            Class::Overloaded,
            Some("another script runs for too long: do it again"),
        ),
        "LOADING" => (Class::Unavailable, Some("the server starts: do it again")),
        "READONLY" => (
            Class::Unavailable,
            Some("`url` names a replica: name its primary"),
        ),
        "MISCONF" => (
            Class::Unavailable,
            Some("the server cannot write to its disk: look at its log"),
        ),
        "CLUSTERDOWN" | "MASTERDOWN" | "NOREPLICAS" | "TRYAGAIN" => {
            (Class::Unavailable, Some("do it again"))
        }
        "MOVED" | "ASK" | "CROSSSLOT" => (
            Class::Permanent,
            Some("`url` names a node of a cluster that has not these keys: name the one that has"),
        ),
        "NOAUTH" | "WRONGPASS" => (
            Class::Permanent,
            Some("the login is refused: check user and password in `url`"),
        ),
        "NOPERM" => (
            Class::Permanent,
            Some(
                "grant the user of `url` the commands and keys that the guide lists (ACL SETUSER)",
            ),
        ),
        "WRONGTYPE" => (
            Class::Permanent,
            Some("something else has a key of ours: choose another `name` or `prefix`"),
        ),
        "CORRUPT" => (Class::Corrupt, None),
        _ => (Class::Permanent, None),
    }
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl Error for EngineError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}

impl Classify for EngineError {
    fn class(&self) -> Class {
        self.class
    }

    /// Not done where no connection was made and where the server refused; otherwise unknown.
    fn effect(&self) -> Effect {
        self.effect
    }
}

#[cfg(feature = "queue")]
impl From<EngineError> for dpat_queue::BackendError {
    fn from(error: EngineError) -> Self {
        Self::new(error.class, error.effect, error)
    }
}

#[cfg(feature = "pubsub")]
impl From<EngineError> for dpat_pubsub::BackendError {
    fn from(error: EngineError) -> Self {
        Self::new(error.class, error.effect, error)
    }
}

#[cfg(feature = "idempotency")]
impl From<EngineError> for dpat_idempotency::StoreError {
    fn from(error: EngineError) -> Self {
        Self::new(error.class, error.effect, error.what.clone()).with_source(error)
    }
}

/// Why something was not opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The settings of a queue.
    #[cfg(feature = "queue")]
    #[error(transparent)]
    Queue(#[from] dpat_queue::ConfigError),
    /// The server is too old.
    #[error("{address}: Redis {found} is too old: take 7.0 or later")]
    OldServer {
        /// The server.
        address: String,
        /// Its version.
        found: String,
    },
    /// The server may remove keys that have no end.
    #[error(
        "{address}: `maxmemory-policy {policy}` may remove what is kept here: set it to `noeviction`, or take a server of its own"
    )]
    Evicts {
        /// The server.
        address: String,
        /// Its policy.
        policy: String,
    },
    /// The user of the URL may not do what is needed.
    #[error(
        "{address}: the user of `url` may not `{command}` below `{keys}`: grant what the guide lists (ACL SETUSER)"
    )]
    Forbidden {
        /// The server.
        address: String,
        /// The command that is not allowed.
        command: String,
        /// How the keys begin.
        keys: String,
    },
    /// Something else has one of the keys.
    #[error("{key}: a {found} of somebody else is there: choose another `name` or `prefix`")]
    KeyTaken {
        /// The key.
        key: String,
        /// What it holds.
        found: String,
    },
    /// A later version of this crate made what is there.
    #[error(
        "{key}: schema {found} is newer than {supported}, the newest that this version knows: update the crate"
    )]
    NewerSchema {
        /// The key that says so.
        key: String,
        /// What it says.
        found: i64,
        /// The newest that is known.
        supported: i64,
    },
    /// The server, or the way to it, failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl Classify for OpenError {
    fn class(&self) -> Class {
        match self {
            Self::Config(error) => error.class(),
            #[cfg(feature = "queue")]
            Self::Queue(error) => error.class(),
            Self::Evicts { .. } | Self::KeyTaken { .. } => Class::InvalidInput,
            Self::OldServer { .. } | Self::Forbidden { .. } | Self::NewerSchema { .. } => {
                Class::Permanent
            }
            Self::Engine(error) => error.class(),
        }
    }

    /// Of what is made at opening: empty keys.
    fn effect(&self) -> Effect {
        match self {
            Self::Engine(error) => error.effect(),
            _ => Effect::NotDone,
        }
    }
}
