//! Child processes: cargo and the optional tools, with their output in a log or on the terminal.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use crate::clock::{self, Stopwatch};
use crate::error::{Error, Result};
use crate::workspace::Workspace;

/// Where the output of a chore and of its children goes.
pub(crate) enum Log {
    /// To the terminal: the chore was called by itself.
    Terminal,
    /// To a file: the chore is a step of `ci`, which prints one line a step.
    File(PathBuf),
}

impl Log {
    /// A log file that starts empty.
    pub(crate) fn create(path: PathBuf) -> Result<Self> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(|error| Error::io(parent, &error))?;
        }
        File::create(&path).map_err(|error| Error::io(&path, &error))?;
        Ok(Self::File(path))
    }

    /// Writes one line.
    pub(crate) fn line(&self, text: &str) -> Result<()> {
        match self {
            Self::Terminal => {
                println!("{text}");
                Ok(())
            }
            Self::File(path) => {
                let mut file = Self::append(path)?;
                writeln!(file, "{text}").map_err(|error| Error::io(path, &error))
            }
        }
    }

    fn append(path: &Path) -> Result<File> {
        OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)
            .map_err(|error| Error::io(path, &error))
    }

    fn stdio(&self) -> Result<(Stdio, Stdio)> {
        match self {
            Self::Terminal => Ok((Stdio::inherit(), Stdio::inherit())),
            Self::File(path) => {
                let file = Self::append(path)?;
                let twin = file.try_clone().map_err(|error| Error::io(path, &error))?;
                Ok((Stdio::from(file), Stdio::from(twin)))
            }
        }
    }
}

/// A program that runs in the workspace root and finds the tools of `cargo xtask setup`.
///
/// What the outer `cargo run` put into the environment is taken out, because build scripts
/// may look at it and would run again.
pub(crate) fn command(workspace: &Workspace, program: &str) -> Command {
    let mut command = Command::new(
        workspace
            .find_tool(program)
            .unwrap_or_else(|| program.into()),
    );
    command.current_dir(&workspace.root).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_")
            || text.starts_with("CARGO_MANIFEST_")
            || text == "CARGO_BIN_NAME"
            || text == "CARGO_CRATE_NAME"
            || text == "CARGO_PRIMARY_PACKAGE"
        {
            command.env_remove(&name);
        }
    }
    let mut path = OsString::from(workspace.tools_bin());
    if let Some(rest) = std::env::var_os("PATH") {
        path.push(":");
        path.push(rest);
    }
    command.env("PATH", path);
    command
}

/// The cargo that runs this chore, with the given arguments.
pub(crate) fn cargo<S: AsRef<str>>(workspace: &Workspace, args: &[S]) -> Command {
    let program = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut command = command(workspace, &program);
    command.args(args.iter().map(AsRef::as_ref));
    command
}

/// The command as a person would type it.
pub(crate) fn shown(command: &Command) -> String {
    let mut text = String::new();
    for (name, value) in command.get_envs() {
        let name = name.to_string_lossy();
        if let Some(value) = value
            && name != "PATH"
        {
            text.push_str(&format!("{name}={:?} ", value.to_string_lossy()));
        }
    }
    let program = Path::new(command.get_program());
    text.push_str(
        &program
            .file_name()
            .unwrap_or(command.get_program())
            .to_string_lossy(),
    );
    for arg in command.get_args() {
        text.push(' ');
        text.push_str(&arg.to_string_lossy());
    }
    text
}

/// Runs a command to its end; `true` means exit code 0.
pub(crate) fn run(log: &Log, command: &mut Command) -> Result<bool> {
    log.line(&format!("$ {}", shown(command)))?;
    if matches!(log, Log::File(_)) {
        command
            .env("CARGO_TERM_COLOR", "never")
            .env("NO_COLOR", "1");
    }
    let (stdout, stderr) = log.stdio()?;
    let status = command
        .stdout(stdout)
        .stderr(stderr)
        .status()
        .map_err(|error| cannot_start(command, &error))?;
    Ok(status.success())
}

/// How a limited command ended.
pub(crate) struct Finished {
    /// The exit code; none when a signal or the limit ended it.
    pub(crate) code: Option<i32>,
    /// Whether the limit ended it.
    pub(crate) timed_out: bool,
    /// Everything that it wrote to standard output.
    pub(crate) stdout: String,
    /// How long it ran.
    pub(crate) seconds: f64,
}

/// Runs a command for at most `limit` and keeps its standard output.
///
/// The output goes through the file `stdout`, so that a full pipe cannot stop the child.
pub(crate) fn run_limited(
    log: &Log,
    command: &mut Command,
    stdout: &Path,
    limit: Duration,
) -> Result<Finished> {
    log.line(&format!("$ {}", shown(command)))?;
    let (_, stderr) = log.stdio()?;
    if let Some(parent) = stdout.parent() {
        fs::create_dir_all(parent).map_err(|error| Error::io(parent, &error))?;
    }
    let file = File::create(stdout).map_err(|error| Error::io(stdout, &error))?;
    let watch = Stopwatch::start();
    let mut child = command
        .stdout(file)
        .stderr(stderr)
        .spawn()
        .map_err(|error| cannot_start(command, &error))?;
    let status = wait_limited(&mut child, watch, limit)?;
    let bytes = fs::read(stdout).map_err(|error| Error::io(stdout, &error))?;
    Ok(Finished {
        code: status.and_then(|status| status.code()),
        timed_out: status.is_none(),
        stdout: String::from_utf8_lossy(&bytes).into_owned(),
        seconds: watch.seconds(),
    })
}

/// Runs a command and returns its standard output, or `None` when it fails or cannot start.
pub(crate) fn output(command: &mut Command) -> Option<String> {
    let output = command.stderr(Stdio::null()).output().ok()?;
    if !output.status.success() {
        return None;
    }
    String::from_utf8(output.stdout).ok()
}

fn wait_limited(
    child: &mut Child,
    watch: Stopwatch,
    limit: Duration,
) -> Result<Option<ExitStatus>> {
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(Some(status)),
            Ok(None) if watch.elapsed() >= limit => {
                // Already gone is as good as killed.
                drop(child.kill());
                drop(child.wait());
                return Ok(None);
            }
            Ok(None) => clock::pause(),
            Err(error) => return Err(Error::Internal(format!("cannot wait for a child: {error}"))),
        }
    }
}

fn cannot_start(command: &Command, error: &std::io::Error) -> Error {
    Error::Internal(format!(
        "cannot start {}: {error}",
        command.get_program().to_string_lossy()
    ))
}
