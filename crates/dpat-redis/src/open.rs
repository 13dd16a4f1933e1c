//! What the scripts say that open something.

use redis::Value;

use crate::config::Config;
use crate::error::{EngineError, OpenError};
use crate::reply::Reply;

/// The newest schema that the scripts know.
const SCHEMA: i64 = 0;

/// What is opened.
#[derive(Clone, Copy)]
pub(crate) enum Part {
    Queue,
    Responses,
}

impl Part {
    const fn keys(self) -> &'static str {
        match self {
            Self::Queue => "queue:",
            Self::Responses => "responses:",
        }
    }
}

/// Reads the schema that is there, a command that is not allowed, a key that something else has, and what that is.
pub(crate) fn opened(
    config: &Config,
    part: Part,
    answer: Result<Value, EngineError>,
) -> Result<(), OpenError> {
    let keys = config.key(part.keys());
    let forbidden = |command: String| {
        Err(OpenError::Forbidden {
            address: config.address(),
            command,
            keys: keys.clone(),
        })
    };
    let answer = match answer {
        Err(error) if error.code() == Some("NOPERM") => {
            return forbidden("eval`, `evalsha".to_owned());
        }
        answer => answer?,
    };
    let mut reply = Reply::new("open", answer)?;
    let schema = reply.int()?;
    let (command, key, found) = (reply.text()?, reply.text()?, reply.text()?);
    if !command.is_empty() {
        return forbidden(command.to_lowercase());
    }
    if !key.is_empty() {
        return Err(OpenError::KeyTaken { key, found });
    }
    if schema > SCHEMA {
        return Err(OpenError::NewerSchema {
            key: keys + "meta",
            found: schema,
            supported: SCHEMA,
        });
    }
    Ok(())
}
