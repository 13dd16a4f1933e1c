//! The workspace as cargo sees it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::error::{Error, Result};

/// The workspace: where it is and which packages it has.
pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    pub(crate) target: PathBuf,
    pub(crate) packages: Vec<Package>,
}

/// A member of the workspace.
#[derive(Debug, Clone, Default)]
pub(crate) struct Package {
    pub(crate) name: String,
    /// Folder relative to the root, with `/`.
    pub(crate) dir: String,
    pub(crate) publishable: bool,
    pub(crate) rust_version: Option<String>,
    pub(crate) dependencies: Vec<Dependency>,
    /// Names of the features without `default`.
    pub(crate) features: Vec<String>,
    pub(crate) has_lib: bool,
    pub(crate) examples: Vec<String>,
}

/// One line of a manifest's dependency tables.
#[derive(Debug, Clone, Default)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// The version requirement; `*` when the manifest states none.
    pub(crate) req: String,
    pub(crate) by_path: bool,
}

/// Which of the three tables a dependency stands in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Kind {
    #[default]
    Normal,
    Dev,
    Build,
}

impl Workspace {
    /// Asks cargo for the workspace that this program belongs to.
    pub(crate) fn load() -> Result<Self> {
        let json = metadata(&["--no-deps"])?;
        Self::from_json(&json)
    }

    /// Reads what `cargo metadata` printed.
    pub(crate) fn from_json(json: &Value) -> Result<Self> {
        let text = |value: &Value, key: &str| -> Result<String> {
            value[key]
                .as_str()
                .map(str::to_owned)
                .ok_or_else(|| Error::Internal(format!("cargo metadata has no `{key}`")))
        };
        let root = PathBuf::from(text(json, "workspace_root")?);
        let target = PathBuf::from(text(json, "target_directory")?);
        let members: Vec<&str> = strings(&json["workspace_members"]);
        let mut packages = Vec::new();
        for package in json["packages"].as_array().into_iter().flatten() {
            if !members.contains(&package["id"].as_str().unwrap_or_default()) {
                continue;
            }
            packages.push(Package::from_json(package, &root, text(package, "name")?));
        }
        packages.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Self {
            root,
            target,
            packages,
        })
    }

    /// The member of this name.
    pub(crate) fn package(&self, name: &str) -> Option<&Package> {
        self.packages.iter().find(|package| package.name == name)
    }

    /// Where `cargo xtask setup` puts the optional tools.
    pub(crate) fn tools(&self) -> PathBuf {
        self.root.join("target/tools")
    }

    /// The folder of their programs.
    pub(crate) fn tools_bin(&self) -> PathBuf {
        self.tools().join("bin")
    }

    /// Finds a program among the optional tools, then on the path.
    pub(crate) fn find_tool(&self, name: &str) -> Option<OsString> {
        if name.contains('/') {
            return None;
        }
        let own = self.tools_bin().join(name);
        if own.is_file() {
            return Some(own.into_os_string());
        }
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path)
            .map(|dir| dir.join(name))
            .find(|file| file.is_file())
            .map(PathBuf::into_os_string)
    }

    /// Reads a file of the workspace.
    pub(crate) fn read(&self, path: &str) -> Result<String> {
        read(&self.root.join(path))
    }
}

impl Package {
    fn from_json(json: &Value, root: &Path, name: String) -> Self {
        let manifest = Path::new(json["manifest_path"].as_str().unwrap_or_default());
        let dir = manifest.parent().unwrap_or(root);
        let targets = json["targets"].as_array().cloned().unwrap_or_default();
        let of_kind = |kind: &str| -> Vec<String> {
            targets
                .iter()
                .filter(|target| strings(&target["kind"]).contains(&kind))
                .filter_map(|target| target["name"].as_str().map(str::to_owned))
                .collect()
        };
        Self {
            name,
            dir: dir
                .strip_prefix(root)
                .unwrap_or(dir)
                .to_string_lossy()
                .replace('\\', "/"),
            publishable: json["publish"]
                .as_array()
                .is_none_or(|list| !list.is_empty()),
            rust_version: json["rust_version"].as_str().map(str::to_owned),
            dependencies: json["dependencies"]
                .as_array()
                .into_iter()
                .flatten()
                .map(Dependency::from_json)
                .collect(),
            features: json["features"]
                .as_object()
                .into_iter()
                .flat_map(|features| features.keys())
                .filter(|feature| *feature != "default")
                .cloned()
                .collect(),
            has_lib: !of_kind("lib").is_empty(),
            examples: of_kind("example"),
        }
    }
}

impl Dependency {
    fn from_json(json: &Value) -> Self {
        Self {
            name: json["name"].as_str().unwrap_or_default().to_owned(),
            kind: match json["kind"].as_str() {
                Some("dev") => Kind::Dev,
                Some("build") => Kind::Build,
                _ => Kind::Normal,
            },
            req: json["req"].as_str().unwrap_or("*").to_owned(),
            by_path: json["path"].is_string(),
        }
    }
}

/// What `cargo metadata` says.
pub(crate) fn metadata(args: &[&str]) -> Result<Value> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    // The manifest of this program, so that the chores work from every folder of the checkout.
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    let output = Command::new(program)
        .args([
            "metadata",
            "--format-version",
            "1",
            "--manifest-path",
            manifest,
        ])
        .args(args)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| Error::Internal(format!("cannot start cargo: {error}")))?;
    if !output.status.success() {
        return Err(Error::Input(
            "cargo metadata does not accept the workspace".to_owned(),
        ));
    }
    serde_json::from_slice(&output.stdout)
        .map_err(|error| Error::Internal(format!("cargo metadata is no JSON: {error}")))
}

/// Reads a text file.
pub(crate) fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|error| Error::io(path, &error))
}

/// Writes a file, unless it has this content already: cargo looks at the time of change.
pub(crate) fn write_if_changed(path: &Path, content: &str) -> Result<()> {
    if std::fs::read_to_string(path).is_ok_and(|old| old == content) {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(|error| Error::io(parent, &error))?;
    }
    std::fs::write(path, content).map_err(|error| Error::io(path, &error))
}

/// The strings of a JSON array.
pub(crate) fn strings(value: &Value) -> Vec<&str> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

/// The two tables of `xtask/budgets.toml`.
pub(crate) struct Budgets {
    /// Seconds a step of `ci` may take.
    pub(crate) steps: BTreeMap<String, u64>,
    /// External packages a library crate may pull in with default features.
    pub(crate) packages: BTreeMap<String, u64>,
}

impl Budgets {
    /// Where the budgets stand.
    pub(crate) const FILE: &str = "xtask/budgets.toml";

    /// Reads them.
    pub(crate) fn load(workspace: &Workspace) -> Result<Self> {
        Self::parse(&workspace.read(Self::FILE)?)
    }

    /// Parses them; an entry that is no whole number is an error.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let table: toml::Table = text
            .parse()
            .map_err(|error| Error::Input(format!("{}: {error}", Self::FILE)))?;
        let read = |section: &str| -> Result<BTreeMap<String, u64>> {
            let entries = table.get(section).and_then(toml::Value::as_table);
            let Some(entries) = entries else {
                return Err(Error::Input(format!(
                    "{}: {section}: no such table",
                    Self::FILE
                )));
            };
            entries
                .iter()
                .map(|(key, value)| {
                    let number = value
                        .as_integer()
                        .and_then(|number| u64::try_from(number).ok());
                    number.map(|number| (key.clone(), number)).ok_or_else(|| {
                        Error::Input(format!(
                            "{}: {section}.{key}: not a whole number",
                            Self::FILE
                        ))
                    })
                })
                .collect()
        };
        Ok(Self {
            steps: read("steps")?,
            packages: read("packages")?,
        })
    }
}
