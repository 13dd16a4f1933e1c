//! The subscriber's side.

use crate::backend::Source;
use crate::config::{Overflow, Wanted};
use crate::error::{Closed, SubjectError, SubscribeError};
use crate::hub::{Hub, Sink, Subscribed, Way};
use crate::log::Reader;
use crate::message::{Delivery, Message};
use crate::pubsub::PubSub;
use crate::ring::Taken;
use crate::subject::{Filter, Subject};
use crate::wait::Place;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// How to subscribe; awaiting it does.
///
/// | setting | default |
/// |---|---|
/// | `capacity` | 1024 messages |
/// | `overflow` | [`Overflow::DropOldest`] |
/// | `group` | none |
/// | `replay` | 0 |
#[derive(Clone, Debug)]
#[must_use = "awaiting it subscribes"]
pub struct Subscribe<'a> {
    pub(crate) pubsub: &'a PubSub,
    pub(crate) filter: Result<Filter, SubjectError>,
    pub(crate) capacity: usize,
    pub(crate) overflow: Overflow,
    pub(crate) group: Option<Box<str>>,
    pub(crate) replay: usize,
}

impl<'a> Subscribe<'a> {
    pub(crate) fn new(pubsub: &'a PubSub, filter: Result<Filter, SubjectError>) -> Self {
        Self {
            pubsub,
            filter,
            capacity: Wanted::CAPACITY,
            overflow: Overflow::default(),
            group: None,
            replay: 0,
        }
    }

    /// Sets how many messages may wait to be read: exactly so many, 1 to [`CAPACITY_MAX`](crate::CAPACITY_MAX).
    pub fn capacity(mut self, messages: usize) -> Self {
        self.capacity = messages;
        self
    }

    /// Sets what happens to the next one.
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        self.overflow = overflow;
        self
    }

    /// Joins a queue group: each message goes to one of the members with this filter and this name.
    ///
    /// The members share one buffer, so that whoever is free takes what is next, and what one left unread is there for the
    /// others. They have the same capacity and overflow.
    pub fn group(mut self, name: impl Into<Box<str>>) -> Self {
        self.group = Some(name.into());
        self
    }

    /// Asks for up to `last` of the retained messages of each subject first, in the order of their publication.
    ///
    /// They do not count towards the capacity. No message between the last of them and the first live one is missing or
    /// comes twice.
    pub fn replay(mut self, last: usize) -> Self {
        self.replay = last;
        self
    }

    /// Subscribes without waiting, which a hub in memory can.
    ///
    /// # Errors
    /// [`SubscribeError`]; [`SubscribeError::Unsupported`] if a backend has to be asked.
    pub fn now(self) -> Result<Subscription, SubscribeError> {
        let pubsub = self.pubsub;
        let wanted = self.wanted()?;
        pubsub.subscribe_now(wanted)
    }

    fn wanted(self) -> Result<Wanted, SubscribeError> {
        let wanted = Wanted {
            filter: self.filter?,
            capacity: self.capacity,
            overflow: self.overflow,
            group: self.group,
            replay: self.replay,
        };
        wanted.check()?;
        Ok(wanted)
    }
}

/// # Errors
/// [`SubscribeError`].
///
/// # Cancel safety
/// Dropped before its end, there is no subscription.
impl<'a> IntoFuture for Subscribe<'a> {
    type Output = Result<Subscription, SubscribeError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let pubsub = self.pubsub;
            let wanted = self.wanted()?;
            pubsub.subscribe_wanted(wanted).await
        })
    }
}

/// The messages that match a filter, from the moment of subscribing. Dropping it unsubscribes.
pub struct Subscription {
    kind: Kind,
}

enum Kind {
    Memory(Box<InMemory>),
    Backend(Box<dyn Source>),
}

struct InMemory {
    hub: Arc<Hub>,
    sink: Arc<Sink>,
    /// Where it is in the log, if it reads from one.
    reader: Option<Reader<Message>>,
    /// Where it waits in the ring, if it reads from one.
    place: Option<Place>,
    /// Retained messages that come first.
    replay: VecDeque<Message>,
    /// The number of the last replayed message of each subject.
    replayed: HashMap<Subject, u64>,
}

/// What a subscription, or its queue group, has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Messages that wait to be read.
    pub waiting: u64,
    /// Messages that came into the buffer.
    pub accepted: u64,
    /// Messages that were read.
    pub taken: u64,
    /// Messages that were lost, whether the subscriber was told already or not.
    pub lost: u64,
    /// Messages of [`accepted`](Self::accepted) that took the place of one with the same key.
    pub conflated: u64,
}

impl Subscription {
    pub(crate) fn in_memory(hub: Arc<Hub>, subscribed: Subscribed) -> Self {
        let Subscribed {
            sink,
            reader,
            replay,
        } = subscribed;
        let numbers = replay
            .iter()
            .map(|message| (message.subject().clone(), message.retained_number()));
        let kind = Kind::Memory(Box::new(InMemory {
            hub,
            sink,
            reader,
            place: None,
            replayed: numbers.collect(),
            replay,
        }));
        Self { kind }
    }

    pub(crate) fn of_backend(source: Box<dyn Source>) -> Self {
        Self {
            kind: Kind::Backend(source),
        }
    }

    /// Waits for what is next: a message, or the number of messages that were lost before the next one.
    ///
    /// # Errors
    /// [`Closed`] once nothing more will come, and everything in the buffer was read.
    ///
    /// # Cancel safety
    /// Dropped before its end, it has taken nothing.
    pub fn recv(&mut self) -> Recv<'_> {
        Recv(self)
    }

    /// The poll form of [`recv`](Self::recv), for streams.
    ///
    /// A member of a queue group that stops polling should be dropped, or call [`recv`](Self::recv) instead: until then a
    /// message may wait for it while others are idle.
    ///
    /// # Errors
    /// [`Closed`] once nothing more will come, and everything in the buffer was read.
    #[inline]
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Delivery, Closed>> {
        match &mut self.kind {
            Kind::Memory(memory) => memory.poll(cx),
            Kind::Backend(source) => source.poll_next(cx),
        }
    }

    /// Takes what is next if it is there.
    ///
    /// # Errors
    /// [`Closed`] once nothing more will come, and everything in the buffer was read.
    pub fn try_recv(&mut self) -> Result<Option<Delivery>, Closed> {
        match &mut self.kind {
            Kind::Memory(memory) => memory.try_next(),
            Kind::Backend(source) => source.try_next(),
        }
    }

    /// Returns what the subscription has seen; a member of a group, what the group has.
    #[must_use]
    pub fn stats(&self) -> Stats {
        match &self.kind {
            Kind::Memory(memory) => memory.stats(),
            Kind::Backend(source) => source.stats(),
        }
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Subscription");
        if let Kind::Memory(memory) = &self.kind {
            shown
                .field("filter", &memory.sink.wanted.filter)
                .field("group", &memory.sink.wanted.group);
        }
        shown.field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl InMemory {
    #[inline]
    fn poll(&mut self, cx: &Context<'_>) -> Poll<Result<Delivery, Closed>> {
        if let Some(message) = self.replay.pop_front() {
            return Poll::Ready(Ok(Delivery::Message(message)));
        }
        loop {
            let polled = match (&self.sink.way, &mut self.reader) {
                (Way::Log(log), Some(reader)) => log.poll_take(reader, cx),
                (Way::Ring { ring, .. }, _) => ring.poll_take(&mut self.place, cx),
                (Way::Log(_), None) => return Poll::Ready(Err(Closed::Hub)),
            };
            match polled {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(closed)) => return Poll::Ready(Err(closed)),
                Poll::Ready(Ok(taken)) => {
                    if let Some(delivery) = self.delivery(taken) {
                        return Poll::Ready(Ok(delivery));
                    }
                }
            }
        }
    }

    fn try_next(&mut self) -> Result<Option<Delivery>, Closed> {
        if let Some(message) = self.replay.pop_front() {
            return Ok(Some(Delivery::Message(message)));
        }
        loop {
            let taken = match (&self.sink.way, &mut self.reader) {
                (Way::Log(log), Some(reader)) => log.try_take(reader)?,
                (Way::Ring { ring, .. }, _) => ring.try_take(&mut self.place)?,
                (Way::Log(_), None) => return Err(Closed::Hub),
            };
            let Some(taken) = taken else { return Ok(None) };
            if let Some(delivery) = self.delivery(taken) {
                return Ok(Some(delivery));
            }
        }
    }

    /// None for a message that was among the retained ones.
    #[inline]
    fn delivery(&self, taken: Taken<Message>) -> Option<Delivery> {
        match taken {
            Taken::Lagged(lost) => {
                if self.reader.is_some() {
                    self.hub.told_of_loss(lost);
                }
                Some(Delivery::Lagged(lost))
            }
            Taken::Message(message) => {
                if message.retained_number() > 0 && self.was_replayed(&message) {
                    return None;
                }
                Some(Delivery::Message(message))
            }
        }
    }

    fn was_replayed(&self, message: &Message) -> bool {
        let last = self.replayed.get(message.subject());
        last.is_some_and(|last| message.retained_number() <= *last)
    }

    fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        match (&self.sink.way, &self.reader) {
            (Way::Log(log), Some(reader)) => {
                (stats.waiting, stats.accepted, stats.lost) = log.counts(reader);
                stats.taken = stats.accepted - stats.waiting - stats.lost;
            }
            (Way::Ring { ring, .. }, _) => {
                let counts = ring.counts();
                stats = Stats {
                    waiting: ring.len(),
                    accepted: counts.accepted,
                    taken: counts.taken,
                    lost: counts.lost,
                    conflated: counts.conflated,
                };
            }
            (Way::Log(_), None) => {}
        }
        stats.waiting += self.replay.len() as u64;
        stats
    }

    /// Waits no longer.
    #[inline]
    fn leave(&mut self) {
        match (&self.sink.way, &mut self.reader) {
            (Way::Log(log), Some(reader)) => log.stop_waiting(reader),
            (Way::Ring { ring, .. }, _) => {
                if let Some(place) = self.place.take() {
                    ring.leave_readers(place);
                }
            }
            (Way::Log(_), None) => {}
        }
    }
}

impl Drop for InMemory {
    fn drop(&mut self) {
        self.leave();
        if let (Way::Log(log), Some(reader)) = (&self.sink.way, &mut self.reader) {
            log.leave(reader);
        }
        self.hub.unsubscribe(&self.sink);
    }
}

/// The future of [`Subscription::recv`].
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct Recv<'a>(&'a mut Subscription);

impl Future for Recv<'_> {
    type Output = Result<Delivery, Closed>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll_recv(cx)
    }
}

impl Drop for Recv<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Kind::Memory(memory) = &mut self.0.kind {
            memory.leave();
        }
    }
}
