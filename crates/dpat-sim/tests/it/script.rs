//! Scripts that people wrote: refused where they stand.

use dpat_model::Script;
use dpat_sim::{Of, RunSpec, ScriptRefused, SpecError, read_script};

use crate::toy::Keepers;

fn read(spec: &RunSpec, text: &str) -> Result<Script, ScriptRefused> {
    read_script(&Of::<Keepers>::new(), spec, text, "f.json")
}

fn refused(text: &str) -> String {
    match read(&RunSpec::new(7), text).unwrap_err() {
        ScriptRefused::Text(error) => error.to_string(),
        other => panic!("{other:?} has no place"),
    }
}

fn script(protocol: &str, nodes: u32, ops: &str) -> String {
    format!(
        "{{\"version\": 1, \"protocol\": \"{protocol}\",\n \"nodes\": {nodes}, \"seed\": 7, \"ops\": [\n{ops}]}}"
    )
}

#[test]
fn what_it_cannot_run_is_refused_where_it_stands() {
    let pause = r#"{"at_us": 1, "do": "pause", "node": 1, "for_us": 5}"#;
    let good = script("keepers", 3, pause);
    assert_eq!(read(&RunSpec::new(7), &good).unwrap().ops.len(), 1);
    let mutant = script("keepers@send-once", 3, pause);
    assert_eq!(read(&RunSpec::new(7), &mutant).unwrap().ops.len(), 1);

    let other = refused(&script("echo", 3, pause));
    assert_eq!(other, "f.json:1:28: protocol: must be \"keepers\"");
    let few = refused(&script("keepers", 1, ""));
    assert_eq!(few, "f.json:2:11: nodes: must be 2 to 10000 nodes");
    let nowhere = r#"{"on_event": "nowhere", "do": "crash", "node": 0}"#;
    let nowhere = refused(&script("keepers", 3, &format!("{pause},\n{nowhere}")));
    assert!(nowhere.starts_with("f.json:4:"), "{nowhere}");
    assert!(nowhere.contains(": ops[1].do: "), "{nowhere}");
}

#[test]
fn nodes_that_were_asked_for_besides_are_no_fault_of_the_text() {
    let spec = RunSpec {
        nodes: Some(5),
        ..RunSpec::new(7)
    };
    let error = read(&spec, &script("keepers", 3, "")).unwrap_err();
    let nodes = SpecError::Nodes {
        asked: 5,
        min: 3,
        max: 3,
    };
    assert_eq!(error, ScriptRefused::Spec(nodes));
}
