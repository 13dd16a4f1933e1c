//! Small models of the ring, its wait lists and the log, checked by loom in every interleaving under `cfg(dpat_loom)`,
//! and run as plain tests otherwise so that they cannot rot.
//!
//! loom sees the locks and the log's positions. It does not see the tries, which are guarded by a plain lock; a cell that
//! is filled once is a lock of its own here.

use crate::buffer::SourceBuffer;
use crate::config::Overflow;
use crate::error::Closed;
use crate::log::{Appended, Log, Reader};
use crate::machine::Mode;
use crate::message::{Delivery, Message};
use crate::ring::{Offered, Outcome, Ring, Store, Taken, Writer};
use crate::wait::Place;
use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

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

/// Wakes a thread.
struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Polls until it is ready, and sleeps in between: a wake that is lost is a thread that never ends.
fn block_on<R>(mut poll: impl FnMut(&Context<'_>) -> Poll<R>) -> R {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let cx = Context::from_waker(&waker);
    loop {
        match poll(&cx) {
            Poll::Ready(result) => return result,
            Poll::Pending => thread::park(),
        }
    }
}

fn once<R>(poll: impl FnOnce(&Context<'_>) -> Poll<R>) -> Poll<R> {
    poll(&Context::from_waker(Waker::noop()))
}

fn ring(mode: Mode, capacity: usize) -> Arc<Ring<u32>> {
    Arc::new(Ring::new(mode, capacity, None))
}

fn take(ring: &Ring<u32>) -> Result<Taken<u32>, Closed> {
    let mut place = None;
    block_on(|cx| ring.poll_take(&mut place, cx))
}

fn message(taken: Result<Taken<u32>, Closed>) -> u32 {
    match taken {
        Ok(Taken::Message(message)) => message,
        other => panic!("{other:?}"),
    }
}

/// Publishes, and waits where there is no room.
fn put(ring: &Ring<u32>, message: u32) -> Offered {
    match ring.offer(message, None) {
        Ok(offered) => offered,
        Err(message) => {
            let mut writer = Writer::Bringing(message);
            block_on(|cx| ring.poll_offer(&mut writer, cx))
        }
    }
}

#[test]
fn loom_a_full_ring_hands_over_in_order() {
    model(|| {
        let ring = ring(Mode::Await, 1);
        let publisher = {
            let ring = Arc::clone(&ring);
            thread::spawn(move || {
                for number in 1..=3 {
                    assert_eq!(put(&ring, number).outcome, Outcome::Stored);
                }
            })
        };
        for number in 1..=3 {
            assert_eq!(message(take(&ring)), number);
        }
        publisher.join().unwrap();
        assert_eq!((ring.len(), ring.waiting()), (0, (0, 0)));
    });
}

#[test]
fn loom_two_publishers_that_wait_are_both_served() {
    model(|| {
        let ring = ring(Mode::Await, 1);
        put(&ring, 0);
        let publishers: Vec<_> = [1, 2]
            .into_iter()
            .map(|number| {
                let ring = Arc::clone(&ring);
                thread::spawn(move || put(&ring, number))
            })
            .collect();
        let got: u32 = (0..3).map(|_| message(take(&ring))).sum();
        assert_eq!(got, 3);
        for publisher in publishers {
            assert_eq!(publisher.join().unwrap().lost, 0);
        }
    });
}

#[test]
fn loom_a_publisher_that_gives_up_is_counted_or_served() {
    model(|| {
        let ring = ring(Mode::Await, 1);
        put(&ring, 0);
        let mut writer = Writer::Bringing(1);
        assert!(once(|cx| ring.poll_offer(&mut writer, cx)).is_pending());
        let reader = {
            let ring = Arc::clone(&ring);
            thread::spawn(move || {
                assert_eq!(message(take(&ring)), 0);
                take(&ring)
            })
        };
        let lost = ring.give_up(writer).lost;
        let second = reader.join().unwrap().unwrap();
        let wanted = if lost == 1 {
            Taken::Lagged(1)
        } else {
            Taken::Message(1)
        };
        assert_eq!(second, wanted);
        assert_eq!(ring.waiting(), (0, 0));
    });
}

#[test]
fn loom_a_woken_member_that_leaves_passes_the_message_on() {
    model(|| {
        let ring = ring(Mode::DropNewest, 2);
        let mut place: Option<Place> = None;
        assert!(once(|cx| ring.poll_take(&mut place, cx)).is_pending());
        let other = {
            let ring = Arc::clone(&ring);
            thread::spawn(move || message(take(&ring)))
        };
        let publisher = {
            let ring = Arc::clone(&ring);
            thread::spawn(move || put(&ring, 7))
        };
        // The first in line was woken or not; it goes without looking.
        if let Some(place) = place {
            ring.leave_readers(place);
        }
        assert_eq!(other.join().unwrap(), 7);
        publisher.join().unwrap();
        assert_eq!(ring.waiting(), (0, 0));
    });
}

#[test]
fn loom_closing_wakes_everybody() {
    model(|| {
        let full = ring(Mode::Await, 1);
        put(&full, 0);
        let empty = ring(Mode::Await, 1);
        let publisher = {
            let full = Arc::clone(&full);
            thread::spawn(move || put(&full, 1))
        };
        let reader = {
            let empty = Arc::clone(&empty);
            thread::spawn(move || take(&empty))
        };
        full.close(Closed::Hub);
        empty.close(Closed::Hub);
        publisher.join().unwrap();
        assert!(reader.join().unwrap().is_err());
        assert_eq!(message(take(&full)), 0, "what is in it can still be read");
    });
}

#[test]
fn loom_a_source_wakes_its_reader_for_a_message_a_gap_and_the_end() {
    model(|| {
        let buffer = Arc::new(SourceBuffer::new("model", 1, &Overflow::DropOldest).unwrap());
        let pusher = {
            let buffer = Arc::clone(&buffer);
            thread::spawn(move || {
                for payload in ["0", "1"] {
                    buffer.push(Message::new("a".parse().unwrap(), payload.into()));
                }
                buffer.end(Closed::Hub);
            })
        };
        let (mut came, mut lost) = (0, 0);
        while let Ok(next) = block_on(|cx| buffer.poll_next(cx)) {
            match next {
                Delivery::Message(_) => came += 1,
                Delivery::Lagged(count) => lost += count,
            }
        }
        pusher.join().unwrap();
        assert_eq!(came + lost, 2);
        let stats = buffer.stats();
        assert_eq!((stats.taken, stats.lost, stats.waiting), (came, lost, 0));
    });
}

/// A store of two places.
#[derive(Default)]
struct Places(VecDeque<(u64, Option<u32>)>);

impl Store<u32> for Places {
    fn write(&mut self, message: &u32, lost_before: u64) -> bool {
        let room = self.0.len() < 2;
        if room {
            self.0.push_back((lost_before, Some(*message)));
        }
        room
    }

    fn read(&mut self, count: usize) -> Vec<(u64, Option<u32>)> {
        let count = count.min(self.0.len());
        self.0.drain(..count).collect()
    }
}

#[test]
fn loom_the_store_is_used_by_one_task_and_nothing_waits_for_ever() {
    model(|| {
        let ring = Arc::new(Ring::new(Mode::Spill, 1, Some(Box::new(Places::default()))));
        put(&ring, 0);
        let publishers: Vec<_> = [1, 2]
            .into_iter()
            .map(|number| {
                let ring = Arc::clone(&ring);
                thread::spawn(move || put(&ring, number))
            })
            .collect();
        let mut got: Vec<u32> = (0..3).map(|_| message(take(&ring))).collect();
        for publisher in publishers {
            assert_eq!(publisher.join().unwrap().lost, 0);
        }
        assert_eq!(got[0], 0, "what was in the buffer comes first");
        got.sort_unstable();
        assert_eq!(got, [0, 1, 2]);
        assert_eq!((ring.len(), ring.waiting()), (0, (0, 0)));
    });
}

fn read(log: &Log<u32>, reader: &mut Reader<u32>) -> Taken<u32> {
    block_on(|cx| log.poll_take(reader, cx)).unwrap()
}

#[test]
fn loom_readers_of_a_log_get_all_of_it_in_order() {
    model(|| {
        let log = Arc::new(Log::new());
        let mut own = log.join(8);
        let mut others = log.join(8);
        let reader = {
            let log = Arc::clone(&log);
            thread::spawn(move || [read(&log, &mut others), read(&log, &mut others)])
        };
        let publisher = {
            let log = Arc::clone(&log);
            thread::spawn(move || {
                for number in 1..=2 {
                    assert_eq!(log.append(number), Appended::Stored { begin_to_lag: 0 });
                }
            })
        };
        let wanted = [Taken::Message(1), Taken::Message(2)];
        assert_eq!([read(&log, &mut own), read(&log, &mut own)], wanted);
        assert_eq!(reader.join().unwrap(), wanted);
        publisher.join().unwrap();
        log.leave(&mut own);
    });
}

#[test]
fn loom_a_log_counts_what_a_reader_misses() {
    model(|| {
        let log = Arc::new(Log::new());
        let mut reader = log.join(1);
        let publisher = {
            let log = Arc::clone(&log);
            thread::spawn(move || {
                for number in 0..3 {
                    log.append(number);
                }
            })
        };
        let mut next = 0;
        while next < 3 {
            match read(&log, &mut reader) {
                Taken::Message(number) => {
                    assert_eq!(u64::from(number), next);
                    next += 1;
                }
                Taken::Lagged(lost) => next += lost,
            }
        }
        assert_eq!(next, 3);
        publisher.join().unwrap();
    });
}

#[test]
fn loom_a_log_that_closes_wakes_its_readers() {
    model(|| {
        let log = Arc::new(Log::<u32>::new());
        let mut reader = log.join(1);
        let waiting = {
            let log = Arc::clone(&log);
            thread::spawn(move || block_on(|cx| log.poll_take(&mut reader, cx)).is_err())
        };
        log.close(Closed::Hub);
        assert!(waiting.join().unwrap());
        assert_eq!(log.append(1), Appended::Closed);
    });
}
