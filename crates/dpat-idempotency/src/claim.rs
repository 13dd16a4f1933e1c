//! The right to act, for a while.

use std::fmt;

use bytes::Bytes;
use dpat_core::{Clock, SystemClock, Wall};

use crate::error::FinishError;
use crate::key::Key;
use crate::machine::{Claimed, Finish, Record};
use crate::responses::Responses;
use crate::store::Version;

/// The right to act for a key, until its lease ends.
///
/// Whoever holds it tells how the operation ended: [`complete`](Self::complete) with the response, [`release`](Self::release)
/// if it surely did not happen, [`doubt`](Self::doubt) if it may have. A claim that is dropped says nothing: the key is busy
/// until the lease ends, then in doubt.
///
/// The methods may be called again after an error; only the first that succeeds counts.
#[must_use = "a claim that is dropped leaves its key in doubt"]
pub struct Claim<C = SystemClock> {
    responses: Responses<C>,
    key: Key,
    claimed: Claimed,
    until: Wall,
    /// Of the row that says so, while it is known: what is swapped from it need not be read before.
    version: Option<Version>,
}

impl<C: Clock> Claim<C> {
    pub(crate) fn new(
        responses: Responses<C>,
        key: Key,
        (claimed, until): (Claimed, Wall),
        version: Option<Version>,
    ) -> Self {
        Self {
            responses,
            key,
            claimed,
            until,
            version,
        }
    }

    /// Returns the key.
    #[must_use]
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Returns the number of the attempt: 1, unless doubt is [retaken](crate::OnDoubt::Retake).
    ///
    /// A resource that refuses attempts below the highest it has seen is safe from an attempt that was thought dead.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.claimed.attempt
    }

    /// Returns until when the lease holds, by the wall clock.
    #[must_use]
    pub fn until(&self) -> Wall {
        self.until
    }

    /// Stores the response: from now on repetitions are answered with it.
    ///
    /// Also after the lease has ended, as long as nobody else has taken or resolved the key.
    ///
    /// # Errors
    /// [`FinishError`]; the operation has happened all the same, and its response is the caller's to use.
    ///
    /// # Cancel safety
    /// The response is stored or not; call again.
    pub async fn complete(&self, response: Bytes) -> Result<(), FinishError> {
        self.end(Finish::Complete(response)).await
    }

    /// Frees the key: the operation surely did not happen.
    ///
    /// # Errors
    /// [`FinishError`]; the key is then busy until the lease ends, and in doubt.
    ///
    /// # Cancel safety
    /// The key is free or not; call again.
    pub async fn release(&self) -> Result<(), FinishError> {
        self.end(Finish::Release).await
    }

    /// Puts the key in doubt before its lease ends: the operation may have happened, and this holder learns no more.
    ///
    /// # Errors
    /// [`FinishError`]; the lease will end.
    ///
    /// # Cancel safety
    /// The key is in doubt or busy; call again.
    pub async fn doubt(&self) -> Result<(), FinishError> {
        self.end(Finish::Doubt).await
    }

    /// Holds the claim for a whole lease from now on.
    ///
    /// # Errors
    /// [`FinishError::Superseded`] if it was resolved or taken by another: stop acting. Otherwise the claim holds as long
    /// as before.
    ///
    /// # Cancel safety
    /// The lease is extended or not; call again.
    pub async fn extend(&mut self) -> Result<(), FinishError> {
        let until = self.finish(Finish::Extend).await?;
        self.until = until.unwrap_or(self.until);
        self.version = None;
        Ok(())
    }

    async fn end(&self, what: Finish) -> Result<(), FinishError> {
        self.finish(what).await.map(drop)
    }

    async fn finish(&self, what: Finish) -> Result<Option<Wall>, FinishError> {
        let known = self.version.map(|version| {
            let until = self.until.as_nanos();
            let claimed = self.claimed;
            (version, Record::Claimed { claimed, until })
        });
        let nonce = self.claimed.nonce;
        self.responses.finish(&self.key, nonce, what, known).await
    }
}

impl<C> fmt::Debug for Claim<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claim")
            .field("key", &self.key)
            .field("attempt", &self.claimed.attempt)
            .field("until", &self.until)
            .finish_non_exhaustive()
    }
}
