//! What runs have reached, and what they have not.

use std::collections::BTreeMap;

use dpat_model::Fault;
use serde::{Deserialize, Serialize};

/// A family of faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Family {
    /// Some nodes do not hear from some others.
    Partition,
    /// Messages are kept.
    Hold,
    /// Messages are lost.
    Loss,
    /// Messages take unusually long, or unusually short.
    Delay,
    /// Messages arrive twice.
    Duplicate,
    /// Messages overtake earlier ones.
    Reorder,
    /// Links carry little.
    Capacity,
    /// A node is down: crashed, killed or wiped.
    Crash,
    /// A node does nothing for a while.
    Pause,
    /// A disk fails, is full, or loses what was not synced.
    Disk,
    /// A clock is wrong.
    Clock,
}

impl Family {
    /// Every family.
    pub const ALL: &'static [Self] = &[
        Self::Partition,
        Self::Hold,
        Self::Loss,
        Self::Delay,
        Self::Duplicate,
        Self::Reorder,
        Self::Capacity,
        Self::Crash,
        Self::Pause,
        Self::Disk,
        Self::Clock,
    ];

    /// Returns the name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Partition => "partition",
            Self::Hold => "hold",
            Self::Loss => "loss",
            Self::Delay => "delay",
            Self::Duplicate => "duplicate",
            Self::Reorder => "reorder",
            Self::Capacity => "capacity",
            Self::Crash => "crash",
            Self::Pause => "pause",
            Self::Disk => "disk",
            Self::Clock => "clock",
        }
    }

    /// Returns the family of a fault; none for what ends a fault and for faults of services.
    #[must_use]
    pub const fn of(fault: &Fault) -> Option<Self> {
        Some(match fault {
            Fault::Isolate { .. }
            | Fault::Halves { .. }
            | Fault::Ring { .. }
            | Fault::Bridge { .. }
            | Fault::OneWay { .. }
            | Fault::Cut { .. }
            | Fault::Flap { .. } => Self::Partition,
            Fault::Hold { .. } => Self::Hold,
            Fault::Loss { .. } => Self::Loss,
            Fault::Delay { .. } => Self::Delay,
            Fault::Duplicate { .. } => Self::Duplicate,
            Fault::Reorder { .. } => Self::Reorder,
            Fault::Capacity { .. } => Self::Capacity,
            Fault::Crash { .. } | Fault::Kill { .. } | Fault::Wipe { .. } => Self::Crash,
            Fault::Pause { .. } => Self::Pause,
            Fault::DiskTorn { .. }
            | Fault::DiskLost { .. }
            | Fault::DiskReorder { .. }
            | Fault::DiskCorrupt { .. }
            | Fault::DiskError { .. }
            | Fault::DiskFull { .. } => Self::Disk,
            Fault::ClockOffset { .. }
            | Fault::ClockDrift { .. }
            | Fault::ClockJump { .. }
            | Fault::ClockFreeze { .. } => Self::Clock,
            _ => return None,
        })
    }
}

/// A set of families.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Families(u16);

impl Families {
    /// None of them.
    pub const NONE: Self = Self(0);
    /// All of them.
    pub const ALL: Self = Self((1 << Family::ALL.len()) - 1);

    /// Makes the set of a list.
    #[must_use]
    pub const fn of(list: &[Family]) -> Self {
        let mut set = Self::NONE;
        let mut index = 0;
        while index < list.len() {
            set.insert(list[index]);
            index += 1;
        }
        set
    }

    /// Adds a family.
    pub const fn insert(&mut self, family: Family) {
        self.0 |= 1 << family as u16;
    }

    /// Takes a family out.
    pub const fn remove(&mut self, family: Family) {
        self.0 &= !(1 << family as u16);
    }

    /// Says whether a family is in the set.
    #[must_use]
    pub const fn has(self, family: Family) -> bool {
        self.0 & (1 << family as u16) != 0
    }

    /// Says whether the set is empty.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns the families of both.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Returns the families in their order.
    pub fn iter(self) -> impl Iterator<Item = Family> {
        let all = Family::ALL.iter().copied();
        all.filter(move |family| self.has(*family))
    }
}

/// The columns of the table: no fault, and each family.
const COLUMNS: usize = Family::ALL.len() + 1;

/// What runs have reached: message kinds in states under faults, faults, comparisons, and what should happen sometimes.
///
/// # Examples
/// ```
/// use dpat_sim::{Coverage, Families, Family};
///
/// let mut coverage = Coverage::new(&["ping", "pong"], &["up"]);
/// coverage.delivered(0, 0, Families::of(&[Family::Loss]));
/// assert_eq!(coverage.count("ping", "up", Some(Family::Loss)), 1);
/// assert_eq!(coverage.undelivered(), ["pong"]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Coverage {
    kinds: &'static [&'static str],
    phases: &'static [&'static str],
    /// Kind by phase by column.
    delivered: Vec<u64>,
    faults: BTreeMap<&'static str, u64>,
    sometimes: BTreeMap<&'static str, u64>,
    compared: u64,
}

impl Coverage {
    /// Starts an empty table.
    #[must_use]
    pub fn new(kinds: &'static [&'static str], phases: &'static [&'static str]) -> Self {
        Self {
            kinds,
            phases,
            delivered: vec![0; kinds.len() * phases.len() * COLUMNS],
            faults: BTreeMap::new(),
            sometimes: BTreeMap::new(),
            compared: 0,
        }
    }

    /// Counts a delivered message by kind, state of the receiver and families in force. Indices out of range count
    /// nowhere.
    #[inline]
    pub fn delivered(&mut self, kind: usize, phase: usize, families: Families) {
        let row = (kind * self.phases.len() + phase) * COLUMNS;
        let Some(row) = self.delivered.get_mut(row..row + COLUMNS) else {
            return;
        };
        if families.is_empty() {
            row[0] += 1;
            return;
        }
        for (index, count) in row[1..].iter_mut().enumerate() {
            *count += u64::from(families.0 >> index & 1);
        }
    }

    /// Counts a fault that changed something.
    pub fn struck(&mut self, fault: &Fault) {
        *self.faults.entry(fault.name()).or_default() += 1;
    }

    /// Notes that something which should happen sometimes did, so many times; zero makes it known.
    pub fn note_sometimes(&mut self, name: &'static str, times: u64) {
        *self.sometimes.entry(name).or_default() += times;
    }

    /// Counts operations that a checker has compared.
    pub const fn note_compared(&mut self, operations: u64) {
        self.compared += operations;
    }

    /// Returns how many messages of a kind reached a node in a phase, while a family was in force or while none was.
    #[must_use]
    pub fn count(&self, kind: &str, phase: &str, family: Option<Family>) -> u64 {
        let find = |names: &[&str], name| names.iter().position(|other| *other == name);
        let (Some(kind), Some(phase)) = (find(self.kinds, kind), find(self.phases, phase)) else {
            return 0;
        };
        let column = family.map_or(0, |family| 1 + family as usize);
        self.delivered[(kind * self.phases.len() + phase) * COLUMNS + column]
    }

    /// Returns the kinds of messages.
    #[must_use]
    pub const fn kinds(&self) -> &'static [&'static str] {
        self.kinds
    }

    /// Returns the phases of nodes.
    #[must_use]
    pub const fn phases(&self) -> &'static [&'static str] {
        self.phases
    }

    /// Returns the faults that struck, with how often.
    #[must_use]
    pub const fn faults(&self) -> &BTreeMap<&'static str, u64> {
        &self.faults
    }

    /// Returns what should happen sometimes, with how often it did.
    #[must_use]
    pub const fn sometimes(&self) -> &BTreeMap<&'static str, u64> {
        &self.sometimes
    }

    /// Returns how many operations checkers have compared.
    #[must_use]
    pub const fn compared(&self) -> u64 {
        self.compared
    }

    /// Returns the kinds of which no message reached a node.
    #[must_use]
    pub fn undelivered(&self) -> Vec<&'static str> {
        let of_kind = self.phases.len() * COLUMNS;
        let missing = |kind: &usize| {
            let rows = &self.delivered[kind * of_kind..(kind + 1) * of_kind];
            rows.iter().all(|count| *count == 0)
        };
        let kinds = (0..self.kinds.len()).filter(missing);
        kinds.map(|kind| self.kinds[kind]).collect()
    }

    /// Returns every combination of kind, phase and fault that no message has reached.
    pub fn holes(&self) -> impl Iterator<Item = (&'static str, &'static str, Option<Family>)> {
        let empty = self.delivered.iter().enumerate();
        let empty = empty.filter(|(_, count)| **count == 0);
        empty.map(|(index, _)| {
            let (row, column) = (index / COLUMNS, index % COLUMNS);
            let kind = self.kinds[row / self.phases.len()];
            let family = column.checked_sub(1).map(|column| Family::ALL[column]);
            (kind, self.phases[row % self.phases.len()], family)
        })
    }

    /// Adds what another run of the same protocol has reached.
    ///
    /// Of another protocol only faults, comparisons and what happens sometimes are added.
    pub fn merge(&mut self, other: &Self) {
        if self.kinds == other.kinds && self.phases == other.phases {
            for (ours, theirs) in self.delivered.iter_mut().zip(&other.delivered) {
                *ours += theirs;
            }
        }
        for (name, times) in &other.faults {
            *self.faults.entry(name).or_default() += times;
        }
        for (name, times) in &other.sometimes {
            self.note_sometimes(name, *times);
        }
        self.compared += other.compared;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_in_the_order_of_their_numbers() {
        for (index, family) in Family::ALL.iter().enumerate() {
            assert_eq!(*family as usize, index);
        }
        assert_eq!(Families::ALL.iter().count(), Family::ALL.len());
        assert_eq!(Families::of(Family::ALL), Families::ALL);
        let mut set = Families::ALL;
        set.remove(Family::Crash);
        assert!(!set.has(Family::Crash) && set.has(Family::Pause));
        assert_eq!(set.union(Families::of(&[Family::Crash])), Families::ALL);
    }

    #[test]
    fn holes_are_what_was_not_reached() {
        let mut coverage = Coverage::new(&["a", "b"], &["x", "y"]);
        let all = coverage.holes().count();
        assert_eq!(all, 2 * 2 * COLUMNS);
        coverage.delivered(1, 0, Families::NONE);
        coverage.delivered(1, 1, Families::of(&[Family::Loss, Family::Crash]));
        coverage.delivered(9, 0, Families::ALL);
        let holes: Vec<_> = coverage.holes().collect();
        assert_eq!(holes.len(), all - 3);
        assert!(!holes.contains(&("b", "y", Some(Family::Crash))));
        assert!(holes.contains(&("b", "y", None)));
        assert_eq!(coverage.undelivered(), ["a"]);
    }

    #[test]
    fn merging_adds() {
        let mut total = Coverage::new(&["a"], &["x"]);
        let mut one = total.clone();
        one.delivered(0, 0, Families::NONE);
        one.struck(&Fault::Ring { for_us: None });
        one.note_sometimes("elected", 2);
        one.note_sometimes("never", 0);
        one.note_compared(5);
        total.merge(&one);
        total.merge(&one);
        assert_eq!(total.count("a", "x", None), 2);
        assert_eq!(total.faults()["ring"], 2);
        assert_eq!(
            (total.sometimes()["elected"], total.sometimes()["never"]),
            (4, 0)
        );
        assert_eq!(total.compared(), 10);
        total.merge(&Coverage::new(&["other"], &["x"]));
        assert_eq!(total.count("a", "x", None), 2);
    }
}
