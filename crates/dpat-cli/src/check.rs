//! `dpat check`.

use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use dpat_check::{Format, Limits, Model, Report, Verdict};
use dpat_core::{Clock, SystemClock};

use crate::output::{result, say};
use crate::{BAD_INPUT, INTERNAL, OK, UNKNOWN, VIOLATED};

/// Options of `dpat check`.
#[derive(Debug, Args)]
pub(crate) struct Check {
    /// The recorded history.
    file: PathBuf,
    /// What it is compared with: register, cas-register, kv, queue, set, stack, counter, lock, list-append,
    /// rw-register or delivery.
    #[arg(long, value_parser = str::parse::<Model>)]
    model: Model,
    /// How it is written: auto, jepsen-log, porcupine-kv, jepsen-edn or jsonl.
    #[arg(long, default_value = "auto", value_parser = str::parse::<Format>)]
    format: Format,
    /// Seconds after which the answer is that it cannot be told.
    #[arg(long, default_value_t = 60.0, value_parser = seconds)]
    timeout: f64,
    /// Print the verdict as one JSON object on the last line of stdout.
    #[arg(long)]
    json: bool,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= 1e6 => Ok(seconds),
        _ => Err("must be seconds, above 0 and at most 1000000".to_owned()),
    }
}

/// Checks the file and returns the exit code.
pub(crate) fn run(check: &Check) -> u8 {
    let name = check.file.display().to_string();
    let file = match File::open(&check.file) {
        Ok(file) => file,
        Err(error) => {
            say(&format!("{name}:1:1: {error}"));
            return BAD_INPUT;
        }
    };
    let parsed = match dpat_check::parse(BufReader::new(file), &name, check.format) {
        Ok(parsed) => parsed,
        Err(error) => {
            say(&error.to_string());
            return BAD_INPUT;
        }
    };
    let clock = SystemClock;
    let limits = Limits::default().timeout(&clock, Duration::from_secs_f64(check.timeout));
    let begun = clock.now();
    let verdict = match dpat_check::check(&parsed.history, check.model, &limits) {
        Ok(verdict) => verdict,
        Err(error) => {
            say(&error.in_file(&name).to_string());
            return BAD_INPUT;
        }
    };
    let elapsed = clock.now().since(begun);
    let report = Report::new(
        &name,
        parsed.format,
        check.model,
        &parsed.history,
        &verdict,
        elapsed,
    );
    tell(&report, &verdict);
    if check.json {
        match serde_json::to_string(&report) {
            Ok(line) => result(&line),
            Err(error) => {
                say(&format!("dpat: {error}"));
                return INTERNAL;
            }
        }
    }
    match verdict {
        Verdict::Ok => OK,
        Verdict::Violation(_) => VIOLATED,
        Verdict::Unknown(_) => UNKNOWN,
    }
}

/// Says it for people.
fn tell(report: &Report, verdict: &Verdict) {
    say(&format!(
        "{}: {} operations ({}), model {}: {} in {} ms",
        report.file,
        report.operations,
        report.format,
        report.model,
        report.verdict,
        report.elapsed_ms
    ));
    if let Verdict::Unknown(stopped) = verdict {
        say(&format!("cannot tell: {stopped}"));
    }
    let Some(broken) = &report.violation else {
        return;
    };
    let blocked = &broken.blocked;
    let key = broken
        .key
        .as_ref()
        .map_or(String::new(), |key| format!(", key {key}"));
    say(&format!(
        "{}:{}: process {}: {} {}{key}: cannot be placed, whatever the order of the others",
        report.file, blocked.line, blocked.process, blocked.f, blocked.value
    ));
    if let Some(rule) = broken.rule {
        say(&format!("broken: {rule}"));
    }
    if !broken.longest_prefix.is_empty() {
        say(&format!(
            "{} operations before it can be placed; the invocations, in order: {}",
            broken.longest_prefix.len(),
            brief(&broken.longest_prefix)
        ));
    }
}

/// Prints the last few of many.
fn brief(invocations: &[usize]) -> String {
    const SHOWN: usize = 12;
    let skipped = invocations.len().saturating_sub(SHOWN);
    let shown: Vec<String> = invocations
        .iter()
        .skip(skipped)
        .map(ToString::to_string)
        .collect();
    let dots = if skipped > 0 { "… " } else { "" };
    format!("{dots}{}", shown.join(" "))
}
