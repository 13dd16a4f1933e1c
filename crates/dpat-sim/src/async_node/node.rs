//! What a program gets: the world as one life of one node sees it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use dpat_core::{Entropy, SplitMix64};
use dpat_model::{NodeIx, Peer};

use super::sync::Mutex;
use super::system::{AsyncLimits, Program};
use super::time::NodeTime;
use super::world::{Role, World};
use crate::disk::SimDisk;

/// What the executor and every handle share.
pub(super) struct Shared {
    pub(super) world: Mutex<World>,
    pub(super) limits: AsyncLimits,
}

/// The world as one life of one node sees it; clones share it. A client has one too, and never crashes.
///
/// When the life ends, every future of the node is dropped, and whatever handle somebody kept becomes inert: nothing
/// that is sent or spawned with it leaves, and what is awaited never comes.
#[derive(Clone)]
pub struct AsyncNode(Arc<Life>);

struct Life {
    shared: Arc<Shared>,
    peer: Peer,
    nodes: u32,
    entropy: SplitMix64,
    disk: SimDisk,
}

impl fmt::Debug for AsyncNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AsyncNode").field(&self.0.peer).finish()
    }
}

impl AsyncNode {
    /// Makes the handle of a life.
    pub(super) fn new(
        shared: &Arc<Shared>,
        seed: u64,
        nodes: u32,
        peer: Peer,
        disk: SimDisk,
    ) -> Self {
        let label = format!("{}#{}", peer.node, peer.incarnation);
        Self(Arc::new(Life {
            shared: Arc::clone(shared),
            peer,
            nodes,
            entropy: SplitMix64::stream(seed, &label),
            disk,
        }))
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.0.shared
    }

    /// Returns which life of which node this is. Clients are numbered after the nodes.
    #[must_use]
    pub fn peer(&self) -> Peer {
        self.0.peer
    }

    /// Returns how many nodes the system has, clients not counted.
    #[must_use]
    pub fn nodes(&self) -> u32 {
        self.0.nodes
    }

    /// Returns the clocks of the node.
    #[must_use]
    pub fn time(&self) -> NodeTime {
        NodeTime::new(self.clone())
    }

    /// Returns the randomness of this life.
    #[must_use]
    pub fn entropy(&self) -> &dyn Entropy {
        &self.0.entropy
    }

    /// Returns the disk of the node, as its last life left it. When this life ends, the handle is closed.
    #[must_use]
    pub fn disk(&self) -> &SimDisk {
        &self.0.disk
    }

    /// Starts a task of this node. It goes on when the [`Task`] is dropped.
    ///
    /// A system with more than [`AsyncLimits::tasks_max`] tasks ends the run with the violation `task-limit`.
    pub fn spawn<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Task<T> {
        let task = Task(Arc::new(Mutex::new(Joint {
            value: None,
            waker: None,
        })));
        let joint = Arc::clone(&task.0);
        self.start(Role::Spawned, async move {
            let value = future.await;
            let waker = {
                let mut joint = joint.lock();
                joint.value = Some(value);
                joint.waker.take()
            };
            if let Some(waker) = waker {
                waker.wake();
            }
        });
        task
    }

    /// Starts a task without a handle to it.
    pub(super) fn start(&self, role: Role, program: impl Future<Output = ()> + Send + 'static) {
        self.start_boxed(role, Box::pin(program), None);
    }

    /// Starts a task because of an event; by default the one under way.
    pub(super) fn start_boxed(&self, role: Role, program: Program, cause: Option<u64>) {
        let shared = self.shared();
        let refused = {
            let mut world = shared.world.lock();
            if world.is_current(self.peer()) {
                let task = world.add_task(self.peer().node, role, program);
                let cause = cause.unwrap_or(world.event());
                world.ready.wake(task, cause);
                None
            } else {
                Some(program)
            }
        };
        drop(refused);
    }

    /// Passes a named point, at which a script may strike; `key` is what the passing is about.
    ///
    /// If a fault stops this node here, the future never completes: nothing after it runs in this life. Otherwise it
    /// completes at once, without giving way to other tasks.
    ///
    /// Sending is passing `send.KIND`, arriving is passing `deliver.KIND`: a node that is stopped there sends or gets
    /// nothing. There the rest of the poll still runs, but nothing that it does has an effect.
    ///
    /// # Cancel safety
    /// The passing counts from the first poll on.
    pub fn point<'n>(
        &'n self,
        name: &'n str,
        key: Option<&'n str>,
    ) -> impl Future<Output = ()> + Send + 'n {
        std::future::poll_fn(move |_| {
            let mut world = self.shared().world.lock();
            if world.is_current(self.peer()) {
                world.pass(name, key);
            }
            if world.is_current(self.peer()) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
    }

    /// Lets the next call of this client begin although the present one goes on, as the calls of an open loop do.
    ///
    /// Does nothing outside the program that [`AsyncSystem::call`](super::AsyncSystem::call) returned.
    pub fn next_call(&self) {
        let mut world = self.shared().world.lock();
        if let Some(running) = world
            .running
            .filter(|running| running.node == self.peer().node)
        {
            world.call_is_over(running.role);
        }
    }

    /// Says whether a rare and legal thing should happen here now, with a probability in parts per million.
    ///
    /// Each name is a site. In a run half of the sites are off, drawn from the seed, and the others draw from a stream
    /// of their own. What the program does with it must be correct: a retry more, a smaller batch, a slower path.
    #[must_use]
    pub fn buggify(&self, site: &'static str, per_million: u32) -> bool {
        self.shared().world.lock().buggify(site, per_million)
    }

    /// Demands that something holds; the first demand of the run that does not is its violation.
    pub fn always(&self, property: &'static str, holds: bool, message: impl FnOnce() -> String) {
        if !holds {
            let message = message();
            self.shared().world.lock().judge.fail(property, message);
        }
    }

    /// Demands that something holds at least once in many runs; a batch in which it never does is vacuous.
    pub fn sometimes(&self, name: &'static str, holds: bool) {
        self.shared().world.lock().judge.sometimes(name, holds);
    }

    /// Adds a line to the present event of a full trace.
    pub fn note(&self, text: impl FnOnce() -> String) {
        if self.shared().world.lock().record.is_full() {
            let text = text();
            self.shared().world.lock().record.note(&text);
        }
    }

    /// Returns the true time in nanoseconds since the start of the run, which no program of a real node could know.
    #[must_use]
    pub fn true_ns(&self) -> u64 {
        self.shared().world.lock().now_ns
    }

    /// Says whether the faults of the run are over.
    #[must_use]
    pub fn is_healed(&self) -> bool {
        self.shared().world.lock().healed
    }

    /// Says whether another node is up, which no program of a real node could know.
    #[must_use]
    pub fn is_up(&self, node: NodeIx) -> bool {
        self.shared().world.lock().place(node).up
    }
}

impl Entropy for AsyncNode {
    fn next_u64(&self) -> u64 {
        self.0.entropy.next_u64()
    }
}

/// A task that was spawned: resolves to what it returned. Dropping it lets the task go on alone.
///
/// It never resolves if the node of the task crashed.
///
/// # Cancel safety
/// The value stays until it is taken.
pub struct Task<T>(Arc<Mutex<Joint<T>>>);

struct Joint<T> {
    value: Option<T>,
    waker: Option<Waker>,
}

impl<T> fmt::Debug for Task<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task").finish_non_exhaustive()
    }
}

impl<T> Future for Task<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let waker = cx.waker().clone();
        let mut joint = self.0.lock();
        if let Some(value) = joint.value.take() {
            return Poll::Ready(value);
        }
        let replaced = joint.waker.replace(waker);
        drop(joint);
        drop(replaced);
        Poll::Pending
    }
}
