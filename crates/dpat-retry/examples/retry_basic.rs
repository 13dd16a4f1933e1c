//! A flaky service, called with a retry, a budget, a hedge and a deadline.
//!
//! `cargo run -p dpat-retry --example retry_basic`

#![allow(clippy::print_stdout)] // a program for people

use dpat_core::{Backoff, Class, Classify, Clock, Deadline, Effect, TokioTime};
use dpat_retry::{Attempt, Hedge, LiveQuantile, Retry, RetryBudget, RetryExt};
use std::cell::Cell;
use std::time::Duration;

/// What the service may answer.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("the connection was refused")]
    Refused,
    #[error("no such order")]
    NotFound,
}

impl Classify for Failed {
    fn class(&self) -> Class {
        match self {
            Self::Refused => Class::Unavailable,
            Self::NotFound => Class::InvalidInput,
        }
    }

    fn effect(&self) -> Effect {
        Effect::NotDone
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // One line: three attempts, exponential backoff with full jitter, 30 s, the budget of the process.
    let calls = Cell::new(0);
    let answer = (|| async {
        calls.set(calls.get() + 1);
        if calls.get() < 3 {
            Err(Failed::Refused)
        } else {
            Ok("shipped")
        }
    })
    .retry(Retry::default())
    .await?;
    println!("{answer} after {} calls", calls.get());

    // A policy for one peer. Clones share the budget.
    let budget = RetryBudget::traffic(0.2)?;
    let policy = Retry::builder()
        .attempts(4)
        .backoff(Backoff::exponential(
            Duration::from_millis(5),
            2.0,
            Duration::from_millis(50),
        )?)
        .timeout(Duration::from_secs(1))
        .attempt_timeout(Duration::from_millis(100))
        .budget(budget.clone())
        .build()?;

    // By a closure: what is final is not repeated.
    let error = (|| async { Err::<(), _>(Failed::NotFound) })
        .retry(policy.clone())
        .retry_if(|error| !matches!(error, Failed::NotFound))
        .await
        .expect_err("the order does not exist");
    println!("{error}");

    // By class, telling each retry, inside a deadline that travels.
    let deadline = Deadline::after(TokioTime.now(), Duration::from_millis(300));
    let error = deadline
        .scope(
            (|attempt: Attempt| async move {
                println!("attempt {} has {:?}", attempt.number(), attempt.remaining());
                Err::<(), _>(Failed::Refused)
            })
            .retry(policy)
            .by_class()
            .notify(|retrying| println!("again in {:?}", retrying.delay)),
        )
        .await
        .expect_err("nobody listens");
    println!("{error}");

    // The first attempt hangs; the hedge answers. The same budget pays for both.
    let p95 = LiveQuantile::new(0.95, Duration::from_millis(20))?;
    let winner = (|attempt: Attempt| async move {
        if attempt.number() == 1 {
            std::future::pending::<()>().await;
        }
        Ok::<_, Failed>(attempt.number())
    })
    .hedge(Hedge::after(p95).with_budget(budget.clone()))
    .await?;
    println!("attempt {winner} won; {:?}", budget.snapshot());
    Ok(())
}
