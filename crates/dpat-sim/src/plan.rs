//! What may go wrong in a run, and the drawing of an explicit script from a seed.

mod draw;

use std::fmt;
use std::time::Duration;

use crate::{Families, Family};

/// How nodes fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Crashes {
    /// A node that crashes never comes back (crash-stop). [`Plan::down_max`] then bounds how many ever crash.
    Stop,
    /// A node that crashes may come back with what was durable (crash-recovery).
    Recovery,
}

/// What a protocol lets the simulator draw, and how long a run is.
///
/// [`script`](Self::script) makes an explicit script of it: every parameter is an operation of the script, and none is
/// left to the run. A plan is printed by its `Display`, a line a parameter.
///
/// # Examples
/// ```
/// use dpat_sim::{Family, Plan};
///
/// let plan = Plan { down_max: 1, ..Plan::default() }.without(Family::Clock);
/// let script = plan.script("echo", 3, &["Ping", "Pong"], 7);
/// assert_eq!(script, plan.script("echo", 3, &["Ping", "Pong"], 7));
/// assert_eq!(script.validate(), Ok(()));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The safety phase, under faults. 10 s of simulated time by default.
    pub chaos: Duration,
    /// The liveness phase after everything healed. 10 s of simulated time by default.
    pub settle: Duration,
    /// Which families may be drawn. All by default.
    pub families: Families,
    /// How nodes fail. Recovery by default.
    pub crashes: Crashes,
    /// How many nodes may be down at the same time. All by default.
    pub down_max: u32,
    /// Whether nodes that are down when everything heals come back, under [`Crashes::Recovery`]. They do by default.
    pub restart: bool,
    /// Whether a process may be killed, which keeps what it wrote, durable or not. True by default.
    pub kill: bool,
    /// Whether a node may lose its disk. False by default: few protocols survive it.
    pub wipe: bool,
    /// The longest a message may travel, for protocols that rely on a bound: then no delay is drawn from a
    /// distribution without one. `None`, the default, for protocols that do not.
    ///
    /// Capacity, holds and pauses also delay: such a protocol leaves out these families.
    pub delay_max: Option<Duration>,
    /// How far a wall clock may be off, at the start and at each jump. 10 s by default.
    pub clock_offset_max: Duration,
    /// How much faster or slower a clock may run, in parts per million. 50 000 by default, far more than hardware.
    pub clock_drift_max_per_million: u32,
    /// Whether clocks may stand still for a while, which no bound on drift covers. True by default.
    pub clock_freeze: bool,
    /// Whether disks may refuse to write for a while, because of an error or for lack of space. True by default.
    pub disk_errors: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            chaos: Duration::from_secs(10),
            settle: Duration::from_secs(10),
            families: Families::ALL,
            crashes: Crashes::Recovery,
            down_max: u32::MAX,
            restart: true,
            kill: true,
            wipe: false,
            delay_max: None,
            clock_offset_max: Duration::from_secs(10),
            clock_drift_max_per_million: 50_000,
            clock_freeze: true,
            disk_errors: true,
        }
    }
}

impl Plan {
    /// Returns a plan without faults.
    #[must_use]
    pub fn calm() -> Self {
        Self {
            families: Families::NONE,
            ..Self::default()
        }
    }

    /// Returns the plan with one more family.
    #[must_use]
    pub fn with(mut self, family: Family) -> Self {
        self.families.insert(family);
        self
    }

    /// Returns the plan without a family.
    #[must_use]
    pub fn without(mut self, family: Family) -> Self {
        self.families.remove(family);
        self
    }

    /// Says whether a run of so many nodes can crash one.
    #[must_use]
    pub fn may_crash(&self) -> bool {
        self.families.has(Family::Crash) && self.down_max > 0
    }

    /// Says whether nodes that are down when everything heals come back.
    #[must_use]
    pub fn restarts_at_heal(&self) -> bool {
        self.restart && self.crashes == Crashes::Recovery
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "chaos: {:?}, settle: {:?}", self.chaos, self.settle)?;
        let families: Vec<&str> = self.families.iter().map(Family::name).collect();
        writeln!(f, "families: {}", families.join(" "))?;
        let down = match self.down_max {
            u32::MAX => "all".to_owned(),
            max => max.to_string(),
        };
        let (model, wipe) = (self.crashes, self.wipe);
        writeln!(
            f,
            "crashes: {model:?}, down_max: {down}, restart: {}, kill: {}, wipe: {wipe}",
            self.restart, self.kill
        )?;
        match self.delay_max {
            Some(max) => writeln!(f, "delay_max: {max:?}")?,
            None => writeln!(f, "delay_max: none")?,
        }
        writeln!(
            f,
            "clock_offset_max: {:?}, clock_drift_max_per_million: {}, clock_freeze: {}",
            self.clock_offset_max, self.clock_drift_max_per_million, self.clock_freeze
        )?;
        writeln!(f, "disk_errors: {}", self.disk_errors)
    }
}
