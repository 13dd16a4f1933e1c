//! `cargo xtask ci`: every gate of the project, one line a step.
//!
//! What is printed and written here is a contract: `STEP ok|failed|skipped SECONDS [reason]`,
//! the same in `target/ci/report.json`, and a last line with the counts.

use std::cell::OnceCell;
use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::clock::Stopwatch;
use crate::error::{Error, Outcome, Result};
use crate::process::{self, Log, cargo, command, run};
use crate::workspace::{Budgets, Workspace};
use crate::{
    consumers, demo, deps, engines, examples, features, layers, loom, package, services, setup,
    sim, tidy,
};

/// What the command line of `ci` asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) fast: bool,
    pub(crate) full: bool,
    pub(crate) keep_going: bool,
    pub(crate) allow_dirty: bool,
    pub(crate) steps: Vec<String>,
}

impl Options {
    /// Reads the arguments after `ci`.
    pub(crate) fn parse(args: &[String]) -> Result<Self> {
        let mut options = Self::default();
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--fast" => options.fast = true,
                "--full" => options.full = true,
                "--keep-going" => options.keep_going = true,
                "--allow-dirty" => options.allow_dirty = true,
                "--step" => match args.next() {
                    Some(name) if step(name).is_some() => options.steps.push(name.clone()),
                    Some(name) => {
                        return Err(Error::Usage(format!(
                            "--step: no step `{name}`; there are {}",
                            STEPS.map(|step| step.name).join(", ")
                        )));
                    }
                    None => return Err(Error::Usage("--step wants a name".to_owned())),
                },
                other => return Err(Error::Usage(format!("ci: unknown argument `{other}`"))),
            }
        }
        if options.fast && options.full {
            return Err(Error::Usage(
                "--fast and --full exclude each other".to_owned(),
            ));
        }
        Ok(options)
    }

    fn wants(&self, step: &Step) -> bool {
        if !self.steps.is_empty() {
            return self.steps.iter().any(|name| name == step.name);
        }
        match step.when {
            When::Fast => true,
            When::Normal => !self.fast,
            When::Full => self.full,
        }
    }
}

/// What the steps share.
pub(crate) struct Context {
    pub(crate) workspace: Workspace,
    pub(crate) budgets: Budgets,
    pub(crate) options: Options,
    built: OnceCell<bool>,
}

impl Context {
    /// What the steps share, from the workspace and the command line.
    pub(crate) fn new(options: Options) -> Result<Self> {
        let workspace = Workspace::load()?;
        let budgets = Budgets::load(&workspace)?;
        Ok(Self {
            workspace,
            budgets,
            options,
            built: OnceCell::new(),
        })
    }

    /// Builds everything once: tests, examples and the demo run what this one build left.
    pub(crate) fn build(&self, log: &Log) -> Result<bool> {
        if let Some(built) = self.built.get() {
            return Ok(*built);
        }
        let mut command = cargo(
            &self.workspace,
            &[
                "build",
                "--locked",
                "--workspace",
                "--all-targets",
                "--all-features",
            ],
        );
        let built = run(log, &mut command)?;
        Ok(*self.built.get_or_init(|| built))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    /// Also with `--fast`.
    Fast,
    /// Unless `--fast`.
    Normal,
    /// With `--full` only.
    Full,
}

#[derive(Clone, Copy)]
struct Step {
    name: &'static str,
    when: When,
    run: fn(&Context, &Log) -> Result<Outcome>,
}

/// Every step in the order of running: what is quick and often wrong comes first.
const STEPS: [Step; 24] = [
    Step {
        name: "fmt",
        when: When::Fast,
        run: fmt,
    },
    Step {
        name: "tidy",
        when: When::Fast,
        run: |cx, log| tidy::step(&cx.workspace, log),
    },
    Step {
        name: "layers",
        when: When::Fast,
        run: |cx, log| layers::step(&cx.workspace, log),
    },
    Step {
        name: "typos",
        when: When::Normal,
        run: typos,
    },
    Step {
        name: "taplo",
        when: When::Normal,
        run: taplo,
    },
    Step {
        name: "workflows",
        when: When::Normal,
        run: workflows,
    },
    Step {
        name: "deps",
        when: When::Normal,
        run: |cx, log| deps::step(&cx.workspace, &cx.budgets, log),
    },
    Step {
        name: "deny",
        when: When::Normal,
        run: deny,
    },
    Step {
        name: "advisories",
        when: When::Normal,
        run: advisories,
    },
    Step {
        name: "clippy",
        when: When::Fast,
        run: clippy,
    },
    Step {
        name: "tests",
        when: When::Fast,
        run: tests,
    },
    Step {
        name: "engines",
        when: When::Normal,
        run: |cx, log| engines::step(&cx.workspace, log),
    },
    Step {
        name: "doctests",
        when: When::Normal,
        run: doctests,
    },
    Step {
        name: "examples",
        when: When::Normal,
        run: examples::step,
    },
    Step {
        name: "demo",
        when: When::Normal,
        run: demo::step,
    },
    Step {
        name: "sim",
        when: When::Normal,
        run: sim::step,
    },
    Step {
        name: "docs",
        when: When::Normal,
        run: docs,
    },
    Step {
        name: "book",
        when: When::Normal,
        run: book,
    },
    Step {
        name: "features",
        when: When::Normal,
        run: |cx, log| features::step(&cx.workspace, cx.options.full, log),
    },
    Step {
        name: "consumers",
        when: When::Normal,
        run: |cx, log| consumers::step(&cx.workspace, log),
    },
    Step {
        name: "loom",
        when: When::Normal,
        run: |cx, log| loom::step(&cx.workspace, cx.options.full, &[], log),
    },
    Step {
        name: "package",
        when: When::Normal,
        run: |cx, log| package::step(&cx.workspace, cx.options.allow_dirty, log),
    },
    Step {
        name: "scaffold",
        when: When::Full,
        run: scaffold,
    },
    Step {
        name: "benches",
        when: When::Full,
        run: benches,
    },
];

fn step(name: &str) -> Option<&'static Step> {
    STEPS.iter().find(|step| step.name == name)
}

/// One line of the report.
#[derive(Debug, PartialEq)]
struct Row {
    step: &'static str,
    outcome: Outcome,
    seconds: f64,
}

impl Row {
    fn line(&self) -> String {
        let mut line = format!("{} {} {:.1}", self.step, self.outcome.name(), self.seconds);
        if let Some(reason) = self.outcome.reason() {
            line.push(' ');
            line.push_str(reason);
        }
        line
    }

    fn json(&self) -> Value {
        json!({
            "step": self.step,
            "status": self.outcome.name(),
            "seconds": (self.seconds * 10.0).round() / 10.0,
            "reason": self.outcome.reason(),
        })
    }
}

#[derive(Debug, Default, PartialEq)]
struct Report {
    rows: Vec<Row>,
}

impl Report {
    fn count(&self, name: &str) -> usize {
        self.rows
            .iter()
            .filter(|row| row.outcome.name() == name)
            .count()
    }

    fn summary(&self) -> String {
        format!(
            "{} passed, {} failed, {} skipped",
            self.count("ok"),
            self.count("failed"),
            self.count("skipped")
        )
    }

    fn json(&self) -> Value {
        json!({
            "schema": 1,
            "steps": self.rows.iter().map(Row::json).collect::<Vec<_>>(),
            "passed": self.count("ok"),
            "failed": self.count("failed"),
            "skipped": self.count("skipped"),
        })
    }
}

/// Runs the steps; `true` when none failed.
pub(crate) fn run_all(options: Options) -> Result<bool> {
    let context = Context::new(options)?;
    for name in context.budgets.steps.keys() {
        if step(name).is_none() {
            return Err(Error::Input(format!(
                "{}: steps.{name}: no such step",
                Budgets::FILE
            )));
        }
    }
    let folder = context.workspace.target.join("ci");
    let mut report = Report::default();
    let mut failed: Option<&'static str> = None;
    for step in STEPS.iter().filter(|step| context.options.wants(step)) {
        let row = match failed {
            Some(earlier) if !context.options.keep_going => Row {
                step: step.name,
                outcome: Outcome::Skipped(format!("not run: {earlier} failed (--keep-going)")),
                seconds: 0.0,
            },
            _ => run_one(&context, step, folder.join(format!("{}.log", step.name)))?,
        };
        println!("{}", row.line());
        if matches!(row.outcome, Outcome::Failed(_)) {
            failed = failed.or(Some(step.name));
        }
        report.rows.push(row);
        // After every step, so that an interrupted run leaves what it found.
        write_report(&folder.join("report.json"), &report)?;
    }
    println!("{}", report.summary());
    Ok(failed.is_none())
}

fn write_report(path: &std::path::Path, report: &Report) -> Result<()> {
    fs::write(path, format!("{:#}\n", report.json())).map_err(|error| Error::io(path, &error))
}

fn run_one(context: &Context, step: &'static Step, log_file: PathBuf) -> Result<Row> {
    let log = Log::create(log_file.clone())?;
    let watch = Stopwatch::start();
    let outcome =
        (step.run)(context, &log).unwrap_or_else(|error| Outcome::Failed(error.to_string()));
    let seconds = watch.seconds();
    let outcome = within_budget(outcome, step.name, seconds, &context.budgets);
    if matches!(outcome, Outcome::Failed(_)) {
        eprintln!(
            "{}",
            tail(&fs::read_to_string(&log_file).unwrap_or_default(), 60)
        );
        eprintln!("(all of it: {})", log_file.display());
    }
    Ok(Row {
        step: step.name,
        outcome: one_line(outcome),
        seconds,
    })
}

/// A step that holds, but took longer than `xtask/budgets.toml` allows, fails.
fn within_budget(outcome: Outcome, name: &str, seconds: f64, budgets: &Budgets) -> Outcome {
    let Outcome::Ok(note) = outcome else {
        return outcome;
    };
    match budgets.steps.get(name) {
        None => Outcome::Failed(format!("no budget for this step in {}", Budgets::FILE)),
        Some(limit) if seconds > std::time::Duration::from_secs(*limit).as_secs_f64() => {
            Outcome::Failed(format!("took {seconds:.0} s, its budget is {limit} s"))
        }
        Some(_) => Outcome::Ok(note),
    }
}

fn one_line(outcome: Outcome) -> Outcome {
    let flat = |text: String| text.split_whitespace().collect::<Vec<_>>().join(" ");
    match outcome {
        Outcome::Ok(note) => Outcome::Ok(note.map(flat)),
        Outcome::Failed(reason) => Outcome::Failed(flat(reason)),
        Outcome::Skipped(reason) => Outcome::Skipped(flat(reason)),
    }
}

fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// Passes when the command does.
pub(crate) fn check(log: &Log, command: &mut std::process::Command) -> Result<Outcome> {
    let what = process::shown(command);
    Ok(if run(log, command)? {
        Outcome::OK
    } else {
        Outcome::Failed(format!("`{what}` failed"))
    })
}

/// Runs an optional tool, or says how to get it.
fn with_tool(
    context: &Context,
    tool: &str,
    then: impl FnOnce() -> Result<Outcome>,
) -> Result<Outcome> {
    if context.workspace.find_tool(tool).is_some() {
        then()
    } else {
        Ok(Outcome::Skipped(setup::absent(tool)))
    }
}

/// Whether a component of the toolchain answers.
pub(crate) fn has_component(workspace: &Workspace, name: &str) -> bool {
    process::output(&mut cargo(workspace, &[name, "--version"])).is_some()
}

/// Why a step that wants a component is skipped.
fn without_component(name: &str) -> Outcome {
    Outcome::Skipped(format!(
        "no {name} in this toolchain; `rustup component add {name}` gets it"
    ))
}

fn fmt(context: &Context, log: &Log) -> Result<Outcome> {
    if !has_component(&context.workspace, "fmt") {
        return Ok(without_component("rustfmt"));
    }
    check(
        log,
        &mut cargo(
            &context.workspace,
            &["fmt", "--all", "--check", "--", "--color", "never"],
        ),
    )
}

fn clippy(context: &Context, log: &Log) -> Result<Outcome> {
    if !has_component(&context.workspace, "clippy") {
        return Ok(without_component("clippy"));
    }
    let args = [
        "clippy",
        "--locked",
        "--workspace",
        "--all-targets",
        "--all-features",
    ];
    check(
        log,
        cargo(&context.workspace, &args).args(["--", "-D", "warnings"]),
    )
}

fn tests(context: &Context, log: &Log) -> Result<Outcome> {
    if !context.build(log)? {
        return Ok(Outcome::Failed("the workspace does not build".to_owned()));
    }
    let workspace = &context.workspace;
    let services = services::Services::start()?;
    let mut notes = Vec::new();
    for absent in &services.absent {
        notes.push(format!("skipped: {absent}"));
    }
    let all = ["--locked", "--workspace", "--all-features"];
    let mut command = match workspace.find_tool("cargo-nextest") {
        Some(_) => cargo(workspace, &["nextest", "run", "--no-fail-fast"]),
        None => {
            notes.push(format!("by cargo test: {}", setup::absent("cargo-nextest")));
            let tests = ["test", "--no-fail-fast", "--lib", "--bins", "--tests"];
            cargo(workspace, &tests)
        }
    };
    services.tell(&mut command);
    Ok(match check(log, command.args(all))? {
        Outcome::Ok(_) if !notes.is_empty() => Outcome::Ok(Some(notes.join("; "))),
        other => other,
    })
}

fn doctests(context: &Context, log: &Log) -> Result<Outcome> {
    let args = ["test", "--doc", "--locked", "--workspace", "--all-features"];
    check(log, &mut cargo(&context.workspace, &args))
}

fn docs(context: &Context, log: &Log) -> Result<Outcome> {
    let args = [
        "doc",
        "--locked",
        "--workspace",
        "--no-deps",
        "--all-features",
    ];
    check(
        log,
        cargo(&context.workspace, &args).env("RUSTDOCFLAGS", "-D warnings"),
    )
}

fn deny(context: &Context, log: &Log) -> Result<Outcome> {
    with_tool(context, "cargo-deny", || {
        let args = [
            "deny",
            "--offline",
            "--all-features",
            "check",
            "bans",
            "licenses",
            "sources",
        ];
        check(log, &mut cargo(&context.workspace, &args))
    })
}

fn advisories(context: &Context, log: &Log) -> Result<Outcome> {
    with_tool(context, "cargo-deny", || {
        let home = std::env::var_os("CARGO_HOME")
            .map(PathBuf::from)
            .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")));
        let database = home.map(|home| home.join("advisory-dbs"));
        let present = database
            .as_deref()
            .and_then(|folder| fs::read_dir(folder).ok())
            // A fetch that failed leaves its lock file and an empty folder.
            .is_some_and(|entries| {
                entries
                    .flatten()
                    .any(|entry| entry.path().join("crates").is_dir())
            });
        if !present {
            return Ok(Outcome::Skipped(
                "no advisory database on this machine; `cargo deny fetch` gets it".to_owned(),
            ));
        }
        let args = ["deny", "--offline", "--all-features", "check", "advisories"];
        check(log, &mut cargo(&context.workspace, &args))
    })
}

fn typos(context: &Context, log: &Log) -> Result<Outcome> {
    with_tool(context, "typos", || {
        check(log, &mut command(&context.workspace, "typos"))
    })
}

fn taplo(context: &Context, log: &Log) -> Result<Outcome> {
    with_tool(context, "taplo", || {
        check(
            log,
            command(&context.workspace, "taplo").args(["format", "--check", "--diff"]),
        )
    })
}

fn workflows(context: &Context, log: &Log) -> Result<Outcome> {
    let workspace = &context.workspace;
    let folder = workspace.root.join(".github/workflows");
    let mut files: Vec<PathBuf> = fs::read_dir(&folder)
        .map_err(|error| Error::io(&folder, &error))?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "yml"))
        .collect();
    files.sort();
    with_tool(context, "check-jsonschema", || {
        let mut schema = command(workspace, "check-jsonschema");
        schema
            .args(["--builtin-schema", "vendor.github-workflows"])
            .args(&files);
        if !run(log, &mut schema)? {
            return Ok(Outcome::Failed(
                "a workflow does not meet its schema".to_owned(),
            ));
        }
        let mut schema = command(workspace, "check-jsonschema");
        schema.args([
            "--builtin-schema",
            "vendor.dependabot",
            ".github/dependabot.yml",
        ]);
        if !run(log, &mut schema)? {
            return Ok(Outcome::Failed(
                "dependabot.yml does not meet its schema".to_owned(),
            ));
        }
        with_tool(context, "zizmor", || {
            check(
                log,
                command(workspace, "zizmor").args(["--offline", "--no-progress", ".github"]),
            )
        })
    })
}

fn book(context: &Context, log: &Log) -> Result<Outcome> {
    let workspace = &context.workspace;
    if !workspace.root.join("docs/book.toml").is_file() {
        return Ok(Outcome::Skipped(
            "docs/book.toml does not exist yet".to_owned(),
        ));
    }
    with_tool(context, "mdbook", || {
        let target = workspace.target.join("book");
        check(
            log,
            command(workspace, "mdbook")
                .args(["build", "docs", "--dest-dir"])
                .arg(target),
        )
    })
}

fn scaffold(context: &Context, log: &Log) -> Result<Outcome> {
    crate::new_crate::prove(&context.workspace, log)
}

fn benches(context: &Context, log: &Log) -> Result<Outcome> {
    let manifest = "benches/Cargo.toml";
    if !context.workspace.root.join(manifest).is_file() {
        return Ok(Outcome::Skipped(
            "benches/Cargo.toml does not exist yet".to_owned(),
        ));
    }
    let args = [
        "check",
        "--locked",
        "--all-targets",
        "--manifest-path",
        manifest,
    ];
    check(log, &mut cargo(&context.workspace, &args))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn names(text: &str) -> Vec<&'static str> {
        let options = Options::parse(&args(text)).expect("valid arguments");
        STEPS
            .iter()
            .filter(|step| options.wants(step))
            .map(|step| step.name)
            .collect()
    }

    #[test]
    fn fast_is_the_five_quick_gates() {
        assert_eq!(
            names("--fast"),
            ["fmt", "tidy", "layers", "clippy", "tests"]
        );
    }

    #[test]
    fn only_full_compiles_the_benches() {
        assert!(!names("").contains(&"benches"));
        assert_eq!(names("--full").len(), STEPS.len());
    }

    #[test]
    fn named_steps_run_alone_and_in_order() {
        assert_eq!(names("--step docs --step fmt"), ["fmt", "docs"]);
    }

    #[test]
    fn bad_arguments_are_usage_errors() {
        for bad in [
            "--step",
            "--step nonsense",
            "--fast --full",
            "--quick",
            "fmt",
        ] {
            assert!(
                matches!(Options::parse(&args(bad)), Err(Error::Usage(_))),
                "{bad}"
            );
        }
    }

    fn report() -> Report {
        Report {
            rows: vec![
                Row {
                    step: "fmt",
                    outcome: Outcome::OK,
                    seconds: 0.26,
                },
                Row {
                    step: "docs",
                    outcome: Outcome::Failed("a reason".to_owned()),
                    seconds: 12.0,
                },
                Row {
                    step: "typos",
                    outcome: Outcome::Skipped("absent".to_owned()),
                    seconds: 0.0,
                },
            ],
        }
    }

    #[test]
    fn printed_lines_have_the_contracts_form() {
        let lines: Vec<String> = report().rows.iter().map(Row::line).collect();
        assert_eq!(
            lines,
            [
                "fmt ok 0.3",
                "docs failed 12.0 a reason",
                "typos skipped 0.0 absent"
            ]
        );
        assert_eq!(report().summary(), "1 passed, 1 failed, 1 skipped");
    }

    #[test]
    fn report_json_says_what_the_lines_say() {
        let json = report().json();
        assert_eq!(json["passed"], 1);
        assert_eq!(json["failed"], 1);
        assert_eq!(json["skipped"], 1);
        assert_eq!(
            json["steps"][1],
            json!({"step": "docs", "status": "failed", "seconds": 12.0, "reason": "a reason"})
        );
        assert_eq!(json["steps"][0]["reason"], Value::Null);
    }

    #[test]
    fn a_step_over_its_budget_fails() {
        let budgets = Budgets::parse("[steps]\nfmt = 10\n[packages]\n").expect("valid budgets");
        assert_eq!(
            within_budget(Outcome::OK, "fmt", 9.9, &budgets),
            Outcome::OK
        );
        assert_eq!(
            within_budget(Outcome::OK, "fmt", 10.6, &budgets),
            Outcome::Failed("took 11 s, its budget is 10 s".to_owned())
        );
        assert!(matches!(
            within_budget(Outcome::OK, "new", 0.0, &budgets),
            Outcome::Failed(_)
        ));
        let skipped = Outcome::Skipped("absent".to_owned());
        assert!(matches!(
            within_budget(skipped, "new", 0.0, &budgets),
            Outcome::Skipped(_)
        ));
    }

    #[test]
    fn a_reason_stays_on_its_line() {
        let outcome = one_line(Outcome::Failed("two\n  lines".to_owned()));
        assert_eq!(outcome.reason(), Some("two lines"));
    }

    #[test]
    fn every_step_has_a_budget() {
        let text = include_str!("../budgets.toml");
        let budgets = Budgets::parse(text).expect("the project's budgets are valid");
        for step in STEPS {
            assert!(
                budgets.steps.contains_key(step.name),
                "{} has no budget",
                step.name
            );
        }
    }
}
