//! One breaker per key, in bounded space.

use crate::sync::SharedLock;
use crate::{Breaker, Config, RegistryFull, State};
use dpat_core::{Clock, Entropy, SplitMix64, SystemClock, SystemEntropy};
use std::borrow::Borrow;
use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

const SHARDS: usize = 16;

/// Keeps a breaker for each key, never more than `capacity` of them.
///
/// A key is a host, a tenant, a route …; its breaker is made on first use. At the limit, a new key takes the place of the idle breaker that was used least recently. Idle means closed and
/// held by nobody; its counts are forgotten with it. Open breakers and breakers in use are never dropped: if there is
/// no idle one, [`get`](Self::get) refuses. Share the registry by `Arc` or a `static`.
///
/// # Examples
/// ```
/// use dpat_breaker::{Breakers, Config};
///
/// let breakers: Breakers<String> = Breakers::new(Config::default(), 1_000);
/// let payments = breakers.get("payments")?;
/// assert!(payments.try_acquire().is_ok());
/// # Ok::<(), dpat_breaker::RegistryFull>(())
/// ```
pub struct Breakers<K, C = SystemClock> {
    shards: [SharedLock<HashMap<K, Entry<C>>>; SHARDS],
    hasher: RandomState,
    config: Config,
    clock: C,
    capacity: usize,
    /// Breakers present or about to be; the limit holds for it at every moment.
    reserved: AtomicUsize,
    uses: AtomicU64,
    seeds: SplitMix64,
}

struct Entry<C> {
    breaker: Breaker<C>,
    last_use: AtomicU64,
}

impl<K> Breakers<K> {
    /// Makes a registry on the system's clock. A `capacity` of 0 counts as 1.
    #[must_use]
    pub fn new(config: Config, capacity: usize) -> Self {
        Self::with_clock(config, capacity, SystemClock)
    }
}

impl<K, C> Breakers<K, C> {
    /// Makes a registry whose breakers run on clones of `clock`. A `capacity` of 0 counts as 1.
    #[must_use]
    pub fn with_clock(config: Config, capacity: usize, clock: C) -> Self {
        let seed = config.seed.unwrap_or_else(|| SystemEntropy.next_u64());
        Self {
            shards: std::array::from_fn(|_| SharedLock::new(HashMap::new())),
            hasher: RandomState::new(),
            config,
            clock,
            capacity: capacity.max(1),
            reserved: AtomicUsize::new(0),
            uses: AtomicU64::new(0),
            seeds: SplitMix64::new(seed),
        }
    }

    /// Returns the limit.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Returns the number of breakers, including those being made.
    #[must_use]
    pub fn len(&self) -> usize {
        self.reserved.load(Ordering::Relaxed)
    }

    /// Says whether there is no breaker.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<K: Hash + Eq, C: Clock + Clone> Breakers<K, C> {
    /// Returns the breaker of `key`, a new one if there is none.
    ///
    /// A known key costs one hash and one shared lock of a sixteenth of the map. A new key at the limit looks
    /// through up to all entries for the one to drop.
    ///
    /// # Errors
    /// [`RegistryFull`] if the registry is at its limit and no breaker is idle.
    pub fn get<Q>(&self, key: &Q) -> Result<Breaker<C>, RegistryFull>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let home = self.shard_of(key);
        if let Some(entry) = self.shards[home].read().get(key) {
            return Ok(self.touch(entry));
        }
        let reservation = self.reserve(home)?;
        // Made before the lock is taken: cloning the clock and registering counters is not our code.
        let entry = Entry {
            breaker: Breaker::with_clock(self.config_of_next(), self.clock.clone()),
            last_use: AtomicU64::new(0),
        };
        let owned_key = key.to_owned();
        let mut shard = self.shards[home].write();
        if let Some(entry) = shard.get(key) {
            // Another thread was quicker; the reservation goes back.
            return Ok(self.touch(entry));
        }
        let breaker = self.touch(&entry);
        shard.insert(owned_key, entry);
        reservation.keep();
        Ok(breaker)
    }

    /// Calls `visit` with every key and breaker. The registry is not locked meanwhile.
    pub fn for_each(&self, mut visit: impl FnMut(&K, &Breaker<C>))
    where
        K: Clone,
    {
        for shard in &self.shards {
            let entries: Vec<_> = shard
                .read()
                .iter()
                .map(|(key, entry)| (key.clone(), entry.breaker.clone()))
                .collect();
            for (key, breaker) in &entries {
                visit(key, breaker);
            }
        }
    }

    fn shard_of<Q: Hash + ?Sized>(&self, key: &Q) -> usize {
        let hash = self.hasher.hash_one(key).to_be_bytes();
        usize::from(hash[0]) % SHARDS
    }

    fn touch(&self, entry: &Entry<C>) -> Breaker<C> {
        let now = self.uses.fetch_add(1, Ordering::Relaxed);
        entry.last_use.store(now, Ordering::Relaxed);
        entry.breaker.clone()
    }

    /// Each breaker draws jitter of its own, or all would probe together.
    fn config_of_next(&self) -> Config {
        Config {
            seed: Some(self.seeds.next_u64()),
            ..self.config.clone()
        }
    }

    /// Takes one of the `capacity` places, by dropping an idle breaker if need be.
    fn reserve(&self, home: usize) -> Result<Reservation<'_>, RegistryFull> {
        let free = self
            .reserved
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |reserved| {
                (reserved < self.capacity).then_some(reserved + 1)
            });
        if free.is_err() && !(0..SHARDS).any(|step| self.evict((home + step) % SHARDS)) {
            return Err(RegistryFull {
                capacity: self.capacity,
            });
        }
        // The place of an evicted breaker was never given back, so it is ours.
        Ok(Reservation {
            reserved: &self.reserved,
        })
    }

    /// Drops the least recently used idle breaker of one shard.
    fn evict(&self, shard: usize) -> bool {
        let mut shard = self.shards[shard].write();
        let oldest = shard
            .values()
            .filter(|entry| entry.is_idle())
            .map(|entry| entry.last_use.load(Ordering::Relaxed))
            .min();
        let Some(oldest) = oldest else {
            return false;
        };
        let before = shard.len();
        // Nobody else can take a handle while the shard is locked, and uses are unique.
        shard.retain(|_, entry| entry.last_use.load(Ordering::Relaxed) != oldest);
        shard.len() < before
    }
}

impl<C: Clock> Entry<C> {
    fn is_idle(&self) -> bool {
        self.breaker.is_unshared() && self.breaker.state() == State::Closed
    }
}

/// A place in the registry; given back when dropped.
struct Reservation<'a> {
    reserved: &'a AtomicUsize,
}

impl Reservation<'_> {
    fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        self.reserved.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<K, C> fmt::Debug for Breakers<K, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Breakers")
            .field("len", &self.len())
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}
