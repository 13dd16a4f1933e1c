//! What the commands that run protocols share: which there are, and what a run is told.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::thread::available_parallelism;

use dpat_model::Script;
use dpat_sim::{Registry, RunSpec, ScriptRefused, Simulation, read_script};

use crate::refusal::Refusal;

/// Returns how many seeds run at once.
pub(crate) fn threads() -> usize {
    available_parallelism().map_or(1, usize::from)
}

/// Finds a protocol, `NAME` or `NAME@MUTANT`, and says how a seed of it is run.
pub(crate) fn specify<'r>(
    registry: &'r Registry,
    name: &str,
    seed: u64,
    nodes: Option<u32>,
    script: Option<&Path>,
) -> Result<(&'r dyn Simulation, RunSpec), Refusal> {
    let (sim, mutant) = registry.find(name)?;
    let mut spec = RunSpec {
        nodes,
        mutant: mutant.map(str::to_owned),
        ..RunSpec::new(seed)
    };
    if let Some(path) = script {
        spec.script = Some(read(sim, &spec, path)?);
    }
    // Says now what every seed would say.
    sim.script(&spec)?;
    Ok((sim, spec))
}

fn read(sim: &dyn Simulation, spec: &RunSpec, path: &Path) -> Result<Script, Refusal> {
    let name = path.display().to_string();
    let mut text = String::new();
    // One byte more than is allowed tells a file that is too large.
    let limit = Script::MAX_BYTES as u64 + 1;
    File::open(path)
        .and_then(|file| file.take(limit).read_to_string(&mut text))
        .map_err(|error| Refusal::Input(format!("{name}:1:1: {error}")))?;
    read_script(sim, spec, &text, &name).map_err(|error| match error {
        ScriptRefused::Text(error) => Refusal::Input(error.to_string()),
        // The script is good, for another number of nodes.
        other => Refusal::Usage(format!("{name}: {other}")),
    })
}
