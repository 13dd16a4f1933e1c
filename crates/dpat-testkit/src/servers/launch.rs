//! How each server is started.

use std::fs::{self, File};
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::{Engine, Installed, ServerError, io_error};

/// The name of the log in a server's folder.
const LOG: &str = "log";
/// The lines of it that an error shows.
const LINES: usize = 12;

/// Asks the system for a port that nobody listens on. Somebody may by the time it is used.
pub(super) fn free_port() -> io::Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    Ok(listener.local_addr()?.port())
}

/// Prepares a fresh folder.
pub(super) fn prepare(installed: &Installed, folder: &Path) -> Result<(), ServerError> {
    if installed.engine != Engine::Postgres {
        return Ok(());
    }
    // PostgreSQL refuses to run as root.
    if let Some((user, group)) = postgres_user() {
        chown(folder, Some(user), Some(group)).map_err(io_error("chown"))?;
    }
    let program = installed.program.with_file_name("initdb");
    let mut initdb = as_postgres(&program, folder);
    initdb.arg("-D").arg(folder.join("data"));
    initdb.args(["-U", "postgres", "-A", "trust", "-E", "UTF8"]);
    initdb.args(["--locale=C.UTF-8", "--no-sync", "--no-instructions"]);
    let log = log(folder)?;
    let status = initdb
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(log.try_clone().map_err(io_error("the log"))?)
        .stderr(log)
        .status()
        .map_err(io_error("initdb"))?;
    if status.success() {
        return Ok(());
    }
    let (engine, log) = (installed.engine, last_lines(folder));
    Err(ServerError::NotReady { engine, log })
}

/// Starts a server in a process group of its own.
pub(super) fn spawn(installed: &Installed, folder: &Path, port: u16) -> Result<Child, ServerError> {
    let mut command = match installed.engine {
        Engine::Postgres => postgres(installed, folder, port),
        Engine::Nats => nats(installed, folder, port)?,
        Engine::Redis => redis(installed, folder, port),
    };
    let log = log(folder)?;
    command
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(log.try_clone().map_err(io_error("the log"))?)
        .stderr(log)
        .process_group(0)
        .spawn()
        .map_err(io_error(installed.program.to_string_lossy()))
}

/// Every default is durable; no lock file or socket outside of the folder.
fn postgres(installed: &Installed, folder: &Path, port: u16) -> Command {
    let mut command = as_postgres(&installed.program, folder);
    command.arg("-D").arg(folder.join("data"));
    command.args(["-p", &port.to_string()]);
    let sockets = format!("unix_socket_directories={}", folder.display());
    for setting in [
        "listen_addresses=127.0.0.1",
        &sockets,
        "max_prepared_transactions=64",
        "shared_buffers=32MB",
        "fsync=on",
        "synchronous_commit=on",
    ] {
        command.args(["-c", setting]);
    }
    command
}

/// From 2.11 on a setting syncs each message; before there is none, and an acknowledgement means the page cache.
fn nats(installed: &Installed, folder: &Path, port: u16) -> Result<Command, ServerError> {
    let sync = match installed.major_minor() >= (2, 11) {
        true => ", sync_interval: always",
        false => "",
    };
    let store = folder.join("jetstream");
    let store = store.to_string_lossy();
    // What it listens on for its state is told in a file: the port is the system's choice.
    let settings = format!(
        "host: 127.0.0.1\nport: {port}\nhttp: \"127.0.0.1:-1\"\nports_file_dir: {folder:?}\n\
         jetstream {{ store_dir: {store:?}{sync} }}\n",
        folder = folder.to_string_lossy(),
    );
    let path = folder.join("nats.conf");
    fs::write(&path, settings).map_err(io_error("nats.conf"))?;
    let mut command = Command::new(&installed.program);
    command.arg("-c").arg(path);
    Ok(command)
}

fn redis(installed: &Installed, folder: &Path, port: u16) -> Command {
    let mut command = Command::new(&installed.program);
    command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--dir"]);
    command.arg(folder);
    command.args([
        "--appendonly",
        "yes",
        "--appendfsync",
        "always",
        "--save",
        "",
    ]);
    command.args(["--daemonize", "no"]);
    command
}

/// A command as the user `postgres` for root, as the caller for anybody else.
fn as_postgres(program: &Path, home: &Path) -> Command {
    let mut command = match postgres_user() {
        None => Command::new(program),
        Some((user, group)) => {
            let mut command = Command::new("setpriv");
            command.args([format!("--reuid={user}"), format!("--regid={group}")]);
            command.args(["--clear-groups", "--"]).arg(program);
            command
        }
    };
    command.env("HOME", home).env("LC_ALL", "C.UTF-8");
    command
}

/// The numbers of the user `postgres`, for root.
fn postgres_user() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").ok()?;
    let line = users.lines().find(|line| line.starts_with("postgres:"))?;
    let mut fields = line.split(':').skip(2);
    let user = fields.next()?.parse().ok()?;
    let group = fields.next()?.parse().ok()?;
    Some((user, group))
}

fn log(folder: &Path) -> Result<File, ServerError> {
    let path = folder.join(LOG);
    let file = File::options().append(true).create(true).open(path);
    file.map_err(io_error("the log"))
}

/// Returns the end of a server's log, on one line.
pub(super) fn last_lines(folder: &Path) -> String {
    let text = fs::read_to_string(folder.join(LOG)).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join(" | ")
}
