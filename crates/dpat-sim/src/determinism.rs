//! The self-test that a run is a function of its seed.

use std::io::{self, Write as _};
use std::process::Command;

use crate::{Outcome, Protocol, RunSpec, TraceMode, hex, run};

/// Set in the fresh process, so that it does not start another one.
const VARIABLE: &str = "DPAT_SIM_FRESH_PROCESS";

/// Asserts that a seed gives the same trace in every process.
///
/// For tests: one line shows that a protocol reads no clock, iterates over no map with random order, and draws from
/// nothing but its streams. The seed runs twice here, once with a full trace, and once in a fresh process: the test
/// binary, started again with the name of the running test. The hash covers every event with its time, so the first
/// difference of any kind changes it.
///
/// # Panics
/// If the hashes differ, the seed cannot be run, or the fresh process does not start. In the fresh process it prints
/// a line and returns.
pub fn assert_deterministic<Pr: Protocol>(seed: u64) {
    let here = line::<Pr>(seed, TraceMode::Hash);
    if std::env::var_os(VARIABLE).is_some() {
        // Not captured by the test harness, as `println!` would be.
        let written = io::stdout().write_all(format!("\n{here}\n").as_bytes());
        written.expect("stdout takes a line");
        return;
    }
    let full = TraceMode::Full { events_max: 1000 };
    assert_eq!(here, line::<Pr>(seed, full), "a full trace changes the run");
    let printed = fresh_process();
    let prefix = here.rsplit_once(' ').map_or("", |(prefix, _)| prefix);
    let there = printed.lines().find(|line| line.starts_with(prefix));
    assert_eq!(
        there,
        Some(here.as_str()),
        "a fresh process printed\n{printed}"
    );
}

/// Names the run and its hash.
fn line<Pr: Protocol>(seed: u64, trace: TraceMode) -> String {
    let spec = RunSpec {
        trace,
        ..RunSpec::new(seed)
    };
    match run::<Pr>(&spec) {
        Ok(Outcome { trace_hash, .. }) => {
            format!("dpat-sim {} seed {seed} hash {}", Pr::NAME, hex(trace_hash))
        }
        Err(error) => panic!("{}: seed {seed} cannot be run: {error}", Pr::NAME),
    }
}

/// Runs this test alone in another process and returns what it prints.
fn fresh_process() -> String {
    let program = std::env::current_exe().expect("a program knows where it is");
    let mut command = Command::new(program);
    match std::thread::current().name() {
        // The harness names the thread of a test after it, unless it runs on the main thread.
        Some(test) if test != "main" => command.args([test, "--exact", "--test-threads=1"]),
        _ => command.args(std::env::args_os().skip(1)),
    };
    let output = command.env(VARIABLE, "1").output();
    let output = output.expect("the program starts again");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
