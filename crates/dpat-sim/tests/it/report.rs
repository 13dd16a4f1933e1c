//! Printed forms that scripts rely on.

use dpat_sim::{
    Coverage, Families, Family, Of, Registry, RunSpec, Simulation, batch, coverage_table, hex,
    replay_json, replay_line,
};

use crate::fake::{Fake, violation};
use crate::toy::Keepers;

#[test]
fn a_batch_is_one_object() {
    let fake = Fake::new(|spec, outcome| {
        if spec.seed == 8 {
            outcome.violation = violation("right");
        }
        outcome.coverage.note_sometimes("elected", 0);
    });
    let one = batch(&fake, 8..9, &RunSpec::new(0), 1).unwrap();
    let expected = concat!(
        r#"{"protocol":"fake","seeds":1,"events":18,"delivered":8,"trace_hash":"f1bbcdcbfa53e0a8","#,
        r#""violations":[{"seed":8,"property":"right","at_event":4,"trace_hash":"f1bbcdcbfa53e0a8","#,
        r#""message":"it is not"}],"vacuous":["elected never happened"],"elapsed_ms":12}"#
    );
    assert_eq!(one.to_json(12), expected);
    let spec = RunSpec {
        mutant: Some("m".to_owned()),
        ..RunSpec::new(0)
    };
    let many = batch(&fake, 0..8, &spec, 1).unwrap();
    let json: serde_json::Value = serde_json::from_str(&many.to_json(0)).unwrap();
    assert_eq!(json["protocol"], "fake@m");
    assert_eq!(json["seeds"], 8);
    assert_eq!(json["violations"], serde_json::json!([]));
    assert_eq!(json["trace_hash"], hex(many.trace_hash));
}

#[test]
fn people_see_failures_with_the_command_that_repeats_them() {
    let fake = Fake::new(|spec, outcome| {
        if spec.seed != 3 {
            outcome.violation = violation("right");
        }
        outcome.coverage.note_sometimes("elected", 0);
    });
    let report = batch(&fake, 2..15, &RunSpec::new(0), 1).unwrap();
    let text = report.to_text(Some(5), None);
    let lines: Vec<&str> = text.lines().collect();
    let first = format!(
        "fake seeds 2..15: 234 events, 104 delivered, trace {}, 12 failed",
        hex(report.trace_hash)
    );
    assert_eq!(lines[0], first);
    assert_eq!(lines[1], "seed 2: right at event 4: it is not");
    assert_eq!(lines[2], "  dpat replay fake 2 --nodes 5");
    assert_eq!(lines[3], "seed 4: right at event 4: it is not");
    assert_eq!(
        lines[21..],
        ["and 2 more", "vacuous: elected never happened"]
    );
    assert_eq!(
        replay_line("fake@m", 9, None, Some("f.json")),
        "dpat replay fake@m 9 --script f.json"
    );
}

#[test]
fn a_replay_is_one_object() {
    let fake = Fake::new(|spec, outcome| {
        if spec.seed == 2 {
            outcome.violation = violation("right");
        }
    });
    let fine = fake.run(&RunSpec::new(1)).unwrap();
    let expected =
        r#"{"protocol":"fake","seed":1,"trace_hash":"9e3779b97f4a7c15","violation":null}"#;
    assert_eq!(replay_json("fake", None, &fine), expected);
    let failed = fake.run(&RunSpec::new(2)).unwrap();
    let expected = concat!(
        r#"{"protocol":"fake@m","seed":2,"trace_hash":"3c6ef372fe94f82a","#,
        r#""violation":{"property":"right","at_event":4,"message":"it is not"}}"#
    );
    assert_eq!(replay_json("fake", Some("m"), &failed), expected);
}

#[test]
fn the_list_names_protocols_properties_and_mutants() {
    let registry = Registry::default()
        .with(Of::<Keepers>::new())
        .with(Fake::new(|_, _| ()));
    let expected = concat!(
        r#"[{"protocol":"keepers","nodes_default":3,"properties":["kept","exact","spread"],"#,
        r#""mutants":[{"name":"answer-at-once","seeds_max":100},"#,
        r#"{"name":"count-copies","seeds_max":20},{"name":"send-once","seeds_max":20},"#,
        r#"{"name":"panics","seeds_max":1}]},"#,
        r#"{"protocol":"fake","nodes_default":3,"properties":["right","good"],"mutants":[]}]"#
    );
    assert_eq!(registry.to_json(), expected);
    assert_eq!(Registry::default().to_json(), "[]");
}

#[test]
fn the_coverage_table_shows_and_lists_its_holes() {
    let mut coverage = Coverage::new(&["Prepare", "Vote"], &["up"]);
    for _ in 0..1200 {
        coverage.delivered(0, 0, Families::NONE);
    }
    coverage.delivered(1, 0, Families::of(&[Family::Loss, Family::Pause]));
    coverage.note_sometimes("elected", 2);
    coverage.note_compared(9);
    let table = coverage_table(&coverage, Families::of(&[Family::Crash, Family::Loss]));
    let expected = "\
kind     phase  no fault  loss  crash
Prepare  up         1200     -      -
Vote     up            -     1      -
holes: 4 of 6
  Prepare in up under loss
  Prepare in up under crash
  Vote in up under no fault
  Vote in up under crash
faults that struck: none
happened sometimes: elected 2
operations compared: 9
";
    assert_eq!(table, expected);
}
