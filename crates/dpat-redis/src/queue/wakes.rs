//! What wakes a receive that waits: a message on a channel, heard on a connection of its own.

use std::sync::Arc;

use redis::PushKind;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::config::Config;
use crate::connection::Link;
use crate::error::EngineError;

pub(super) struct Wakes {
    changes: Arc<watch::Sender<u64>>,
    link: Link,
}

impl Wakes {
    pub(super) fn new(config: &Config, channel: &str) -> Result<Self, EngineError> {
        let changes = Arc::new(watch::Sender::new(0));
        let heard = Arc::clone(&changes);
        let on_push = Arc::new(move |info: redis::PushInfo| {
            // Also when the connection breaks: what was said since is not heard.
            if matches!(info.kind, PushKind::Message | PushKind::Disconnection) {
                heard.send_modify(|changes| *changes += 1);
            }
        });
        let listens = Some((vec![channel.to_owned()], on_push as _));
        Ok(Self {
            changes,
            link: Link::listening(config, listens)?,
        })
    }

    /// Whether what scripts say is heard.
    pub(super) fn is_live(&self) -> bool {
        self.link.is_live()
    }

    /// Begins to listen, unless it does; true: from now on it does, and what was before is to be looked for again.
    pub(super) async fn listen(&self, by: Instant) -> bool {
        !self.is_live() && self.link.live_soon(by).await.is_some()
    }

    /// Tells the receives of this handle to look.
    pub(super) fn notify(&self) {
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// What sees every change from now on.
    pub(super) fn watch(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}
