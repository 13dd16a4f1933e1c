//! Checks two recorded histories and shows where the second one breaks.

use std::time::Duration;

use dpat_check::{Format, Limits, Model, Verdict, check_linearizable, parse};
use dpat_core::SystemClock;

const GOOD: &str = "\
{:process 0, :type :invoke, :f :put, :key \"x\", :value \"1\"}
{:process 1, :type :invoke, :f :get, :key \"x\", :value nil}
{:process 1, :type :ok, :f :get, :key \"x\", :value \"1\"}
{:process 0, :type :ok, :f :put, :key \"x\", :value \"1\"}
";

/// The second read does not see what the first one saw.
const BAD: &str = "\
{:process 0, :type :invoke, :f :put, :key \"x\", :value \"1\"}
{:process 1, :type :invoke, :f :get, :key \"x\", :value nil}
{:process 1, :type :ok, :f :get, :key \"x\", :value \"1\"}
{:process 1, :type :invoke, :f :get, :key \"x\", :value nil}
{:process 1, :type :ok, :f :get, :key \"x\", :value \"\"}
{:process 0, :type :ok, :f :put, :key \"x\", :value \"1\"}
";

#[allow(clippy::print_stdout)] // an example shows what it found
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let clock = SystemClock;
    for (file, text) in [("good.txt", GOOD), ("bad.txt", BAD)] {
        let history = parse(text.as_bytes(), file, Format::Auto)?.history;
        let limits = Limits::default().timeout(&clock, Duration::from_secs(10));
        match check_linearizable(&history, Model::Kv, &limits)? {
            Verdict::Ok => println!("{file}: linearizable"),
            Verdict::Unknown(stopped) => println!("{file}: cannot tell: {stopped}"),
            Verdict::Violation(violation) => {
                let blocked = &history.operations()[violation.blocked];
                println!(
                    "{file}:{}: `{} {}` of process {} has no place after {:?}",
                    blocked.line,
                    blocked.f,
                    blocked.final_value(),
                    blocked.process,
                    violation.longest_prefix,
                );
            }
        }
    }
    Ok(())
}
