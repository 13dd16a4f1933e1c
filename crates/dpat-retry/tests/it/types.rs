//! Auto traits of the public types.

use dpat_core::ManualTime;
use dpat_retry::{
    ConfigError, Hedge, LiveQuantile, Retry, RetryBudget, RetryError, RetryExt, TimedOut,
};
use dpat_testkit::{assert_clone, assert_send_static, assert_send_sync};
use std::future::ready;

#[test]
fn the_types_cross_threads() {
    assert_send_sync::<Retry>();
    assert_send_sync::<Hedge>();
    assert_send_sync::<RetryBudget>();
    assert_send_sync::<LiveQuantile>();
    assert_send_sync::<RetryError<std::io::Error>>();
    assert_send_sync::<ConfigError>();
    assert_send_sync::<TimedOut>();
    assert_clone::<Retry>();
    assert_clone::<Hedge>();

    // The futures too, whatever the error is: no Clone, no Debug.
    struct Opaque;
    let time = ManualTime::new();
    let op = || ready(Err::<(), _>(Opaque));
    drop(assert_send_static(
        op.retry_on(time.clone(), Retry::default()),
    ));
    let hedge = Hedge::after(std::time::Duration::ZERO);
    drop(assert_send_static(op.hedge_on(time, hedge)));
}
