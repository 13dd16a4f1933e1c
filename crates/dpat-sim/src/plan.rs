//! What a protocol lets happen to it when nobody wrote a script.

use std::time::Duration;

use dpat_model::{Nodes, Script};

use crate::Families;

/// How long a run is, and which faults may be drawn for it.
///
/// # Examples
/// ```
/// use dpat_sim::{Families, Family, Plan};
///
/// let mut families = Families::ALL;
/// families.remove(Family::Clock);
/// let plan = Plan { families, down_max: 2, ..Plan::default() };
/// assert!(plan.restart);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// How long faults strike: the safety phase. 10 s by default.
    pub chaos: Duration,
    /// How long the healed system runs on before it is judged. 10 s by default.
    pub settle: Duration,
    /// Which families may be drawn. All by default.
    pub families: Families,
    /// How many nodes may be down, paused or cut off at once. 1 by default.
    pub down_max: u32,
    /// Whether nodes that are down start again when everything heals. True by default.
    pub restart: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            chaos: Duration::from_secs(10),
            settle: Duration::from_secs(10),
            families: Families::ALL,
            down_max: 1,
            restart: true,
        }
    }
}

impl Plan {
    /// Returns the script of a seed.
    #[must_use]
    pub fn script(&self, protocol: &str, nodes: u32, seed: u64) -> Script {
        Script::new(protocol, Nodes::Count(nodes), seed)
    }
}
