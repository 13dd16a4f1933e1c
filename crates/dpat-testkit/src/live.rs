//! Tests against real servers: ignored with a reason where there is none, and what the laws say of an engine.
//!
//! A crate has one binary of them, `tests/live.rs`. `cargo xtask services run -- CMD` sets the URLs.
//! The suite of a pattern runs as one trial ([`Live::laws`]), which writes what each law found to
//! `target/dpat-conformance/ENGINE.PORT.json`; `cargo xtask engines` makes the tables of the guide from these files.

use std::any::Any;
use std::collections::VecDeque;
use std::env;
use std::fmt;
use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::thread;

use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::{Value, json};

use crate::servers::{Engine, Installed, Server};
use crate::sync::Mutex;

/// How many laws of a suite run at once: they wait for the server more than they work.
const AT_ONCE: usize = 8;

/// A law as the patterns list them: its name, and itself.
pub type Named<H, V> = (&'static str, fn(&H) -> Result<(), V>);

/// A law of a suite, on one engine.
pub struct Law {
    name: String,
    is_declared: bool,
    note: String,
    run: Box<dyn FnOnce() -> Result<(), String> + Send>,
}

impl Law {
    /// Makes a law: its name, whether the engine declares what it is about, a note for the table, and the law itself.
    pub fn new(
        name: impl Into<String>,
        is_declared: bool,
        note: impl Into<String>,
        run: impl FnOnce() -> Result<(), String> + Send + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            is_declared,
            note: note.into(),
            run: Box::new(run),
        }
    }

    /// Makes the laws of a suite, each on a harness of its own; `declared` says whether the engine declares what a law is
    /// about, with a note.
    pub fn all<H: 'static, V: fmt::Display + 'static>(
        laws: Vec<Named<H, V>>,
        harness: fn() -> H,
        declared: impl Fn(&str) -> (bool, String),
    ) -> Vec<Self> {
        let one = |(name, law): Named<H, V>| {
            let (is_declared, note) = declared(name);
            Self::new(name, is_declared, note, move || {
                law(&harness()).map_err(|violation| violation.to_string())
            })
        };
        laws.into_iter().map(one).collect()
    }

    /// [`all`](Self::all) for a port without capabilities: everything is declared.
    pub fn plain<H: 'static, V: fmt::Display + 'static>(
        laws: Vec<Named<H, V>>,
        harness: fn() -> H,
    ) -> Vec<Self> {
        Self::all(laws, harness, |_| (true, String::new()))
    }
}

impl Law {
    /// Gives a law a note, and a name of its own by it: the same law, tried in another way.
    #[must_use]
    pub fn noted(mut self, note: &str) -> Self {
        self.name = format!("{} {note}", self.name);
        self
    }
}

/// What a law found.
struct Found {
    name: String,
    is_declared: bool,
    note: String,
    broken: Option<String>,
}

impl Found {
    fn of(law: Law) -> Self {
        let run = law.run;
        let broken = match catch_unwind(AssertUnwindSafe(run)) {
            Ok(result) => result.err(),
            Err(panic) => Some(format!("panicked: {}", text_of(&*panic))),
        };
        Self {
            name: law.name,
            is_declared: law.is_declared,
            note: law.note,
            broken,
        }
    }

    fn json(&self) -> Value {
        json!({
            "law": self.name,
            "declared": if self.is_declared { "supported" } else { "gap" },
            "observed": if self.broken.is_none() { "pass" } else { "fail" },
            "note": self.note,
        })
    }
}

fn text_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("without a text")
}

/// The trials of one engine.
pub struct Live {
    engine: Engine,
    url: Result<String, String>,
}

impl Live {
    /// Looks for the URL of a server.
    #[must_use]
    pub fn of(engine: Engine) -> Self {
        let variable = engine.variable();
        let url = match env::var(variable) {
            Ok(url) if !url.is_empty() => Ok(url),
            _ => Err(match Installed::find(engine) {
                Err(absent) => absent.to_string(),
                Ok(_) => {
                    format!("{variable} is not set (cargo xtask services run -- cargo test …)")
                }
            }),
        };
        Self { engine, url }
    }

    /// Makes a trial on the server that all trials share.
    #[must_use]
    pub fn trial(
        &self,
        name: &str,
        test: impl FnOnce(&str) -> Result<(), Failed> + Send + 'static,
    ) -> Trial {
        let url = self.url.clone();
        self.named(name, None, move || test(&url?))
    }

    /// Makes a trial on a server of its own, which it may kill.
    #[must_use]
    pub fn faults(
        &self,
        name: &str,
        test: impl FnOnce(Server) -> Result<(), Failed> + Send + 'static,
    ) -> Trial {
        let engine = self.engine;
        let absent = Installed::find(engine).err().map(|one| one.to_string());
        self.named(name, absent, move || test(Server::start(engine)?))
    }

    /// Makes one trial of the suite of a port; it writes what it found, and fails with the laws that are broken.
    #[must_use]
    pub fn laws(&self, port: &'static str, laws: Vec<Law>) -> Trial {
        let engine = self.engine.name();
        let name = format!("{engine}_keeps_the_laws_of_{port}");
        self.named(&name, None, move || conformance(engine, port, laws))
    }

    /// Runs the trials as the arguments of the program say, and ends the process.
    pub fn run(&self, trials: Vec<Trial>) -> ! {
        run(trials)
    }

    fn named(
        &self,
        name: &str,
        absent: Option<String>,
        test: impl FnOnce() -> Result<(), Failed> + Send + 'static,
    ) -> Trial {
        match self.url.as_ref().err().or(absent.as_ref()) {
            None => Trial::test(name, test),
            Some(reason) => {
                Trial::test(format!("{name}, skipped: {reason}"), test).with_ignored_flag(true)
            }
        }
    }
}

/// Runs trials as the arguments of the program say, and ends the process.
pub fn run(trials: Vec<Trial>) -> ! {
    libtest_mimic::run(&Arguments::from_args(), trials).exit()
}

/// Runs the suite of a port on an engine, and writes what it found to `target/dpat-conformance/ENGINE.PORT.json`.
///
/// # Errors
/// The laws that are broken, or that the file cannot be written.
pub fn conformance(engine: &str, port: &str, laws: Vec<Law>) -> Result<(), Failed> {
    let found = run_all(laws);
    let rows: Value = found.iter().map(Found::json).collect();
    let path = folder()?.join(format!("{engine}.{port}.json"));
    fs::write(&path, format!("{rows:#}\n"))?;
    let broken = found.iter().filter_map(|one| {
        let why = one.broken.as_ref()?;
        Some(format!("{}: {why}", one.name))
    });
    let broken: Vec<String> = broken.collect();
    match broken.len() {
        0 => Ok(()),
        number => {
            let all = found.len();
            let list = broken.join("\n");
            Err(format!("{number} of {all} laws of {port} are broken on {engine}:\n{list}").into())
        }
    }
}

/// Runs laws on a few threads; what they found, in their order.
fn run_all(laws: Vec<Law>) -> Vec<Found> {
    let waiting: Mutex<VecDeque<_>> = Mutex::new(laws.into_iter().enumerate().collect());
    let found = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let next = waiting.lock().pop_front();
                    let Some((at, law)) = next else { return };
                    let one = Found::of(law);
                    found.lock().push((at, one));
                }
            });
        }
    });
    let mut found = std::mem::take(&mut *found.lock());
    found.sort_by_key(|(at, _)| *at);
    found.into_iter().map(|(_, one)| one).collect()
}

/// The folder `dpat-conformance` of the target folder that this program was built into.
fn folder() -> io::Result<PathBuf> {
    let program = env::current_exe()?;
    let deps = program
        .ancestors()
        .find(|path| path.file_name().is_some_and(|name| name == "deps"));
    // target/PROFILE/deps
    let target = deps.and_then(|deps| deps.parent()?.parent());
    let missing = || io::Error::other("the program is not below a folder `deps`");
    let folder = target.ok_or_else(missing)?.join("dpat-conformance");
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_laws_find_is_written_in_their_order() {
        let broken = || Err("not kept".to_owned());
        let laws = vec![
            Law::new("first", true, "a note", || Ok(())),
            Law::new("second", false, "", broken),
            Law::new("third", true, "", || panic!("at the third")),
        ];
        let failed = conformance("none", "port", laws).unwrap_err();
        let message = failed.message().unwrap();
        let expected = "2 of 3 laws of port are broken on none:\nsecond: not kept\nthird: panicked: at the third";
        assert_eq!(message, expected);
        let path = folder().unwrap().join("none.port.json");
        let rows: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        fs::remove_file(path).unwrap();
        let row = |law, declared, observed, note| json!({"law": law, "declared": declared, "observed": observed, "note": note});
        let expected = json!([
            row("first", "supported", "pass", "a note"),
            row("second", "gap", "fail", ""),
            row("third", "supported", "fail", ""),
        ]);
        assert_eq!(rows, expected);
    }
}
