//! The machine that a run was made on.

/// Returns the CPU model and the number of cores that this process may use.
#[must_use]
pub fn cpu() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    describe(&info, std::env::consts::ARCH, cores)
}

fn describe(info: &str, arch: &str, cores: usize) -> String {
    let model = info
        .lines()
        .find_map(|line| {
            let (key, value) = line.split_once(':')?;
            (key.trim() == "model name").then_some(value.trim())
        })
        .unwrap_or("unknown CPU");
    format!("{model} ({arch}, {cores} cores)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_model_once() {
        let info = "processor\t: 0\nmodel name\t: Fast CPU @ 3 GHz\n\nprocessor\t: 1\nmodel name\t: Fast CPU @ 3 GHz\n";
        assert_eq!(
            describe(info, "x86_64", 2),
            "Fast CPU @ 3 GHz (x86_64, 2 cores)"
        );
        assert_eq!(describe("", "x86_64", 1), "unknown CPU (x86_64, 1 cores)");
    }
}
