//! Sliding windows over outcomes. Sequential; no clock, no lock.

use dpat_core::Instant;
use std::time::Duration;

/// One call as a window sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sample {
    /// Whether it is what the window looks for: a failure, or a slow call.
    pub(crate) hit: bool,
    pub(crate) weight: u8,
}

impl Sample {
    /// Packed so that a window of a hundred calls fits into four cache lines.
    const fn pack(self) -> u16 {
        (self.weight as u16) << 8 | self.hit as u16
    }

    const fn unpack(slot: u16) -> Self {
        Self {
            hit: slot & 1 == 1,
            weight: slot.to_be_bytes()[0],
        }
    }
}

/// The sums of a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    pub(crate) calls: u64,
    pub(crate) hits: u64,
    pub(crate) weight: u64,
    pub(crate) hit_weight: u64,
}

impl Sums {
    /// Returns the weighted share of hits; 0 for no calls.
    ///
    /// A division of integers below 2⁵³ is correctly rounded, so 7 of 100 is exactly the literal `0.07`.
    #[allow(clippy::cast_precision_loss)] // a window would have to run for years to reach 2⁵³
    pub(crate) fn rate(&self) -> f64 {
        if self.weight == 0 {
            0.0
        } else {
            self.hit_weight as f64 / self.weight as f64
        }
    }

    fn add(&mut self, sample: Sample) {
        self.calls += 1;
        self.weight += u64::from(sample.weight);
        if sample.hit {
            self.hits += 1;
            self.hit_weight += u64::from(sample.weight);
        }
    }

    fn subtract(&mut self, other: Self) {
        self.calls -= other.calls;
        self.hits -= other.hits;
        self.weight -= other.weight;
        self.hit_weight -= other.hit_weight;
    }
}

impl From<Sample> for Sums {
    fn from(sample: Sample) -> Self {
        let mut sums = Self::default();
        sums.add(sample);
        sums
    }
}

/// The last N calls.
///
/// The call that is N + 1 calls old is forgotten exactly when the new one arrives.
#[derive(Clone, Debug)]
pub(crate) struct CountWindow {
    slots: Box<[u16]>,
    head: usize,
    sums: Sums,
}

impl CountWindow {
    pub(crate) fn new(calls: u32) -> Self {
        Self {
            slots: vec![0; calls as usize].into_boxed_slice(),
            head: 0,
            sums: Sums::default(),
        }
    }

    /// Adds a call and forgets the oldest one. Returns whether the sums have changed.
    #[inline]
    pub(crate) fn push(&mut self, sample: Sample) -> bool {
        let is_full = self.is_full();
        let slot = &mut self.slots[self.head];
        let forgotten = std::mem::replace(slot, sample.pack());
        self.head += 1;
        if self.head == self.slots.len() {
            self.head = 0;
        }
        if is_full {
            if forgotten == sample.pack() {
                return false;
            }
            self.sums.subtract(Sample::unpack(forgotten).into());
        }
        self.sums.add(sample);
        true
    }

    fn is_full(&self) -> bool {
        self.sums.calls == self.slots.len() as u64
    }

    pub(crate) fn sums(&self) -> Sums {
        self.sums
    }

    /// Says whether another plain success would leave the window as it is, up to rotation.
    pub(crate) fn is_full_of_plain_successes(&self) -> bool {
        self.sums.hits == 0 && self.is_full() && self.sums.weight == self.sums.calls
    }

    pub(crate) fn clear(&mut self) {
        // `sums.calls` says how many slots count; their bytes may stay.
        self.sums = Sums::default();
        self.head = 0;
    }

    /// Takes over the most recent calls of `older`, as many as fit.
    pub(crate) fn adopt(&mut self, older: &Self) {
        let size = older.slots.len();
        let filled = usize::try_from(older.sums.calls).unwrap_or(size);
        let keep = filled.min(self.slots.len());
        for back in (1..=keep).rev() {
            let index = (older.head + size - back) % size;
            self.push(Sample::unpack(older.slots[index]));
        }
    }
}

/// The last `length` of time in equal buckets.
///
/// A push costs the same for any number of calls in the window. The newest bucket is still filling, so the window
/// covers between (n − 1)/n of the length and all of it.
#[derive(Clone, Debug)]
pub(crate) struct TimeWindow {
    buckets: Box<[Sums]>,
    bucket_nanos: u64,
    /// The number of the newest bucket since the clock's origin.
    tick: u64,
    sums: Sums,
}

impl TimeWindow {
    pub(crate) fn new(length: Duration, buckets: u32) -> Self {
        let nanos = u64::try_from(length.as_nanos()).unwrap_or(u64::MAX);
        Self {
            buckets: vec![Sums::default(); buckets as usize].into_boxed_slice(),
            bucket_nanos: (nanos / u64::from(buckets)).max(1),
            tick: 0,
            sums: Sums::default(),
        }
    }

    /// Forgets what has left the window. A reading older than one seen before changes nothing.
    pub(crate) fn advance(&mut self, now: Instant) {
        let tick = now.as_nanos() / self.bucket_nanos;
        if tick <= self.tick {
            return;
        }
        let size = self.buckets.len() as u64;
        if tick - self.tick >= size {
            self.clear();
        } else {
            for passed in self.tick + 1..=tick {
                let bucket = std::mem::take(&mut self.buckets[index(passed, size)]);
                self.sums.subtract(bucket);
            }
        }
        self.tick = tick;
    }

    /// Returns the end of the newest bucket: until then nothing leaves the window.
    pub(crate) fn until(&self) -> Instant {
        Instant::from_nanos((self.tick + 1).saturating_mul(self.bucket_nanos))
    }

    pub(crate) fn push(&mut self, now: Instant, sample: Sample) {
        self.advance(now);
        let size = self.buckets.len() as u64;
        self.buckets[index(self.tick, size)].add(sample);
        self.sums.add(sample);
    }

    pub(crate) fn sums(&self) -> Sums {
        self.sums
    }

    pub(crate) fn clear(&mut self) {
        self.buckets.fill(Sums::default());
        self.sums = Sums::default();
    }

    /// Takes over the buckets of `older` if both are cut alike.
    pub(crate) fn adopt(&mut self, older: &Self) {
        if self.bucket_nanos == older.bucket_nanos && self.buckets.len() == older.buckets.len() {
            self.clone_from(older);
        }
    }
}

#[allow(clippy::cast_possible_truncation)] // the remainder is below the length of a slice
fn index(tick: u64, size: u64) -> usize {
    (tick % size) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample(hit: bool, weight: u8) -> Sample {
        Sample { hit, weight }
    }

    proptest! {
        #[test]
        fn count_window_forgets_call_n_plus_1_exactly_when_the_new_one_arrives(
            size in 1_u32..20,
            calls in prop::collection::vec((any::<bool>(), 1_u8..=255), 0..100),
        ) {
            let mut window = CountWindow::new(size);
            for (i, &(hit, weight)) in calls.iter().enumerate() {
                window.push(sample(hit, weight));
                let from = (i + 1).saturating_sub(size as usize);
                let mut expected = Sums::default();
                for &(hit, weight) in &calls[from..=i] {
                    expected.add(sample(hit, weight));
                }
                prop_assert_eq!(window.sums(), expected);
            }
        }

        #[test]
        fn time_window_equals_the_sum_of_the_buckets_it_covers(
            buckets in 1_u32..8,
            calls in prop::collection::vec((0_u64..40, any::<bool>()), 0..100),
        ) {
            let mut window = TimeWindow::new(Duration::from_nanos(u64::from(buckets) * 10), buckets);
            let mut now = 1_000;
            let mut seen = Vec::new();
            for (step, hit) in calls {
                now += step;
                window.push(Instant::from_nanos(now), sample(hit, 1));
                seen.push((now / 10, hit));
                let oldest = now / 10 + 1 - u64::from(buckets);
                let mut expected = Sums::default();
                for &(tick, hit) in &seen {
                    if tick >= oldest {
                        expected.add(sample(hit, 1));
                    }
                }
                prop_assert_eq!(window.sums(), expected);
            }
        }

        #[test]
        fn a_resized_count_window_keeps_the_most_recent_calls(
            old in 1_u32..10,
            new in 1_u32..10,
            calls in prop::collection::vec(any::<bool>(), 0..30),
        ) {
            let mut window = CountWindow::new(old);
            for &hit in &calls {
                window.push(sample(hit, 1));
            }
            let mut resized = CountWindow::new(new);
            resized.adopt(&window);
            let kept = calls.len().min(old as usize).min(new as usize);
            let hits = calls[calls.len() - kept..].iter().filter(|hit| **hit).count();
            prop_assert_eq!(resized.sums().calls, kept as u64);
            prop_assert_eq!(resized.sums().hits, hits as u64);
        }
    }

    #[test]
    fn a_rate_equals_its_decimal_literal() {
        for hits in 0..=100_u32 {
            let sums = Sums {
                calls: 100,
                hits: u64::from(hits),
                weight: 100,
                hit_weight: u64::from(hits),
            };
            let literal: f64 = format!("{}.{:02}", hits / 100, hits % 100).parse().unwrap();
            assert!(sums.rate() >= literal && sums.rate() <= literal, "{hits}");
        }
    }

    #[test]
    fn a_clock_reading_from_the_past_does_not_move_the_time_window() {
        let mut window = TimeWindow::new(Duration::from_nanos(100), 10);
        window.push(Instant::from_nanos(1_000), sample(true, 1));
        window.push(Instant::MIN, sample(true, 1));
        assert_eq!(window.sums().hits, 2);
        window.advance(Instant::from_nanos(1_099));
        assert_eq!(window.sums().hits, 2);
        window.advance(Instant::from_nanos(1_100));
        assert_eq!(window.sums().hits, 0);
    }
}
