//! The `dpat` command.
#![forbid(unsafe_code)]

mod demo;
mod lines;
mod output;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// What was asked holds.
const OK: u8 = 0;
/// It does not.
const VIOLATED: u8 = 1;
/// The command line is wrong.
const USAGE: u8 = 64;
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
    }
}
