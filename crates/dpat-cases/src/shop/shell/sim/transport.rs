//! Clock and network of a simulated node.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use dpat_core::{Class, Clock, Deadline, Instant, Sleep, Wall};
use dpat_sim::async_node::{AsyncNode, CallError as NetError, NodeSleep, NodeTime};
use futures_util::future::{Either, select};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::wire;
use crate::shop::chaos;
use crate::shop::service::ports::{CallError, Peer, Reply, Request, Transport};

/// Longest wait for an answer when the caller states no deadline.
const TIMEOUT_MAX: Duration = Duration::from_secs(60);
/// How many calls to one service are under way at once; further ones wait.
const IN_FLIGHT_MAX: usize = 512;

/// The clock of a node, counted from the start of the run.
#[derive(Clone, Debug)]
pub struct SimTime {
    time: NodeTime,
    origin: Instant,
}

impl SimTime {
    /// Takes the clock of a node.
    #[must_use]
    pub fn of(node: &AsyncNode) -> Self {
        let time = node.time();
        let origin = time.origin();
        Self { time, origin }
    }
}

impl Clock for SimTime {
    fn now(&self) -> Instant {
        Instant::MIN + self.time.now().since(self.origin)
    }

    fn wall(&self) -> Wall {
        self.time.wall()
    }
}

impl Sleep for SimTime {
    type Sleeping = NodeSleep;

    fn sleep_until(&self, at: Instant) -> NodeSleep {
        self.time.sleep_until(self.origin + at.since(Instant::MIN))
    }
}

/// Calls the other services over the simulated network.
#[derive(Clone)]
pub struct SimTransport {
    node: AsyncNode,
    time: SimTime,
    room: Arc<BTreeMap<Peer, Semaphore>>,
}

impl fmt::Debug for SimTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SimTransport").field(&self.node).finish()
    }
}

impl SimTransport {
    /// Makes the transport of a node, or of the customers.
    #[must_use]
    pub fn new(node: AsyncNode) -> Self {
        let room = |peer| (peer, Semaphore::new(IN_FLIGHT_MAX));
        Self {
            time: SimTime::of(&node),
            room: Arc::new(Peer::ALL.into_iter().map(room).collect()),
            node,
        }
    }

    /// Waits for room for one more call.
    async fn room(&self, peer: Peer, wait: Duration) -> Result<SemaphorePermit<'_>, CallError> {
        let full = CallError::not_done(Class::Overloaded, "no connection free");
        let room = self
            .room
            .get(&peer)
            .ok_or(CallError::not_done(Class::Permanent, "unknown service"))?;
        if let Ok(place) = room.try_acquire() {
            return Ok(place);
        }
        let place = std::pin::pin!(room.acquire());
        match select(place, self.time.sleep(wait)).await {
            Either::Left((Ok(place), _)) => Ok(place),
            Either::Left((Err(_), _)) | Either::Right(_) => Err(full),
        }
    }
}

impl Transport for SimTransport {
    async fn call(
        &self,
        peer: Peer,
        request: Request,
        deadline: Deadline,
    ) -> Result<Reply, CallError> {
        let no_time = CallError::not_done(Class::Timeout, "no time left");
        let remaining = deadline.remaining(self.time.now()).min(TIMEOUT_MAX);
        if remaining.is_zero() {
            return Err(no_time);
        }
        let _place = self.room(peer, remaining).await?;
        let remaining = deadline.remaining(self.time.now()).min(TIMEOUT_MAX);
        let until = Deadline::after(self.time.time.now(), remaining);
        let (to, kind) = (chaos::node(peer), request.step.name());
        let body = wire::encode_request(&request);
        match self.node.call(to, kind, body, until).await {
            Ok(answer) => wire::decode_answer(&answer),
            Err(NetError::NoTime) => Err(no_time),
            Err(NetError::Refused) => {
                Err(CallError::not_done(Class::Unavailable, "cannot connect"))
            }
            Err(NetError::TimedOut) => Err(CallError::unknown(Class::Timeout, "no answer in time")),
            Err(NetError::TooMany { .. }) => {
                Err(CallError::not_done(Class::Overloaded, "no connection free"))
            }
            Err(_) => Err(CallError::unknown(Class::Transient, "the connection broke")),
        }
    }
}
