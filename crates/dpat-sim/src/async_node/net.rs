//! The network between programs: calls with an answer, and datagrams.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use dpat_core::{Class, Classify, Clock, Deadline, Effect, Sleep};
use dpat_model::{NodeIx, Peer};

use super::node::{AsyncNode, Shared};
use super::system::Program;
use super::world::World;

/// A message that reached a node.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Incoming {
    /// The life that sent it.
    pub from: Peer,
    /// Its kind, as the sender named it.
    pub kind: &'static str,
    /// What it carries.
    pub body: Bytes,
    /// How long its sender waited for an answer when it left; none for a datagram.
    pub patience: Option<Duration>,
}

/// A handler's decision not to answer: the caller sees the connection close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

/// A call that brought no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The deadline had passed before anything was sent.
    #[error("no time left")]
    NoTime,
    /// Too many calls are under way in the whole system, [`AsyncLimits::calls_max`](super::AsyncLimits::calls_max).
    #[error("more than {limit} calls under way")]
    TooMany {
        /// The limit.
        limit: usize,
    },
    /// Nobody serves there: the process was killed, or has not begun to serve.
    #[error("refused: nobody serves there")]
    Refused,
    /// The connection closed before there was an answer: the handler let it close, or its process was killed.
    #[error("closed before there was an answer")]
    Closed,
    /// There was no answer in time.
    #[error("no answer in time")]
    TimedOut,
}

impl Classify for CallError {
    fn class(&self) -> Class {
        match self {
            Self::NoTime | Self::TimedOut => Class::Timeout,
            Self::TooMany { .. } => Class::Overloaded,
            Self::Refused => Class::Unavailable,
            Self::Closed => Class::Transient,
        }
    }

    fn effect(&self) -> Effect {
        match self {
            Self::NoTime | Self::TooMany { .. } | Self::Refused => Effect::NotDone,
            Self::Closed | Self::TimedOut => Effect::Unknown,
        }
    }
}

/// What answers the messages of a node.
pub(super) type Handler = Arc<dyn Fn(Incoming) -> Answering + Send + Sync>;
pub(super) type Answering = Pin<Box<dyn Future<Output = Result<Bytes, Closed>> + Send>>;

/// One message on its way.
#[derive(Clone, Debug)]
pub(super) struct Envelope {
    pub(super) from: Peer,
    pub(super) to: NodeIx,
    pub(super) kind: &'static str,
    pub(super) what: Carried,
    pub(super) body: Bytes,
    /// The event in which it was sent.
    pub(super) sent_in: u64,
    /// It is the second copy of a duplicated message.
    pub(super) copy: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Carried {
    Datagram,
    Request {
        call: CallId,
        patience: Duration,
    },
    /// An answer, or the news that there is none.
    Answer {
        call: CallId,
        end: End,
    },
}

/// How a call ended, the body apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Answered,
    Refused,
    Closed,
}

/// Names one call: a slot, and which of the calls that have been in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CallId {
    slot: u32,
    generation: u32,
}

/// The calls that are under way.
#[derive(Debug, Default)]
pub(super) struct Calls {
    slots: Vec<(u32, Option<Pending>)>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Pending {
    waker: Option<Waker>,
    end: Option<(End, Bytes)>,
}

impl Calls {
    pub(super) fn under_way(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    #[allow(clippy::cast_possible_truncation, reason = "calls are limited below")]
    fn open(&mut self) -> CallId {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push((0, None));
            self.slots.len() as u32 - 1
        });
        let (generation, pending) = &mut self.slots[slot as usize];
        *pending = Some(Pending {
            waker: None,
            end: None,
        });
        CallId {
            slot,
            generation: *generation,
        }
    }

    fn get(&mut self, call: CallId) -> Option<&mut Pending> {
        match self.slots.get_mut(call.slot as usize)? {
            (generation, pending) if *generation == call.generation => pending.as_mut(),
            _ => None,
        }
    }

    fn close(&mut self, call: CallId) -> Option<Pending> {
        self.get(call)?;
        let (generation, pending) = &mut self.slots[call.slot as usize];
        *generation = generation.wrapping_add(1);
        self.free.push(call.slot);
        pending.take()
    }

    /// Notes how a call ended; the first end counts. Returns who waits for it.
    pub(super) fn end(&mut self, call: CallId, end: End, body: Bytes) -> Option<Waker> {
        let pending = self.get(call)?;
        if pending.end.is_some() {
            return None;
        }
        pending.end = Some((end, body));
        pending.waker.take()
    }
}

/// A call under way; dropping it forgets the call, and whatever comes for it.
struct OpenCall<'s> {
    shared: &'s Shared,
    /// None for the call of a life that is over, which never ends.
    id: Option<CallId>,
}

impl OpenCall<'_> {
    fn poll(&self, cx: &Context<'_>) -> Poll<Result<Bytes, CallError>> {
        let Some(id) = self.id else {
            return Poll::Pending;
        };
        let mut world = self.shared.world.lock();
        let Some(pending) = world.calls.get(id) else {
            return Poll::Pending;
        };
        let Some((end, body)) = pending.end.take() else {
            let old = pending.waker.replace(cx.waker().clone());
            drop(world);
            drop(old);
            return Poll::Pending;
        };
        Poll::Ready(match end {
            End::Answered => Ok(body),
            End::Refused => Err(CallError::Refused),
            End::Closed => Err(CallError::Closed),
        })
    }
}

impl Drop for OpenCall<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            let closed = self.shared.world.lock().calls.close(id);
            drop(closed); // outside the lock: a waker may be the last handle of something
        }
    }
}

impl AsyncNode {
    /// Answers requests and takes datagrams from now on; a later handler replaces an earlier one.
    ///
    /// Each message gets a task of its own, which lives as long as it likes, whether or not somebody waits for its
    /// answer. What it returns is sent back to a caller and ignored for a datagram. Until a node serves, requests are
    /// refused and datagrams lost.
    pub fn serve<F>(&self, handler: impl Fn(Incoming) -> F + Send + Sync + 'static)
    where
        F: Future<Output = Result<Bytes, Closed>> + Send + 'static,
    {
        let handler: Handler = Arc::new(move |incoming| Box::pin(handler(incoming)));
        let replaced = {
            let mut world = self.shared().world.lock();
            if world.is_current(self.peer()) {
                world.place(self.peer().node).handler.replace(handler)
            } else {
                Some(handler)
            }
        };
        drop(replaced);
    }

    /// Sends a message that nobody answers; it may be lost, delayed, duplicated or overtaken.
    ///
    /// `kind` should be one of the system's kinds.
    pub fn send(&self, to: NodeIx, kind: &'static str, body: Bytes) {
        let mut world = self.shared().world.lock();
        if world.is_current(self.peer()) {
            world.post(Envelope {
                from: self.peer(),
                to,
                kind,
                what: Carried::Datagram,
                body,
                sent_in: 0,
                copy: false,
            });
        }
    }

    /// Sends a request and waits for its answer until the deadline of this node's clock, and never longer than
    /// [`AsyncLimits::call_max`](super::AsyncLimits::call_max).
    ///
    /// A request that was duplicated on its way is served twice; the first answer counts. The other side goes on with
    /// what it began, whatever becomes of the caller.
    ///
    /// # Errors
    /// [`CallError`]; its effect says whether the request may have been served.
    ///
    /// # Cancel safety
    /// Dropped, the call may or may not have had its effect, and an answer is ignored.
    pub async fn call(
        &self,
        to: NodeIx,
        kind: &'static str,
        body: Bytes,
        deadline: Deadline,
    ) -> Result<Bytes, CallError> {
        let time = self.time();
        let patience = deadline.remaining(time.now());
        let patience = patience.min(self.shared().limits.call_max);
        if patience.is_zero() {
            return Err(CallError::NoTime);
        }
        let call = self.begin(to, kind, body, patience)?;
        let mut too_late = pin!(time.sleep(patience));
        poll_fn(|cx| match call.poll(cx) {
            Poll::Pending => too_late
                .as_mut()
                .poll(cx)
                .map(|()| Err(CallError::TimedOut)),
            ended => ended,
        })
        .await
    }

    fn begin(
        &self,
        to: NodeIx,
        kind: &'static str,
        body: Bytes,
        patience: Duration,
    ) -> Result<OpenCall<'_>, CallError> {
        let shared = self.shared();
        let mut world = shared.world.lock();
        if !world.is_current(self.peer()) {
            return Ok(OpenCall { shared, id: None });
        }
        let limit = shared.limits.calls_max;
        if world.calls.under_way() >= limit {
            return Err(CallError::TooMany { limit });
        }
        let call = world.calls.open();
        world.post(Envelope {
            from: self.peer(),
            to,
            kind,
            what: Carried::Request { call, patience },
            body,
            sent_in: 0,
            copy: false,
        });
        let id = Some(call);
        Ok(OpenCall { shared, id })
    }

    /// Makes the task that serves a message.
    pub(super) fn serving(
        &self,
        handler: &Handler,
        incoming: Incoming,
        call: Option<CallId>,
    ) -> Program {
        let (caller, kind) = (incoming.from, incoming.kind);
        let answering = handler(incoming);
        let Some(call) = call else {
            return Box::pin(async move {
                let _ = answering.await; // nobody waits for it
            });
        };
        let node = self.clone();
        Box::pin(async move {
            let answer = answering.await;
            node.answer(caller, kind, call, answer);
        })
    }

    fn answer(
        &self,
        caller: Peer,
        kind: &'static str,
        call: CallId,
        answer: Result<Bytes, Closed>,
    ) {
        let (end, body) = match answer {
            Ok(body) => (End::Answered, body),
            Err(Closed) => (End::Closed, Bytes::new()),
        };
        let mut world = self.shared().world.lock();
        if world.is_current(self.peer()) {
            world.post_end(self.peer(), caller.node, kind, call, end, body);
        }
    }
}

impl World {
    /// Sends the end of a call to its caller.
    pub(super) fn post_end(
        &mut self,
        from: Peer,
        to: NodeIx,
        kind: &'static str,
        call: CallId,
        end: End,
        body: Bytes,
    ) {
        self.post(Envelope {
            from,
            to,
            kind,
            what: Carried::Answer { call, end },
            body,
            sent_in: 0,
            copy: false,
        });
    }
}
