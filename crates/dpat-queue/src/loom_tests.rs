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
    queue_of(1, when_full)
}

fn queue_of(messages: u64, when_full: WhenFull) -> Queue {
    let builder = Queue::builder().messages_max(messages);
    let queue = builder.when_full(when_full).in_memory(Still);
    queue.expect("a valid configuration")
}

/// Receives and settles what is there.
fn take(queue: &Queue) -> Option<u128> {
    let delivery = poll_once(queue.receive())?.expect("the queue is open");
    block_on(queue.settle(delivery.receipt, Outcome::Done)).expect("it holds it");
    Some(delivery.id().get())
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

#[test]
fn what_is_sent_while_others_are_received_is_within_the_limits_and_comes_in_order() {
    model(|| {
        let queue = queue_of(2, WhenFull::Refuse);
        let sender = queue.clone();
        let sends = thread::spawn(move || {
            let mut sent = Vec::new();
            for text in ["a", "b", "c"] {
                sent.extend(block_on(sender.send(Message::new(text))).map(|one| one.id.get()));
            }
            sent
        });
        let mut taken: Vec<_> = (0..2).filter_map(|_| take(&queue)).collect();
        let before = taken.len();
        let sent = sends.join().expect("the thread does not panic");
        assert!((2..=2 + before).contains(&sent.len()), "{sent:?}");
        taken.extend(std::iter::from_fn(|| take(&queue)));
        assert_eq!(taken, sent, "each once, in the order of their ids");
        assert_eq!(sent, (1..=sent.len() as u128).collect::<Vec<_>>());
    });
}

#[test]
fn two_senders_share_the_room() {
    model(|| {
        let queue = queue_of(1, WhenFull::Refuse);
        let other = queue.clone();
        let sends = thread::spawn(move || block_on(other.send(Message::new("a"))).is_ok());
        let here = block_on(queue.send(Message::new("b"))).is_ok();
        let there = sends.join().expect("the thread does not panic");
        assert!(here != there, "there is room for one");
    });
}

#[test]
fn what_a_send_has_returned_is_there_for_all() {
    model(|| {
        let queue = queue_of(2, WhenFull::Refuse);
        let sender = queue.clone();
        let sends = thread::spawn(move || {
            block_on(sender.send(Message::new("a"))).expect("there is room");
            // Whoever looks now finds it: in the intake, in the row or received.
            let stats = block_on(sender.stats()).expect("it is in memory");
            (stats.sent, stats.ready + stats.leased + stats.done)
        });
        let taken = take(&queue).is_some();
        assert_eq!(sends.join().expect("the thread does not panic"), (1, 1));
        assert_eq!(take(&queue).is_some(), !taken);
    });
}

#[test]
fn nothing_is_sent_once_a_drain_has_begun() {
    model(|| {
        let queue = queue_of(2, WhenFull::Refuse);
        let sender = queue.clone();
        let sends = thread::spawn(move || {
            let first = block_on(sender.send(Message::new("a"))).is_ok();
            let second = block_on(sender.send(Message::new("b"))).is_ok();
            assert!(first || !second, "closed is closed");
            u64::from(first) + u64::from(second)
        });
        block_on(queue.drain());
        let before = block_on(queue.stats()).expect("it is in memory").sent;
        let sent = sends.join().expect("the thread does not panic");
        assert_eq!(sent, before);
    });
}
