//! Backends with a bug each: the laws find them.

use crate::conformance::Behind;
use dpat_core::ManualTime;
use dpat_pubsub::conformance::{Violation, laws};
use dpat_pubsub::{
    Backend, BackendError, Capabilities, Capability, Closed, Delivery, Draft, Message, PubSub,
    PublishError, Published, Source, Stats, Subject, SubscribeError, Subscription, Wanted,
};
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

/// What is wrong with a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Bug {
    /// `*` is understood as `>`.
    StarIsRest,
    /// The first message after subscribing is an old one.
    BringsOldMessage,
    /// Every second message comes after the next one.
    SwapsMessages,
    /// A message comes twice.
    Doubles,
    /// Groups are left out of account.
    GroupsGetAll,
    /// The last byte of a payload is lost.
    CutsPayload,
    /// Headers are lost.
    ForgetsHeaders,
    /// Answers are lost.
    ForgetsReply,
    /// The limit is told one byte too small.
    SmallLimit,
    /// Leaving ends nothing.
    NeverLeaves,
    /// All requests share an inbox.
    SharedInbox,
    /// Everybody is told that somebody listens.
    ReachesSomebody,
    /// Closing does nothing.
    NeverCloses,
    /// Losses are not told.
    SilentLoss,
    /// One more fits in than was asked for.
    RoundsCapacityUp,
    /// One retained message less.
    ForgetsRetained,
    /// What it can do is told, and refused.
    ClaimsTooMuch,
}

impl Bug {
    const ALL: [Self; 17] = [
        Self::StarIsRest,
        Self::BringsOldMessage,
        Self::SwapsMessages,
        Self::Doubles,
        Self::GroupsGetAll,
        Self::CutsPayload,
        Self::ForgetsHeaders,
        Self::ForgetsReply,
        Self::SmallLimit,
        Self::NeverLeaves,
        Self::SharedInbox,
        Self::ReachesSomebody,
        Self::NeverCloses,
        Self::SilentLoss,
        Self::RoundsCapacityUp,
        Self::ForgetsRetained,
        Self::ClaimsTooMuch,
    ];
}

/// A hub in memory behind the port, with a bug or none.
pub(crate) struct Wrapped {
    hub: PubSub,
    bug: Option<Bug>,
    published: AtomicU64,
}

impl Wrapped {
    pub(crate) fn new(hub: PubSub, bug: Option<Bug>) -> Self {
        Self {
            hub,
            bug,
            published: AtomicU64::new(0),
        }
    }

    fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }
}

fn failed(error: &PublishError) -> BackendError {
    use dpat_core::Classify;
    BackendError::new(error.class(), error.effect(), error.to_string())
}

#[async_trait::async_trait]
impl Backend for Wrapped {
    fn name(&self) -> &'static str {
        "wrapped"
    }

    fn capabilities(&self) -> Capabilities {
        // Nobody is made to wait behind the port.
        let offered: Vec<Capability> = Capability::ALL
            .into_iter()
            .filter(|one| *one != Capability::Spill)
            .filter(|one| *one != Capability::Await || self.has(Bug::ClaimsTooMuch))
            .collect();
        Capabilities::of(&offered)
    }

    fn payload_bytes_max(&self) -> usize {
        self.hub.payload_bytes_max() - usize::from(self.has(Bug::SmallLimit))
    }

    async fn publish(&self, message: Message) -> Result<Published, BackendError> {
        let count = self.published.fetch_add(1, Ordering::Relaxed);
        let mut payload = message.payload().clone();
        if self.has(Bug::CutsPayload) {
            payload.truncate(payload.len().saturating_sub(1));
        }
        if self.has(Bug::SmallLimit) && payload.len() == self.payload_bytes_max() {
            payload.truncate(0);
        }
        let mut draft = Draft::new(payload);
        if !self.has(Bug::ForgetsHeaders) {
            for (name, value) in message.headers() {
                draft = draft.header(name, value);
            }
        }
        if let Some(inbox) = message.reply_to().filter(|_| !self.has(Bug::ForgetsReply)) {
            draft = draft.reply_to(inbox.clone());
        }
        let subject = message.subject();
        let twice = self.has(Bug::Doubles) && count % 5 == 4;
        if twice {
            let first = self.hub.publish(subject, draft.clone()).await;
            first.map_err(|error| failed(&error))?;
        }
        let published = self.hub.publish(subject, draft).await;
        let mut published = published.map_err(|error| failed(&error))?;
        if self.has(Bug::ReachesSomebody) {
            published.reached = published.reached.map(|count| count.max(1));
        }
        Ok(published)
    }

    async fn subscribe(&self, wanted: Wanted) -> Result<Box<dyn Source>, BackendError> {
        let refused = |error: SubscribeError| {
            use dpat_core::Classify;
            BackendError::new(error.class(), error.effect(), error.to_string())
        };
        if self.has(Bug::ClaimsTooMuch) && wanted.overflow.capability() == Capability::Await {
            let error = SubscribeError::Full { max: 0 };
            return Err(refused(error));
        }
        let mut filter = wanted.filter.to_string();
        if self.has(Bug::StarIsRest) && filter.ends_with(".*") {
            filter.truncate(filter.len() - 1);
            filter.push('>');
        }
        let extra = usize::from(self.has(Bug::RoundsCapacityUp));
        let mut subscribe = self
            .hub
            .subscribe(filter)
            .capacity(wanted.capacity + extra)
            .overflow(wanted.overflow);
        if let Some(group) = wanted.group.filter(|_| !self.has(Bug::GroupsGetAll)) {
            subscribe = subscribe.group(group);
        }
        let forgotten = usize::from(self.has(Bug::ForgetsRetained));
        let subscribe = subscribe.replay(wanted.replay.saturating_sub(forgotten));
        let subscription = subscribe.await.map_err(refused)?;
        let old = Message::new("old".parse().unwrap(), Draft::new("old"));
        Ok(Box::new(WrappedSource {
            subscription: Some(subscription),
            bug: self.bug,
            held: self.has(Bug::BringsOldMessage).then_some(old),
            taken: 0,
        }))
    }

    fn inbox(&self) -> Subject {
        if self.has(Bug::SharedInbox) {
            return "_inbox.shared".parse().unwrap();
        }
        self.hub.inbox()
    }

    async fn close(&self) {
        if !self.has(Bug::NeverCloses) {
            self.hub.close().await;
        }
    }
}

struct WrappedSource {
    subscription: Option<Subscription>,
    bug: Option<Bug>,
    held: Option<Message>,
    taken: u64,
}

impl WrappedSource {
    fn open(&mut self) -> &mut Subscription {
        self.subscription.as_mut().unwrap()
    }
}

impl Source for WrappedSource {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Delivery, Closed>> {
        if let Some(held) = self.held.take() {
            return Poll::Ready(Ok(Delivery::Message(held)));
        }
        loop {
            let polled = self.open().poll_recv(cx);
            match polled {
                Poll::Ready(Ok(Delivery::Lagged(_))) if self.bug == Some(Bug::SilentLoss) => {}
                Poll::Ready(Ok(Delivery::Message(message)))
                    if self.bug == Some(Bug::SwapsMessages) =>
                {
                    self.taken += 1;
                    if self.taken % 2 == 0 {
                        return Poll::Ready(Ok(Delivery::Message(message)));
                    }
                    match self.open().try_recv()? {
                        Some(Delivery::Message(next)) => {
                            self.held = Some(message);
                            return Poll::Ready(Ok(Delivery::Message(next)));
                        }
                        _ => return Poll::Ready(Ok(Delivery::Message(message))),
                    }
                }
                other => return other,
            }
        }
    }

    fn try_next(&mut self) -> Result<Option<Delivery>, Closed> {
        self.open().try_recv()
    }

    fn stats(&self) -> Stats {
        self.subscription
            .as_ref()
            .map(Subscription::stats)
            .unwrap_or_default()
    }
}

impl Drop for WrappedSource {
    fn drop(&mut self) {
        if self.bug == Some(Bug::NeverLeaves) {
            std::mem::forget(self.subscription.take());
        }
    }
}

/// The laws that a bug breaks.
fn broken(bug: Bug) -> BTreeSet<&'static str> {
    let harness = Behind(ManualTime::new(), Some(bug));
    let breaks = |law: fn(&Behind) -> Result<(), Violation>| {
        // A law may wait for ever for what never comes, which the harness finds.
        catch_unwind(AssertUnwindSafe(|| law(&harness))).is_ok_and(|held| held.is_ok())
    };
    laws::<Behind>()
        .into_iter()
        .filter(|(_, law)| !breaks(*law))
        .map(|(name, _)| name)
        .collect()
}

#[test]
fn each_bug_breaks_a_law_and_each_law_is_broken_by_a_bug() {
    let found: BTreeMap<Bug, _> = Bug::ALL.into_iter().map(|bug| (bug, broken(bug))).collect();
    for (bug, laws) in &found {
        assert!(!laws.is_empty(), "{bug:?} breaks no law");
    }
    let broken: BTreeSet<_> = found.into_values().flatten().collect();
    for (name, _) in laws::<Behind>() {
        assert!(broken.contains(name), "no bug breaks {name}");
    }
}
