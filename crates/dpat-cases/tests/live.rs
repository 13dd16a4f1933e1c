//! The commands of the tutorial of the book, on servers: each is run as it stands there, and prints what stands there. And
//! the stores of the shop that are on a server.
//!
//! Without a server on the machine the trials that need it report themselves as ignored.

#[path = "live/stores.rs"]
mod stores;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use dpat_testkit::servers::{Engine, Installed, Server};
use libtest_mimic::{Arguments, Failed, Trial};

const PAGE: &str = include_str!("../../../docs/src/tutorial-engines.md");
/// What runs a command with a server of its own.
const SERVICES: &str = "cargo xtask services run --only ";
/// What runs the example.
const EXAMPLE: &str = "cargo run -p dpat-cases --example orders -- ";

/// A command of the page, and what is printed.
struct Shown {
    engine: Option<Engine>,
    argument: &'static str,
    output: String,
}

/// Reads the commands of the page that run the example; none: one has another form.
fn commands() -> Option<Vec<Shown>> {
    let blocks = PAGE.split("```console\n").skip(1);
    let blocks = blocks.filter_map(|block| block.split("```").next());
    blocks
        .map(|block| {
            let (command, output) = block.strip_prefix("$ ")?.split_once('\n')?;
            let (engine, command) = match command.strip_prefix(SERVICES) {
                Some(rest) => {
                    let (name, command) = rest.split_once(" -- ")?;
                    (Some(Engine::named(name)?), command)
                }
                None => (None, command),
            };
            Some(Shown {
                engine,
                argument: command.strip_prefix(EXAMPLE)?,
                output: output.to_owned(),
            })
        })
        .collect()
}

/// The example as Cargo has built it with this test.
fn program() -> Option<PathBuf> {
    let test = std::env::current_exe().ok()?;
    let folder = test.parent()?.parent()?.join("examples");
    let program = folder.join(format!("orders{}", std::env::consts::EXE_SUFFIX));
    program.exists().then_some(program)
}

fn run(program: &Path, shown: &Shown) -> Result<(), Failed> {
    let mut command = Command::new(program);
    command.arg(shown.argument).stdin(Stdio::null());
    let server = shown.engine.map(Server::start).transpose();
    let server = server.map_err(|error| error.to_string())?;
    if let Some(server) = &server {
        command.env(server.engine().variable(), server.url());
    }
    let output = command.output()?;
    let printed = String::from_utf8_lossy(&output.stdout);
    if output.status.success() && printed == shown.output {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let (status, wanted) = (output.status, &shown.output);
    Err(format!("{status}: printed {printed:?}, the page says {wanted:?}\n{said}").into())
}

fn trial(shown: Shown) -> Trial {
    let name = format!("tutorial_{}", shown.argument);
    let absent = shown
        .engine
        .and_then(|engine| Installed::find(engine).err());
    match absent {
        Some(why) => {
            Trial::test(format!("{name}, skipped: {why}"), || Ok(())).with_ignored_flag(true)
        }
        None => Trial::test(name, move || {
            let program = program().ok_or("the example `orders` is not built")?;
            run(&program, &shown)
        }),
    }
}

fn the_page_runs_on_each_engine() -> Result<(), Failed> {
    let commands = commands().ok_or("a command of the page has a form that is not known here")?;
    let arguments: Vec<_> = commands.iter().map(|shown| shown.argument).collect();
    match arguments == ["embedded", "postgres", "nats"] {
        true => Ok(()),
        false => Err(format!("the page runs {arguments:?}").into()),
    }
}

fn main() {
    let arguments = Arguments::from_args();
    let mut trials: Vec<Trial> = commands().into_iter().flatten().map(trial).collect();
    trials.push(Trial::test(
        "the_page_runs_on_each_engine",
        the_page_runs_on_each_engine,
    ));
    trials.extend(stores::trials());
    libtest_mimic::run(&arguments, trials).exit();
}
