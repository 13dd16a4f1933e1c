//! The same seed gives the same run in another process.

use std::process::Command;

use dpat_sim::{Of, RunSpec, batch, hex};

use crate::toy::Keepers;

const CHILD: &str = "DPAT_SIM_TEST_CHILD";

fn hash(mutant: Option<&str>) -> String {
    let spec = RunSpec {
        mutant: mutant.map(str::to_owned),
        ..RunSpec::new(0)
    };
    let report = batch(&Of::<Keepers>::new(), 0..8, &spec, 2).expect("such runs exist");
    hex(report.trace_hash)
}

#[test]
fn a_fresh_process_repeats_the_run() {
    let hashes = [hash(None), hash(Some("count-copies"))];
    if std::env::var_os(CHILD).is_some() {
        println!("hashes: {hashes:?}");
        return;
    }
    assert_ne!(hashes[0], hashes[1]);
    let child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "fresh::a_fresh_process_repeats_the_run",
            "--nocapture",
        ])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let printed = String::from_utf8(child.stdout).unwrap();
    assert!(
        printed.contains(&format!("hashes: {hashes:?}")),
        "{printed}"
    );
}
