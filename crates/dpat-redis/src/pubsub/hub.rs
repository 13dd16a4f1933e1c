//! Who subscribes to what, and the connection that it comes on.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use dpat_pubsub::{Closed, Delivery, Filter, Message, Source, SourceBuffer, Stats};
use redis::{PushInfo, PushKind, Value};
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout_at};

use super::envelope::{decode, encode};
use super::pattern::Key;
use crate::config::Config;
use crate::connection::{Link, Live, OnPush};
use crate::error::EngineError;
use crate::server::ServerInfo;
use crate::sync::Mutex;

pub(super) struct Hub {
    /// What all channels begin with.
    prefix: String,
    commands: Link,
    /// What subscriptions hear comes here, and nothing else waits for it.
    listener: Link,
    routes: Mutex<Routes>,
    /// Held while subscriptions of the connection change.
    subscribed: tokio::sync::Mutex<Subscribed>,
    closed: AtomicBool,
}

#[derive(Default)]
struct Routes {
    last: u64,
    of: HashMap<Key, Vec<Route>>,
}

/// A subscription.
struct Route {
    number: u64,
    filter: Filter,
    buffer: Arc<SourceBuffer>,
}

/// What the connection has subscribed to.
#[derive(Default)]
struct Subscribed {
    on: Option<Live>,
    keys: HashSet<Key>,
}

impl Hub {
    pub(super) fn new(config: &Config) -> Result<Arc<Self>, EngineError> {
        let commands = Link::new(config)?;
        // Tried before, so that it cannot fail where it has to exist.
        let prefix = config.key("pubsub:");
        let hub: Arc<Hub> = Arc::new_cyclic(|weak: &Weak<Self>| {
            let weak = weak.clone();
            let on_push: OnPush = Arc::new(move |info| {
                if let Some(hub) = weak.upgrade() {
                    hub.pushed(info);
                }
            });
            Self {
                prefix,
                listener: commands.beside(on_push),
                commands,
                routes: Mutex::new(Routes::default()),
                subscribed: tokio::sync::Mutex::default(),
                closed: AtomicBool::new(false),
            }
        });
        Ok(hub)
    }

    pub(super) async fn ask(&self, config: &Config) -> Result<ServerInfo, EngineError> {
        ServerInfo::ask(&self.commands, config).await
    }

    fn open(&self) -> Result<(), EngineError> {
        match self.closed.load(Ordering::Acquire) {
            true => Err(EngineError::closed()),
            false => Ok(()),
        }
    }

    /// How many connections and patterns of connections got it.
    pub(super) async fn publish(&self, message: &Message) -> Result<i64, EngineError> {
        self.open()?;
        let mut command = redis::cmd("PUBLISH");
        command.arg(format!("{}{}", self.prefix, message.subject().as_str()));
        command.arg(&encode(message)[..]);
        match self
            .commands
            .call(&command, self.commands.deadline())
            .await?
        {
            Value::Int(clients) => Ok(clients),
            _ => Err(EngineError::unreadable("publish")),
        }
    }

    pub(super) async fn subscribe(
        self: &Arc<Self>,
        filter: Filter,
        buffer: SourceBuffer,
    ) -> Result<Subscription, EngineError> {
        self.open()?;
        let by = self.listener.deadline();
        let key = Key::of(&self.prefix, &filter);
        let subscribed = timeout_at(by, self.subscribed.lock()).await;
        let mut subscribed = subscribed.map_err(|_| self.listener.not_connected())?;
        let live = self.connected(&mut subscribed, by).await?;
        if subscribed.keys.contains(&key) {
            // What was published before is on the way: it is not for this one.
            self.listener.call(&redis::cmd("PING"), by).await?;
        }
        // Leaves by itself if the rest fails, or is not waited for.
        let subscription = self.enter(key, filter, buffer);
        self.settle(&mut subscribed, &live, by).await?;
        // Closed meanwhile: its end is at the others already.
        self.open()?;
        Ok(subscription)
    }

    fn enter(self: &Arc<Self>, key: Key, filter: Filter, buffer: SourceBuffer) -> Subscription {
        let buffer = Arc::new(buffer);
        let number = self.routes.with(|routes| {
            routes.last += 1;
            let route = Route {
                number: routes.last,
                filter,
                buffer: Arc::clone(&buffer),
            };
            routes.of.entry(key.clone()).or_default().push(route);
            routes.last
        });
        Subscription {
            hub: Arc::clone(self),
            key,
            number,
            buffer,
        }
    }

    /// The connection; a new one has subscribed to nothing.
    async fn connected(
        &self,
        subscribed: &mut Subscribed,
        by: Instant,
    ) -> Result<Live, EngineError> {
        let live = self.listener.live(by).await?;
        if !subscribed.on.as_ref().is_some_and(|on| on.is_same(&live)) {
            subscribed.keys.clear();
            subscribed.on = Some(live.clone());
        }
        Ok(live)
    }

    /// Subscribes to what is missing, and unsubscribes from what nobody wants any more.
    async fn settle(
        &self,
        subscribed: &mut Subscribed,
        live: &Live,
        by: Instant,
    ) -> Result<(), EngineError> {
        let wanted: HashSet<Key> = self
            .routes
            .with(|routes| routes.of.keys().cloned().collect());
        let missing: Vec<Key> = wanted.difference(&subscribed.keys).cloned().collect();
        let idle: Vec<Key> = subscribed.keys.difference(&wanted).cloned().collect();
        // In pieces, so that one command is not without bounds.
        for keys in missing.chunks(KEYS_AT_ONCE) {
            self.listener.subscribe(live, &split(keys), by).await?;
            subscribed.keys.extend(keys.iter().cloned());
        }
        for keys in idle.chunks(KEYS_AT_ONCE) {
            self.listener.unsubscribe(live, &split(keys), by).await?;
            for key in keys {
                subscribed.keys.remove(key);
            }
        }
        Ok(())
    }

    /// Brings the connection to what is wanted.
    async fn restore(&self) -> Result<(), EngineError> {
        let by = self.listener.deadline();
        let subscribed = timeout_at(by, self.subscribed.lock()).await;
        let mut subscribed = subscribed.map_err(|_| self.listener.not_connected())?;
        let live = self.connected(&mut subscribed, by).await?;
        self.settle(&mut subscribed, &live, by).await
    }

    fn is_idle(&self) -> bool {
        self.routes.with(|routes| routes.of.is_empty())
    }

    /// What the server has sent, or that the connection broke. Called by the task that reads.
    fn pushed(self: &Arc<Self>, info: PushInfo) {
        let PushInfo { kind, mut data } = info;
        let bytes = |value: Option<Value>| match value {
            Some(Value::BulkString(bytes)) => Some(bytes),
            _ => None,
        };
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).ok();
        let (payload, channel) = match kind {
            PushKind::Message | PushKind::PMessage => {
                (bytes(data.pop()), bytes(data.pop()).and_then(text))
            }
            PushKind::Disconnection => return self.broke(),
            _ => return,
        };
        let (Some(payload), Some(channel)) = (payload, channel) else {
            return;
        };
        let key = match kind {
            PushKind::Message => Some(Key::Channel(channel.clone())),
            _ => bytes(data.pop()).and_then(text).map(Key::Pattern),
        };
        if let Some(key) = key {
            self.deliver(&key, &channel, payload);
        }
    }

    fn deliver(&self, key: &Key, channel: &str, envelope: Vec<u8>) {
        let Some(subject) = channel.strip_prefix(&self.prefix) else {
            return;
        };
        let Ok(subject) = subject.parse() else {
            return;
        };
        let buffers: Vec<Arc<SourceBuffer>> = self.routes.with(|routes| {
            let routes = routes.of.get(key).into_iter().flatten();
            let matching = routes.filter(|route| route.filter.matches(&subject));
            matching.map(|route| Arc::clone(&route.buffer)).collect()
        });
        match decode(subject, envelope) {
            Some(message) => {
                for buffer in &buffers {
                    // One that has ended takes nothing.
                    buffer.push(message.clone());
                }
            }
            // Somebody else's, or a later version's.
            None => buffers.iter().for_each(|buffer| buffer.gap(1)),
        }
    }

    fn all(&self) -> Vec<Arc<SourceBuffer>> {
        self.routes.with(|routes| {
            let routes = routes.of.values().flatten();
            routes.map(|route| Arc::clone(&route.buffer)).collect()
        })
    }

    /// Tells everybody of the gap, and subscribes again as soon as there is a connection.
    fn broke(self: &Arc<Self>) {
        self.all().iter().for_each(|buffer| buffer.gap(0));
        let hub = Arc::downgrade(self);
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                while let Some(hub) = hub.upgrade() {
                    // Tries follow each other as the connection allows.
                    let done = hub.is_idle() || hub.open().is_err() || hub.restore().await.is_ok();
                    if done {
                        return;
                    }
                    drop(hub);
                    tokio::task::yield_now().await;
                }
            });
        }
    }

    /// Takes a subscription out; the server is told by a task, or with the next subscription.
    fn leave(self: &Arc<Self>, key: &Key, number: u64) {
        let idle = self.routes.with(|routes| {
            let Some(list) = routes.of.get_mut(key) else {
                return false;
            };
            list.retain(|route| route.number != number);
            list.is_empty() && routes.of.remove(key).is_some()
        });
        if idle && let Ok(runtime) = Handle::try_current() {
            let hub = Arc::clone(self);
            runtime.spawn(async move {
                // Without a connection there is nothing to unsubscribe from.
                if hub.listener.is_live() {
                    drop(hub.restore().await);
                }
            });
        }
    }

    pub(super) async fn close(&self) {
        self.closed.store(true, Ordering::Release);
        if self.listener.is_live() {
            // What was published before comes before the answer. Without a connection nothing more comes in any case.
            let ping = redis::cmd("PING");
            drop(self.listener.call(&ping, self.listener.deadline()).await);
        }
        self.all().iter().for_each(|buffer| buffer.end(Closed::Hub));
    }
}

/// How many channels or patterns one command names.
const KEYS_AT_ONCE: usize = 256;

/// Channels and patterns.
fn split(keys: &[Key]) -> (Vec<&str>, Vec<&str>) {
    let (mut channels, mut patterns) = (Vec::new(), Vec::new());
    for key in keys {
        match key {
            Key::Channel(channel) => channels.push(channel.as_str()),
            Key::Pattern(pattern) => patterns.push(pattern.as_str()),
        }
    }
    (channels, patterns)
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub")
            .field("link", &self.commands)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

/// A subscription; dropping it ends it.
pub(super) struct Subscription {
    hub: Arc<Hub>,
    key: Key,
    number: u64,
    buffer: Arc<SourceBuffer>,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.hub.leave(&self.key, self.number);
    }
}

impl Source for Subscription {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Delivery, Closed>> {
        self.buffer.poll_next(cx)
    }

    fn try_next(&mut self) -> Result<Option<Delivery>, Closed> {
        self.buffer.try_next()
    }

    fn stats(&self) -> Stats {
        self.buffer.stats()
    }
}
