use dpat_testkit::{Task, assert_send_static, run_with};
use std::cell::Cell;
use std::future::{pending, poll_fn};
use std::task::Poll;

#[test]
fn remembers_wakes() {
    let mut polls = 0;
    let mut task = Task::new(poll_fn(|cx| {
        polls += 1;
        if polls == 1 {
            cx.waker().wake_by_ref();
            Poll::Pending
        } else {
            Poll::Ready(polls)
        }
    }));
    assert!(!task.is_woken());
    task.assert_pending();
    assert!(task.is_woken());
    assert_eq!(task.assert_ready(), 2);
    assert_eq!(task.wakes(), 1);
}

#[test]
fn run_with_drives_only_while_nothing_is_woken() {
    let clock = Cell::new(0);
    let future = poll_fn(|_| {
        if clock.get() < 3 {
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    });
    run_with(
        || {
            clock.set(clock.get() + 1);
            true
        },
        future,
    );
    assert_eq!(clock.get(), 3);
}

#[test]
#[should_panic(expected = "nothing is due")]
fn run_with_reports_a_future_that_would_wait_for_ever() {
    run_with(|| false, assert_send_static(pending::<()>()));
}
