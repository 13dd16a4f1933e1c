use dpat_testkit::{End, drop_at_every_await};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::task::{Poll, Waker};

async fn yields(times: usize) {
    let mut left = times;
    poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(());
        }
        left -= 1;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[test]
fn visits_every_await_and_the_end() {
    let mut ends = Vec::new();
    let awaits = drop_at_every_await(|| (yields(2), ()), |()| (), |(), end| ends.push(end));
    assert_eq!(awaits, 2);
    let dropped = |polls, driven| End::Dropped { polls, driven };
    assert_eq!(
        ends,
        [
            dropped(0, false),
            dropped(1, false),
            dropped(1, true),
            dropped(2, false),
            dropped(2, true),
            End::Completed(()),
        ]
    );
}

#[test]
fn drive_runs_between_polls() {
    let awaits = drop_at_every_await(
        || {
            let time = Rc::new(Cell::new(0));
            let clock = Rc::clone(&time);
            let future = poll_fn(move |_| {
                if clock.get() == 3 {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            });
            (future, time)
        },
        |time| time.set(time.get() + 1),
        |time, end| {
            if end == End::Completed(()) {
                assert_eq!(time.get(), 3);
            }
        },
    );
    assert_eq!(awaits, 3);
}

/// A semaphore that hands its permit to the first waiter, and loses it if that waiter is dropped before it looks.
#[derive(Default)]
struct Leaky {
    free: Cell<bool>,
    waiters: RefCell<VecDeque<(Rc<Cell<bool>>, Waker)>>,
}

impl Leaky {
    fn release(&self) {
        match self.waiters.borrow_mut().pop_front() {
            Some((granted, waker)) => {
                granted.set(true);
                waker.wake();
            }
            None => self.free.set(true),
        }
    }

    async fn acquire(self: Rc<Self>) {
        let granted = Rc::new(Cell::new(false));
        let mut queued = false;
        poll_fn(|cx| {
            if granted.get() || self.free.take() {
                return Poll::Ready(());
            }
            if !queued {
                queued = true;
                let waiter = (Rc::clone(&granted), cx.waker().clone());
                self.waiters.borrow_mut().push_back(waiter);
            }
            Poll::Pending
        })
        .await;
    }
}

#[test]
fn finds_a_permit_lost_between_wake_and_poll() {
    let run = || {
        drop_at_every_await(
            || {
                let semaphore = Rc::new(Leaky::default());
                (Rc::clone(&semaphore).acquire(), semaphore)
            },
            |semaphore| semaphore.release(),
            |semaphore, end| {
                if end
                    == (End::Dropped {
                        polls: 1,
                        driven: true,
                    })
                {
                    assert!(semaphore.free.get(), "the permit is lost");
                }
            },
        )
    };
    let error = catch_unwind(AssertUnwindSafe(run)).unwrap_err();
    assert_eq!(error.downcast_ref(), Some(&"the permit is lost"));
}
