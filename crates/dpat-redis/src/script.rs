//! Scripts: each change is one, so that nothing is ever half done.

use redis::{Cmd, Value};
use tokio::time::Instant;

use crate::connection::Link;
use crate::error::EngineError;

/// A script that the server keeps under the digest of its text.
pub(crate) struct Script {
    pub(crate) name: &'static str,
    text: String,
    digest: String,
}

impl Script {
    /// One that is refused, before it begins, when the memory is full.
    pub(crate) fn growing(name: &'static str, parts: &[&str]) -> Self {
        Self::new(name, "#!lua\n", parts)
    }

    /// One that runs also when the memory is full: what it does makes room, or leads to it.
    pub(crate) fn freeing(name: &'static str, parts: &[&str]) -> Self {
        Self::new(name, "#!lua flags=allow-oom\n", parts)
    }

    fn new(name: &'static str, head: &str, parts: &[&str]) -> Self {
        let text = head.to_owned() + &parts.concat();
        let digest = redis::Script::new(&text).get_hash().to_owned();
        Self { name, text, digest }
    }

    /// Runs it by its digest; by its text if the server does not have it.
    pub(crate) async fn run(
        &self,
        link: &Link,
        by: Instant,
        keys: &[String],
        arguments: impl Fn(&mut Cmd) + Send,
    ) -> Result<Value, EngineError> {
        let command = |how: &str, script: &str| {
            let mut command = redis::cmd(how);
            command.arg(script).arg(keys.len()).arg(keys);
            arguments(&mut command);
            command
        };
        let known = link.call(&command("EVALSHA", &self.digest), by).await;
        match known {
            Err(error) if error.code() == Some("NOSCRIPT") => {
                link.call(&command("EVAL", &self.text), by).await
            }
            answered => answered,
        }
    }
}
