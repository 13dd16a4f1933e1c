use dpat_retry::{Attempt, Retry, RetryExt, StopReason};
use std::cell::Cell;

#[tokio::test(start_paused = true)]
async fn default_retries_three_times() {
    let calls = Cell::new(0);
    let error = (|| async {
        calls.set(calls.get() + 1);
        Err::<(), _>("down")
    })
    .retry(Retry::default())
    .await
    .unwrap_err();
    assert_eq!(calls.get(), 3);
    assert_eq!(error.attempts(), 3);
    assert_eq!(error.reason(), StopReason::AttemptsExhausted);
    assert_eq!(error.into_last(), Some("down"));
}

#[tokio::test(start_paused = true)]
async fn an_operation_may_take_its_attempt() {
    let value = (|cx: Attempt| async move {
        if cx.number() < 3 {
            Err("down")
        } else {
            Ok(cx.number())
        }
    })
    .retry(Retry::default())
    .retry_if(|error| *error == "down")
    .await;
    assert_eq!(value, Ok(3));
}
