//! Versions of the contenders, from the lock file that they were built with.

const LOCK: &str = include_str!("../Cargo.lock");
const ROOT: &str = "dpat-benches";

/// One `[[package]]` of a lock file.
#[derive(Default)]
struct Package<'a> {
    name: &'a str,
    version: &'a str,
    /// As written: `name`, or `name version` where the name alone is ambiguous.
    dependencies: Vec<&'a str>,
}

fn packages(lock: &str) -> Vec<Package<'_>> {
    let mut packages: Vec<Package<'_>> = Vec::new();
    for line in lock.lines() {
        if line == "[[package]]" {
            packages.push(Package::default());
            continue;
        }
        let Some(package) = packages.last_mut() else {
            continue;
        };
        let quoted = || line.split('"').nth(1).unwrap_or_default();
        if line.starts_with("name = ") {
            package.name = quoted();
        } else if line.starts_with("version = ") {
            package.version = quoted();
        } else if line.starts_with(" \"") {
            package.dependencies.push(quoted());
        }
    }
    packages
}

fn find(lock: &str, root: &str, name: &str) -> Option<String> {
    let packages = packages(lock);
    let direct = packages
        .iter()
        .find(|package| package.name == root)?
        .dependencies
        .iter()
        .find(|dependency| dependency.split(' ').next() == Some(name))?;
    if let Some(version) = direct.split(' ').nth(1) {
        return Some(version.to_owned());
    }
    packages
        .iter()
        .find(|package| package.name == name)
        .map(|package| package.version.to_owned())
}

/// Returns the locked version of a direct dependency.
///
/// # Panics
/// If `name` is no direct dependency of this package: a contender that is not built cannot have been measured.
#[must_use]
pub fn of(name: &str) -> String {
    in_lock(LOCK, ROOT, name)
}

/// Returns the version of a direct dependency of `root` in the text of a lock file.
///
/// # Panics
/// If `name` is no direct dependency of `root`.
#[must_use]
pub fn in_lock(lock: &str, root: &str, name: &str) -> String {
    match find(lock, root, name) {
        Some(version) => version,
        None => panic!("{name} is no direct dependency of {root} in Cargo.lock"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = r#"
version = 4

[[package]]
name = "root"
version = "0.0.0"
dependencies = [
 "alpha",
 "beta 2.1.0",
]

[[package]]
name = "alpha"
version = "1.2.3"

[[package]]
name = "beta"
version = "1.0.0"

[[package]]
name = "beta"
version = "2.1.0"
"#;

    #[test]
    fn takes_the_version_that_the_root_depends_on() {
        assert_eq!(find(SAMPLE, "root", "alpha").as_deref(), Some("1.2.3"));
        assert_eq!(find(SAMPLE, "root", "beta").as_deref(), Some("2.1.0"));
        assert_eq!(find(SAMPLE, "root", "gamma"), None);
        assert_eq!(find(SAMPLE, "nobody", "alpha"), None);
    }

    #[test]
    fn knows_our_own_lock_file() {
        assert_eq!(of("dpat-core").split('.').count(), 3);
        assert_eq!(of("recloser").split('.').count(), 3);
    }
}
