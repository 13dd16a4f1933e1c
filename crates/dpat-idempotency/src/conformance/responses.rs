//! The laws of a response store, which hold on any store that keeps its own.

use std::time::Duration;

use bytes::Bytes;
use dpat_core::{Clock, ManualTime, SplitMix64};

use super::{Harness, Violation, ensure_eq, key, together};
use crate::claim::Claim;
use crate::config::{Config, OnDoubt};
use crate::error::{BeginError, FinishError, ResolveError};
use crate::fingerprint::Fingerprint;
use crate::responses::{Begun, Resolution, Responses};
use crate::store::AnyStore;

const LEASE: Duration = Duration::from_secs(60);
const RETENTION: Duration = Duration::from_secs(3600);

struct Setup {
    responses: Responses<ManualTime>,
    time: ManualTime,
}

fn setup<H: Harness>(store: &H::Store, on_doubt: OnDoubt, seed: u64) -> Setup {
    let config = Config::builder()
        .lease(LEASE)
        .retention(RETENTION)
        .on_doubt(on_doubt)
        .build()
        .expect("within the limits");
    let time = ManualTime::new();
    let store = AnyStore::new(store.clone());
    let responses = Responses::new(config, store, time.clone(), SplitMix64::new(seed));
    Setup { responses, time }
}

fn fresh<H: Harness>(harness: &H) -> Setup {
    setup::<H>(&harness.fresh(), OnDoubt::Report, 1)
}

fn body(text: &str) -> Fingerprint {
    Fingerprint::of(&[text.as_bytes()])
}

/// Begins, in words: `first`, the response, or the refusal.
async fn begin(
    responses: &Responses<ManualTime>,
    id: &str,
    text: &str,
) -> Result<(String, Option<Claim<ManualTime>>), Violation> {
    let said = match responses.begin(&key(id), body(text)).await {
        Ok(Begun::First(claim)) => return Ok((format!("first {}", claim.attempt()), Some(claim))),
        Ok(Begun::Replay(response)) => String::from_utf8_lossy(&response).into_owned(),
        Err(BeginError::Busy { retry_after }) => format!("busy {}", retry_after.as_secs()),
        Err(BeginError::Reused) => "reused".to_owned(),
        Err(BeginError::InDoubt { .. }) => "in doubt".to_owned(),
        Err(other) => return Err(other.into()),
    };
    Ok((said, None))
}

/// Begins, and must be the first.
async fn claim(
    responses: &Responses<ManualTime>,
    id: &str,
) -> Result<Claim<ManualTime>, Violation> {
    match begin(responses, id, "body").await? {
        (_, Some(claim)) => Ok(claim),
        (said, None) => Err(Violation::new(format!("{said} instead of first"))),
    }
}

async fn says(
    responses: &Responses<ManualTime>,
    id: &str,
    text: &str,
) -> Result<String, Violation> {
    Ok(begin(responses, id, text).await?.0)
}

const OK: Bytes = Bytes::from_static(b"ok");

/// What was answered once is answered again.
///
/// # Errors
/// [`Violation`].
pub fn a_repetition_is_answered_as_the_first<H: Harness>(harness: &H) -> Result<(), Violation> {
    let Setup { responses, .. } = fresh(harness);
    harness.run(async {
        claim(&responses, "a").await?.complete(OK).await?;
        for _ in 0..3 {
            ensure_eq!(says(&responses, "a", "body").await?, "ok", "a repetition");
        }
        ensure_eq!(
            says(&responses, "b", "body").await?,
            "first 1",
            "another key"
        );
        let empty = claim(&responses, "c").await?;
        empty.complete(Bytes::new()).await?;
        ensure_eq!(
            says(&responses, "c", "body").await?,
            "",
            "an empty response"
        );
        Ok(())
    })
}

/// A key that comes with another body is refused, while the first is under way and after.
///
/// # Errors
/// [`Violation`].
pub fn another_request_under_the_key_is_refused<H: Harness>(harness: &H) -> Result<(), Violation> {
    let Setup { responses, time } = fresh(harness);
    harness.run(async {
        let first = claim(&responses, "a").await?;
        ensure_eq!(says(&responses, "a", "other").await?, "reused", "under way");
        time.advance(2 * LEASE);
        ensure_eq!(says(&responses, "a", "other").await?, "reused", "in doubt");
        first.complete(OK).await?;
        ensure_eq!(says(&responses, "a", "other").await?, "reused", "done");
        Ok(())
    })
}

/// While one acts, others are told so, and for how long the claim holds.
///
/// # Errors
/// [`Violation`].
pub fn while_one_acts_others_are_told_to_wait<H: Harness>(harness: &H) -> Result<(), Violation> {
    let Setup { responses, time } = fresh(harness);
    harness.run(async {
        let _first = claim(&responses, "a").await?;
        ensure_eq!(says(&responses, "a", "body").await?, "busy 60", "at once");
        time.advance(LEASE / 3);
        ensure_eq!(says(&responses, "a", "body").await?, "busy 40", "later");
        Ok(())
    })
}

/// A holder that says nothing until its lease ends leaves doubt: never "done", never "free".
///
/// # Errors
/// [`Violation`].
pub fn a_lease_that_ends_leaves_doubt<H: Harness>(harness: &H) -> Result<(), Violation> {
    let Setup { responses, time } = fresh(harness);
    harness.run(async {
        drop(claim(&responses, "a").await?);
        time.advance(LEASE);
        ensure_eq!(
            says(&responses, "a", "body").await?,
            "in doubt",
            "after the lease"
        );
        time.advance(10 * RETENTION);
        responses.sweep(99).await?;
        ensure_eq!(
            says(&responses, "a", "body").await?,
            "in doubt",
            "after the retention"
        );
        let declared = claim(&responses, "b").await?;
        declared.doubt().await?;
        ensure_eq!(
            says(&responses, "b", "body").await?,
            "in doubt",
            "when it is declared"
        );
        Ok(())
    })
}

/// A holder that answers late ends the doubt.
///
/// # Errors
/// [`Violation`].
pub fn a_late_answer_ends_the_doubt<H: Harness>(harness: &H) -> Result<(), Violation> {
    let Setup { responses, time } = fresh(harness);
    harness.run(async {
        let slow = claim(&responses, "a").await?;
        time.advance(2 * LEASE);
        ensure_eq!(
            says(&responses, "a", "body").await?,
            "in doubt",
            "after the lease"
        );
        slow.complete(OK).await?;
        ensure_eq!(
            says(&responses, "a", "body").await?,
            "ok",
            "after the answer"
        );
        // Once is enough; twice is the same.
        slow.complete(Bytes::from_static(b"other")).await?;
        ensure_eq!(
            says(&responses, "a", "body").await?,
            "ok",
            "the first answer stays"
        );
        Ok(())
    })
}

/// An operation that surely did not happen may be tried again.
///
/// # Errors
/// [`Violation`].
pub fn a_released_key_is_free<H: Harness>(harness: &H) -> Result<(), Violation> {
    let Setup { responses, .. } = fresh(harness);
    harness.run(async {
        let failed = claim(&responses, "a").await?;
        failed.release().await?;
        failed.release().await?;
        // For any body.
        let (said, again) = begin(&responses, "a", "other").await?;
        ensure_eq!(said, "first 1", "after the release");
        let late = failed.complete(OK).await;
        ensure_eq!(
            matches!(late, Err(FinishError::Superseded)),
            true,
            "the released claim"
        );
        if let Some(again) = again {
            again.complete(OK).await?;
        }
        ensure_eq!(
            says(&responses, "a", "other").await?,
            "ok",
            "the second claim"
        );
        Ok(())
    })
}

/// A claim that is extended holds a lease longer.
///
/// # Errors
/// [`Violation`].
pub fn a_claim_is_extended<H: Harness>(harness: &H) -> Result<(), Violation> {
    let Setup { responses, time } = fresh(harness);
    harness.run(async {
        let mut slow = claim(&responses, "a").await?;
        time.advance(LEASE / 2);
        slow.extend().await?;
        ensure_eq!(slow.until(), time.wall() + LEASE, "the end of the lease");
        time.advance(LEASE - Duration::from_secs(1));
        ensure_eq!(
            says(&responses, "a", "body").await?,
            "busy 1",
            "after the extension"
        );
        slow.complete(OK).await?;
        let done = slow.extend().await;
        ensure_eq!(
            matches!(done, Err(FinishError::Superseded)),
            true,
            "after its end"
        );
        Ok(())
    })
}

/// Where the effect may happen twice, doubt is a further attempt, and the earlier one is shut out.
///
/// # Errors
/// [`Violation`].
pub fn doubt_can_be_retaken<H: Harness>(harness: &H) -> Result<(), Violation> {
    let Setup { responses, time } = setup::<H>(&harness.fresh(), OnDoubt::Retake, 1);
    harness.run(async {
        let first = claim(&responses, "a").await?;
        time.advance(LEASE);
        let second = claim(&responses, "a").await?;
        ensure_eq!(second.attempt(), 2, "the attempt");
        let late = first.complete(Bytes::from_static(b"late")).await;
        ensure_eq!(
            matches!(late, Err(FinishError::Superseded)),
            true,
            "the earlier attempt"
        );
        // The second failing says nothing about the first.
        second.release().await?;
        let third = claim(&responses, "a").await?;
        ensure_eq!(third.attempt(), 3, "the attempt after a release");
        third.complete(OK).await?;
        ensure_eq!(says(&responses, "a", "body").await?, "ok", "a repetition");
        Ok(())
    })
}

/// Keys in doubt are found, and end as an operator says.
///
/// # Errors
/// [`Violation`].
pub fn doubt_is_listed_and_resolved<H: Harness>(harness: &H) -> Result<(), Violation> {
    let Setup { responses, time } = fresh(harness);
    harness.run(async {
        claim(&responses, "done").await?.complete(OK).await?;
        drop(claim(&responses, "a").await?);
        drop(claim(&responses, "b").await?);
        time.advance(LEASE);
        let _under_way = claim(&responses, "c").await?;
        let mut found = Vec::new();
        let mut after = None;
        loop {
            let page = responses.in_doubt(after.as_ref(), 2).await?;
            found.extend(page.items.into_iter().map(|item| item.key));
            ensure_eq!(found.len() <= 4, true, "a list that comes to its end");
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        ensure_eq!(found, [key("a"), key("b")], "keys in doubt");
        responses.resolve(&key("a"), Resolution::Done(OK)).await?;
        responses.resolve(&key("b"), Resolution::NotDone).await?;
        ensure_eq!(
            says(&responses, "a", "body").await?,
            "ok",
            "it had happened"
        );
        ensure_eq!(
            says(&responses, "b", "body").await?,
            "first 1",
            "it had not"
        );
        for id in ["a", "c", "done", "never"] {
            let resolved = responses.resolve(&key(id), Resolution::NotDone).await;
            let refused = matches!(resolved, Err(ResolveError::NotInDoubt));
            ensure_eq!(refused, true, format!("{id} is not in doubt"));
        }
        Ok(())
    })
}

/// After its retention a response is forgotten, and its key is new.
///
/// # Errors
/// [`Violation`].
pub fn expired_responses_are_forgotten<H: Harness>(harness: &H) -> Result<(), Violation> {
    let Setup { responses, time } = fresh(harness);
    harness.run(async {
        claim(&responses, "a").await?.complete(OK).await?;
        claim(&responses, "b").await?.complete(OK).await?;
        time.advance(RETENTION - Duration::from_nanos(1));
        ensure_eq!(responses.sweep(99).await?, 0, "swept before the retention");
        ensure_eq!(
            says(&responses, "a", "body").await?,
            "ok",
            "within the retention"
        );
        time.advance(Duration::from_nanos(1));
        let _again = claim(&responses, "a").await?;
        ensure_eq!(
            responses.sweep(99).await?,
            1,
            "swept, but for the key that is new"
        );
        ensure_eq!(
            says(&responses, "a", "body").await?,
            "busy 60",
            "the new claim"
        );
        ensure_eq!(
            says(&responses, "b", "other").await?,
            "first 1",
            "another body"
        );
        Ok(())
    })
}

/// Of many that begin at once, one acts.
///
/// # Errors
/// [`Violation`].
pub fn one_of_many_acts<H: Harness>(harness: &H) -> Result<(), Violation> {
    let Setup { responses, .. } = fresh(harness);
    harness.run(async {
        let begins = (0..8).map(|_| begin(&responses, "a", "body")).collect();
        let mut said = Vec::new();
        for begun in together(begins).await {
            said.push(begun?.0);
        }
        said.sort();
        let mut expected = vec!["busy 60".to_owned(); 7];
        expected.push("first 1".to_owned());
        ensure_eq!(said, expected, "eight at once");
        Ok(())
    })
}

/// What was claimed, answered and in doubt before a restart is so after it.
///
/// # Errors
/// [`Violation`].
pub fn claims_survive_reopening<H: Harness>(harness: &H) -> Result<(), Violation> {
    let store = harness.fresh();
    let Setup { responses, time } = setup::<H>(&store, OnDoubt::Report, 1);
    harness.run(async {
        claim(&responses, "done").await?.complete(OK).await?;
        drop(claim(&responses, "a").await?);
        claim(&responses, "b").await?.doubt().await?;
        Ok::<_, Violation>(())
    })?;
    drop(responses);
    let store = harness.reopen(store);
    let Setup {
        responses,
        time: later,
    } = setup::<H>(&store, OnDoubt::Report, 2);
    harness.run(async {
        later.set_wall(time.wall());
        ensure_eq!(says(&responses, "done", "body").await?, "ok", "done");
        ensure_eq!(says(&responses, "a", "body").await?, "busy 60", "claimed");
        ensure_eq!(says(&responses, "b", "body").await?, "in doubt", "in doubt");
        later.advance(LEASE);
        ensure_eq!(
            says(&responses, "a", "body").await?,
            "in doubt",
            "after the lease"
        );
        Ok(())
    })
}
