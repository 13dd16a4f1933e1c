//! Rows that are written until their store fails.

use std::collections::BTreeMap;
use std::fmt;
use std::future::{Future as _, poll_fn};
use std::task::Poll;

use bytes::Bytes;
use dpat_core::{Classify, Effect, Entropy as _, SplitMix64};

use super::{Violation, ensure_eq, key};
use crate::error::StoreError;
use crate::key::Key;
use crate::store::{Change, Store, Swap, Version};
use crate::sync::Mutex;

/// How many rows are counted up at one time, so that changes that go together are tried.
const ROWS: u64 = 24;

/// How often a row is read in vain before a check fails: a client may not have found its server again.
const READS: usize = 10;

/// Counters in a store that may fail at any time, and what is known of them: for stores whose server is killed.
///
/// [`count_up`](Self::count_up) rows, and kill the server under it; once it is there again, [`check`](Self::check).
/// [`rounds`](Self::rounds) do so again and again.
#[derive(Debug)]
pub struct Written<S> {
    store: S,
    rows: Mutex<BTreeMap<u64, Known>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// What the row surely was last.
    value: u64,
    /// What it may be since, or may become: nobody was told. Once a later swap is made, it is too late for this one.
    maybe: Option<u64>,
    acknowledged: u64,
    unknown: u64,
}

impl<S: Store> Written<S> {
    /// Begins with an empty store.
    pub fn new(store: S) -> Self {
        let rows = Mutex::default();
        Self { store, rows }
    }

    /// Counts rows up while `kill` is called, and checks them after `restart`, until so many rounds have had both: a swap that
    /// was acknowledged, and one whose outcome nobody knows. Returns what it has counted, in words.
    ///
    /// # Errors
    /// How the store breaks its promises; that too few rounds counted.
    pub async fn rounds<V, E: fmt::Display>(
        &self,
        rounds: u64,
        entropy: &SplitMix64,
        server: &mut V,
        kill: impl Fn(&mut V),
        restart: impl Fn(&mut V) -> Result<(), E>,
    ) -> Result<String, Violation> {
        let (mut counted, mut tried, mut all) = (0, 0, 0);
        while counted < rounds {
            if tried == 10 * rounds {
                let few = format!("{counted} of {tried} rounds had an unknown outcome");
                return Err(Violation::new(few));
            }
            tried += 1;
            let enough = 1 + entropy.below(200);
            let (acknowledged, unknown) = self.count_up(ROWS, enough, || kill(server)).await?;
            restart(server).map_err(|error| Violation::new(error.to_string()))?;
            self.check().await?;
            counted += u64::from(acknowledged > 0 && unknown > 0);
            all += acknowledged;
        }
        Ok(format!(
            "{counted} rounds counted of {tried}: {all} changes acknowledged, none lost"
        ))
    }

    /// Counts so many rows up at one time, each by one swap after another, calls `kill` once `enough` swaps were
    /// acknowledged, and goes on until the store has failed all of them. Returns how many swaps were acknowledged, and of how
    /// many nobody knows the outcome.
    ///
    /// # Errors
    /// How the store breaks its promises.
    pub async fn count_up(
        &self,
        rows: u64,
        enough: u64,
        kill: impl FnOnce(),
    ) -> Result<(u64, u64), Violation> {
        let before = self.told();
        let mut kill = Some(kill);
        let mut rows: Vec<_> = (0..rows)
            .map(|row| Some(Box::pin(self.count_row_up(row))))
            .collect();
        poll_fn(|cx| {
            for row in &mut rows {
                if let Some(Poll::Ready(done)) = row.as_mut().map(|row| row.as_mut().poll(cx)) {
                    *row = None;
                    done?;
                }
            }
            let over = rows.iter().all(Option::is_none);
            if (over || self.told().0 - before.0 >= enough)
                && let Some(kill) = kill.take()
            {
                kill();
            }
            match over {
                true => Poll::Ready(Ok::<_, Violation>(())),
                false => Poll::Pending,
            }
        })
        .await?;
        let now = self.told();
        Ok((now.0 - before.0, now.1 - before.1))
    }

    async fn count_row_up(&self, row: u64) -> Result<(), Violation> {
        // It is checked, whether or not it is ever written.
        self.know(row, |_| ());
        loop {
            let Ok((at, version)) = self.read(row).await? else {
                return Ok(());
            };
            let next = at + 1;
            let put = Change::Put {
                bytes: Bytes::from(next.to_string()),
                expires: None,
            };
            let swapped = self.store.swap(&of(row), version, put).await;
            let told = swapped.as_ref().map_err(Classify::effect).copied();
            self.know(row, |known| match told {
                Ok(Swap::Done) => {
                    known.value = next;
                    known.maybe = None;
                    known.acknowledged += 1;
                }
                Ok(Swap::Conflict) | Err(Effect::NotDone) => {}
                Err(_) => {
                    known.maybe = Some(next);
                    known.unknown += 1;
                }
            });
            match told {
                Ok(Swap::Done) => {}
                Ok(Swap::Conflict) => {
                    // Only the one of which nobody was told may have come in between.
                    let maybe = self.know(row, |known| known.maybe);
                    ensure_eq!(maybe, Some(next), format!("row {row}: who else writes it"));
                }
                Err(_) => return Ok(()),
            }
        }
    }

    fn told(&self) -> (u64, u64) {
        self.rows.with(|rows| {
            let sum = |of: fn(&Known) -> u64| rows.values().map(of).sum();
            (sum(|known| known.acknowledged), sum(|known| known.unknown))
        })
    }

    /// Every row is what was acknowledged last, or what a swap of unknown outcome would have made it.
    ///
    /// # Errors
    /// Which is not, or cannot be read.
    pub async fn check(&self) -> Result<(), Violation> {
        let rows: Vec<u64> = self.rows.with(|rows| rows.keys().copied().collect());
        for row in rows {
            let mut read = self.read(row).await?;
            for _ in 1..READS {
                if read.is_err() {
                    read = self.read(row).await?;
                }
            }
            read?;
        }
        Ok(())
    }

    /// Reads a row, and compares it with what is known. The inner error: the store failed.
    async fn read(
        &self,
        row: u64,
    ) -> Result<Result<(u64, Option<Version>), StoreError>, Violation> {
        let found = match self.store.load(&of(row)).await {
            Ok(found) => found,
            Err(error) => return Ok(Err(error)),
        };
        let version = found.as_ref().map(|row| row.version);
        let value = match &found {
            None => 0,
            Some(row) => {
                let text = String::from_utf8_lossy(&row.bytes);
                text.parse()
                    .map_err(|_| Violation::new(format!("{text} was never put")))?
            }
        };
        let known = self.know(row, |known| {
            if known.maybe == Some(value) {
                known.value = value;
                known.maybe = None;
            }
            known.value
        });
        ensure_eq!(value, known, format!("row {row}"));
        Ok(Ok((value, version)))
    }

    fn know<R>(&self, row: u64, work: impl FnOnce(&mut Known) -> R) -> R {
        self.rows.with(|rows| work(rows.entry(row).or_default()))
    }
}

fn of(row: u64) -> Key {
    key(&format!("row {row}"))
}
