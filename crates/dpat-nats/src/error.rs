//! What NATS refuses, with its class and its effect.

use std::error::Error;
use std::time::Duration;

use dpat_core::{Class, Classify, Effect};

/// There is no connection. Nothing was done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// No server could be reached.
    #[error("url: no server of {servers} can be reached: {source}")]
    Unreachable {
        /// Hosts and ports.
        servers: String,
        /// What the last one did.
        source: Box<dyn Error + Send + Sync>,
    },
    /// No server answered in time.
    #[error("connect_timeout: no server of {servers} answered within {within:?}")]
    Timeout {
        /// Hosts and ports.
        servers: String,
        /// The time that was allowed.
        within: Duration,
    },
    /// The login was refused.
    #[error("login: {servers} refused it; check user and password, token, nkey or credentials")]
    Login {
        /// Hosts and ports.
        servers: String,
    },
    /// TLS failed.
    #[error(
        "tls: {servers}: {source}; check the certificates, or whether the server has TLS at all"
    )]
    Tls {
        /// Hosts and ports.
        servers: String,
        /// What failed.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The server is too old.
    #[error("url: the server is NATS {found}; 2.9 or newer is needed")]
    TooOld {
        /// What it says of itself.
        found: String,
    },
    /// The account may not subscribe to where answers come.
    #[error(
        "inbox_prefix: the account may not subscribe to `{prefix}.>`, where answers come; allow it, or set another"
    )]
    Inbox {
        /// The prefix.
        prefix: String,
    },
    /// The connection does not answer.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl Classify for ConnectError {
    fn class(&self) -> Class {
        match self {
            Self::Unreachable { .. } => Class::Unavailable,
            Self::Timeout { .. } => Class::Timeout,
            Self::Login { .. } | Self::Tls { .. } | Self::TooOld { .. } | Self::Inbox { .. } => {
                Class::Permanent
            }
            Self::Engine(error) => error.class(),
        }
    }

    fn effect(&self) -> Effect {
        Effect::NotDone
    }
}

/// What the client may not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Publish to a subject.
    Publish,
    /// Subscribe to one.
    Subscribe,
}

impl Access {
    const fn name(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Subscribe => "subscribe",
        }
    }
}

/// A call that failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The connection was closed, or given up after `reconnects_max` attempts.
    #[error("the connection to NATS is closed")]
    Closed,
    /// There was no connection for as long as the call waited.
    #[error("request_timeout: no connection within {within:?}")]
    NotConnected {
        /// The time that was allowed.
        within: Duration,
    },
    /// The connection was lost while the answer was waited for. What was asked may be done.
    #[error("the connection was lost before the answer")]
    Lost,
    /// No answer came in time. What was asked may be done.
    #[error("request_timeout: no answer from `{subject}` within {within:?}")]
    Timeout {
        /// What was asked.
        subject: String,
        /// The time that was allowed.
        within: Duration,
    },
    /// The server could not take so many messages in time. Nothing was sent.
    #[error("pending_max: the messages before this one were not written within {within:?}")]
    Congested {
        /// The time that was allowed.
        within: Duration,
    },
    /// Nobody answers there: what does was removed, or its cluster has no leader now. Nothing was done.
    #[error("nobody answers at `{subject}`; is the stream still there, and does it have a leader?")]
    NoResponders {
        /// What was asked.
        subject: String,
    },
    /// The account lacks a permission.
    #[error("permissions: the account may not {} to `{subject}`; allow it in the server's configuration", access.name())]
    Denied {
        /// What it may not do.
        access: Access,
        /// With which subject.
        subject: String,
    },
    /// The message is larger than the server takes, headers included.
    #[error("payload: with its headers it is larger than the server's max_payload of {max} bytes")]
    TooLarge {
        /// The server's limit.
        max: usize,
    },
    /// JetStream is off, for the server or for the account.
    #[error(
        "jetstream: not enabled; start the server with `jetstream {{ store_dir: … }}`, and enable it for the account"
    )]
    NoJetStream,
    /// A stream is not there.
    #[error("stream `{stream}`: not there; let it be made by `Make::Create`, or make it")]
    NoStream {
        /// The stream.
        stream: String,
    },
    /// A consumer is not there.
    #[error(
        "consumer `{consumer}` of stream `{stream}`: not there; let it be made by `Make::Create`, or make it"
    )]
    NoConsumer {
        /// The stream.
        stream: String,
        /// The consumer.
        consumer: String,
    },
    /// A stream or consumer is there, with another setting.
    #[error("{what}: {setting} is {found}, not {wanted}; change the setting here or there")]
    Differs {
        /// The stream or consumer.
        what: String,
        /// Its setting.
        setting: &'static str,
        /// What it has.
        found: String,
        /// What this program was told.
        wanted: String,
    },
    /// A later version of this crate made the stream.
    #[error(
        "stream `{stream}`: made by a newer version (layout {found}, this one knows {known}); update this program"
    )]
    Newer {
        /// The stream.
        stream: String,
        /// Its layout.
        found: u32,
        /// The newest that is known.
        known: u32,
    },
    /// A stream of this name is there that this crate did not make.
    #[error("stream `{stream}`: not made by this crate; take another name")]
    Foreign {
        /// The stream.
        stream: String,
    },
    /// The server refused.
    #[error("the server refused: {description} ({code})")]
    Refused {
        /// The server's number of the error.
        code: u64,
        /// What it says.
        description: String,
    },
    /// What the server sent does not decode.
    #[error("{what}: does not decode")]
    Malformed {
        /// What it was to be.
        what: String,
    },
}

impl Classify for EngineError {
    fn class(&self) -> Class {
        match self {
            Self::Closed | Self::NotConnected { .. } | Self::NoResponders { .. } => {
                Class::Unavailable
            }
            Self::Lost => Class::Transient,
            Self::Timeout { .. } => Class::Timeout,
            Self::Congested { .. } => Class::Overloaded,
            Self::TooLarge { .. } => Class::InvalidInput,
            Self::Refused { code, .. } => class_of(*code),
            Self::Malformed { .. } => Class::Corrupt,
            Self::Denied { .. }
            | Self::NoJetStream
            | Self::NoStream { .. }
            | Self::NoConsumer { .. }
            | Self::Differs { .. }
            | Self::Newer { .. }
            | Self::Foreign { .. } => Class::Permanent,
        }
    }

    fn effect(&self) -> Effect {
        match self {
            Self::Lost | Self::Timeout { .. } | Self::Malformed { .. } => Effect::Unknown,
            _ => Effect::NotDone,
        }
    }
}

/// What the numbers of the server's errors mean to who asked.
const fn class_of(code: u64) -> Class {
    match code {
        // Resources, storage, consumers or streams at their limit.
        10_002 | 10_023 | 10_026 | 10_027 | 10_028 | 10_047 | 10_077 => Class::Overloaded,
        // No leader, peers not there, a cluster that is not ready.
        10_004 | 10_005 | 10_008 | 10_009 | 10_010 | 10_118 => Class::Unavailable,
        // The last message is another one.
        10_070 | 10_071 | 10_164 => Class::Conflict,
        _ => Class::Permanent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_say_what_cures() {
        let within = Duration::from_secs(1);
        let subject = || "a".to_owned();
        let refused = |code| EngineError::Refused {
            code,
            description: String::new(),
        };
        let cases = [
            (EngineError::Closed, Class::Unavailable, Effect::NotDone),
            (
                EngineError::NotConnected { within },
                Class::Unavailable,
                Effect::NotDone,
            ),
            (EngineError::Lost, Class::Transient, Effect::Unknown),
            (
                EngineError::Timeout {
                    subject: subject(),
                    within,
                },
                Class::Timeout,
                Effect::Unknown,
            ),
            (
                EngineError::Congested { within },
                Class::Overloaded,
                Effect::NotDone,
            ),
            (
                EngineError::TooLarge { max: 1 },
                Class::InvalidInput,
                Effect::NotDone,
            ),
            (EngineError::NoJetStream, Class::Permanent, Effect::NotDone),
            (
                EngineError::Malformed { what: subject() },
                Class::Corrupt,
                Effect::Unknown,
            ),
            (refused(10_077), Class::Overloaded, Effect::NotDone),
            (refused(10_008), Class::Unavailable, Effect::NotDone),
            (refused(10_071), Class::Conflict, Effect::NotDone),
            (refused(1), Class::Permanent, Effect::NotDone),
        ];
        for (error, class, effect) in cases {
            assert_eq!((error.class(), error.effect()), (class, effect), "{error}");
        }
        let denied = EngineError::Denied {
            access: Access::Publish,
            subject: subject(),
        };
        assert!(denied.to_string().contains("may not publish to `a`"));
    }
}
