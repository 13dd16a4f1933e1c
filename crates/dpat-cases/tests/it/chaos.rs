//! Fault scripts: strict, and the same for the same seed.

use dpat_cases::shop::chaos::{self, Do, Fate, Script, Subject};
use dpat_cases::shop::config::Config;
use dpat_cases::shop::generator::Generator;
use dpat_cases::shop::service::ports::{Peer, Step};

fn seeded(seed: u64) -> Script {
    let config = Config {
        seed,
        ..Config::default()
    };
    let orders = Generator::new(&config).map(|planned| planned.order);
    chaos::plan(&config, orders)
}

fn fates(script: &Script) -> Vec<Fate> {
    (0..5_000)
        .map(|number| {
            script.fate(Subject {
                node: Peer::Payment,
                step: Step::Charge,
                order_id: &format!("o-{number}"),
                attempt: number % 3,
                at_us: 10,
            })
        })
        .collect()
}

#[test]
fn pitfall_14_1_the_same_seed_gives_the_same_faults() {
    assert_eq!(seeded(3), seeded(3));
    assert_ne!(seeded(3), seeded(4));
    assert_eq!(fates(&seeded(3)), fates(&seeded(3)));
    assert_ne!(fates(&seeded(3)), fates(&seeded(4)));
}

#[test]
fn pitfall_14_1_faults_come_before_and_after_the_effect_and_late() {
    let fates = fates(&seeded(3));
    let count = |fits: fn(&Fate) -> bool| fates.iter().filter(|fate| fits(fate)).count();
    // Planned: 1.5 %, 0.8 % and 2 % of 5000.
    assert!((40..120).contains(&count(|fate| *fate == Fate::Error)));
    assert!((15..80).contains(&count(|fate| *fate == Fate::Drop)));
    assert!((50..150).contains(&count(|fate| matches!(fate, Fate::Late(_)))));
}

#[test]
fn a_seeded_plan_survives_the_way_through_a_file() {
    let script = seeded(9);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("script.json");
    std::fs::write(&file, serde_json::to_vec_pretty(&script).unwrap()).unwrap();
    assert_eq!(chaos::read(&file).unwrap(), script);
}

#[test]
fn a_hang_holds_every_request_until_its_end() {
    let script: Script = serde_json::from_str(
        r#"{"version":1,"protocol":"shop","nodes":5,"seed":1,
            "ops":[{"at_us":100,"do":"hang","node":"payment","for_us":50}]}"#,
    )
    .unwrap();
    let at = |at_us| {
        script.fate(Subject {
            node: Peer::Payment,
            step: Step::Charge,
            order_id: "o",
            attempt: 0,
            at_us,
        })
    };
    assert_eq!(at(99), Fate::Pass);
    assert_eq!(at(100), Fate::Hang { until_us: 150 });
    assert_eq!(at(149), Fate::Hang { until_us: 150 });
    assert_eq!(at(150), Fate::Pass);
    assert_eq!(script.timed(Do::Hang).count(), 1);
}

/// Reads a script whose only operation is `op`, and compares how the error begins.
#[track_caller]
fn check(op: &str, expected: &str) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("s.json");
    let text =
        format!("{{\"version\":1,\"protocol\":\"shop\",\"nodes\":5,\"seed\":1,\n\"ops\":[{op}]}}");
    std::fs::write(&file, text).unwrap();
    let found = match chaos::read(&file) {
        Ok(_) => "ok".to_owned(),
        Err(error) => error
            .to_string()
            .replace(&format!("{}:", file.display()), ""),
    };
    assert!(found.starts_with(expected), "{found}\nexpected {expected}");
}

#[test]
fn scripts_are_checked_strictly() {
    check(r#"{"at_us":1,"do":"kill","node":"order","for_us":5}"#, "ok");
    check(
        r#"{"at_us":1,"do":"hang","node":"payment"}"#,
        "2:48: ops[0].for_us: needed with hang and kill",
    );
    check(
        r#"{"at_us":1,"do":"error","node":"payment","per_million":1000001}"#,
        "2:71: ops[0].per_million: must be at most 1000000, is 1000001",
    );
    check(
        r#"{"at_us":1,"do":"error","node":"paymnt","per_million":1}"#,
        "2:46: ops[0].node: unknown variant",
    );
    check(
        r#"{"at_us":1,"do":"kill","node":"order","for_us":5,"force":1}"#,
        "2:63: ops[0].force: unknown field",
    );
    check(
        r#"{"on_event":"order.completed","do":"kill","node":"order","for_us":5}"#,
        "2:76: ops[0].order_id: needed with on_event",
    );
    check(
        r#"{"do":"kill","node":"order","for_us":5}"#,
        "2:47: ops[0].at_us: either this or on_event is needed",
    );
}
