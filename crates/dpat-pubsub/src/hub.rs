//! The hub in memory: who subscribes to what, and the way of a message to them.

use crate::config::{Builder, Key, KeyOf, Overflow, Wanted};
use crate::error::{Closed, PublishError, SubscribeError};
use crate::log::{Appended, Log, Reader};
use crate::machine::Mode;
use crate::message::{Draft, Message, Published};
use crate::retain::{Cell, Retention};
use crate::ring::{Offered, Outcome, Ring, Store, Writer};
use crate::subject::{Filter, Subject, Token};
use crate::sync::SharedLock;
use crate::trace::Telemetry;
use crate::trie::SubjectTrie;
use std::collections::VecDeque;
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};

/// Filters that start with a literal token are spread over so many tries.
const SHARDS: usize = 16;
/// The trie of filters that start with a wildcard.
const WILD: usize = SHARDS;
/// The trie of the inboxes of requests, which come and go quickly.
const INBOXES: usize = SHARDS + 1;

/// The first token of inboxes.
pub(crate) const INBOX: &str = "_inbox";

pub(crate) struct Hub {
    shards: [Shard; SHARDS + 2],
    hasher: RandomState,
    retention: Option<Retention>,
    payload_bytes_max: usize,
    subscriptions_max: usize,
    subscriptions: AtomicUsize,
    sinks: AtomicU64,
    inboxes: AtomicU64,
    closed: AtomicBool,
    telemetry: Telemetry,
}

struct Shard {
    trie: SharedLock<SubjectTrie<Arc<Sink>>>,
    /// Grows with each change of the trie.
    version: AtomicU64,
}

/// Where the messages of one subscription go, or of several that share them.
pub(crate) struct Sink {
    pub(crate) way: Way,
    /// What was asked for; of a log, only the filter counts.
    pub(crate) wanted: Wanted,
    id: u64,
    /// Subscriptions that read from it. Changes under the lock of its shard.
    members: AtomicUsize,
}

pub(crate) enum Way {
    /// Shared by all subscriptions to the filter that lose the oldest messages and are in no group.
    Log(Log<Message>),
    /// For one subscription, or for one group.
    Ring {
        ring: Ring<Message>,
        key: Option<KeyOf>,
    },
}

/// The sinks of a subject, as they were at some versions of the tries.
pub(crate) struct Route {
    sinks: Vec<Arc<Sink>>,
    /// The trie of the subject's first token; that of wildcards concerns all.
    shard: usize,
    versions: [u64; 2],
    cell: Option<Arc<Cell>>,
}

impl Hub {
    pub(crate) fn new(config: Builder) -> Self {
        let rules: Vec<_> = config
            .retain
            .into_iter()
            .filter_map(|(filter, last)| Some((filter.ok()?, last)))
            .collect();
        let retention =
            (!rules.is_empty()).then(|| Retention::new(rules, config.retained_subjects_max));
        Self {
            shards: std::array::from_fn(|_| Shard {
                trie: SharedLock::new(SubjectTrie::new()),
                version: AtomicU64::new(0),
            }),
            hasher: RandomState::new(),
            retention,
            payload_bytes_max: config.payload_bytes_max,
            subscriptions_max: config.subscriptions_max,
            subscriptions: AtomicUsize::new(0),
            sinks: AtomicU64::new(0),
            inboxes: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            telemetry: Telemetry::new(config.name),
        }
    }

    pub(crate) fn payload_bytes_max(&self) -> usize {
        self.payload_bytes_max
    }

    /// Returns a subject that nobody has subscribed to.
    pub(crate) fn inbox(&self) -> Subject {
        let number = self.inboxes.fetch_add(1, Ordering::Relaxed);
        match format!("{INBOX}.{number}").parse() {
            Ok(subject) => subject,
            Err(_) => unreachable!("a number is a token"),
        }
    }

    /// Registers a subscription and returns its sink, new or shared, and what was retained.
    pub(crate) fn subscribe(&self, wanted: Wanted) -> Result<Subscribed, SubscribeError> {
        let reservation = self.reserve()?;
        let shard = self.shard_of(&wanted.filter);
        let known = shard.trie.read(|trie| shared(trie, &wanted).is_some());
        // Made before the lock is taken: opening a file is slow.
        let new = if known {
            None
        } else {
            Some(Arc::new(self.sink(&wanted)?))
        };
        let sink = shard.trie.write(|trie| {
            if self.closed.load(Ordering::Acquire) {
                return Err(SubscribeError::Closed);
            }
            if let Some(sink) = shared(trie, &wanted) {
                if let (Some(field), Some(group)) = (sink.wanted.differs(&wanted), &wanted.group) {
                    return Err(SubscribeError::Group {
                        field,
                        group: group.clone(),
                    });
                }
                sink.members.fetch_add(1, Ordering::Relaxed);
                return Ok(Some((Arc::clone(sink), sink.join(&wanted))));
            }
            let Some(sink) = &new else {
                return Ok(None);
            };
            trie.insert(&wanted.filter, Arc::clone(sink));
            shard.version.fetch_add(1, Ordering::Release);
            Ok(Some((Arc::clone(sink), sink.join(&wanted))))
        })?;
        let Some((sink, reader)) = sink else {
            // What could be shared has just gone; now there is nothing.
            drop(reservation);
            return self.subscribe(wanted);
        };
        reservation.keep();
        // After the registration: what is published from now on comes by the ring, and what was before is here.
        let replay = match &self.retention {
            Some(retention) if wanted.replay > 0 => retention.replay(&wanted.filter, wanted.replay),
            _ => VecDeque::new(),
        };
        Ok(Subscribed {
            sink,
            reader,
            replay,
        })
    }

    fn sink(&self, wanted: &Wanted) -> Result<Sink, SubscribeError> {
        let mut store: Option<Box<dyn Store<Message>>> = None;
        let mut key = None;
        let mode = match &wanted.overflow {
            Overflow::Await => Mode::Await,
            Overflow::DropOldest if wanted.group.is_none() => {
                return Ok(self.sink_of(wanted, Way::Log(Log::new())));
            }
            Overflow::DropOldest => Mode::DropOldest,
            Overflow::DropNewest => Mode::DropNewest,
            Overflow::Disconnect => Mode::Disconnect,
            Overflow::Conflate(by) => {
                key = Some(by.clone());
                Mode::Conflate
            }
            #[cfg(feature = "spill")]
            Overflow::Spill(spill) => {
                store = Some(Box::new(spill.open(self.telemetry.clone())?));
                Mode::Spill
            }
        };
        let ring = Ring::new(mode, wanted.capacity, store.take());
        Ok(self.sink_of(wanted, Way::Ring { ring, key }))
    }

    fn sink_of(&self, wanted: &Wanted, way: Way) -> Sink {
        Sink {
            way,
            wanted: wanted.clone(),
            id: self.sinks.fetch_add(1, Ordering::Relaxed),
            members: AtomicUsize::new(1),
        }
    }

    fn reserve(&self) -> Result<Reservation<'_>, SubscribeError> {
        let max = self.subscriptions_max;
        let take = |count: usize| (count < max).then_some(count + 1);
        self.subscriptions
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .map_err(|_| SubscribeError::Full { max })?;
        Ok(Reservation(self))
    }

    /// Ends one member's use of a sink.
    pub(crate) fn unsubscribe(&self, sink: &Sink) {
        let shard = self.shard_of(&sink.wanted.filter);
        let removed = shard.trie.write(|trie| {
            if sink.members.fetch_sub(1, Ordering::Relaxed) > 1 {
                return None;
            }
            let removed = trie.remove(&sink.wanted.filter, |one| one.id == sink.id);
            shard.version.fetch_add(1, Ordering::Release);
            Some(removed)
        });
        if let (Some(_), Some(ring)) = (removed, sink.ring()) {
            ring.abandon();
        }
        self.subscriptions.fetch_sub(1, Ordering::Relaxed);
    }

    /// Takes a sink that was closed by its overflow off the ways.
    fn detach(&self, sink: &Sink) {
        let shard = self.shard_of(&sink.wanted.filter);
        let _removed = shard.trie.write(|trie| {
            let removed = trie.remove(&sink.wanted.filter, |one| one.id == sink.id);
            shard.version.fetch_add(1, Ordering::Release);
            removed
        });
    }

    /// Ends all subscriptions, once they have read what they have.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        for shard in &self.shards {
            let mut sinks = Vec::new();
            shard.trie.write(|trie| {
                trie.for_each(|sink| sinks.push(Arc::clone(sink)));
                shard.version.fetch_add(1, Ordering::Release);
            });
            for sink in sinks {
                match &sink.way {
                    Way::Log(log) => log.close(Closed::Hub),
                    Way::Ring { ring, .. } => ring.close(Closed::Hub),
                }
            }
        }
    }

    /// A subscriber was told of messages that it lost in a log.
    pub(crate) fn told_of_loss(&self, lost: u64) {
        self.telemetry.lost(lost);
    }

    pub(crate) fn forget(&self, subject: &Subject) {
        if let Some(retention) = &self.retention {
            retention.forget(subject);
        }
    }

    fn shard_of(&self, filter: &Filter) -> &Shard {
        match filter.tokens().next() {
            Some(Token::Literal(first)) => &self.shards[self.shard_by(first)],
            _ => &self.shards[WILD],
        }
    }

    fn shard_by(&self, first_token: &str) -> usize {
        if first_token == INBOX {
            return INBOXES;
        }
        let hash = self.hasher.hash_one(first_token).to_le_bytes();
        usize::from(hash[0]) % SHARDS
    }

    /// Finds the sinks of a subject as they are now.
    pub(crate) fn route(&self, subject: &Subject) -> Result<Route, PublishError> {
        let first = subject.tokens().next().unwrap_or_default();
        let mut route = Route {
            sinks: Vec::new(),
            shard: self.shard_by(first),
            versions: [0; 2],
            cell: self.retention.as_ref().and_then(|all| all.cell(subject)),
        };
        self.find(subject, &mut route)?;
        Ok(route)
    }

    #[inline]
    fn versions(&self, route: &Route) -> [u64; 2] {
        [route.shard, WILD].map(|shard| self.shards[shard].version.load(Ordering::Acquire))
    }

    fn find(&self, subject: &Subject, route: &mut Route) -> Result<(), PublishError> {
        // Before the tries are read: a change in between is seen at the next look.
        route.versions = self.versions(route);
        if self.closed.load(Ordering::Acquire) {
            return Err(PublishError::Closed);
        }
        route.sinks.clear();
        for shard in [route.shard, WILD] {
            self.shards[shard].trie.read(|trie| {
                trie.for_each_match(subject, |sink| route.sinks.push(Arc::clone(sink)));
            });
        }
        // In the order in which they came.
        route.sinks.sort_unstable_by_key(|sink| sink.id);
        Ok(())
    }

    /// Brings a route up to date.
    #[inline]
    fn renew(&self, subject: &Subject, route: &mut Route) -> Result<(), PublishError> {
        if route.versions == self.versions(route) {
            return Ok(());
        }
        self.find(subject, route)
    }

    /// Sends a message along a route. What has to wait is returned.
    pub(crate) fn send(
        self: &Arc<Self>,
        route: &mut Route,
        subject: &Subject,
        draft: Draft,
    ) -> Result<Sent, PublishError> {
        draft.check(self.payload_bytes_max)?;
        let message = match &self.retention {
            Some(retention) if route.cell.is_some() => {
                let message = self.keep(retention, route, subject, draft)?;
                // Only now: who subscribed before this finds the message here or among the retained ones.
                self.renew(subject, route)?;
                message
            }
            _ => {
                self.renew(subject, route)?;
                if route.sinks.is_empty() {
                    self.telemetry.published();
                    return Ok((Published::NOBODY, None));
                }
                Message::retained(subject.clone(), draft, 0)
            }
        };
        Ok(self.fan_out(route, message))
    }

    fn keep(
        &self,
        retention: &Retention,
        route: &mut Route,
        subject: &Subject,
        draft: Draft,
    ) -> Result<Message, PublishError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(PublishError::Closed);
        }
        let mut draft = Some(draft);
        loop {
            let Some(cell) = &route.cell else {
                let draft = draft.take().unwrap_or_default();
                return Ok(Message::retained(subject.clone(), draft, 0));
            };
            let made = retention.append(cell, |number| {
                Message::retained(subject.clone(), draft.take().unwrap_or_default(), number)
            });
            match made {
                Ok(message) => return Ok(message),
                Err(_) => route.cell = retention.cell(subject),
            }
        }
    }

    #[inline]
    fn fan_out(self: &Arc<Self>, route: &Route, message: Message) -> Sent {
        self.telemetry.published();
        let mut published = Published::NOBODY;
        let mut waiting: Option<Box<Waiting>> = None;
        let mut send = |sink: &Arc<Sink>, message: Message| match &sink.way {
            Way::Log(log) => match log.append(message) {
                Appended::Closed => {}
                Appended::Stored { begin_to_lag } => {
                    let members = sink.members.load(Ordering::Relaxed);
                    published.reached = published.reached.map(|count| count + members);
                    for _ in 0..begin_to_lag {
                        self.telemetry.lags(&sink.wanted);
                    }
                }
            },
            Way::Ring { ring, key } => {
                let key: Option<Key> = key.as_ref().map(|key| key.of(&message));
                match ring.offer(message, key) {
                    Ok(offered) => self.account(sink, offered, &mut published),
                    Err(message) => waiting
                        .get_or_insert_with(|| Box::new(Waiting::new(self)))
                        .writers
                        .push((Arc::clone(sink), Writer::Bringing(message))),
                }
            }
        };
        if let Some((last, others)) = route.sinks.split_last() {
            for sink in others {
                send(sink, message.clone());
            }
            send(last, message);
        }
        if let Some(waiting) = &mut waiting {
            waiting.published = published;
        }
        (published, waiting)
    }

    #[inline]
    pub(crate) fn account(&self, sink: &Sink, offered: Offered, published: &mut Published) {
        match offered.outcome {
            Outcome::Stored => {
                published.reached = published.reached.map(|count| count + 1);
            }
            Outcome::Lost => published.lost += 1,
            Outcome::Overflow => {
                published.lost += 1;
                self.telemetry.disconnected(&sink.wanted);
                self.detach(sink);
            }
            Outcome::Closed => {}
        }
        if offered.lost > 0 {
            self.telemetry.lost(offered.lost);
        }
        if offered.begins_to_lag {
            self.telemetry.lags(&sink.wanted);
        }
    }
}

/// What has come of a message so far, and what has to wait.
pub(crate) type Sent = (Published, Option<Box<Waiting>>);

/// What a new subscription needs.
pub(crate) struct Subscribed {
    pub(crate) sink: Arc<Sink>,
    /// Of a log.
    pub(crate) reader: Option<Reader<Message>>,
    pub(crate) replay: VecDeque<Message>,
}

impl Sink {
    fn join(&self, wanted: &Wanted) -> Option<Reader<Message>> {
        match &self.way {
            Way::Log(log) => Some(log.join(wanted.capacity)),
            Way::Ring { .. } => None,
        }
    }

    pub(crate) fn ring(&self) -> Option<&Ring<Message>> {
        match &self.way {
            Way::Log(_) => None,
            Way::Ring { ring, .. } => Some(ring),
        }
    }
}

/// Finds the sink that a new subscription shares: the log of its filter, or the ring of its group.
fn shared<'a>(trie: &'a SubjectTrie<Arc<Sink>>, wanted: &Wanted) -> Option<&'a Arc<Sink>> {
    let log = wanted.group.is_none() && matches!(wanted.overflow, Overflow::DropOldest);
    if !log && wanted.group.is_none() {
        return None;
    }
    trie.values(&wanted.filter)
        .iter()
        .find(|sink| match &sink.way {
            Way::Log(_) => log,
            Way::Ring { .. } => !log && sink.wanted.group == wanted.group,
        })
}

/// A place among the subscriptions; given back when dropped.
struct Reservation<'a>(&'a Hub);

impl Reservation<'_> {
    fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        self.0.subscriptions.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A message that waits for room with some of its subscribers; the others have it.
///
/// Dropped before its end, the ones that are left lose the message, counted as lag.
pub(crate) struct Waiting {
    hub: Arc<Hub>,
    writers: Vec<(Arc<Sink>, Writer<Message>)>,
    published: Published,
}

impl Waiting {
    fn new(hub: &Arc<Hub>) -> Self {
        Self {
            hub: Arc::clone(hub),
            writers: Vec::new(),
            published: Published::default(),
        }
    }

    /// Ends the wait; returns what has come of the message.
    pub(crate) fn give_up(mut self) -> Published {
        self.lose();
        self.published
    }

    fn lose(&mut self) {
        for (sink, writer) in self.writers.drain(..) {
            if let Some(ring) = sink.ring() {
                let offered = ring.give_up(writer);
                self.hub.account(&sink, offered, &mut self.published);
            }
        }
    }
}

impl Future for Waiting {
    type Output = Published;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Published> {
        let Self {
            hub,
            writers,
            published,
        } = &mut *self;
        writers.retain_mut(|(sink, writer)| {
            let polled = sink.ring().map(|ring| ring.poll_offer(writer, cx));
            match polled {
                Some(Poll::Pending) => true,
                Some(Poll::Ready(offered)) => {
                    hub.account(sink, offered, published);
                    false
                }
                None => false,
            }
        });
        if writers.is_empty() {
            return Poll::Ready(*published);
        }
        Poll::Pending
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.lose();
    }
}
