//! The `dpat` command.
#![forbid(unsafe_code)]

mod check;
mod demo;
mod lines;
mod live;
mod output;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// What was asked holds.
const OK: u8 = 0;
/// It does not.
const VIOLATED: u8 = 1;
/// It cannot be told.
const UNKNOWN: u8 = 2;
/// The command line is wrong.
const USAGE: u8 = 64;
/// The input is wrong.
const BAD_INPUT: u8 = 65;
/// The program or the machine failed.
const INTERNAL: u8 = 70;

/// Distributed-systems patterns, running.
#[derive(Debug, Parser)]
#[command(name = "dpat", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a whole system under chaos and check what is left.
    Demo(demo::Demo),
    /// Check a recorded history against a model.
    Check(check::Check),
    /// Run one node of a demo; started by `demo --processes`.
    #[command(hide = true)]
    Node(demo::Node),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // clap's own code for usage is 2, which means "cannot tell" here.
            let code = if error.use_stderr() { USAGE } else { OK };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    match cli.command {
        Command::Demo(demo) => ExitCode::from(demo::run(&demo)),
        Command::Check(check) => ExitCode::from(check::run(&check)),
        Command::Node(node) => ExitCode::from(demo::node(&node)),
    }
}
