//! Choices that runs draw and a model checker branches on.

use dpat_core::Entropy;

/// Decides what a process leaves open.
pub trait Choose {
    /// Returns a value in `0..n`; `n` is at least 2.
    fn choose(&mut self, n: u32) -> u32;
}

/// Chooses at random.
///
/// # Examples
/// ```
/// use dpat_core::SplitMix64;
/// use dpat_model::{Choose, Draw};
///
/// let entropy = SplitMix64::new(7);
/// assert!(Draw(&entropy).choose(6) < 6);
/// ```
#[derive(Debug)]
pub struct Draw<'a, E: Entropy + ?Sized>(pub &'a E);

impl<E: Entropy + ?Sized> Choose for Draw<'_, E> {
    #[allow(clippy::cast_possible_truncation)] // below a u32
    fn choose(&mut self, n: u32) -> u32 {
        self.0.below(u64::from(n)) as u32
    }
}

/// Replays a list of choices and walks through all of them.
///
/// Beyond its list it takes 0 and remembers how many ways there were; [`advance`](Self::advance) moves to the next
/// combination, as an odometer does.
///
/// # Examples
/// ```
/// use dpat_model::{Branch, Choose};
///
/// let mut branch = Branch::default();
/// let mut seen = Vec::new();
/// loop {
///     seen.push((branch.choose(2), branch.choose(3)));
///     if !branch.advance() {
///         break;
///     }
/// }
/// assert_eq!(seen, [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Branch {
    choices: Vec<u32>,
    ways: Vec<u32>,
}

impl Branch {
    /// Starts with a list of choices to replay.
    #[must_use]
    pub fn replay(choices: &[u32]) -> Self {
        Self {
            choices: choices.to_vec(),
            ways: Vec::new(),
        }
    }

    /// Returns the choices made since the start or the last [`advance`](Self::advance).
    #[must_use]
    pub fn choices(&self) -> &[u32] {
        &self.choices[..self.ways.len().min(self.choices.len())]
    }

    /// Moves to the next combination; false when all have been seen.
    pub fn advance(&mut self) -> bool {
        self.choices.truncate(self.ways.len());
        let mut ways = std::mem::take(&mut self.ways);
        while let (Some(choice), Some(n)) = (self.choices.pop(), ways.pop()) {
            if choice + 1 < n {
                self.choices.push(choice + 1);
                return true;
            }
        }
        false
    }
}

impl Choose for Branch {
    fn choose(&mut self, n: u32) -> u32 {
        let at = self.ways.len();
        self.ways.push(n);
        if at == self.choices.len() {
            self.choices.push(0);
        }
        // A foreign list may hold a larger value.
        self.choices[at] = self.choices[at].min(n.saturating_sub(1));
        self.choices[at]
    }
}
