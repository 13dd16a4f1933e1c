//! A queue between the requests of a service and its background work.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Poll;

use futures_util::future::poll_fn;
use futures_util::stream::{self, Stream};
use futures_util::task::AtomicWaker;

use crate::sync::Mutex;

/// What waits in memory to be worked on; each item is durable elsewhere, so that losing the queue loses nothing.
///
/// One consumer. Whoever pushes checks [`WorkQueue::len`] against its own limit first.
#[derive(Debug)]
pub struct WorkQueue<T> {
    shared: Arc<Shared<T>>,
}

#[derive(Debug)]
struct Shared<T> {
    items: Mutex<VecDeque<T>>,
    consumer: AtomicWaker,
}

impl<T> Clone for WorkQueue<T> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<T> Default for WorkQueue<T> {
    fn default() -> Self {
        Self {
            shared: Arc::new(Shared {
                items: Mutex::new(VecDeque::new()),
                consumer: AtomicWaker::new(),
            }),
        }
    }
}

impl<T> WorkQueue<T> {
    /// Adds an item at the end.
    pub fn push(&self, item: T) {
        self.shared.items.lock().push_back(item);
        self.shared.consumer.wake();
    }

    /// Returns how many items wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.items.lock().len()
    }

    /// Says whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the items as they come; never ends.
    pub fn stream(&self) -> impl Stream<Item = T> + '_ {
        stream::unfold(self, |queue| async move {
            let item = poll_fn(|cx| {
                queue.shared.consumer.register(cx.waker());
                match queue.shared.items.lock().pop_front() {
                    Some(item) => Poll::Ready(item),
                    None => Poll::Pending,
                }
            })
            .await;
            Some((item, queue))
        })
    }
}
