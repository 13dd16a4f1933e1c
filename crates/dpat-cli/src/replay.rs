//! `dpat replay`.

use std::path::{Path, PathBuf};

use clap::Args;
use dpat_cases::lab;
use dpat_cases::protocols::registry::registry;
use dpat_sim::{Outcome, Simulation, Trace, TraceEvent, TraceMode, replay_json, slice};

use crate::output::{result, say};
use crate::refusal::Refusal;
use crate::runs::specify;
use crate::{OK, VIOLATED};

/// The most events that are recorded.
const EVENTS_MAX: usize = 1_000_000;
/// The most events of a slice that are printed, from its end.
const SHOWN: usize = 100;
/// The longest text of an event that is printed.
const TEXT_MAX: usize = 120;

/// Options of `dpat replay`.
#[derive(Debug, Args)]
pub(crate) struct Replay {
    /// A protocol or a known-bad variant of one: PROTOCOL@MUTANT.
    protocol: String,
    /// The seed.
    seed: u64,
    /// Faults (JSON) instead of those that the seed draws.
    #[arg(long, value_name = "FILE")]
    script: Option<PathBuf>,
    /// How many nodes [default: those of the script, or of the protocol].
    #[arg(long)]
    nodes: Option<u32>,
    /// Print nothing but the JSON object.
    #[arg(long)]
    json: bool,
    /// Write the run here: a page that shows it, if the name ends in .html, else JSON that `dpat lab` opens.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
}

/// Runs the seed again and returns the exit code.
pub(crate) fn run(replay: &Replay) -> u8 {
    again(replay).unwrap_or_else(|refusal| refusal.exit())
}

fn again(replay: &Replay) -> Result<u8, Refusal> {
    let registry = registry();
    let (name, file) = (&replay.protocol, replay.script.as_deref());
    let (sim, mut spec) = specify(&registry, name, replay.seed, replay.nodes, file)?;
    // The hash of a run is the same whether it is recorded or not.
    if !replay.json || replay.trace.is_some() {
        spec.trace = TraceMode::Full {
            events_max: EVENTS_MAX,
        };
    }
    let outcome = sim.run(&spec)?;
    if let (Some(path), Some(trace)) = (&replay.trace, &outcome.trace) {
        save(trace, path)?;
    }
    if !replay.json {
        told(sim, replay, &outcome);
    }
    let line = replay_json(sim.info().name, spec.mutant.as_deref(), &outcome);
    result(&line);
    Ok(match outcome.violation {
        None => OK,
        Some(_) => VIOLATED,
    })
}

fn save(trace: &Trace, path: &Path) -> Result<(), Refusal> {
    let page = path
        .extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("html"));
    let text = if page {
        lab::page(Some(trace))
    } else {
        serde_json::to_string(trace).map_err(|error| Refusal::Internal(error.to_string()))?
    };
    std::fs::write(path, text).map_err(|error| Refusal::file(path, &error))
}

/// Says for people what was drawn and what happened.
fn told(sim: &dyn Simulation, replay: &Replay, outcome: &Outcome) {
    if replay.script.is_none() {
        say("drawn from this plan:");
        say(sim.info().plan.to_string().trim_end());
    }
    say(outcome.script.to_json().trim_end());
    say(&format!(
        "{} events, {} delivered, trace {}",
        outcome.events,
        outcome.delivered,
        dpat_sim::hex(outcome.trace_hash)
    ));
    let Some(violation) = &outcome.violation else {
        say("everything held");
        return;
    };
    if let Some(trace) = &outcome.trace {
        caused(trace, violation.at_event);
    }
    say(&format!(
        "violated: {} at event {}: {}",
        violation.property, violation.at_event, violation.message
    ));
}

/// Prints the causal slice of an event.
fn caused(trace: &Trace, at_event: u64) {
    let slice = slice(trace, at_event);
    say(&format!(
        "{} of {} recorded events may have led to it:",
        slice.len(),
        trace.events.len()
    ));
    let skipped = slice.len().saturating_sub(SHOWN);
    if skipped > 0 {
        say(&format!("  … {skipped} earlier ones; --trace has all"));
    }
    for event in slice.iter().skip(skipped).map(|at| &trace.events[*at]) {
        say(&described(trace, event));
    }
}

fn described(trace: &Trace, event: &TraceEvent) -> String {
    let named = |node: u32| {
        let name = trace.nodes.get(node as usize);
        name.map_or_else(|| format!("n{node}"), Clone::clone)
    };
    let node = event.node.map_or_else(|| "-".to_owned(), named);
    let from = event.from.map_or_else(String::new, |(node, sent)| {
        format!(" from {} (#{sent})", named(node))
    });
    let kind = event.kind.as_deref().filter(|kind| *kind != event.label);
    let words = [kind.unwrap_or_default(), &event.label].map(str::trim);
    let text: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
    let mut text = text.join(" ");
    if let Some((cut, _)) = text.char_indices().nth(TEXT_MAX) {
        text.truncate(cut);
        text.push('…');
    }
    let (at_us, what) = (event.at_ns / 1_000, &event.what);
    let line = format!(
        "  #{:<6} {at_us:>10} us  {node:<8} {what} {text}{from}",
        event.i
    );
    line.trim_end().to_owned()
}
