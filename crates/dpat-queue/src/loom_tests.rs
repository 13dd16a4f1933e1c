//! Small models of the shell's lock and wait lists, checked by loom in every interleaving under `cfg(dpat_loom)`, and run as
//! plain tests otherwise so that they cannot rot.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use dpat_core::{Clock, Instant, Sleep, Wall};

use crate::config::WhenFull;
use crate::message::{Message, Outcome};
use crate::queue::Queue;

#[cfg(dpat_loom)]
use loom::thread;
#[cfg(not(dpat_loom))]
use std::thread;

#[cfg(dpat_loom)]
fn model(check: impl Fn() + Send + Sync + 'static) {
    loom::model(check);
}

#[cfg(not(dpat_loom))]
fn model(check: impl Fn()) {
    for _ in 0..200 {
        check();
    }
}

/// A clock that stands still, and whose sleeps never end: a wake that is lost is a thread that never ends.
#[derive(Clone, Copy)]
struct Still;

impl Clock for Still {
    fn now(&self) -> Instant {
        Instant::from_nanos(1)
    }

    fn wall(&self) -> Wall {
        Wall::from_nanos(1)
    }
}

impl Sleep for Still {
    type Sleeping = std::future::Pending<()>;

    fn sleep_until(&self, _: Instant) -> Self::Sleeping {
        std::future::pending()
    }
}

/// Wakes a thread.
struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

fn poll_once<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    match future
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
    {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

fn queue(when_full: WhenFull) -> Queue {
    let builder = Queue::builder().messages_max(1).when_full(when_full);
    builder.in_memory(Still).expect("a valid configuration")
}

#[test]
fn a_receiver_that_waits_hears_of_a_message() {
    model(|| {
        let queue = queue(WhenFull::Refuse);
        let sender = queue.clone();
        let sends = thread::spawn(move || block_on(sender.send(Message::new("a"))).is_ok());
        let received = block_on(queue.receive()).expect("it comes");
        assert_eq!(received.count, 1);
        assert!(sends.join().expect("the thread does not panic"));
    });
}

#[test]
fn a_receiver_that_leaves_passes_its_wake_on() {
    model(|| {
        let queue = queue(WhenFull::Refuse);
        let leaves = queue.clone();
        let sender = queue.clone();
        let leaver = thread::spawn(move || {
            // It leaves at once, and gives back what it may have got.
            let got = poll_once(leaves.receive());
            if let Some(got) = got {
                let receipt = got.expect("the queue is open").receipt;
                block_on(leaves.settle(receipt, Outcome::release())).expect("it holds it");
            }
        });
        let sends = thread::spawn(move || block_on(sender.send(Message::new("a"))).is_ok());
        block_on(queue.receive()).expect("it comes");
        leaver.join().expect("the thread does not panic");
        assert!(sends.join().expect("the thread does not panic"));
    });
}

#[test]
fn of_two_receipts_one_settles() {
    model(|| {
        let queue = queue(WhenFull::Refuse);
        block_on(queue.send(Message::new("a"))).expect("there is room");
        let receipt = block_on(queue.receive()).expect("it is there").receipt;
        let other = queue.clone();
        let settles = thread::spawn(move || block_on(other.settle(receipt, Outcome::Done)).is_ok());
        let here = block_on(queue.settle(receipt, Outcome::Done)).is_ok();
        let there = settles.join().expect("the thread does not panic");
        assert!(here != there, "exactly one of two settles");
    });
}

#[test]
fn a_sender_that_waits_hears_of_room() {
    model(|| {
        let queue = queue(WhenFull::Wait);
        block_on(queue.send(Message::new("a"))).expect("there is room");
        let receipt = block_on(queue.receive()).expect("it is there").receipt;
        let other = queue.clone();
        let settles = thread::spawn(move || block_on(other.settle(receipt, Outcome::Done)).is_ok());
        block_on(queue.send(Message::new("b"))).expect("room is made");
        assert!(settles.join().expect("the thread does not panic"));
    });
}

#[test]
fn a_drain_hears_of_the_last_settlement() {
    model(|| {
        let queue = queue(WhenFull::Refuse);
        block_on(queue.send(Message::new("a"))).expect("there is room");
        let receipt = block_on(queue.receive()).expect("it is there").receipt;
        let other = queue.clone();
        let settles = thread::spawn(move || block_on(other.settle(receipt, Outcome::Done)).is_ok());
        block_on(queue.drain());
        assert!(settles.join().expect("the thread does not panic"));
    });
}
