//! `dpat sim flp`.

use dpat_cases::protocols::flp::{Options, Report, Witness, flp, verify};
use serde_json::{Value, json};

use crate::output::{result, say};
use crate::refusal::Refusal;
use crate::{OK, VIOLATED};

/// Runs the adversary, replays its schedule, and returns the exit code.
pub(crate) fn run(
    nodes: Option<u32>,
    rounds: Option<u32>,
    seed: Option<u64>,
    as_json: bool,
) -> Result<u8, Refusal> {
    let default = Options::default();
    let options = Options {
        nodes: nodes.unwrap_or(default.nodes),
        rounds: rounds.unwrap_or(default.rounds),
        seed: seed.unwrap_or(default.seed),
        ..default
    };
    let report = flp(options).map_err(|error| Refusal::Usage(format!("flp: {error}")))?;
    let verified = verify(&report);
    let holds = report.holds() && verified.is_ok();
    tell(&report);
    match &verified {
        Ok(()) => say("verified: the schedules were replayed, step by step"),
        Err(reason) => say(&format!("not verified: {reason}")),
    }
    if as_json {
        let mut form = json!(report);
        if let Value::Object(fields) = &mut form {
            fields.insert("protocol".to_owned(), "flp".into());
            fields.insert("seed".to_owned(), options.seed.into());
            fields.insert("verified".to_owned(), verified.is_ok().into());
        }
        result(&form.to_string());
    }
    Ok(if holds { OK } else { VIOLATED })
}

fn tell(report: &Report) {
    let inputs: Vec<String> = report.inputs.iter().map(ToString::to_string).collect();
    say(&format!(
        "{} processes propose {}; no message is lost, no process crashes",
        report.nodes,
        inputs.join(", ")
    ));
    match &report.deterministic {
        None => say("deterministic: the adversary failed"),
        Some(schedule) => {
            for round in &schedule.rounds {
                say(&format!(
                    "round {:>3}: {:>3} deliveries, nobody has decided; 0 is still possible in {}, 1 in {}",
                    round.round,
                    round.deliveries.len(),
                    away(&round.then.zero),
                    away(&round.then.one),
                ));
            }
            say(&format!(
                "deterministic: undecided after {} rounds and {} deliveries; no message waited for more than {} others",
                schedule.rounds.len(),
                schedule.delivered,
                schedule.waited_max
            ));
        }
    }
    let tossed = &report.randomised;
    say(&format!(
        "randomised (Ben-Or): {} of {} runs decided, by the round of the first decision: {}",
        tossed.decided,
        tossed.runs,
        histogram(&tossed.by_round)
    ));
}

fn away(witness: &Witness) -> String {
    let silent = witness
        .crashed
        .map_or(String::new(), |node| format!(" (n{node} silent)"));
    format!("{}{silent}", witness.deliveries.len())
}

fn histogram(by_round: &[u32]) -> String {
    let rounds = (1..).zip(by_round).filter(|(_, runs)| **runs > 0);
    let rounds: Vec<String> = rounds
        .map(|(round, runs)| format!("{round}: {runs}"))
        .collect();
    rounds.join(", ")
}
