//! A limit on one future.

use crate::support::{SECOND, run};
use dpat_core::{Class, Classify, Clock, Deadline, Effect, ManualTime, Sleep};
use dpat_retry::timeout_on;
use std::cell::Cell;
use std::future::{pending, ready};
use std::time::Duration;

#[test]
fn a_timeout_drops_the_future_and_tells_its_effect() {
    struct Dropped<'a>(&'a Cell<bool>);
    impl Drop for Dropped<'_> {
        fn drop(&mut self) {
            self.0.set(true);
        }
    }

    let (time, dropped) = (ManualTime::new(), Cell::new(false));
    let guard = Dropped(&dropped);
    let stuck = async {
        let _guard = guard;
        pending::<()>().await;
    };
    let mut call = Box::pin(timeout_on(&time, SECOND, stuck));
    let error = run(&time, call.as_mut()).unwrap_err();
    assert!(dropped.get(), "before the caller drops the call");
    assert_eq!(error.limit(), SECOND);
    assert_eq!(
        (error.class(), error.effect()),
        (Class::Timeout, Effect::Unknown)
    );
    assert_eq!(error.to_string(), "timed out after 1s");
}

#[test]
fn what_is_ready_in_time_passes() {
    let time = ManualTime::new();
    let call = timeout_on(&time, SECOND, async {
        time.sleep(SECOND / 2).await;
        7
    });
    assert_eq!(run(&time, call), Ok(7));
    assert_eq!(time.sleepers(), 0);
}

#[test]
fn a_limit_of_zero_never_starts_the_future() {
    let time = ManualTime::new();
    let error = run(&time, timeout_on(&time, Duration::ZERO, ready(1))).unwrap_err();
    assert_eq!(error.effect(), Effect::NotDone);
}

#[cfg(feature = "tokio")]
#[test]
fn a_surrounding_deadline_wins_if_it_is_nearer() {
    let time = ManualTime::new();
    let inner = timeout_on(&time, 9 * SECOND, async {
        assert_eq!(Deadline::current().remaining(time.now()), 2 * SECOND);
        pending::<()>().await;
    });
    let call = Deadline::after(time.now(), 2 * SECOND).scope(inner);
    assert_eq!(run(&time, call).unwrap_err().limit(), 2 * SECOND);

    let outer = timeout_on(&time, SECOND, async { Deadline::current() });
    assert_eq!(run(&time, outer), Ok(Deadline::after(time.now(), SECOND)));
}

#[cfg(feature = "tokio")]
#[tokio::test(start_paused = true)]
async fn tokio_time_is_the_default() {
    assert!(dpat_retry::timeout(SECOND, pending::<()>()).await.is_err());
    assert_eq!(dpat_retry::timeout(SECOND, ready(3)).await, Ok(3));
}
