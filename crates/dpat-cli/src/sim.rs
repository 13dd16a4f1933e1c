//! `dpat sim`.

use std::ops::Range;
use std::path::PathBuf;

use clap::Args;
use dpat_cases::protocols::registry::registry;
use dpat_core::{Clock, SystemClock};
use dpat_sim::{Family, Info, Registry, batch, coverage_table};

use crate::output::{result, say, write};
use crate::refusal::Refusal;
use crate::runs::{specify, threads};
use crate::{cap, flp};

/// Seeds unless told otherwise.
const SEEDS: Range<u64> = 0..100;

/// Options of `dpat sim`.
#[derive(Debug, Args)]
pub(crate) struct Sim {
    /// A protocol or a known-bad variant of one, PROTOCOL@MUTANT; or a theorem: flp, cap.
    #[arg(required_unless_present = "list", conflicts_with = "list")]
    protocol: Option<String>,
    /// From A up to, not including, B [default: 0..100].
    #[arg(long, value_name = "A..B", value_parser = range)]
    seeds: Option<Range<u64>>,
    /// Faults (JSON) instead of those that the seeds draw.
    #[arg(long, value_name = "FILE")]
    script: Option<PathBuf>,
    /// How many nodes [default: those of the script, or of the protocol].
    #[arg(long)]
    nodes: Option<u32>,
    /// Of flp: how many rounds shall pass without a decision.
    #[arg(long)]
    rounds: Option<u32>,
    /// Of flp: the seed of the adversary and of the coins. Of cap: that of both runs.
    #[arg(long)]
    seed: Option<u64>,
    /// List the protocols, their properties and their known-bad variants.
    #[arg(long, conflicts_with_all = ["seeds", "script", "nodes", "rounds", "seed"])]
    list: bool,
    /// Print what is for scripts: one JSON value on the last line of stdout.
    #[arg(long)]
    json: bool,
}

fn range(text: &str) -> Result<Range<u64>, String> {
    let bounds = text
        .split_once("..")
        .and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    match bounds {
        Some(Range { start, end }) if start <= end => Ok(start..end),
        _ => Err("must be A..B, from A up to, not including, B".to_owned()),
    }
}

/// Runs the seeds and returns the exit code.
pub(crate) fn run(sim: &Sim) -> u8 {
    let done = match sim.protocol.as_deref() {
        None => {
            list(&registry(), sim.json);
            return crate::OK;
        }
        Some(name @ ("flp" | "cap")) => theorem(sim, name),
        Some(name) => seeds(sim, name),
    };
    done.unwrap_or_else(|refusal| refusal.exit())
}

fn theorem(sim: &Sim, name: &str) -> Result<u8, Refusal> {
    if sim.seeds.is_some() || sim.script.is_some() {
        let text = format!("{name}: is one run, without --seeds and --script; see --seed");
        return Err(Refusal::Usage(text));
    }
    if name == "flp" {
        return flp::run(sim.nodes, sim.rounds, sim.seed, sim.json);
    }
    if sim.nodes.is_some() || sim.rounds.is_some() {
        let text = "cap: has three nodes and one partition, without --nodes and --rounds";
        return Err(Refusal::Usage(text.to_owned()));
    }
    cap::run(sim.seed, sim.json)
}

fn seeds(sim: &Sim, name: &str) -> Result<u8, Refusal> {
    let registry = registry();
    let seeds = sim.seeds.clone().unwrap_or(SEEDS);
    let file = sim.script.as_deref();
    let (simulation, spec) = specify(&registry, name, seeds.start, sim.nodes, file)?;
    if sim.rounds.is_some() || sim.seed.is_some() {
        let text = format!("{name}: --rounds and --seed are for theorems; see --seeds");
        return Err(Refusal::Usage(text));
    }
    let clock = SystemClock;
    let begun = clock.now();
    let report = batch(simulation, seeds, &spec, threads())?;
    let elapsed_ms = u64::try_from(clock.now().since(begun).as_millis()).unwrap_or(u64::MAX);
    let script = file.map(|file| file.display().to_string());
    say(report.to_text(sim.nodes, script.as_deref()).trim_end());
    if sim.json {
        result(&report.to_json(elapsed_ms));
    } else {
        say("");
        say(coverage_table(&report.coverage, report.drawn).trim_end());
        say(&format!("took {elapsed_ms} ms"));
    }
    Ok(report.exit_code())
}

/// Prints what there is: the list is the result, for people and for scripts.
fn list(registry: &Registry, json: bool) {
    if json {
        result(&registry.to_json());
        return;
    }
    for sim in registry.iter() {
        write(&described(&sim.info()));
    }
    write(
        "flp\n  what Fischer, Lynch and Paterson prove, run: no deterministic consensus ends for certain\n",
    );
    write(
        "cap\n  what Gilbert and Lynch prove, run: cut in two, a register is consistent or available\n",
    );
}

fn described(info: &Info) -> String {
    let families: Vec<&str> = info.plan.families.iter().map(Family::name).collect();
    let mut text = format!(
        "{}\n  {}\n  nodes: {} ({} at least)\n  properties: {}\n  faults: {}\n",
        info.name,
        info.about,
        info.nodes_default,
        info.nodes_min,
        info.properties.join(", "),
        families.join(", "),
    );
    for mutant in info.mutants {
        let line = format!(
            "  {}@{} breaks: {} (found within {} seeds)\n",
            info.name, mutant.name, mutant.rule, mutant.seeds_max
        );
        text.push_str(&line);
    }
    text
}
