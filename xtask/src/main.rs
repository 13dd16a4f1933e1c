//! Chores of the dpat workspace: `cargo xtask help`.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the output of a command"
)]

/// As the one of std, but a reader that has gone (`cargo xtask ci | head`) ends nothing.
macro_rules! print {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _gone = write!(std::io::stdout(), $($text)*);
    }};
}

/// As the one of std, but a reader that has gone ends nothing.
macro_rules! println {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _gone = writeln!(std::io::stdout(), $($text)*);
    }};
}

mod bench;
mod ci;
mod clock;
mod consumers;
mod demo;
mod deps;
mod engines;
mod error;
mod examples;
mod features;
mod layers;
mod loom;
mod new_crate;
mod package;
mod process;
mod services;
mod setup;
mod sim;
mod tidy;
mod workspace;

use std::process::ExitCode;

use error::{Error, Outcome, Result};
use process::Log;
use workspace::{Budgets, Workspace};

const USAGE: &str = "\
Chores of the dpat workspace.

  cargo xtask ci [--fast | --full] [--step NAME]... [--keep-going] [--allow-dirty]
                                  every gate, one line a step, and target/ci/report.json
  cargo xtask tidy                rules of the repository that no other tool checks
  cargo xtask layers              which crate may depend on which
  cargo xtask deps                what each crate pulls in, against its budget
  cargo xtask loom [--full] [CRATE]...
                                  the models of concurrent code
  cargo xtask sim [--only NAME,...] [--seeds N]
                                  every protocol on N seeds, on all cores
  cargo xtask bench [--quick] [NAME]...
                                  ours against the peers: target/dpat-bench/report.json
  cargo xtask bench engines [--quick] [NAME]...
                                  engines against bare clients, on servers: target/dpat-bench/engines.json
  cargo xtask services up|down|status|run [--only postgres,nats,redis] [-- CMD]
                                  real servers: for a while, or around one command
  cargo xtask engines             what each engine can do, as the tests found: docs/src/engines.md
  cargo xtask new-crate NAME      a crate with the files that every crate has
  cargo xtask package [--allow-dirty]
                                  every published crate, packed and built
  cargo xtask setup [--list]      the optional tools, into target/tools

Exit codes: 0 holds, 1 does not, 64 usage, 65 bad input, 70 internal error.
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args_os()
        .skip(1)
        .map(|arg| arg.to_string_lossy().into_owned())
        .collect();
    match dispatch(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let message = error.to_string();
            if !message.is_empty() {
                eprintln!("xtask: {message}");
            }
            if matches!(error, Error::Usage(_)) {
                eprintln!("xtask: `cargo xtask help` says what there is");
            }
            error.exit_code()
        }
    }
}

fn dispatch(args: &[String]) -> Result<()> {
    let Some((name, rest)) = args.split_first() else {
        return Err(Error::Usage("no chore named".to_owned()));
    };
    match name.as_str() {
        "help" | "--help" | "-h" => {
            print!("{USAGE}");
            Ok(())
        }
        "ci" => match ci::run_all(ci::Options::parse(rest)?)? {
            true => Ok(()),
            // The steps have said why.
            false => Err(Error::Failed(String::new())),
        },
        "tidy" => {
            no_more(name, rest)?;
            settle(tidy::step(&Workspace::load()?, &Log::Terminal)?)
        }
        "layers" => {
            no_more(name, rest)?;
            layers::command(&Workspace::load()?)
        }
        "deps" => {
            no_more(name, rest)?;
            let workspace = Workspace::load()?;
            settle(deps::step(
                &workspace,
                &Budgets::load(&workspace)?,
                &Log::Terminal,
            )?)
        }
        "loom" => {
            let (full, names) = flag(rest, "--full")?;
            settle(loom::step(
                &Workspace::load()?,
                full,
                &names,
                &Log::Terminal,
            )?)
        }
        "sim" => sim::command_sim(&Workspace::load()?, rest),
        "bench" => bench::command(&Workspace::load()?, rest),
        "services" => match services::command(&Workspace::load()?, rest)? {
            0 => Ok(()),
            code => Err(Error::Ended(code)),
        },
        "engines" => engines::command(&Workspace::load()?, rest),
        "new-crate" => new_crate::command(&Workspace::load()?, rest),
        "package" => {
            let (dirty, names) = flag(rest, "--allow-dirty")?;
            no_more(name, &names)?;
            settle(package::step(&Workspace::load()?, dirty, &Log::Terminal)?)
        }
        "setup" => setup::command_setup(&Workspace::load()?, rest),
        other => Err(Error::Usage(format!("no chore `{other}`"))),
    }
}

fn no_more(chore: &str, rest: &[String]) -> Result<()> {
    match rest.first() {
        None => Ok(()),
        Some(extra) => Err(Error::Usage(format!("{chore}: unknown argument `{extra}`"))),
    }
}

/// Takes one flag out of the arguments; every other flag is an error.
fn flag(args: &[String], flag: &str) -> Result<(bool, Vec<String>)> {
    let (given, names): (Vec<String>, Vec<String>) =
        args.iter().cloned().partition(|arg| arg.starts_with('-'));
    match given.iter().find(|one| *one != flag) {
        Some(other) => Err(Error::Usage(format!("unknown argument `{other}`"))),
        None => Ok((!given.is_empty(), names)),
    }
}

/// Says how a chore that is also a step of `ci` ended.
fn settle(outcome: Outcome) -> Result<()> {
    if let Outcome::Failed(reason) = outcome {
        return Err(Error::Failed(reason));
    }
    println!(
        "{}{}",
        outcome.name(),
        outcome
            .reason()
            .map_or_else(String::new, |r| format!(": {r}"))
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn unknown_chores_and_arguments_are_usage_errors() {
        for bad in [
            "",
            "chores",
            "tidy --now",
            "layers all",
            "loom --fast",
            "package all",
            "sim echo",
        ] {
            assert!(
                matches!(dispatch(&args(bad)), Err(Error::Usage(_))),
                "{bad}"
            );
        }
    }

    #[test]
    fn a_flag_is_told_from_names() {
        let (full, names) = flag(&args("--full dpat-core"), "--full").expect("valid arguments");
        assert!(full);
        assert_eq!(names, ["dpat-core"]);
        assert!(flag(&args("--half"), "--full").is_err());
    }
}
