//! `dpat mc`.

use clap::{Args, ValueEnum};
use dpat_cases::protocols::mc;

use crate::output::{result, say};
use crate::{INTERNAL, OK, USAGE, VIOLATED};

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Name {
    /// Two-phase commit, as the classic TwoPhase specification.
    TwoPhase,
}

/// Options of `dpat mc`.
#[derive(Debug, Args)]
pub(crate) struct Mc {
    /// Which system.
    name: Name,
    /// How many resource managers.
    #[arg(long, default_value_t = 3)]
    rms: u32,
    /// Print the counts as one JSON object on the last line of stdout.
    #[arg(long)]
    json: bool,
}

/// Explores the system and returns the exit code.
pub(crate) fn run(mc: &Mc) -> u8 {
    let Name::TwoPhase = mc.name;
    let explored = match mc::two_phase(mc.rms) {
        Ok(explored) => explored,
        Err(error) => {
            say(&format!("dpat: {error}"));
            return USAGE;
        }
    };
    say(&format!(
        "two-phase, {} resource managers: {} distinct states, {} generated, depth {}",
        mc.rms, explored.distinct_states, explored.generated_states, explored.depth
    ));
    for violation in &explored.violations {
        say(&format!("violated: {}", violation.property));
        for action in &violation.actions {
            say(&format!("  {action}"));
        }
    }
    if mc.json {
        match serde_json::to_string(&explored) {
            Ok(line) => result(&line),
            Err(error) => {
                say(&format!("dpat: {error}"));
                return INTERNAL;
            }
        }
    }
    if explored.violations.is_empty() {
        OK
    } else {
        VIOLATED
    }
}
