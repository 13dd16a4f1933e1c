//! Which servers the machine has.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::Engine;

/// A server's programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// The engine.
    pub engine: Engine,
    /// The server.
    pub program: PathBuf,
    /// What it says of its version.
    pub version: String,
}

/// A server that the machine does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Absent {
    /// The engine.
    pub engine: Engine,
}

impl Absent {
    const fn program(self) -> &'static str {
        match self.engine {
            Engine::Postgres => "postgres",
            Engine::Nats => "nats-server",
            Engine::Redis => "redis-server",
        }
    }

    /// Returns the Debian package that has it.
    #[must_use]
    pub const fn package(self) -> &'static str {
        match self.engine {
            Engine::Postgres => "postgresql",
            Engine::Nats => "nats-server",
            Engine::Redis => "redis-server",
        }
    }
}

impl fmt::Display for Absent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} not found (apt-get install {})",
            self.program(),
            self.package()
        )
    }
}

impl std::error::Error for Absent {}

impl Installed {
    /// Looks for a server: on the path, and for PostgreSQL also where Debian puts it, the newest first.
    ///
    /// # Errors
    /// [`Absent`] if there is none.
    pub fn find(engine: Engine) -> Result<Self, Absent> {
        let absent = Absent { engine };
        let debian = match engine {
            Engine::Postgres => debian_postgres(),
            _ => Vec::new(),
        };
        let path = std::env::var_os("PATH").unwrap_or_default();
        let on_path = std::env::split_paths(&path).map(|folder| folder.join(absent.program()));
        let program = debian
            .into_iter()
            .chain(on_path)
            .find(|path| path.is_file());
        let program = program.ok_or(absent)?;
        let version = version(&program).ok_or(absent)?;
        Ok(Self {
            engine,
            program,
            version,
        })
    }

    /// Returns the first two numbers of the version.
    #[must_use]
    pub fn major_minor(&self) -> (u32, u32) {
        let numbers = self.version.split(|c: char| !c.is_ascii_digit());
        let mut numbers = numbers.filter_map(|number| number.parse().ok());
        (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
    }
}

fn debian_postgres() -> Vec<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let mut versions: Vec<u32> = versions
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    versions.sort_unstable_by(|a, b| b.cmp(a));
    let program = |version| format!("/usr/lib/postgresql/{version}/bin/postgres").into();
    versions.into_iter().map(program).collect()
}

fn version(program: &Path) -> Option<String> {
    let mut command = Command::new(program);
    command.arg("--version").stdin(Stdio::null());
    let output = command.output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let word = text
        .split_whitespace()
        .map(|word| word.trim_start_matches("v=").trim_start_matches('v'))
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    Some(word.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_what_is_absent_says_how_to_get_it() {
        for (version, expected) in [("15.20", (15, 20)), ("2.9.10", (2, 9)), ("7", (7, 0))] {
            let installed = Installed {
                engine: Engine::Nats,
                program: PathBuf::new(),
                version: version.to_owned(),
            };
            assert_eq!(installed.major_minor(), expected);
        }
        let engine = Engine::Nats;
        assert_eq!(
            Absent { engine }.to_string(),
            "nats-server not found (apt-get install nats-server)"
        );
    }
}
