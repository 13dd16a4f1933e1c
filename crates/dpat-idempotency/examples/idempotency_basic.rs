//! A charge is repeated, one crashes in the middle, and an operator resolves the doubt.
//!
//! Runs in virtual time: `cargo run -p dpat-idempotency --example idempotency_basic`

#![allow(clippy::print_stdout)] // an example speaks to people

use bytes::Bytes;
use dpat_core::{Class, Classify, Effect, ManualTime, SystemEntropy};
use dpat_idempotency::{
    BeginError, Begun, Config, Fingerprint, Key, MemoryStore, Resolution, Responses, RunError,
};
use std::time::Duration;

/// What a payment provider can answer.
#[derive(Debug, PartialEq)]
enum ChargeError {
    Declined,
    TimedOut,
}

impl std::fmt::Display for ChargeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}

impl std::error::Error for ChargeError {}

impl Classify for ChargeError {
    fn class(&self) -> Class {
        match self {
            Self::Declined => Class::Permanent,
            Self::TimedOut => Class::Timeout,
        }
    }

    fn effect(&self) -> Effect {
        match self {
            Self::Declined => Effect::NotDone,
            Self::TimedOut => Effect::Unknown,
        }
    }
}

type Answer = Result<dpat_idempotency::Answer, RunError<ChargeError>>;

async fn charge(
    responses: &Responses<ManualTime>,
    id: &str,
    provider: Result<&'static str, ChargeError>,
) -> Answer {
    let key =
        Key::new("account-7/charges", id).map_err(|_| RunError::Inner(ChargeError::Declined))?;
    let body = Fingerprint::of(&[b"{\"cents\":100}"]);
    responses
        .run(&key, body, |_| async { provider.map(Bytes::from) })
        .await
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let time = ManualTime::new();
    let store = MemoryStore::new();
    let responses = Responses::new(Config::default(), store, time.clone(), SystemEntropy);
    let first = charge(&responses, "a", Ok("receipt 1")).await?;
    let again = charge(&responses, "a", Ok("receipt 2")).await?;
    println!("first: {first:?}\nagain: {again:?}");
    assert_eq!(first.response, again.response);

    // Surely not done: the key is free again.
    let declined = charge(&responses, "b", Err(ChargeError::Declined)).await;
    println!("declined: {}", declined.expect_err("the provider said no"));
    charge(&responses, "b", Ok("receipt 3")).await?;

    // Nobody knows: the key stays in doubt until somebody finds out.
    let lost = charge(&responses, "c", Err(ChargeError::TimedOut)).await;
    println!("lost: {}", lost.expect_err("the provider said nothing"));
    let repeated = charge(&responses, "c", Ok("receipt 4")).await;
    println!(
        "repeated: {}",
        repeated.expect_err("it would be charged twice")
    );

    // A process that dies in the middle says nothing either.
    let key = Key::new("account-7/charges", "d")?;
    let Begun::First(claim) = responses.begin(&key, Fingerprint::NONE).await? else {
        return Err("the key is new".into());
    };
    drop(claim);
    time.advance(Duration::from_secs(60));
    let after = responses.begin(&key, Fingerprint::NONE).await;
    assert!(matches!(after, Err(BeginError::InDoubt { .. })));

    for doubt in responses.in_doubt(None, 10).await?.items {
        println!(
            "in doubt since {} ms: {}",
            doubt.since.as_millis(),
            doubt.key
        );
        let found = Resolution::Done(Bytes::from("receipt 5, by hand"));
        responses.resolve(&doubt.key, found).await?;
    }
    let resolved = charge(&responses, "c", Ok("receipt 6")).await?;
    println!("resolved: {resolved:?}");
    Ok(())
}
