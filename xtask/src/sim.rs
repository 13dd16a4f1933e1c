//! `cargo xtask sim`: every protocol of `dpat sim --list` on many seeds, through the command that users have.
//!
//! As a step of `ci` the seeds are fixed and few, and the known-bad variants are looked at too: each run is repeated
//! in processes of its own, so that what a seed gives cannot depend on the process.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::ci::Context;
use crate::error::{Error, Outcome, Result};
use crate::process::{Finished, Log, cargo, command, run, run_limited};
use crate::workspace::{Workspace, strings};

/// Seeds of `cargo xtask sim` unless told otherwise.
const SEEDS: u64 = 10_000;
/// Seeds of each protocol in `ci`.
const CI_SEEDS: u64 = 100;
/// Seconds that one command of `ci` may take.
const CI_LIMIT: Duration = Duration::from_secs(300);
/// Seconds that one protocol of a long run may take: two days.
const LIMIT: Duration = Duration::from_secs(2 * 24 * 3600);

/// The exit code of a command line that is not understood.
const USAGE: i32 = 64;
const NO_COMMAND: &str = "this dpat has no command `sim`";

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
struct Options {
    only: Vec<String>,
    seeds: u64,
}

impl Options {
    fn parse(args: &[String]) -> Result<Self> {
        let mut options = Self {
            only: Vec::new(),
            seeds: SEEDS,
        };
        let usage = |text: String| Err(Error::Usage(format!("sim: {text}")));
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let value = args.next().map(String::as_str);
            match (arg.as_str(), value) {
                ("--only", Some(names)) if !names.is_empty() => {
                    options.only.extend(names.split(',').map(str::to_owned));
                }
                ("--seeds", Some(count)) => match count.parse() {
                    Ok(seeds) if seeds > 0 => options.seeds = seeds,
                    _ => return usage(format!("--seeds: `{count}` is no number above 0")),
                },
                ("--only" | "--seeds", _) => return usage(format!("{arg} wants a value")),
                _ => return usage(format!("unknown argument `{arg}`")),
            }
        }
        Ok(options)
    }
}

/// A protocol of the list.
#[derive(Debug, PartialEq, Eq)]
struct Listed {
    name: String,
    mutants: Vec<(String, u64)>,
}

/// Reads the output of `dpat sim --list --json`.
fn listed(stdout: &str) -> std::result::Result<Vec<Listed>, String> {
    let json = last_json(stdout)?;
    let list = json.as_array().ok_or("the list is no array")?;
    list.iter()
        .map(|one| {
            let name = one["protocol"].as_str().ok_or("no `protocol`")?;
            if one["nodes_default"].as_u64().is_none() || strings(&one["properties"]).is_empty() {
                return Err(format!("{name}: no `nodes_default`, or no `properties`"));
            }
            let mutants = one["mutants"].as_array().ok_or("no `mutants`")?;
            let mutants = mutants.iter().map(|mutant| {
                let name = mutant["name"].as_str().ok_or("a mutant without `name`")?;
                let max = mutant["seeds_max"].as_u64();
                Ok((
                    format!("{}@{name}", one["protocol"].as_str().unwrap_or_default()),
                    max.ok_or("a mutant without `seeds_max`")?,
                ))
            });
            Ok(Listed {
                name: name.to_owned(),
                mutants: mutants.collect::<std::result::Result<_, String>>()?,
            })
        })
        .collect()
}

fn last_json(stdout: &str) -> std::result::Result<Value, String> {
    let last = stdout.lines().last().unwrap_or_default();
    serde_json::from_str(last).map_err(|_| "the last line is no JSON".to_owned())
}

/// What `dpat sim NAME --json` said.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Everything held, in so many milliseconds.
    Clean { delivered: u64, elapsed_ms: u64 },
    /// The first seed that failed.
    Failed(Failure),
    /// The runs show nothing.
    Vacuous(String),
}

#[derive(Debug, PartialEq, Eq)]
struct Failure {
    seed: u64,
    property: String,
    trace_hash: String,
    message: String,
}

/// Reads a verdict and compares it with the exit code.
fn verdict(code: Option<i32>, stdout: &str) -> std::result::Result<Verdict, String> {
    let json = last_json(stdout)?;
    let text = |value: &Value, field: &str| -> std::result::Result<String, String> {
        let text = value[field].as_str().map(str::to_owned);
        text.ok_or_else(|| format!("the object has no `{field}`"))
    };
    let number = |value: &Value, field: &str| -> std::result::Result<u64, String> {
        let number = value[field].as_u64();
        number.ok_or_else(|| format!("the object has no `{field}`"))
    };
    for field in ["seeds", "events"] {
        number(&json, field)?;
    }
    if text(&json, "trace_hash")?.len() != 16 {
        return Err("`trace_hash` is not 16 digits".to_owned());
    }
    let violations = json["violations"].as_array().ok_or("no `violations`")?;
    let (verdict, expected) = if let Some(first) = violations.first() {
        let failure = Failure {
            seed: number(first, "seed")?,
            property: text(first, "property")?,
            trace_hash: text(first, "trace_hash")?,
            message: text(first, "message")?,
        };
        (Verdict::Failed(failure), 1)
    } else if let [reason, ..] = strings(&json["vacuous"])[..] {
        (Verdict::Vacuous(reason.to_owned()), 2)
    } else {
        let clean = Verdict::Clean {
            delivered: number(&json, "delivered")?,
            elapsed_ms: number(&json, "elapsed_ms")?,
        };
        (clean, 0)
    };
    if code != Some(expected) {
        return Err(format!("exit code {code:?} instead of {expected}"));
    }
    Ok(verdict)
}

/// The `dpat` command and where its output goes.
struct Dpat<'a> {
    workspace: &'a Workspace,
    program: PathBuf,
    folder: PathBuf,
    log: &'a Log,
    limit: Duration,
}

impl Dpat<'_> {
    fn run(&self, file: &str, args: &[&str]) -> Result<Finished> {
        let mut command = command(self.workspace, &self.program.to_string_lossy());
        command.args(args);
        let end = run_limited(self.log, &mut command, &self.folder.join(file), self.limit)?;
        if end.timed_out {
            return Err(Error::Failed(format!(
                "dpat {}: no end within {} s",
                args.join(" "),
                self.limit.as_secs()
            )));
        }
        Ok(end)
    }

    /// What there is to run; none if the command itself is not there.
    fn list(&self) -> Result<Option<Vec<Listed>>> {
        let end = self.run("list.json", &["sim", "--list", "--json"])?;
        if end.code == Some(USAGE) {
            return Ok(None);
        }
        let list = listed(&end.stdout);
        list.map(Some)
            .map_err(|reason| Error::Failed(format!("dpat sim --list: {reason}")))
    }

    fn sim(&self, name: &str, seeds: std::ops::Range<u64>, more: &[&str]) -> Result<Verdict> {
        let range = format!("{}..{}", seeds.start, seeds.end);
        let args = [&["sim", name, "--seeds", &range, "--json"], more].concat();
        let end = self.run(&format!("{name}.out"), &args)?;
        verdict(end.code, &end.stdout)
            .map_err(|reason| Error::Failed(format!("dpat {}: {reason}", args.join(" "))))
    }

    /// Finds a mutant, repeats its run in another process, shrinks it, and runs what is left.
    fn mutant(&self, name: &str, seeds_max: u64) -> Result<std::result::Result<(), String>> {
        let mut seeds = 0..16.min(seeds_max);
        let failure = loop {
            match self.sim(name, seeds.clone(), &[])? {
                Verdict::Failed(failure) => break failure,
                _ if seeds.end == seeds_max => {
                    return Ok(Err(format!("{name} is not found in {seeds_max} seeds")));
                }
                _ => seeds = seeds.end..(seeds.end * 4).min(seeds_max),
            }
        };
        let seed = failure.seed.to_string();
        let again = self.run(
            &format!("{name}.replay"),
            &["replay", name, &seed, "--json"],
        )?;
        if let Err(reason) = same_run(again.code, &again.stdout, &failure) {
            return Ok(Err(format!("dpat replay {name} {seed}: {reason}")));
        }
        let file = format!("{name}.script");
        let shrunk = self.run(&file, &["shrink", name, &seed])?;
        if shrunk.code != Some(0) {
            return Ok(Err(format!(
                "dpat shrink {name} {seed}: exit code {:?}",
                shrunk.code
            )));
        }
        let script = self.folder.join(&file);
        let script = ["--script", &script.to_string_lossy()].map(str::to_owned);
        let script: Vec<&str> = script.iter().map(String::as_str).collect();
        let rerun = self.sim(name, failure.seed..failure.seed + 1, &script)?;
        Ok(match rerun {
            Verdict::Failed(still) if still.property == failure.property => Ok(()),
            _ => Err(format!("the shrunk script of {name} {seed} does not fail")),
        })
    }
}

/// Whether a replay, in a process of its own, is the run that failed.
fn same_run(code: Option<i32>, stdout: &str, failure: &Failure) -> std::result::Result<(), String> {
    let json = last_json(stdout)?;
    if json["trace_hash"] != failure.trace_hash.as_str() {
        let found = &json["trace_hash"];
        return Err(format!("trace {found} instead of {}", failure.trace_hash));
    }
    if json["violation"]["property"] != failure.property.as_str() {
        return Err(format!("violation {}", json["violation"]));
    }
    match code {
        Some(1) => Ok(()),
        _ => Err(format!("exit code {code:?} instead of 1")),
    }
}

/// Runs `cargo xtask sim`.
pub(crate) fn command_sim(workspace: &Workspace, args: &[String]) -> Result<()> {
    let options = Options::parse(args)?;
    let log = Log::Terminal;
    let build = ["build", "--release", "--locked", "--package", "dpat-cli"];
    if !run(&log, &mut cargo(workspace, &build))? {
        return Err(Error::Failed("dpat does not build".to_owned()));
    }
    let folder = workspace.target.join("dpat-sim");
    let quiet = Log::create(folder.join("commands.log"))?;
    let dpat = Dpat {
        workspace,
        program: workspace.target.join("release/dpat"),
        folder,
        log: &quiet,
        limit: LIMIT,
    };
    let list = dpat
        .list()?
        .ok_or_else(|| Error::Failed(NO_COMMAND.to_owned()))?;
    let names: Vec<&str> = list.iter().map(|listed| listed.name.as_str()).collect();
    if let Some(unknown) = options
        .only
        .iter()
        .find(|only| !names.contains(&only.as_str()))
    {
        return Err(Error::Usage(format!(
            "sim: --only: no protocol `{unknown}`; there are {}",
            names.join(", ")
        )));
    }
    let mut bad = 0;
    let wanted = |name: &&str| options.only.is_empty() || options.only.iter().any(|o| o == name);
    for name in names.into_iter().filter(wanted) {
        let seeds = options.seeds;
        match dpat.sim(name, 0..seeds, &[])? {
            Verdict::Clean {
                delivered,
                elapsed_ms,
            } => println!("{name} ok: {seeds} seeds, {delivered} delivered, {elapsed_ms} ms"),
            Verdict::Failed(failure) => {
                bad += 1;
                let Failure {
                    seed,
                    property,
                    message,
                    ..
                } = failure;
                println!("{name} failed: seed {seed}: {property}: {message}");
                println!("  {} replay {name} {seed}", shown(&dpat.program, workspace));
            }
            Verdict::Vacuous(reason) => {
                bad += 1;
                println!("{name} vacuous: {reason}");
            }
        }
    }
    if bad == 0 {
        return Ok(());
    }
    Err(Error::Failed(format!("{bad} protocols failed")))
}

fn shown(program: &Path, workspace: &Workspace) -> String {
    let relative = program.strip_prefix(&workspace.root).unwrap_or(program);
    relative.display().to_string()
}

/// The step of `ci`.
pub(crate) fn step(context: &Context, log: &Log) -> Result<Outcome> {
    if !context.build(log)? {
        return Ok(Outcome::Failed("the workspace does not build".to_owned()));
    }
    let workspace = &context.workspace;
    let dpat = Dpat {
        workspace,
        program: workspace.target.join("debug/dpat"),
        folder: workspace.target.join("ci/sim"),
        log,
        limit: CI_LIMIT,
    };
    let Some(list) = dpat.list()? else {
        return Ok(Outcome::Skipped(NO_COMMAND.to_owned()));
    };
    let mut failed = Vec::new();
    let mut mutants = 0;
    for Listed { name, mutants: bad } in &list {
        match dpat.sim(name, 0..CI_SEEDS, &[])? {
            Verdict::Clean { .. } => {}
            Verdict::Failed(Failure { seed, property, .. }) => {
                failed.push(format!("{name}: {property}: dpat replay {name} {seed}"));
            }
            Verdict::Vacuous(reason) => failed.push(format!("{name} is vacuous: {reason}")),
        }
        for (name, seeds_max) in bad {
            mutants += 1;
            failed.extend(dpat.mutant(name, *seeds_max)?.err());
        }
    }
    Ok(if failed.is_empty() {
        let clean = list.len();
        Outcome::Ok(Some(format!(
            "{clean} protocols clean on {CI_SEEDS} seeds, {mutants} mutants found"
        )))
    } else {
        Outcome::Failed(failed.join("; "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Options> {
        let args: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        Options::parse(&args)
    }

    #[test]
    fn arguments_are_names_and_a_number_of_seeds() {
        let options = parse("--only echo,broadcast --seeds 7").expect("valid arguments");
        assert_eq!((options.only.len(), options.seeds), (2, 7));
        assert_eq!(parse("").expect("no arguments").seeds, SEEDS);
        for bad in [
            "--only",
            "--seeds",
            "--seeds 0",
            "--seeds x",
            "--seeds 1 echo",
            "--all 1",
        ] {
            assert!(matches!(parse(bad), Err(Error::Usage(_))), "{bad}");
        }
    }

    #[test]
    fn the_list_is_read_strictly() {
        let list = r#"[{"protocol":"echo","nodes_default":2,"properties":["echoed"],
            "mutants":[{"name":"lost","seeds_max":50}]}]"#
            .replace('\n', "");
        let expected = Listed {
            name: "echo".to_owned(),
            mutants: vec![("echo@lost".to_owned(), 50)],
        };
        assert_eq!(listed(&format!("echo\n{list}\n")), Ok(vec![expected]));
        for (from, to) in [
            ("protocol", "name"),
            ("nodes_default", "nodes"),
            ("[\"echoed\"]", "[]"),
            ("mutants", "bad"),
            ("seeds_max", "max"),
        ] {
            assert!(listed(&list.replace(from, to)).is_err(), "{from}");
        }
        assert!(listed("").is_err());
    }

    const CLEAN: &str = r#"{"protocol":"echo","seeds":9,"events":5,"delivered":4,"trace_hash":"00000000000000aa","violations":[],"vacuous":[],"elapsed_ms":3}"#;

    #[test]
    fn a_verdict_and_its_exit_code_must_agree() {
        let clean = Verdict::Clean {
            delivered: 4,
            elapsed_ms: 3,
        };
        assert_eq!(verdict(Some(0), CLEAN), Ok(clean));
        assert!(verdict(Some(1), CLEAN).is_err());
        let vacuous = CLEAN.replace("\"vacuous\":[]", "\"vacuous\":[\"no\"]");
        assert_eq!(
            verdict(Some(2), &vacuous),
            Ok(Verdict::Vacuous("no".to_owned()))
        );
        assert!(verdict(Some(0), &vacuous).is_err());
        let failed = vacuous.replace(
            "\"violations\":[]",
            r#""violations":[{"seed":3,"property":"p","at_event":1,"trace_hash":"00000000000000ab","message":"m"}]"#,
        );
        let Ok(Verdict::Failed(failure)) = verdict(Some(1), &failed) else {
            panic!("a violation is a failure, vacuous or not")
        };
        assert_eq!(failure.seed, 3);
        assert!(verdict(None, &failed).is_err());
        for field in ["seeds", "events", "trace_hash", "violations"] {
            let without = CLEAN.replace(&format!("\"{field}\""), "\"other\"");
            assert!(verdict(Some(0), &without).is_err(), "{field}");
        }
    }

    #[test]
    fn a_replay_must_be_the_same_run() {
        let failure = Failure {
            seed: 3,
            property: "p".to_owned(),
            trace_hash: "00000000000000ab".to_owned(),
            message: "m".to_owned(),
        };
        let replay = r#"{"protocol":"e","seed":3,"trace_hash":"00000000000000ab","violation":{"property":"p","at_event":1,"message":"m"}}"#;
        assert_eq!(same_run(Some(1), replay, &failure), Ok(()));
        assert!(same_run(Some(0), replay, &failure).is_err());
        assert!(same_run(Some(1), &replay.replace("ab", "ac"), &failure).is_err());
        assert!(same_run(Some(1), &replay.replace("\"p\"", "\"q\""), &failure).is_err());
    }
}
