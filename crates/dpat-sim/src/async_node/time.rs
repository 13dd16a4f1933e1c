//! The clocks of a node as ports of `dpat_core`.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use dpat_core::{Clock, Instant, Sleep, Wall};

use super::node::AsyncNode;
use super::queue::Key;

/// The clocks of a node, with the faults that they have; clones are the same clocks.
///
/// The monotonic clock starts at an origin drawn for the node and goes on through its crashes.
#[derive(Clone)]
pub struct NodeTime(AsyncNode);

impl fmt::Debug for NodeTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("NodeTime").field(&self.0.peer()).finish()
    }
}

impl NodeTime {
    pub(super) const fn new(node: AsyncNode) -> Self {
        Self(node)
    }

    /// Returns what the monotonic clock showed when the run began.
    #[must_use]
    pub fn origin(&self) -> Instant {
        let mut world = self.0.shared().world.lock();
        world.place(self.0.peer().node).origin
    }
}

impl Clock for NodeTime {
    fn now(&self) -> Instant {
        self.0.shared().world.lock().monotonic(self.0.peer().node)
    }

    fn wall(&self) -> Wall {
        self.0
            .shared()
            .world
            .lock()
            .reading(self.0.peer().node)
            .wall
    }
}

impl Sleep for NodeTime {
    type Sleeping = NodeSleep;

    fn sleep_until(&self, at: Instant) -> NodeSleep {
        NodeSleep {
            node: self.0.clone(),
            at,
            key: None,
        }
    }

    fn sleep(&self, duration: Duration) -> NodeSleep {
        self.sleep_until(self.now() + duration)
    }
}

/// The future of a [`NodeTime`] sleep: completes when the node's clock shows the time.
///
/// # Cancel safety
/// Dropping it gives the wait up.
pub struct NodeSleep {
    node: AsyncNode,
    at: Instant,
    /// Its place in the queue of the world.
    key: Option<Key>,
}

impl fmt::Debug for NodeSleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeSleep")
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}

impl Future for NodeSleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let node = this.node.peer().node;
        let mut world = this.node.shared().world.lock();
        let mut dropped = None;
        let polled = if !world.is_current(this.node.peer()) {
            Poll::Pending
        } else if world.monotonic(node) >= this.at {
            dropped = this.key.take().and_then(|key| world.take_timer(key));
            Poll::Ready(())
        } else {
            match this.key.and_then(|key| world.timer(key)) {
                Some(waker) if waker.will_wake(cx.waker()) => {}
                Some(waker) => dropped = Some(std::mem::replace(waker, cx.waker().clone())),
                None => this.key = Some(world.add_timer(node, this.at, cx.waker().clone())),
            }
            Poll::Pending
        };
        drop(world);
        drop(dropped); // outside the lock: a waker may be the last handle of something
        polled
    }
}

impl Drop for NodeSleep {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            let dropped = self.node.shared().world.lock().take_timer(key);
            drop(dropped);
        }
    }
}
