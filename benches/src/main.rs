//! Runs the cases and writes the report.

use dpat_benches::cases;
use dpat_benches::machine;
use dpat_benches::report;
use dpat_benches::run::{self, Plan};
use dpat_benches::table::{self, Heading};
use dpat_testkit::CountingAllocator;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// Counts for the rows in bytes; costs every contender the same two thread-local additions per allocation.
#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const USAGE: u8 = 64;
const INTERNAL: u8 = 70;

#[derive(Debug, Default, PartialEq)]
struct Arguments {
    quick: bool,
    names: Vec<&'static str>,
    report: Option<PathBuf>,
    table: Option<PathBuf>,
}

fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Arguments, String> {
    let mut parsed = Arguments::default();
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let mut path = || {
            arguments
                .next()
                .map(PathBuf::from)
                .ok_or_else(|| format!("{argument} needs a path"))
        };
        match argument.as_str() {
            "--quick" => parsed.quick = true,
            "--report" => parsed.report = Some(path()?),
            "--table" => parsed.table = Some(path()?),
            option if option.starts_with('-') => return Err(format!("unknown option {option}")),
            name => match cases::PATTERNS.iter().find(|pattern| **pattern == name) {
                Some(pattern) => parsed.names.push(pattern),
                None => {
                    return Err(format!(
                        "unknown benchmark {name}; there are: {}",
                        cases::PATTERNS.join(", ")
                    ));
                }
            },
        }
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
            let _ = writeln!(
                io::stderr(),
                "{reason}\nusage: dpat-benches [--quick] [NAME…] [--report FILE] [--table FILE]"
            );
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
    let cpu = machine::cpu();
    let rustc = rustc();
    let mut all = Vec::new();
    let mut sections = Vec::new();
    for &pattern in cases::PATTERNS {
        if !arguments.names.contains(&pattern) {
            continue;
        }
        let _ = write!(io::stderr(), "{pattern} ");
        let rows = run::cases(cases::of(pattern), plan, &cpu, || {
            let _ = write!(io::stderr(), ".");
        });
        let _ = writeln!(io::stderr());
        writeln!(io::stdout(), "{}", table::terminal(&rows))?;
        let heading = Heading {
            pattern,
            plan: plan.name(),
            rounds: plan.rounds_in_all(),
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
        let previous = std::fs::read_to_string(path).unwrap_or_default();
        write(path, &table::page(&previous, cases::PATTERNS, &sections))?;
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(path, text)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
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
    use dpat_benches::harness::Unit;

    fn parsed(text: &str) -> Result<Arguments, String> {
        parse(text.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn every_contender_of_every_case_runs() {
        for &pattern in cases::PATTERNS {
            let cases = cases::of(pattern);
            assert!(!cases.is_empty() && !cases::notes(pattern).is_empty());
            for mut case in cases {
                assert_eq!(case.pattern, pattern);
                assert!(!case.peers.is_empty(), "{}", case.operation);
                let timed = case.unit == Unit::NsPerOp;
                for contender in case.contenders() {
                    let total = contender.run(10);
                    assert!(total > 0.0 || !timed, "{} took no time", contender.name);
                }
            }
        }
    }

    #[test]
    fn our_happy_paths_allocate_nothing() {
        let cases = ["breaker", "retry"].into_iter().flat_map(cases::of);
        for mut case in cases.filter(|case| case.unit == Unit::Bytes) {
            assert_eq!(case.ours.run(100), 0.0, "{}", case.operation);
        }
    }

    #[test]
    fn all_patterns_by_default() {
        let arguments = parsed("").expect("no arguments are fine");
        assert_eq!(arguments.names, cases::PATTERNS);
        assert!(!arguments.quick);
    }

    #[test]
    fn options_and_names_mix() {
        let arguments =
            parsed("--quick retry --report a/b.json ids --table c.md").expect("known arguments");
        assert_eq!(
            arguments,
            Arguments {
                quick: true,
                names: vec!["retry", "ids"],
                report: Some(PathBuf::from("a/b.json")),
                table: Some(PathBuf::from("c.md")),
            }
        );
    }

    #[test]
    fn what_is_unknown_is_told_with_the_list() {
        let reason = parsed("saga").expect_err("no such benchmark");
        assert_eq!(
            reason,
            "unknown benchmark saga; there are: ids, clocks, codec, breaker, retry, check"
        );
        assert_eq!(parsed("--fast"), Err("unknown option --fast".to_owned()));
        assert_eq!(parsed("--report"), Err("--report needs a path".to_owned()));
    }
}
