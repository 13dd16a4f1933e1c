//! Waiters that are dropped leave nothing behind.

use std::sync::Arc;

use dpat_outbox::Signal;
use dpat_testkit::{Task, drop_at_every_await};

#[test]
fn a_wait_may_be_dropped_at_every_await() {
    let awaits = drop_at_every_await(
        || {
            let signal = Arc::new(Signal::new());
            let seen = signal.ticket();
            let waiter = Arc::clone(&signal);
            (async move { waiter.changed(seen).await }, signal)
        },
        |signal| signal.notify(),
        |signal, _end| {
            assert!(
                format!("{signal:?}").ends_with("waiting: 0 }"),
                "{signal:?}"
            );
        },
    );
    assert_eq!(awaits, 1);
}

#[test]
fn everybody_is_woken_and_nobody_too_early() {
    let signal = Signal::new();
    let seen = signal.ticket();
    let mut waiting = [(); 3].map(|()| Task::new(signal.changed(seen)));
    for task in &mut waiting {
        task.assert_pending();
        // Polled again, it is still one waiter.
        task.assert_pending();
    }
    assert!(
        format!("{signal:?}").ends_with("waiting: 3 }"),
        "{signal:?}"
    );
    signal.notify();
    for task in &mut waiting {
        assert!(task.is_woken());
        task.assert_ready();
    }
    let mut later = Task::new(signal.changed(signal.ticket()));
    later.assert_pending();
    assert!(!later.is_woken());
}
