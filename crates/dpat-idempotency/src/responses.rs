//! The response store: whether to act, and what was answered.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dpat_core::{Classify, Clock, Effect, Entropy, Sleep, SystemClock, SystemEntropy, Wall};

use crate::claim::Claim;
use crate::config::Config;
use crate::error::{BeginError, FinishError, ResolveError, RunError, StoreError};
use crate::fingerprint::Fingerprint;
use crate::key::Key;
use crate::machine::{self, Ask, Claimed, Decision, Finish, Finishing, Found, Nonce, Record};
use crate::memory::MemoryStore;
use crate::row;
use crate::store::{AnyStore, Change, Inserted, Row, Swap, Version};
use crate::trace;

/// How often a change is tried again when others change the same row.
const RACES_MAX: u32 = 16;

/// How many expired rows make room when a store is full.
const PURGE_ROWS: usize = 64;

/// Remembers what operations were answered, so that a repetition is answered the same. Cloning is cheap.
///
/// Between the effect of an operation and the storing of its response a process can die; the store then does not know
/// whether it happened, and says so ([`BeginError::InDoubt`]). Where marker and effect share a transaction, use an
/// [inbox](crate::inbox) instead, which has no such gap.
///
/// `C` is the clock. Its wall time is what leases and retention are counted by, so that processes share them; they must
/// agree within much less than the lease.
///
/// # Examples
/// ```
/// use dpat_idempotency::{Begun, Config, Fingerprint, Key, MemoryStore, Responses};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let responses = Responses::in_memory(Config::default(), MemoryStore::new());
/// let key = Key::new("account-7/charges", "a1b2c3")?;
/// let response = match responses.begin(&key, Fingerprint::of(&[b"{}"])).await? {
///     Begun::First(claim) => {
///         let response = bytes::Bytes::from("charged"); // act here
///         claim.complete(response.clone()).await?;
///         response
///     }
///     Begun::Replay(response) => response,
/// };
/// # Ok(())
/// # }
/// ```
pub struct Responses<C = SystemClock> {
    inner: Arc<Inner<C>>,
}

struct Inner<C> {
    config: Config,
    store: AnyStore,
    clock: C,
    entropy: Box<dyn Entropy>,
}

/// What [`Responses::begin`] found.
#[derive(Debug)]
pub enum Begun<C = SystemClock> {
    /// Nobody has done it: act, then tell the claim.
    First(Claim<C>),
    /// It was done, and answered so.
    Replay(Bytes),
}

/// What [`Responses::run`] answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The response.
    pub response: Bytes,
    /// Whether it is that of an earlier call.
    pub replayed: bool,
}

/// A key whose outcome nobody knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InDoubt {
    /// The key.
    pub key: Key,
    /// When its claim ended.
    pub since: Wall,
    /// How many attempts there were.
    pub attempts: u32,
    /// What was asked.
    pub fingerprint: Fingerprint,
}

/// Some of many items.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// Where to go on; none at the end.
    pub next: Option<Key>,
}

/// What an operator has found out about a key in doubt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// It happened; this is its response from now on.
    Done(Bytes),
    /// It did not happen; the key is free.
    NotDone,
}

impl Responses {
    /// Keeps the responses in memory, on the system's clock and entropy.
    #[must_use]
    pub fn in_memory(config: Config, store: MemoryStore) -> Self {
        Self::new(config, store, SystemClock, SystemEntropy)
    }
}

impl<C: Clock> Responses<C> {
    /// Keeps the responses in `store`.
    ///
    /// `entropy` names the claims, and what it drew once it must never draw again, in this process or another: a claim
    /// with a known name is taken for one's own. A fixed seed is for simulations.
    pub fn new(
        config: Config,
        store: impl Into<AnyStore>,
        clock: C,
        entropy: impl Entropy + 'static,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                config,
                store: store.into(),
                clock,
                entropy: Box::new(entropy),
            }),
        }
    }

    /// Returns the configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    /// Claims a key, or finds what was answered.
    ///
    /// # Errors
    /// [`BeginError`]: under way elsewhere, used for another request, in doubt, or the store's own. In no case is there a
    /// claim that the caller would have to end.
    ///
    /// # Cancel safety
    /// A future that is dropped may leave a claim that nobody holds: the key is busy until its lease ends, then in doubt.
    pub async fn begin(&self, key: &Key, fingerprint: Fingerprint) -> Result<Begun<C>, BeginError> {
        let nonce = Nonce::draw(&*self.inner.entropy);
        let result = self.claim(key, fingerprint, nonce).await;
        trace::begun(key, &result);
        result
    }

    async fn claim(
        &self,
        key: &Key,
        fingerprint: Fingerprint,
        nonce: Nonce,
    ) -> Result<Begun<C>, BeginError> {
        let held = |claimed: Claimed, until, version| {
            let claimed = (claimed, until);
            Begun::First(Claim::new(self.clone(), key.clone(), claimed, version))
        };
        let ask = || Ask {
            fingerprint,
            nonce,
            now: self.inner.clock.wall(),
        };
        // Most keys are new.
        let (claimed, until) = ask().first(&self.inner.config);
        let mut found = match self.insert(key, claimed, until).await {
            Ok(Inserted::New(version)) => return Ok(held(claimed, until, version)),
            Ok(Inserted::Found(found)) => found,
            // Full for new rows, or nobody knows whether it was written: the store says what is there.
            Err(error) if error.is_full() || error.effect() == Effect::Unknown => None,
            Err(error) => return Err(error.into()),
        };
        for _ in 0..RACES_MAX {
            let row = match found.take() {
                Some(row) => Some(row),
                None => self.inner.store.load(key).await?,
            };
            let record = read(row.as_ref()).map_err(BeginError::Corrupt)?;
            let ask = ask();
            let version = row.map(|row| row.version);
            match machine::begin(record.as_ref(), &ask, &self.inner.config) {
                Decision::Claim(claimed, until) => {
                    let record = Record::Claimed {
                        claimed,
                        until: until.as_nanos(),
                    };
                    match self.swap(key, version, Some(record)).await {
                        Ok(Swap::Done) => return Ok(held(claimed, until, None)),
                        Ok(Swap::Conflict) => {}
                        // The next round reads whether it was written.
                        Err(error) if error.effect() == Effect::Unknown => {}
                        Err(error) => return Err(error.into()),
                    }
                }
                Decision::Held(claimed, until) => return Ok(held(claimed, until, version)),
                Decision::Replay(response) => return Ok(Begun::Replay(response)),
                Decision::Busy(until) => {
                    let retry_after = until.since(ask.now);
                    return Err(BeginError::Busy { retry_after });
                }
                Decision::Reused => return Err(BeginError::Reused),
                Decision::Doubt(since) => return Err(BeginError::InDoubt { since }),
            }
        }
        Err(BeginError::Contended { limit: RACES_MAX })
    }

    async fn insert(
        &self,
        key: &Key,
        claimed: Claimed,
        until: Wall,
    ) -> Result<Inserted, StoreError> {
        let record = Record::Claimed {
            claimed,
            until: until.as_nanos(),
        };
        let expires = record.expires();
        let bytes = row::encode(record);
        self.inner.store.insert(key, bytes, expires).await
    }

    /// Runs `operation` unless it was done before, and stores its response.
    ///
    /// `operation` is given the number of the attempt: 1, unless doubt is [retaken](crate::OnDoubt::Retake). An error
    /// that surely changed nothing frees the key; any other leaves it in doubt at once.
    ///
    /// # Errors
    /// [`RunError`].
    ///
    /// # Cancel safety
    /// A future that is dropped drops the operation, which may have happened; the key is busy until its lease ends, then
    /// in doubt.
    pub async fn run<E, F>(
        &self,
        key: &Key,
        fingerprint: Fingerprint,
        operation: impl FnOnce(u32) -> F,
    ) -> Result<Answer, RunError<E>>
    where
        E: Classify,
        F: Future<Output = Result<Bytes, E>>,
    {
        let claim = match self.begin(key, fingerprint).await? {
            Begun::First(claim) => claim,
            Begun::Replay(response) => {
                return Ok(Answer {
                    response,
                    replayed: true,
                });
            }
        };
        match operation(claim.attempt()).await {
            Ok(response) => match claim.complete(response.clone()).await {
                Ok(()) => Ok(Answer {
                    response,
                    replayed: false,
                }),
                Err(error) => Err(RunError::NotStored { response, error }),
            },
            Err(error) => {
                // A failure here is found by the lease.
                let _ = match error.effect() {
                    Effect::NotDone => claim.release().await,
                    Effect::Unknown => claim.doubt().await,
                };
                Err(RunError::Inner(error))
            }
        }
    }

    /// Finds keys in doubt: claims whose lease has ended, and those that were declared so.
    ///
    /// Reads up to `max` rows in the order of keys, from the first after `after`; go on from `next` until it is none.
    ///
    /// # Errors
    /// [`FinishError::Store`], [`FinishError::Corrupt`].
    ///
    /// # Cancel safety
    /// Nothing is changed.
    pub async fn in_doubt(
        &self,
        after: Option<&Key>,
        max: usize,
    ) -> Result<Page<InDoubt>, FinishError> {
        let rows = self.inner.store.scan(after, max).await?;
        let now = self.inner.clock.wall();
        let next = (rows.len() == max).then(|| rows.last().map(|(key, _)| key.clone()));
        let mut items = Vec::new();
        for (key, row) in rows {
            let record = row::decode(&row.bytes).map_err(FinishError::Corrupt)?;
            if let Some(since) = record.doubt(now) {
                let claimed = record.claimed();
                items.push(InDoubt {
                    key,
                    since,
                    attempts: claimed.attempt,
                    fingerprint: claimed.fingerprint,
                });
            }
        }
        Ok(Page {
            items,
            next: next.flatten(),
        })
    }

    /// Ends the doubt about a key, by what an operator has found out.
    ///
    /// # Errors
    /// [`ResolveError::NotInDoubt`]; [`FinishError`] otherwise.
    ///
    /// # Cancel safety
    /// The key is resolved or still in doubt; resolve it again.
    pub async fn resolve(&self, key: &Key, resolution: Resolution) -> Result<(), ResolveError> {
        let found = match resolution {
            Resolution::Done(response) => {
                self.check(&response)?;
                Found::Done(response)
            }
            Resolution::NotDone => Found::NotDone,
        };
        let mut unknown = false;
        for _ in 0..RACES_MAX {
            let (version, record) = self.load(key).await?;
            let now = self.inner.clock.wall();
            let retention = self.inner.config.retention;
            let Some(finishing) = machine::resolve(record.as_ref(), &found, now, retention) else {
                // After a write of ours whose outcome was not known, it may be what we wrote.
                let as_found = match (&record, &found) {
                    (None, Found::NotDone) => true,
                    (Some(Record::Done { response, .. }), Found::Done(found)) => response == found,
                    _ => false,
                };
                return match unknown && as_found {
                    true => Ok(()),
                    false => Err(ResolveError::NotInDoubt),
                };
            };
            match self.apply(key, version, finishing).await {
                Ok(Swap::Done) => return Ok(()),
                Ok(Swap::Conflict) => {}
                Err(error) if error.effect() == Effect::Unknown => unknown = true,
                Err(error) => return Err(FinishError::from(error).into()),
            }
        }
        Err(FinishError::Contended { limit: RACES_MAX }.into())
    }

    /// Forgets up to `max` responses whose retention has ended, and returns how many.
    ///
    /// # Errors
    /// [`StoreError`].
    ///
    /// # Cancel safety
    /// Some may have been forgotten.
    pub async fn sweep(&self, max: usize) -> Result<usize, StoreError> {
        self.inner.store.purge(self.inner.clock.wall(), max).await
    }

    /// Sweeps for ever: every `every`, in steps of at most `max` rows. Spawn it once, or let the store expire rows itself.
    ///
    /// # Errors
    /// The first [`StoreError`] that will not pass by itself.
    ///
    /// # Cancel safety
    /// Drop it at any time.
    pub async fn keep_swept(&self, every: Duration, max: usize) -> StoreError
    where
        C: Sleep,
    {
        loop {
            match self.sweep(max).await {
                // More may have expired.
                Ok(swept) if swept >= max.max(1) => {}
                Err(error) if !error.class().is_retryable() => return error,
                Ok(_) | Err(_) => self.inner.clock.sleep(every).await,
            }
        }
    }

    /// Ends or extends a claim, as its holder wants. Returns until when an extended claim holds.
    ///
    /// `known` is what the row was when it was written: nothing is read unless it is something else by now.
    pub(crate) async fn finish(
        &self,
        key: &Key,
        nonce: Nonce,
        what: Finish,
        known: Option<(Version, Record)>,
    ) -> Result<Option<Wall>, FinishError> {
        if let Finish::Complete(response) = &what {
            self.check(response)?;
        }
        let mut known = known.map(|(version, record)| (Some(version), Some(record)));
        for _ in 0..RACES_MAX {
            let (version, record) = match known.take() {
                Some(known) => known,
                None => self.load(key).await?,
            };
            let now = self.inner.clock.wall();
            let config = &self.inner.config;
            let finishing = machine::finish(record.as_ref(), nonce, &what, now, config);
            let until = match &finishing {
                Finishing::Put(Record::Claimed { until, .. }) => Some(Wall::from_nanos(*until)),
                _ => None,
            };
            match finishing {
                Finishing::Already => return Ok(None),
                Finishing::Superseded => return Err(FinishError::Superseded),
                write => match self.apply(key, version, write).await {
                    Ok(Swap::Done) => return Ok(until),
                    Ok(Swap::Conflict) => {}
                    // The next round reads whether it was written.
                    Err(error) if error.effect() == Effect::Unknown => {}
                    Err(error) => return Err(error.into()),
                },
            }
        }
        Err(FinishError::Contended { limit: RACES_MAX })
    }

    fn check(&self, response: &Bytes) -> Result<(), FinishError> {
        let (got, limit) = (response.len(), self.inner.config.response_bytes_max);
        if got > limit {
            return Err(FinishError::TooLong { got, limit });
        }
        Ok(())
    }

    async fn load(&self, key: &Key) -> Result<(Option<Version>, Option<Record>), FinishError> {
        let row = self.inner.store.load(key).await?;
        let record = read(row.as_ref()).map_err(FinishError::Corrupt)?;
        Ok((row.map(|row| row.version), record))
    }

    async fn apply(
        &self,
        key: &Key,
        version: Option<Version>,
        finishing: Finishing,
    ) -> Result<Swap, StoreError> {
        match finishing {
            Finishing::Put(record) => self.swap(key, version, Some(record)).await,
            _ => self.swap(key, version, None).await,
        }
    }

    /// Swaps; a full store is asked once more after expired rows made room.
    async fn swap(
        &self,
        key: &Key,
        version: Option<Version>,
        record: Option<Record>,
    ) -> Result<Swap, StoreError> {
        let change = match record {
            Some(record) => Change::Put {
                expires: record.expires(),
                bytes: row::encode(record),
            },
            None => Change::Remove,
        };
        let store = &self.inner.store;
        match store.swap(key, version, change.clone()).await {
            Err(error) if error.is_full() => {
                if self.sweep(PURGE_ROWS).await? == 0 {
                    return Err(error);
                }
                store.swap(key, version, change).await
            }
            swapped => swapped,
        }
    }
}

fn read(row: Option<&Row>) -> Result<Option<Record>, dpat_codec::DecodeError> {
    row.map(|row| row::decode(&row.bytes)).transpose()
}

impl<C> Clone for Responses<C> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}

impl<C> fmt::Debug for Responses<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Responses")
            .field("config", &self.inner.config)
            .field("store", &self.inner.store)
            .finish_non_exhaustive()
    }
}
