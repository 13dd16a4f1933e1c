//! `dpat demo`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};
use dpat_cases::shop;
use dpat_cases::shop::chaos;
use dpat_cases::shop::config::{Config, Faults, Nodes, Pattern, Scenario};
use dpat_cases::shop::domain::Order;
use dpat_cases::shop::engine::{self, Engine, Url};
use dpat_cases::shop::input;
use dpat_cases::shop::run::RunError;
use dpat_cases::shop::view::View;

use crate::lines::Lines;
use crate::live::Live;
use crate::output::{result, say};
use crate::refusal::Refusal;
use crate::{INTERNAL, OK, UNKNOWN, VIOLATED};

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Name {
    /// The order platform.
    Shop,
}

/// Parses the name of a pattern.
/// Reads the name of a pattern; the help lists them all with what breaks without each.
fn pattern() -> impl TypedValueParser<Value = Pattern> {
    let named = Pattern::ALL.map(|pattern| {
        PossibleValue::new(pattern.name()).help(format!("breaks {}", pattern.invariant()))
    });
    PossibleValuesParser::new(named).try_map(|name| {
        let mut all = Pattern::ALL.into_iter();
        all.find(|pattern| pattern.name() == name)
            .ok_or("no such pattern")
    })
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ScenarioName {
    /// Every kind of fault.
    Shop,
    /// Payment fails most requests for a while.
    RetryStorm,
    /// Payment hangs for long.
    CascadingFailure,
    /// Some events cannot be handled, ever.
    PoisonMessage,
    /// Packing is slower than selling for a while.
    SlowConsumer,
}

impl From<ScenarioName> for Scenario {
    fn from(name: ScenarioName) -> Self {
        match name {
            ScenarioName::Shop => Self::Shop,
            ScenarioName::RetryStorm => Self::RetryStorm,
            ScenarioName::CascadingFailure => Self::CascadingFailure,
            ScenarioName::PoisonMessage => Self::PoisonMessage,
            ScenarioName::SlowConsumer => Self::SlowConsumer,
        }
    }
}

/// Parses seconds, with or without a unit: `30`, `30s`, `1500ms`, `2m`.
fn seconds(text: &str) -> Result<f64, String> {
    let (number, unit) = match text.find(|c: char| c.is_ascii_alphabetic()) {
        Some(at) => text.split_at(at),
        None => (text, "s"),
    };
    let scale = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        _ => return Err("the unit must be ms, s or m".to_owned()),
    };
    match number.trim().parse::<f64>() {
        Ok(number) if number > 0.0 && number.is_finite() => Ok(number * scale),
        _ => Err("must be a number above 0".to_owned()),
    }
}

/// Options of `dpat demo`.
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Which system.
    name: Name,
    /// How many orders [default: 2000; with --serve none].
    #[arg(long, conflicts_with_all = ["duration", "input"])]
    orders: Option<u64>,
    /// Orders a second.
    #[arg(long, default_value_t = 400.0)]
    rate: f64,
    /// How long orders are sent, instead of how many: 30, 30s, 1500ms, 2m.
    #[arg(long, value_parser = seconds, conflicts_with = "input")]
    duration: Option<f64>,
    /// Seed of orders and faults.
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// A script of faults (JSON), or `none`; by default a plan is drawn from the seed.
    #[arg(long, value_name = "SCRIPT|none")]
    faults: Option<PathBuf>,
    /// Leave out a pattern, and show what breaks; several are parted by commas.
    #[arg(long, value_delimiter = ',', value_parser = pattern())]
    without: Vec<Pattern>,
    /// What the run is about.
    #[arg(long, value_enum, default_value = "shop")]
    scenario: ScenarioName,
    /// Where stores, queue and notices are: embedded, sqlite, postgres, redis, nats; or the URL of a server that runs. Without a
    /// URL a server is started for the run, and killed in the middle of it.
    #[arg(long, value_name = "NAME|URL", default_value = "embedded", value_parser = engine::parse, conflicts_with = "simulated")]
    engine: (Engine, Option<Url>),
    /// Run each service as a process of its own, and kill some by SIGKILL.
    #[arg(long)]
    processes: bool,
    /// Run the services in the simulator: in virtual time, with crashes and partitions, the same again for the same seed.
    #[arg(long, conflicts_with_all = ["processes", "serve"])]
    simulated: bool,
    /// Keep the services up for `curl` until Ctrl-C.
    #[arg(long)]
    serve: bool,
    /// Send the orders of this file, one JSON object a line.
    #[arg(long, value_name = "ORDERS.JSONL")]
    input: Option<PathBuf>,
    /// Set lines of the input that are no orders aside, in `rejected.jsonl` beside the report.
    #[arg(long, requires = "input")]
    skip_bad: bool,
    /// Print the verdict as one JSON object on the last line of stdout.
    #[arg(long)]
    json: bool,
    /// Write the report here: a page, or JSON if it ends in .json [default: target/dpat-demo/SCENARIO-SEED.html].
    #[arg(long)]
    report: Option<PathBuf>,
}

impl Demo {
    fn config(&self) -> Result<Config, Refusal> {
        let faults = match &self.faults {
            Some(path) if path.as_os_str() == "none" => Faults::None,
            Some(path) => Faults::Script(
                chaos::read(path, self.simulated)
                    .map_err(|error| Refusal::Input(error.to_string()))?,
            ),
            None if self.serve => Faults::None,
            None => Faults::Seeded,
        };
        let input = self.orders_given()?;
        let config = Config {
            scenario: self.scenario.into(),
            nodes: self.nodes()?,
            seed: self.seed,
            orders: match &input {
                Some(orders) => orders.len() as u64,
                None => self.orders_wanted(),
            },
            rate: self.rate,
            without: self.without.clone(),
            faults,
            engine: self.engine.0,
            engine_url: self.engine.1.clone(),
            report: Some(self.report_path()),
            serve: self.serve,
            input,
        };
        config
            .validate()
            .map_err(|error| Refusal::Usage(error.to_string()))?;
        Ok(config)
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // positive, and saturating
    fn orders_wanted(&self) -> u64 {
        match (self.orders, self.duration) {
            (Some(orders), _) => orders,
            (None, Some(seconds)) => (seconds * self.rate).ceil() as u64,
            (None, None) if self.serve => 0,
            (None, None) => 2_000,
        }
    }

    fn orders_given(&self) -> Result<Option<Arc<[Order]>>, Refusal> {
        let Some(path) = &self.input else {
            return Ok(None);
        };
        let read =
            input::read(path, self.skip_bad).map_err(|error| Refusal::Input(error.to_string()))?;
        if self.skip_bad {
            let rejected = self.report_path().with_file_name("rejected.jsonl");
            input::write_rejected(&read.rejected, &rejected)
                .map_err(|error| Refusal::Internal(format!("{}: {error}", rejected.display())))?;
            say(&format!(
                "{} lines set aside in {}",
                read.rejected.len(),
                rejected.display()
            ));
        }
        Ok(Some(read.orders.into()))
    }

    /// Where the report goes: as asked, or into the build's folder of a checkout, or into the temporary folder.
    fn report_path(&self) -> PathBuf {
        self.report.clone().unwrap_or_else(|| {
            let target = Path::new("target");
            let folder = if target.is_dir() {
                target.to_owned()
            } else {
                std::env::temp_dir()
            };
            let scenario = Scenario::from(self.scenario);
            let file = format!("{}-{}.html", scenario.name(), self.seed);
            folder.join("dpat-demo").join(file)
        })
    }

    fn nodes(&self) -> Result<Nodes, Refusal> {
        if self.simulated {
            return Ok(Nodes::Simulated);
        }
        if !self.processes {
            return Ok(Nodes::Threads);
        }
        let program = std::env::current_exe()
            .map_err(|error| Refusal::Internal(format!("this program's own path: {error}")))?;
        Ok(Nodes::Processes { program })
    }
}

/// Runs the demo and returns the exit code.
pub(crate) fn run(demo: &Demo) -> u8 {
    let Name::Shop = demo.name;
    let config = match demo.config() {
        Ok(config) => config,
        Err(refusal) => return refusal.exit(),
    };
    let mut view: Box<dyn View> = match Live::new() {
        // A simulated run is over before anybody could watch.
        Some(live) if !demo.json && !demo.serve && !demo.simulated => Box::new(live),
        _ => Box::new(Lines::default()),
    };
    let outcome = shop::run::block_on(config, view.as_mut());
    drop(view);
    let record = match outcome {
        Ok(record) => record,
        Err(error) => {
            say(&format!("dpat: {error}"));
            return match error {
                RunError::Interrupted => UNKNOWN,
                _ => INTERNAL,
            };
        }
    };
    if let Some(path) = &record.verdict.report {
        say(&format!("report: {path}"));
    }
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

/// Options of `dpat node`, by which a demo starts its own processes.
#[derive(Debug, Args)]
pub(crate) struct Node {
    /// What the node must know.
    #[arg(long)]
    config: PathBuf,
}

/// Runs one node until its standard input is closed.
pub(crate) fn node(node: &Node) -> u8 {
    match shop::process::run_child(&node.config) {
        Ok(()) => OK,
        Err(error) => {
            say(&format!("dpat node: {error}"));
            INTERNAL
        }
    }
}
