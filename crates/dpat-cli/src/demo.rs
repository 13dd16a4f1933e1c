//! `dpat demo`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use dpat_cases::shop;
use dpat_cases::shop::config::{Config, Faults, Pattern};

use crate::lines::Lines;
use crate::output::{result, say};
use crate::{INTERNAL, OK, USAGE, VIOLATED};

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Name {
    /// The order platform.
    Shop,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Without {
    Breaker,
    Retry,
    Idempotency,
    Outbox,
}

impl From<Without> for Pattern {
    fn from(without: Without) -> Self {
        match without {
            Without::Breaker => Self::Breaker,
            Without::Retry => Self::Retry,
            Without::Idempotency => Self::Idempotency,
            Without::Outbox => Self::Outbox,
        }
    }
}

/// Options of `dpat demo`.
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Which system.
    name: Name,
    /// How many orders.
    #[arg(long, default_value_t = 2_000)]
    orders: u64,
    /// Orders a second.
    #[arg(long, default_value_t = 400.0)]
    rate: f64,
    /// Seed of orders and faults.
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// `none` for no faults.
    #[arg(long)]
    faults: Option<String>,
    /// Leave out a pattern, and show what breaks.
    #[arg(long, value_delimiter = ',')]
    without: Vec<Without>,
    /// Print the verdict as one JSON object on the last line of stdout.
    #[arg(long)]
    json: bool,
    /// Write the report here.
    #[arg(long)]
    report: Option<PathBuf>,
}

/// Runs the demo and returns the exit code.
pub(crate) fn run(demo: &Demo) -> u8 {
    let Name::Shop = demo.name;
    let config = Config {
        seed: demo.seed,
        orders: demo.orders,
        rate: demo.rate,
        without: demo.without.iter().copied().map(Pattern::from).collect(),
        faults: match demo.faults.as_deref() {
            Some("none") => Faults::None,
            _ => Faults::Seeded,
        },
        report: demo.report.clone(),
    };
    if let Err(error) = config.validate() {
        say(&format!("dpat: {error}"));
        return USAGE;
    }
    let outcome = shop::run::block_on(config, &mut Lines::default());
    let record = match outcome {
        Ok(record) => record,
        Err(error) => {
            say(&format!("dpat: {error}"));
            return INTERNAL;
        }
    };
    if demo.json {
        match serde_json::to_string(&record.verdict) {
            Ok(line) => result(&line),
            Err(error) => {
                say(&format!("dpat: {error}"));
                return INTERNAL;
            }
        }
    }
    if record.verdict.is_as_expected() {
        OK
    } else {
        VIOLATED
    }
}
