//! Entropy from the operating system.

use super::Entropy;
use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};

/// Entropy seeded by the operating system, once per thread.
///
/// Each thread has a xoshiro256++ generator (Blackman, Vigna 2021, "Scrambled Linear Pseudorandom Number Generators")
/// whose 256 bits of state come from the 128 bits that the operating system gives to the standard library's hash maps.
/// One draw is a few nanoseconds and never a system call.
///
/// Good for jitter, sampling and unique ids; **not for secrets**. After a bare `fork` (not `exec`), parent and child
/// draw the same numbers: start such children before the first draw, or exec.
///
/// # Examples
/// ```
/// use dpat_core::{Entropy, SystemEntropy};
///
/// assert!(SystemEntropy.below(6) < 6);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn next_u64(&self) -> u64 {
        std::thread_local! {
            // No destructor, so that other thread-locals may still draw in theirs.
            static STATE: Cell<[u64; 4]> = Cell::new(seed());
        }
        STATE.with(|state| {
            let (drawn, next) = step(state.get());
            state.set(next);
            drawn
        })
    }
}

/// Hashes four different inputs under one random key.
fn seed() -> [u64; 4] {
    let key = RandomState::new();
    let words = [0_u64, 1, 2, 3].map(|index| key.hash_one(index));
    // The one state that xoshiro never leaves.
    if words == [0; 4] { [1; 4] } else { words }
}

/// One step of xoshiro256++.
const fn step(state: [u64; 4]) -> (u64, [u64; 4]) {
    let [mut a, mut b, mut c, mut d] = state;
    let drawn = a.wrapping_add(d).rotate_left(23).wrapping_add(a);
    let shifted = b << 17;
    c ^= a;
    d ^= b;
    b ^= c;
    a ^= d;
    c ^= shifted;
    d = d.rotate_left(45);
    (drawn, [a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xoshiro256_plus_plus_matches_the_reference_vector() {
        // From the authors' C code, seeded with 1, 2, 3, 4.
        let expected = [
            41_943_041,
            58_720_359,
            3_588_806_011_781_223,
            3_591_011_842_654_386,
            9_228_616_714_210_784_205,
            9_973_669_472_204_895_162,
        ];
        let mut state = [1, 2, 3, 4];
        for value in expected {
            let (drawn, next) = step(state);
            assert_eq!(drawn, value);
            state = next;
        }
    }

    #[test]
    fn threads_draw_different_numbers() {
        let draw = || [SystemEntropy.next_u64(), SystemEntropy.next_u64()];
        let here = draw();
        let there = std::thread::spawn(draw).join().unwrap();
        assert!(here.iter().all(|drawn| !there.contains(drawn)));
        assert_ne!(here[0], here[1]);
    }
}
