//! Streams are made where they are missing, and compared where they are there.

use dpat_core::{Class, Classify, Effect};

use crate::config::ConfigError;
use crate::error::EngineError;
use crate::jetstream::{JetStream, StreamConfig, StreamInfo, same};

/// The longest name of a queue or bucket, in bytes: 64.
pub const STREAM_NAME_BYTES_MAX: usize = 64;

/// Who makes streams, consumers and buckets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Make {
    /// Opening does, where they are missing. What is there is never changed: another setting is an error.
    #[default]
    Create,
    /// Somebody else; opening checks that they are there, with these settings.
    Expect,
}

/// Why a queue or a store was not opened. Nothing was changed, but what was missing may have been made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A setting is out of its range.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The server takes smaller messages than the settings say.
    #[error(
        "message_bytes_max: {wanted} is more than {most}, which is the server's max_payload of {max_payload} without room for headers"
    )]
    PayloadMax {
        /// The setting.
        wanted: usize,
        /// The most that fits.
        most: usize,
        /// The server's limit.
        max_payload: usize,
    },
    /// The server refused, or did not answer.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl Classify for OpenError {
    fn class(&self) -> Class {
        match self {
            Self::Config(error) => error.class(),
            Self::PayloadMax { .. } => Class::InvalidInput,
            Self::Engine(error) => error.class(),
        }
    }

    fn effect(&self) -> Effect {
        match self {
            Self::Config(_) | Self::PayloadMax { .. } => Effect::NotDone,
            Self::Engine(error) => error.effect(),
        }
    }
}

/// The layout that this version makes.
const LAYOUT: u32 = 1;

/// Finds a stream, or makes it.
pub(crate) async fn stream(
    js: &JetStream,
    config: &StreamConfig,
    kind: &str,
    make: Make,
) -> Result<StreamInfo, EngineError> {
    let name = &config.name;
    let info = match js.stream(name).await {
        Err(EngineError::NoStream { .. }) if make == Make::Create => {
            js.create_stream(config).await?
        }
        found => found?,
    };
    let layout = info.config.description.strip_prefix(kind);
    match layout.and_then(|layout| layout.parse().ok()) {
        None => Err(EngineError::Foreign {
            stream: name.clone(),
        }),
        Some(found) if found > LAYOUT => Err(EngineError::Newer {
            stream: name.clone(),
            found,
            known: LAYOUT,
        }),
        Some(_) => Ok(info),
    }
}

/// Compares what matters.
pub(crate) fn compare(found: &StreamConfig, wanted: &StreamConfig) -> Result<(), EngineError> {
    let what = format!("stream `{}`", wanted.name);
    same(&what, "subjects", &found.subjects, &wanted.subjects)?;
    same(&what, "retention", &found.retention, &wanted.retention)?;
    same(&what, "storage", &found.storage, &wanted.storage)?;
    same(&what, "discard", &found.discard, &wanted.discard)?;
    same(&what, "max_msgs", &found.max_msgs, &wanted.max_msgs)?;
    // One without a limit was made on a server that cannot keep one: whoever sends counts.
    if found.max_bytes >= 0 {
        same(&what, "max_bytes", &found.max_bytes, &wanted.max_bytes)?;
    }
    same(&what, "max_age", &found.max_age, &wanted.max_age)?;
    same(
        &what,
        "num_replicas (replicas)",
        &found.num_replicas,
        &wanted.num_replicas,
    )?;
    let window = (found.duplicate_window, wanted.duplicate_window);
    same(
        &what,
        "duplicate_window, ns (dedup_window)",
        &window.0,
        &window.1,
    )
}

pub(crate) fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// What every stream of this crate has.
pub(crate) fn base(name: String, kind: &str) -> StreamConfig {
    StreamConfig {
        name,
        description: format!("{kind}{LAYOUT}"),
        storage: "file".to_owned(),
        discard: "new".to_owned(),
        max_msgs_per_subject: -1,
        max_msg_size: -1,
        max_bytes: -1,
        max_msgs: -1,
        num_replicas: 1,
        ..StreamConfig::default()
    }
}
