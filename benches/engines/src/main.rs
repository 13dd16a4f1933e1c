//! Starts the servers, runs the cases and writes the report.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use dpat_bench_engines::run::{self, Plan, THREADS};
use dpat_bench_engines::servers::Servers;
use dpat_bench_engines::table::{self, Heading};
use dpat_bench_engines::{cases, machine, page, report};

const USAGE: u8 = 64;
const INTERNAL: u8 = 70;

#[derive(Debug, Default, PartialEq)]
struct Arguments {
    quick: bool,
    names: Vec<&'static str>,
    engine: Option<String>,
    bare: bool,
    report: Option<PathBuf>,
    table: Option<PathBuf>,
}

fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Arguments, String> {
    let mut parsed = Arguments::default();
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let mut value = || {
            let value = arguments.next();
            value.ok_or_else(|| format!("{argument} needs a value"))
        };
        match argument.as_str() {
            "--quick" => parsed.quick = true,
            "--bare" => parsed.bare = true,
            "--engine" => parsed.engine = Some(value()?),
            "--report" => parsed.report = Some(value()?.into()),
            "--table" => parsed.table = Some(value()?.into()),
            option if option.starts_with('-') => return Err(format!("unknown option {option}")),
            name => match cases::PATTERNS.iter().find(|pattern| **pattern == name) {
                Some(pattern) => parsed.names.push(pattern),
                None => {
                    let known = cases::PATTERNS.join(", ");
                    return Err(format!("unknown benchmark {name}; there are: {known}"));
                }
            },
        }
    }
    if parsed.table.is_some() && (parsed.bare || parsed.engine.is_some()) {
        return Err(
            "a page has every contender: --table goes with neither --engine nor --bare".to_owned(),
        );
    }
    if parsed.names.is_empty() {
        parsed.names = cases::PATTERNS.to_vec();
    }
    Ok(parsed)
}

fn main() -> ExitCode {
    let arguments = match parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(reason) => {
            let usage = "usage: dpat-bench-engines [--quick] [NAME…] [--engine ENGINE] [--bare] [--report FILE] [--table FILE]";
            let _ = writeln!(io::stderr(), "{reason}\n{usage}");
            return ExitCode::from(USAGE);
        }
    };
    match measure(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::from(INTERNAL)
        }
    }
}

fn measure(arguments: &Arguments) -> io::Result<()> {
    let plan = if arguments.quick {
        Plan::QUICK
    } else {
        Plan::FULL
    };
    let (cpu, rustc) = (machine::cpu(), rustc());
    let servers = Servers::start().map_err(io::Error::other)?;
    let mut all = Vec::new();
    let mut sections = Vec::new();
    for &pattern in cases::PATTERNS {
        if !arguments.names.contains(&pattern) {
            continue;
        }
        let _ = write!(io::stderr(), "{pattern} ");
        let mut rows = Vec::new();
        let is_wanted = |engine: &str| arguments.engine.as_deref().is_none_or(|one| one == engine);
        let makes = cases::of(pattern).into_iter();
        for (_, make) in makes.filter(|(engine, _)| is_wanted(engine)) {
            for in_flight in cases::IN_FLIGHT {
                // A runtime each: what workers of one case leave running ends with it.
                let runtime = tokio::runtime::Builder::new_multi_thread()
                    .worker_threads(THREADS)
                    .enable_all()
                    .build()?;
                for mut case in runtime.block_on(make(&servers, in_flight)) {
                    if arguments.bare {
                        case.peers.retain(|peer| cases::is_bare(&peer.name));
                    }
                    rows.extend(runtime.block_on(run::case(&case, plan, &cpu)));
                    let _ = write!(io::stderr(), ".");
                }
                runtime.shutdown_background();
            }
        }
        let _ = writeln!(io::stderr());
        rows.sort_by_key(|row| {
            (
                row.operation,
                row.params["engine"].to_string(),
                row.in_flight,
            )
        });
        writeln!(io::stdout(), "{}", table::terminal(&rows))?;
        let heading = Heading {
            pattern,
            plan: plan.name(),
            rounds: plan.rounds,
            cpu: &cpu,
            rustc: &rustc,
            notes: cases::notes(pattern),
        };
        sections.push((pattern, table::section(&heading, &rows)));
        all.extend(rows);
    }
    if let Some(path) = &arguments.report {
        let text = serde_json::to_string_pretty(&report::to_json(&all))?;
        write(path, &(text + "\n"))?;
    }
    if let Some(path) = &arguments.table {
        let previous = fs::read_to_string(path).unwrap_or_default();
        write(path, &page::page(&previous, cases::PATTERNS, &sections))?;
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let named =
        |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    fs::write(path, text).map_err(named)
}

/// Returns the compiler's short version.
fn rustc() -> String {
    let version = Command::new("rustc").arg("--version").output();
    let text = version.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    match text.as_deref().unwrap_or_default().split(" (").next() {
        Some(short) if !short.is_empty() => short.trim().to_owned(),
        _ => "unknown rustc".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Arguments, String> {
        parse(text.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn all_patterns_by_default() {
        let arguments = parsed("--quick").expect("no names are fine");
        assert_eq!(arguments.names, cases::PATTERNS);
        assert!(arguments.quick);
    }

    #[test]
    fn what_is_unknown_is_told_with_the_list() {
        let reason = parsed("saga").expect_err("no such benchmark");
        assert!(
            reason.contains("queue, pubsub, outbox, idempotency"),
            "{reason}"
        );
        let reason = parsed("--bare --table a.md").expect_err("a part of a page");
        assert!(reason.starts_with("a page has every contender"), "{reason}");
        assert_eq!(parsed("--report"), Err("--report needs a value".to_owned()));
    }
}
