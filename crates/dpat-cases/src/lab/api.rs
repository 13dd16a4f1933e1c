//! What the page asks a server for: which protocols there are, a run, a checked script, a shrunk one.

use dpat_model::{InputError, Script};
use dpat_sim::{
    Coverage, Family, Outcome, Registry, RunSpec, ScriptRefused, ShrinkError, ShrinkLimits,
    Simulation, SpecError, Trace, TraceMode, read_script, shrink,
};
use serde::{Deserialize, Serialize};

/// The most events of a run that the page gets; the run itself goes on to its end.
pub const EVENTS_MAX: usize = 100_000;

/// The name that errors of a script carry, which has no file.
const SCRIPT: &str = "script";

/// What the controls of the page say.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wanted {
    protocol: String,
    mutant: Option<String>,
    /// A text, because numbers of scripts in a page have 53 bits.
    seed: String,
    nodes: Option<u32>,
    script: Option<String>,
}

/// A run as the page shows it.
#[derive(Debug, Serialize)]
pub(crate) struct Ran {
    trace: Trace,
    outcome: Summary,
    /// The faults of the run, as text.
    script: String,
}

/// What the trace does not say.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    events: u64,
    delivered: u64,
    /// What was reached, and how often.
    coverage: Vec<(String, u64)>,
}

/// A shrunk script.
#[derive(Debug, Serialize)]
pub(crate) struct Less {
    script: String,
    units_before: usize,
    units: usize,
    minimal: bool,
    tried: u64,
}

/// What can be chosen.
#[derive(Debug, Serialize)]
pub(crate) struct Offered {
    name: &'static str,
    about: &'static str,
    nodes_default: u32,
    nodes_min: u32,
    properties: &'static [&'static str],
    mutants: Vec<OfferedMutant>,
}

/// A known-bad variant.
#[derive(Debug, Serialize)]
pub(crate) struct OfferedMutant {
    name: &'static str,
    rule: &'static str,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The script is wrong, at these places.
    Script(InputError),
    /// Something else that was asked for is.
    Request(String),
}

impl From<SpecError> for Refused {
    fn from(error: SpecError) -> Self {
        Self::Request(error.to_string())
    }
}

/// Lists the simulations.
pub(crate) fn protocols(registry: &Registry) -> Vec<Offered> {
    let offered = registry.iter().map(|sim| {
        let info = sim.info();
        let mutants = info.mutants.iter().map(|mutant| OfferedMutant {
            name: mutant.name,
            rule: mutant.rule,
        });
        Offered {
            name: info.name,
            about: info.about,
            nodes_default: info.nodes_default,
            nodes_min: info.nodes_min,
            properties: info.properties,
            mutants: mutants.collect(),
        }
    });
    offered.collect()
}

/// Runs what is wanted.
pub(crate) fn run(registry: &Registry, wanted: &Wanted) -> Result<Ran, Refused> {
    let (sim, mut spec) = specified(registry, wanted)?;
    spec.trace = TraceMode::Full {
        events_max: EVENTS_MAX,
    };
    let mut outcome = sim.run(&spec)?;
    let trace = outcome.trace.take();
    let trace = trace.unwrap_or_else(|| untraced(sim, &spec, &outcome));
    Ok(Ran {
        trace,
        script: outcome.script.to_json(),
        outcome: Summary {
            events: outcome.events,
            delivered: outcome.delivered,
            coverage: reached(&outcome.coverage),
        },
    })
}

/// Reads the script of what is wanted, and runs nothing.
pub(crate) fn check(registry: &Registry, wanted: &Wanted) -> Result<(), Refused> {
    let (sim, spec) = specified(registry, wanted)?;
    sim.script(&spec)?;
    Ok(())
}

/// Takes away what the violation does not need.
pub(crate) fn less(registry: &Registry, wanted: &Wanted) -> Result<Less, Refused> {
    let (sim, spec) = specified(registry, wanted)?;
    match shrink(sim, &spec, &ShrinkLimits::default()) {
        Ok(shrunk) => Ok(Less {
            script: shrunk.script.to_json(),
            units_before: shrunk.units_before,
            units: shrunk.units,
            minimal: shrunk.minimal,
            tried: shrunk.tried,
        }),
        Err(ShrinkError::Spec(error)) => Err(error.into()),
        Err(error) => Err(Refused::Request(error.to_string())),
    }
}

fn specified<'r>(
    registry: &'r Registry,
    wanted: &Wanted,
) -> Result<(&'r dyn Simulation, RunSpec), Refused> {
    let name = dpat_sim::full_name(&wanted.protocol, wanted.mutant.as_deref());
    let found = registry.find(&name);
    let (sim, mutant) = found.map_err(|error| Refused::Request(error.to_string()))?;
    let seed = wanted.seed.parse();
    let seed = seed.map_err(|_| Refused::Request("seed: must be 0 to 2^64 - 1".to_owned()))?;
    let mut spec = RunSpec {
        nodes: wanted.nodes,
        mutant: mutant.map(str::to_owned),
        ..RunSpec::new(seed)
    };
    if let Some(text) = &wanted.script {
        let script: Result<Script, _> = read_script(sim, &spec, text, SCRIPT);
        spec.script = Some(script.map_err(|error| match error {
            ScriptRefused::Text(error) => Refused::Script(error),
            other => Refused::Request(other.to_string()),
        })?);
    }
    Ok((sim, spec))
}

/// A run that ended by a panic has a verdict and no trace.
fn untraced(sim: &dyn Simulation, spec: &RunSpec, outcome: &Outcome) -> Trace {
    Trace {
        version: Trace::VERSION,
        protocol: sim.info().name.to_owned(),
        mutant: spec.mutant.clone(),
        seed: outcome.seed,
        nodes: (0..outcome.script.nodes.count())
            .map(|node| format!("n{node}"))
            .collect(),
        trace_hash: dpat_sim::hex(outcome.trace_hash),
        violation: outcome.violation.clone(),
        script: Some(outcome.script.clone()),
        ..Trace::default()
    }
}

/// Names what was reached; a kind of message that never arrived is there with 0.
fn reached(coverage: &Coverage) -> Vec<(String, u64)> {
    let mut rows = Vec::new();
    for kind in coverage.kinds() {
        for phase in coverage.phases() {
            let calm = coverage.count(kind, phase, None);
            rows.push((format!("{kind} in {phase}"), calm));
            for family in Family::ALL {
                let count = coverage.count(kind, phase, Some(*family));
                if count > 0 {
                    rows.push((format!("{kind} in {phase} under {}", family.name()), count));
                }
            }
        }
    }
    for (name, times) in coverage.sometimes() {
        rows.push(((*name).to_owned(), *times));
    }
    rows.push(("operations compared".to_owned(), coverage.compared()));
    rows
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::protocols::registry::registry;

    fn wanted(more: serde_json::Value) -> Wanted {
        let mut form = json!({"protocol": "counter", "mutant": null, "seed": "3", "nodes": null, "script": null});
        for (name, value) in more.as_object().expect("fields") {
            form[name] = value.clone();
        }
        serde_json::from_value(form).expect("a request")
    }

    fn failing(registry: &Registry) -> Wanted {
        let seeds = (0..100)
            .map(|seed| wanted(json!({"mutant": "answer-before-sync", "seed": seed.to_string()})));
        let fails = |wanted: &Wanted| {
            run(registry, wanted)
                .expect("it runs")
                .trace
                .violation
                .is_some()
        };
        seeds.into_iter().find(fails).expect("a seed fails")
    }

    #[test]
    fn what_is_offered_runs() {
        let registry = registry();
        for offered in protocols(&registry) {
            let ran = run(&registry, &wanted(json!({"protocol": offered.name}))).expect("it runs");
            assert_eq!(ran.trace.protocol, offered.name);
            // Clients of asynchronous systems have lanes of their own.
            assert!(ran.trace.nodes.len() >= offered.nodes_default as usize);
            assert!(!ran.trace.events.is_empty());
            assert!(ran.outcome.delivered > 0 && ran.outcome.events > 0);
            let compared = ran.outcome.coverage.last().expect("rows");
            assert_eq!(compared.0, "operations compared");
        }
    }

    #[test]
    fn the_script_of_a_run_repeats_it() {
        let registry = registry();
        let first = run(&registry, &wanted(json!({}))).expect("it runs");
        let again = wanted(json!({"script": first.script}));
        assert!(check(&registry, &again).is_ok());
        let again = run(&registry, &again).expect("it runs");
        assert_eq!(again.trace.trace_hash, first.trace.trace_hash);
    }

    #[test]
    fn a_shrunk_script_still_fails() {
        let registry = registry();
        let mut wanted = failing(&registry);
        let property = |wanted: &Wanted| {
            let violation = run(&registry, wanted).expect("it runs").trace.violation;
            violation.map(|violation| violation.property)
        };
        let before = property(&wanted);
        let less = less(&registry, &wanted).expect("it shrinks");
        assert!(less.units < less.units_before && less.minimal);
        wanted.script = Some(less.script);
        assert!(before.is_some());
        assert_eq!(property(&wanted), before);
    }

    #[test]
    fn what_cannot_run_is_refused_with_its_place() {
        let registry = registry();
        let request = |more| match run(&registry, &wanted(more)) {
            Err(Refused::Request(reason)) => reason,
            other => panic!("{other:?}"),
        };
        assert!(request(json!({"protocol": "luck"})).contains("there are "));
        assert!(request(json!({"mutant": "luck"})).contains("it has check-then-act"));
        assert!(request(json!({"seed": "-1"})).starts_with("seed: "));
        assert!(request(json!({"nodes": 0})).starts_with("nodes: 0"));
        let script = "{\"version\": 1,\n \"protocol\": \"counter\", \"nodes\": 2, \"seed\": 1, \"ops\": [\n  {\"at_us\": 5, \"do\": \"crash\", \"node\": 2}]}";
        let Err(Refused::Script(error)) = check(&registry, &wanted(json!({"script": script})))
        else {
            panic!("node 2 of 2 is none");
        };
        assert_eq!((error.line, error.field.as_str()), (3, "ops[0].node"));
    }
}
