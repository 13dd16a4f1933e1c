//! Real servers for tests: each in a folder of its own, on a free port of the loopback interface, with durable settings.
//!
//! A [`Server`] can be killed, restarted on its data, paused and resumed. It stops, and its folder goes, when it is
//! dropped; [`Server::detach`] leaves it running for another process. The programs are those of the machine; what is
//! not installed is an [`Absent`] that says how to get it.

mod find;
mod launch;
mod process;
mod ready;

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

pub use find::{Absent, Installed};
use process::{gone, runs};

use crate::wait::{pause, until};

/// How long a server may take until it answers. A cold one on a busy machine takes seconds.
pub const READY_MAX: Duration = Duration::from_secs(60);
/// How long a server may take to stop before it is killed.
pub const STOP_MAX: Duration = Duration::from_secs(10);
/// How often a restart is tried while processes of an earlier life are still ending.
const RESTARTS_MAX: usize = 200;
/// How often a start is tried: the port that was free may be taken by then.
const TRIES: usize = 3;

/// The engines of which servers can be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Engine {
    /// PostgreSQL.
    Postgres,
    /// NATS with JetStream.
    Nats,
    /// Redis.
    Redis,
}

impl Engine {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Postgres, Self::Nats, Self::Redis];

    /// Returns the name on command lines.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Nats => "nats",
            Self::Redis => "redis",
        }
    }

    /// Finds an engine by its name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|engine| engine.name() == name)
    }

    /// Returns the environment variable in which tests look for a server's URL.
    #[must_use]
    pub const fn variable(self) -> &'static str {
        match self {
            Self::Postgres => "DPAT_POSTGRES_URL",
            Self::Nats => "DPAT_NATS_URL",
            Self::Redis => "DPAT_REDIS_URL",
        }
    }

    /// Returns the URL of a server on a loopback port.
    #[must_use]
    pub fn url(self, port: u16) -> String {
        match self {
            Self::Postgres => format!("postgres://postgres@127.0.0.1:{port}/postgres"),
            Self::Nats => format!("nats://127.0.0.1:{port}"),
            Self::Redis => format!("redis://127.0.0.1:{port}"),
        }
    }

    /// The signal that makes it stop in order, whoever is connected.
    const fn stop_signal(self) -> Signal {
        match self {
            Self::Postgres => Signal::INT,
            Self::Nats | Self::Redis => Signal::TERM,
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why there is no server.
#[derive(Debug)]
#[non_exhaustive]
pub enum ServerError {
    /// Its program is not installed.
    Absent(Absent),
    /// A file or a program could not be used.
    Io {
        /// What was tried.
        what: String,
        /// What came of it.
        error: io::Error,
    },
    /// It ended by itself, or never answered.
    NotReady {
        /// Which.
        engine: Engine,
        /// The last lines that it wrote.
        log: String,
    },
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent(absent) => absent.fmt(f),
            Self::Io { what, error } => write!(f, "{what}: {error}"),
            Self::NotReady { engine, log } => {
                let seconds = READY_MAX.as_secs();
                write!(
                    f,
                    "{engine} did not answer within {seconds} s; it wrote: {log}"
                )
            }
        }
    }
}

impl std::error::Error for ServerError {}

impl From<Absent> for ServerError {
    fn from(absent: Absent) -> Self {
        Self::Absent(absent)
    }
}

fn io_error(what: impl Into<String>) -> impl FnOnce(io::Error) -> ServerError {
    let what = what.into();
    move |error| ServerError::Io { what, error }
}

/// A server that runs, or can be started again on what it had.
#[derive(Debug)]
pub struct Server {
    installed: Installed,
    folder: Folder,
    port: u16,
    child: Option<Child>,
}

/// What another process needs to stop a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detached {
    /// Which engine.
    pub engine: Engine,
    /// The process, which leads a group of its own.
    pub pid: u32,
    /// The port.
    pub port: u16,
    /// Everything that it has written.
    pub folder: PathBuf,
}

impl Server {
    /// Starts a fresh server and waits until it answers.
    ///
    /// # Errors
    /// [`ServerError`]; nothing is left behind then.
    pub fn start(engine: Engine) -> Result<Self, ServerError> {
        let installed = Installed::find(engine)?;
        let folder = Folder::create(engine).map_err(io_error("a temporary folder"))?;
        launch::prepare(&installed, &folder.0)?;
        let mut server = Self {
            installed,
            folder,
            port: 0,
            child: None,
        };
        let mut tries = 1;
        loop {
            server.port = launch::free_port().map_err(io_error("a free port"))?;
            match server.restart() {
                Err(ServerError::NotReady { .. }) if tries < TRIES => tries += 1,
                started => return started.map(|()| server),
            }
        }
    }

    /// Returns which engine it is.
    #[must_use]
    pub fn engine(&self) -> Engine {
        self.installed.engine
    }

    /// Returns where it can be reached. The same after a restart.
    #[must_use]
    pub fn url(&self) -> String {
        self.engine().url(self.port)
    }

    /// Returns its port on the loopback interface.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns its version, as it says it.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.installed.version
    }

    /// Kills it with SIGKILL, its helpers too, and waits for its end.
    pub fn kill(&mut self) {
        if let Some(child) = &mut self.child {
            signal(child.id(), Signal::KILL);
            drop(child.wait());
        }
        self.child = None;
    }

    /// Starts it again on its data and port, after [`kill`](Self::kill) or [`stop`](Self::stop), and waits until it
    /// answers. Nothing to do for one that runs.
    ///
    /// # Errors
    /// [`ServerError`]; it does not run then.
    pub fn restart(&mut self) -> Result<(), ServerError> {
        if self.child.is_some() {
            return Ok(());
        }
        let (engine, port) = (self.engine(), self.port);
        let mut tries = 1;
        loop {
            let mut child = launch::spawn(&self.installed, &self.folder.0, port)?;
            let is_ready = until(READY_MAX, || {
                if !matches!(child.try_wait(), Ok(None)) {
                    return Some(false);
                }
                ready::answers(engine, port, &self.folder.0).then_some(true)
            });
            self.child = Some(child);
            if is_ready == Some(true) {
                return Ok(());
            }
            self.kill();
            let log = launch::last_lines(&self.folder.0);
            // What a killed PostgreSQL has left running ends by itself, shortly.
            if !log.contains("pre-existing shared memory block") || tries == RESTARTS_MAX {
                break;
            }
            tries += 1;
            pause(Duration::from_millis(20));
        }
        let log = launch::last_lines(&self.folder.0);
        Err(ServerError::NotReady { engine, log })
    }

    /// Stops it in order; killed if that takes longer than [`STOP_MAX`].
    pub fn stop(&mut self) {
        if let Some(child) = &mut self.child {
            // Stopped processes hear nothing else.
            signal(child.id(), Signal::CONT);
            signal_one(child.id(), self.installed.engine.stop_signal());
            let ended = until(STOP_MAX, || {
                matches!(child.try_wait(), Ok(Some(_))).then_some(())
            });
            if ended.is_some() {
                self.child = None;
            }
        }
        self.kill();
    }

    /// Makes it do nothing, connections and all, until [`resume`](Self::resume).
    pub fn pause(&self) {
        if let Some(child) = &self.child {
            signal(child.id(), Signal::STOP);
        }
    }

    /// Lets it go on.
    pub fn resume(&self) {
        if let Some(child) = &self.child {
            signal(child.id(), Signal::CONT);
        }
    }

    /// Leaves it running when this process ends. None if it does not run.
    #[must_use]
    pub fn detach(mut self) -> Option<Detached> {
        let child = self.child.take()?;
        let folder = std::mem::take(&mut self.folder.0);
        Some(Detached {
            engine: self.engine(),
            pid: child.id(),
            port: self.port,
            folder,
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Detached {
    /// Says whether it still answers.
    #[must_use]
    pub fn answers(&self) -> bool {
        ready::answers(self.engine, self.port, &self.folder)
    }

    /// Says whether its process runs.
    #[must_use]
    pub fn runs(&self) -> bool {
        runs(self.pid) && is_ours(self.pid, &self.folder)
    }

    /// Stops it and removes its folder. Nothing to do for one that is gone.
    ///
    /// # Errors
    /// If the folder cannot be removed.
    pub fn stop(&self) -> io::Result<()> {
        if self.runs() {
            signal_one(self.pid, self.engine.stop_signal());
            if !gone(self.pid, STOP_MAX) {
                signal(self.pid, Signal::KILL);
                gone(self.pid, STOP_MAX);
            }
        }
        match fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }
}

/// Says whether a process was started by us: its command line or its working directory names the folder. Of a process
/// that has ended, the number may be another one's.
fn is_ours(pid: u32, folder: &Path) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let directory = fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
    let named = folder.to_string_lossy();
    !named.is_empty()
        && (directory.starts_with(folder) || String::from_utf8_lossy(&line).contains(&*named))
}

fn pid_of(pid: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(pid).ok()?)
}

/// Signals the group that a process leads. One that is gone needs none.
fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = pid_of(pid) {
        // It is gone already.
        let _ = kill_process_group(pid, signal);
    }
}

/// Asks a process of ours, which need not be a server, to end.
pub fn ask_to_end(pid: u32) {
    signal_one(pid, Signal::TERM);
}

fn signal_one(pid: u32, signal: Signal) {
    if let Some(pid) = pid_of(pid) {
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// A folder that goes when it is dropped.
#[derive(Debug)]
struct Folder(PathBuf);

impl Folder {
    fn create(engine: Engine) -> io::Result<Self> {
        let mut number = 0;
        loop {
            let name = format!("dpat-{engine}-{}-{number}", std::process::id());
            let path = std::env::temp_dir().join(name);
            match fs::create_dir(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < 10_000 => {
                    number += 1;
                }
                created => return created.map(|()| Self(path)),
            }
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.0.as_os_str().is_empty() {
            drop(fs::remove_dir_all(&self.0));
        }
    }
}
