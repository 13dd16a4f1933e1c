//! Scripts that people wrote: read for one simulation, and refused where they stand.

use std::cell::Cell;

use dpat_model::{Accept, InputError, Script};

use crate::{RunSpec, Simulation, SpecError};

/// A script that cannot be run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScriptRefused {
    /// Its text is wrong, or asks for what this simulation cannot do.
    #[error(transparent)]
    Text(#[from] InputError),
    /// What else was asked for does not fit: the mutant, or a number of nodes that is not that of the script.
    #[error(transparent)]
    Spec(#[from] SpecError),
}

/// Reads the text of a script for a run of a simulation; errors have the place in the text.
///
/// `file` is the name that errors carry. The script of `spec` is not used, its nodes and mutant are.
///
/// # Errors
/// [`ScriptRefused`].
pub fn read_script(
    sim: &dyn Simulation,
    spec: &RunSpec,
    text: &str,
    file: &str,
) -> Result<Script, ScriptRefused> {
    let script = Script::parse(text, file)?;
    let info = sim.info();
    // Of a mutant's script the protocol may be `NAME@MUTANT`.
    if script.protocol.split('@').next() != Some(info.name) {
        let accept = Accept {
            protocol: Some(info.name),
            ..Accept::default()
        };
        Script::parse_for(text, file, &accept)?;
    }
    let spec = RunSpec {
        script: Some(script.clone()),
        ..spec.clone()
    };
    let Err(error) = sim.script(&spec) else {
        return Ok(script);
    };
    // What the simulation refuses is looked for once more in the text.
    match &error {
        SpecError::Refused { op, reason, .. } => {
            let passed = Cell::new(0);
            let refuse = |_: &_| match passed.replace(passed.get() + 1) {
                at if at == *op => Err(("do", (*reason).to_owned())),
                _ => Ok(()),
            };
            let accept = Accept {
                op: &refuse,
                ..Accept::default()
            };
            Script::parse_for(text, file, &accept)?;
        }
        SpecError::Nodes { .. } if spec.nodes.is_none() => {
            let accept = Accept {
                nodes: allowed(sim, &spec, info.nodes_min),
                ..Accept::default()
            };
            Script::parse_for(text, file, &accept)?;
        }
        _ => {}
    }
    Err(error.into())
}

/// The numbers of nodes that the simulation takes without a script.
fn allowed(sim: &dyn Simulation, spec: &RunSpec, nodes_min: u32) -> (u32, u32) {
    let none = RunSpec {
        nodes: Some(0),
        script: None,
        ..spec.clone()
    };
    match sim.script(&none) {
        Err(SpecError::Nodes { min, max, .. }) => (min, max),
        _ => (nodes_min, dpat_model::MAX_NODES),
    }
}
