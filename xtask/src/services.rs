//! `cargo xtask services`: real servers for tests and for trying things out.
//!
//! The servers and how they are started are `dpat-testkit`'s; this keeps those of `up` in `target/services.json`, and
//! stops those of `run` however its command ends.

use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dpat_testkit::servers::{Detached, Engine, Installed, Server};
use serde_json::{Value, json};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::clock::{self, Stopwatch};
use crate::error::{Error, Result};
use crate::workspace::Workspace;

/// How long a command that was interrupted may take to end before it is killed.
const END_MAX: Duration = Duration::from_secs(10);

/// `cargo xtask services up|down|status|run`; returns the exit code.
pub(crate) fn command(workspace: &Workspace, args: &[String]) -> Result<u8> {
    let (name, rest) = match args.split_first() {
        Some((name, rest)) => (name.as_str(), rest),
        None => return Err(usage("services wants `up`, `down`, `status` or `run`")),
    };
    let file = workspace.target.join("services.json");
    let done = |()| 0;
    match name {
        "up" => up(&file, &Options::parse(rest)?).map(done),
        "down" if rest.is_empty() => down(&file).map(done),
        "status" => match rest {
            [] => status(&file, false),
            [json] if json == "--json" => status(&file, true),
            _ => Err(usage("services status takes --json or nothing")),
        },
        "run" => run(&Options::parse(rest)?),
        "down" => Err(usage("services down takes nothing")),
        other => Err(usage(&format!(
            "services {other}: there is `up`, `down`, `status` and `run`"
        ))),
    }
}

fn usage(text: &str) -> Error {
    Error::Usage(text.to_owned())
}

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
struct Options {
    engines: Vec<Engine>,
    /// Whether they were asked for by name: then an absent one is an error.
    named: bool,
    program: Vec<String>,
}

impl Options {
    fn parse(args: &[String]) -> Result<Self> {
        let mut options = Self {
            engines: Engine::ALL.to_vec(),
            named: false,
            program: Vec::new(),
        };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--only" => {
                    let names = args.next().ok_or_else(|| usage("--only wants names"))?;
                    options.engines = names.split(',').map(engine).collect::<Result<_>>()?;
                    options.named = true;
                }
                "--" => options.program = args.by_ref().cloned().collect(),
                _ => return Err(usage(&format!("services: unknown argument `{arg}`"))),
            }
        }
        Ok(options)
    }

    /// Starts what is installed, and says what is not.
    fn start(&self) -> Result<Vec<Server>> {
        let mut servers = Vec::new();
        for engine in &self.engines {
            match Installed::find(*engine) {
                Err(absent) if self.named => return Err(Error::Failed(absent.to_string())),
                Err(absent) => eprintln!("skipped: {absent}"),
                Ok(_) => {
                    let server = Server::start(*engine);
                    servers.push(server.map_err(|error| Error::Failed(error.to_string()))?);
                }
            }
        }
        Ok(servers)
    }
}

fn engine(name: &str) -> Result<Engine> {
    Engine::named(name).ok_or_else(|| {
        let names = Engine::ALL.map(Engine::name).join(", ");
        usage(&format!("--only {name}: there is {names}"))
    })
}

/// The servers of the tests: all that the machine has, for as long as this lives.
pub(crate) struct Services {
    servers: Vec<Server>,
    /// What the machine has not, and how to get it.
    pub(crate) absent: Vec<String>,
}

impl Services {
    /// Starts what is installed.
    pub(crate) fn start() -> Result<Self> {
        let mut services = Self {
            servers: Vec::new(),
            absent: Vec::new(),
        };
        for engine in Engine::ALL {
            match Installed::find(engine) {
                Err(absent) => services.absent.push(absent.to_string()),
                Ok(_) => {
                    let server = Server::start(engine);
                    let server = server.map_err(|error| Error::Failed(error.to_string()))?;
                    services.servers.push(server);
                }
            }
        }
        Ok(services)
    }

    /// Tells a command where they are.
    pub(crate) fn tell(&self, command: &mut Command) {
        tell(command, &self.servers);
    }
}

/// Tells a command where these servers are, and of no others.
fn tell(command: &mut Command, servers: &[Server]) {
    for engine in Engine::ALL {
        command.env_remove(engine.variable());
    }
    for server in servers {
        command.env(server.engine().variable(), server.url());
    }
}

/// Starts servers that outlive this process, and prints where they are.
fn up(file: &PathBuf, options: &Options) -> Result<()> {
    if !options.program.is_empty() {
        return Err(usage("services up takes no command; `run` does"));
    }
    let mut running: Vec<Detached> = read(file)?.into_iter().filter(Detached::runs).collect();
    let mut wanted = options.engines.clone();
    wanted.retain(|engine| running.iter().all(|server| server.engine != *engine));
    let options = Options {
        engines: wanted,
        named: options.named,
        program: Vec::new(),
    };
    running.extend(options.start()?.into_iter().filter_map(Server::detach));
    write(file, &running)?;
    for server in &running {
        println!(
            "export {}={}",
            server.engine.variable(),
            server.engine.url(server.port)
        );
    }
    Ok(())
}

/// Stops what `up` has started.
fn down(file: &PathBuf) -> Result<()> {
    for server in read(file)? {
        server
            .stop()
            .map_err(|error| Error::io(&server.folder, &error))?;
        println!("{} stopped", server.engine);
    }
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io(file, &error)),
        _ => Ok(()),
    }
}

/// Says what is installed and what runs; 1 if something that was started does not answer.
fn status(file: &PathBuf, as_json: bool) -> Result<u8> {
    let started = read(file)?;
    let mut lost = false;
    let mut rows = Vec::new();
    for engine in Engine::ALL {
        let installed = Installed::find(engine);
        let server = started.iter().find(|server| server.engine == engine);
        let answers = server.is_some_and(Detached::answers);
        lost |= server.is_some() && !answers;
        let version = installed.as_ref().ok().map(|found| found.version.clone());
        if as_json {
            rows.push(json!({
                "engine": engine.name(),
                "installed": version,
                "url": server.map(|server| engine.url(server.port)),
                "answers": answers,
            }));
            continue;
        }
        let installed = match &installed {
            Ok(found) => found.version.clone(),
            Err(absent) => absent.to_string(),
        };
        let state = match (server, answers) {
            (None, _) => "not started".to_owned(),
            (Some(server), true) => engine.url(server.port),
            (Some(_), false) => "does not answer".to_owned(),
        };
        println!("{:10} {installed:10} {state}", engine.name());
    }
    if as_json {
        println!("{}", Value::Array(rows));
    }
    Ok(u8::from(lost))
}

/// Runs a command with servers, and stops them however it ends.
fn run(options: &Options) -> Result<u8> {
    let Some((program, args)) = options.program.split_first() else {
        return Err(usage("services run wants `-- CMD`"));
    };
    // From here on an interruption ends the command, and then this.
    let interrupted = Arc::new(AtomicUsize::new(0));
    for signal in [SIGINT, SIGTERM] {
        let number = usize::try_from(signal).unwrap_or_default();
        signal_hook::flag::register_usize(signal, Arc::clone(&interrupted), number)
            .map_err(|error| Error::Internal(format!("signals: {error}")))?;
    }
    let servers = options.start()?;
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::inherit());
    tell(&mut command, &servers);
    let status = wait(&mut command, program, &interrupted);
    drop(servers);
    match (interrupted.load(Ordering::Relaxed), status?.code()) {
        (0, Some(code)) => Ok(u8::try_from(code).unwrap_or(1)),
        (0, None) => Err(Error::Failed(format!("{program} was killed"))),
        (signal, _) => Ok(u8::try_from(128 + signal).unwrap_or(1)),
    }
}

/// Waits for a command; one that was interrupted is asked to end, and killed if it does not.
fn wait(command: &mut Command, program: &str, interrupted: &AtomicUsize) -> Result<ExitStatus> {
    let failed = |error| Error::Internal(format!("{program}: {error}"));
    let mut child = command.spawn().map_err(failed)?;
    let mut asked: Option<Stopwatch> = None;
    loop {
        if let Some(status) = child.try_wait().map_err(failed)? {
            return Ok(status);
        }
        match asked {
            None if interrupted.load(Ordering::Relaxed) > 0 => {
                dpat_testkit::servers::ask_to_end(child.id());
                asked = Some(Stopwatch::start());
            }
            Some(since) if since.elapsed() > END_MAX => child.kill().map_err(failed)?,
            _ => {}
        }
        clock::pause();
    }
}

fn read(file: &PathBuf) -> Result<Vec<Detached>> {
    let text = match std::fs::read_to_string(file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        read => read.map_err(|error| Error::io(file, &error))?,
    };
    let bad = || Error::Input(format!("{}: not what `services up` writes", file.display()));
    let rows: Value = serde_json::from_str(&text).map_err(|_| bad())?;
    let rows = rows.as_array().ok_or_else(bad)?;
    rows.iter().map(|row| server(row).ok_or_else(bad)).collect()
}

fn server(row: &Value) -> Option<Detached> {
    Some(Detached {
        engine: Engine::named(row["engine"].as_str()?)?,
        pid: u32::try_from(row["pid"].as_u64()?).ok()?,
        port: u16::try_from(row["port"].as_u64()?).ok()?,
        folder: PathBuf::from(row["folder"].as_str()?),
    })
}

fn write(file: &PathBuf, servers: &[Detached]) -> Result<()> {
    let row = |server: &Detached| {
        json!({
            "engine": server.engine.name(),
            "url": server.engine.url(server.port),
            "pid": server.pid,
            "port": server.port,
            "folder": server.folder,
        })
    };
    let rows: Value = servers.iter().map(row).collect();
    if let Some(parent) = file.parent() {
        std::fs::create_dir_all(parent).map_err(|error| Error::io(parent, &error))?;
    }
    std::fs::write(file, format!("{rows:#}\n")).map_err(|error| Error::io(file, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Options> {
        Options::parse(&args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn options_name_engines_and_a_command() {
        let options = parse(&["--only", "redis,nats", "--", "cargo", "--", "x"]).unwrap();
        assert_eq!(options.engines, [Engine::Redis, Engine::Nats]);
        assert_eq!(options.program, ["cargo", "--", "x"]);
        assert!(options.named && !parse(&[]).unwrap().named);
        for bad in [&["--only"][..], &["--only", "mysql"], &["-x"]] {
            assert!(matches!(parse(bad), Err(Error::Usage(_))), "{bad:?}");
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let folder =
            std::env::temp_dir().join(format!("dpat-xtask-services-{}", std::process::id()));
        let file = folder.join("services.json");
        assert!(read(&file).unwrap().is_empty());
        let one = Detached {
            engine: Engine::Nats,
            pid: 7,
            port: 4222,
            folder: PathBuf::from("/nowhere"),
        };
        write(&file, std::slice::from_ref(&one)).unwrap();
        assert_eq!(read(&file).unwrap(), [one]);
        std::fs::write(&file, "{}").unwrap();
        assert!(matches!(read(&file), Err(Error::Input(_))));
        std::fs::remove_dir_all(folder).unwrap();
    }
}
