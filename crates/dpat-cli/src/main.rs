//! The `dpat` command.
#![forbid(unsafe_code)]

mod cap;
mod check;
mod demo;
mod flp;
mod lab;
mod lines;
mod live;
mod mc;
mod output;
mod refusal;
mod replay;
mod runs;
mod shrink;
mod sim;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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
    /// Run a protocol under faults, from many seeds.
    Sim(sim::Sim),
    /// Run one seed again, and show what led to its failure.
    Replay(replay::Replay),
    /// Take away from a failing run every fault and call that it does not need to fail.
    Shrink(shrink::Shrink),
    /// Explore every state of a small system.
    Mc(mc::Mc),
    /// Serve the page that runs protocols and draws them.
    Lab(lab::Lab),
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
    ExitCode::from(match cli.command {
        Command::Demo(demo) => demo::run(&demo),
        Command::Sim(sim) => sim::run(&sim),
        Command::Replay(replay) => replay::run(&replay),
        Command::Shrink(shrink) => shrink::run(&shrink),
        Command::Mc(mc) => mc::run(&mc),
        Command::Lab(lab) => lab::run(&lab),
        Command::Check(check) => check::run(&check),
        Command::Node(node) => demo::node(&node),
    })
}
