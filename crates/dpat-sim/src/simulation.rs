//! What commands, tests and the lab run: protocols behind one object-safe trait, found by name.

use std::fmt;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};

use dpat_model::Script;

use crate::{
    Coverage, Mutant, Outcome, Plan, Protocol, RunSpec, Setup, SpecError, TraceMode, Violation,
    run, script_of,
};

/// What is known of a simulation before it runs.
#[derive(Clone, Copy, Debug)]
pub struct Info {
    /// Its name in commands and scripts.
    pub name: &'static str,
    /// One line on what it is.
    pub about: &'static str,
    /// How many nodes it has if nobody says otherwise.
    pub nodes_default: u32,
    /// How many it needs.
    pub nodes_min: u32,
    /// The properties that it is judged by.
    pub properties: &'static [&'static str],
    /// Its known-bad variants.
    pub mutants: &'static [Mutant],
    /// The kinds of its messages.
    pub kinds: &'static [&'static str],
    /// The coarse states of its nodes.
    pub phases: &'static [&'static str],
    /// What may be drawn for it, with so many nodes as it has by default.
    pub plan: Plan,
}

impl Info {
    /// Returns the mutant of this name.
    #[must_use]
    pub fn mutant(&self, name: &str) -> Option<&'static Mutant> {
        self.mutants.iter().find(|mutant| mutant.name == name)
    }
}

/// Something that runs under faults from a seed: a protocol of processes, or a whole asynchronous system.
///
/// Runs of equal specifications are equal, on every machine and in every process.
pub trait Simulation: Send + Sync {
    /// Says what it is.
    fn info(&self) -> Info;

    /// Returns the script of a run: the one given, or what the seed draws.
    ///
    /// # Errors
    /// [`SpecError`] if there is no such run.
    fn script(&self, spec: &RunSpec) -> Result<Script, SpecError>;

    /// Runs once.
    ///
    /// # Errors
    /// [`SpecError`] if there is no such run.
    fn run(&self, spec: &RunSpec) -> Result<Outcome, SpecError>;
}

/// A protocol as a [`Simulation`].
///
/// A panic of the protocol is a violation of the property `panic`, so that its seed is known and it can be shrunk.
pub struct Of<P>(PhantomData<fn() -> P>);

impl<P> Of<P> {
    /// Makes it.
    #[must_use]
    pub const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<P> Default for Of<P> {
    fn default() -> Self {
        Self::new()
    }
}

impl<P: Protocol> fmt::Debug for Of<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Of").field(&P::NAME).finish()
    }
}

impl<P: Protocol> Simulation for Of<P> {
    fn info(&self) -> Info {
        let setup = Setup {
            nodes: P::NODES,
            seed: 0,
            mutant: None,
        };
        Info {
            name: P::NAME,
            about: P::ABOUT,
            nodes_default: P::NODES,
            nodes_min: P::NODES_MIN,
            properties: P::PROPERTIES,
            mutants: P::MUTANTS,
            kinds: P::KINDS,
            phases: P::PHASES,
            plan: P::new(&setup).plan(),
        }
    }

    fn script(&self, spec: &RunSpec) -> Result<Script, SpecError> {
        script_of::<P>(spec)
    }

    fn run(&self, spec: &RunSpec) -> Result<Outcome, SpecError> {
        let ran = catch_unwind(AssertUnwindSafe(|| run::<P>(spec)));
        ran.unwrap_or_else(|cause| {
            let text = cause.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| cause.downcast_ref::<&str>().copied());
            Ok(Outcome {
                seed: spec.seed,
                events: 0,
                delivered: 0,
                trace_hash: 0,
                violation: Some(Violation {
                    property: "panic".to_owned(),
                    at_event: 0,
                    message: text.unwrap_or("of an unknown kind").to_owned(),
                }),
                coverage: Coverage::new(P::KINDS, P::PHASES),
                script: self.script(spec)?,
                trace: None,
                calls: Vec::new(),
            })
        })
    }
}

/// A name that no simulation has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unregistered {
    /// No protocol.
    #[error("there is no protocol {name:?}; there are {known}")]
    Protocol {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// The protocol has no such mutant.
    #[error("{protocol} has no mutant {name:?}; it has {known}")]
    Mutant {
        /// The protocol.
        protocol: &'static str,
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
}

/// The simulations that a program knows.
///
/// # Examples
/// ```
/// use dpat_sim::Registry;
///
/// let registry = Registry::default();
/// let error = registry.find("echo").err().map(|error| error.to_string());
/// assert_eq!(error.as_deref(), Some("there is no protocol \"echo\"; there are none"));
/// ```
#[derive(Default)]
pub struct Registry(Vec<Box<dyn Simulation>>);

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.0.iter().map(|sim| sim.info().name);
        f.debug_list().entries(names).finish()
    }
}

impl Registry {
    /// Adds one. Of two with one name the first is found.
    #[must_use]
    pub fn with(mut self, simulation: impl Simulation + 'static) -> Self {
        self.0.push(Box::new(simulation));
        self
    }

    /// Returns them in the order in which they were added.
    pub fn iter(&self) -> impl Iterator<Item = &dyn Simulation> {
        self.0.iter().map(AsRef::as_ref)
    }

    /// Finds a simulation by `NAME`, or a mutant by `NAME@MUTANT`.
    ///
    /// # Errors
    /// [`Unregistered`] with the names that there are.
    pub fn find(
        &self,
        name: &str,
    ) -> Result<(&dyn Simulation, Option<&'static str>), Unregistered> {
        let (protocol, mutant) = match name.split_once('@') {
            Some((protocol, mutant)) => (protocol, Some(mutant)),
            None => (name, None),
        };
        let Some(found) = self.iter().find(|sim| sim.info().name == protocol) else {
            return Err(Unregistered::Protocol {
                name: protocol.to_owned(),
                known: listed(self.iter().map(|sim| sim.info().name)),
            });
        };
        let Some(mutant) = mutant else {
            return Ok((found, None));
        };
        let info = found.info();
        match info.mutant(mutant) {
            Some(mutant) => Ok((found, Some(mutant.name))),
            None => Err(Unregistered::Mutant {
                protocol: info.name,
                name: mutant.to_owned(),
                known: listed(info.mutants.iter().map(|mutant| mutant.name)),
            }),
        }
    }
}

fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

/// Returns the name of a protocol with its mutant, as commands take it.
#[must_use]
pub fn full_name(protocol: &str, mutant: Option<&str>) -> String {
    mutant.map_or_else(
        || protocol.to_owned(),
        |mutant| format!("{protocol}@{mutant}"),
    )
}

/// A specification for searching: nothing is recorded that a verdict does not need.
pub(crate) fn verdict_only(spec: &RunSpec) -> RunSpec {
    RunSpec {
        trace: TraceMode::Hash,
        ..spec.clone()
    }
}
