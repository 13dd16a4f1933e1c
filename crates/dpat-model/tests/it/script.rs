use dpat_model::{Delay, Fault, LinkSet, NodeIx, Nodes, Op, Script, Trigger};

fn script(fault: Fault) -> Script {
    let mut script = Script::new("echo", Nodes::Count(3), 7);
    let when = Trigger::At(5);
    script.ops.push(Op { when, fault });
    script
}

#[test]
fn validation_names_the_field() {
    let (node, for_us) = (NodeIx(3), None);
    let error = script(Fault::Crash { node, for_us })
        .validate()
        .unwrap_err();
    assert_eq!(error.to_string(), "ops[0].node: there are only 3 nodes");
    let (link, ppm) = (LinkSet::ALL, 1_000_001);
    let error = script(Fault::Loss { link, ppm, for_us })
        .validate()
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "ops[0].ppm: above 1000000 parts per million"
    );
    let link = LinkSet::one(NodeIx(1), NodeIx(1));
    let error = script(Fault::Cut { link, for_us }).validate().unwrap_err();
    assert_eq!(error.to_string(), "ops[0].link: must join two nodes");
    let group = vec![NodeIx(0), NodeIx(1), NodeIx(2)];
    let error = script(Fault::Halves { group, for_us })
        .validate()
        .unwrap_err();
    assert_eq!(error.field, "ops[0].group");
    let (link, delay) = (LinkSet::ALL, Delay::Uniform(5, 4));
    let error = script(Fault::Delay {
        link,
        delay,
        for_us,
    })
    .validate()
    .unwrap_err();
    assert_eq!(error.to_string(), "ops[0].delay: low above high");
    let (node, for_us) = (NodeIx(0), Some(0));
    let error = script(Fault::Pause { node, for_us })
        .validate()
        .unwrap_err();
    assert_eq!(error.to_string(), "ops[0].for_us: must not be 0");
}

#[test]
fn nodes_are_bounded_and_names_distinct() {
    let names = |names: &[&str]| Nodes::Named(names.iter().map(|n| (*n).to_owned()).collect());
    for nodes in [
        Nodes::Count(0),
        Nodes::Count(10_001),
        names(&[]),
        names(&["a", "b", "a"]),
        names(&["*"]),
        names(&[""]),
        names(&["a\n"]),
    ] {
        let error = Script::new("echo", nodes.clone(), 0).validate();
        assert_eq!(
            error.map_err(|error| error.field),
            Err("nodes".to_owned()),
            "{nodes:?}"
        );
    }
    assert!(
        Script::new("echo", names(&["a", "b"]), 0)
            .validate()
            .is_ok()
    );
    assert_eq!(
        Script::new("", Nodes::Count(1), 0)
            .validate()
            .unwrap_err()
            .field,
        "protocol"
    );
}

#[test]
fn a_link_set_contains_what_its_ends_allow() {
    let (a, b, c) = (NodeIx(0), NodeIx(1), NodeIx(2));
    let to_b = LinkSet {
        from: None,
        to: Some(b),
    };
    assert!(LinkSet::ALL.contains(a, c) && to_b.contains(c, b));
    assert!(!to_b.contains(b, a) && !LinkSet::one(a, b).contains(b, a));
}

#[cfg(feature = "json")]
mod text {
    use super::*;

    const HEAD: &str = r#"{"version": 1, "protocol": "echo", "nodes": 3, "seed": 7, "ops": ["#;

    fn parse(op: &str) -> Result<Script, String> {
        let text = format!("{HEAD}\n  {op}\n]}}");
        Script::parse(&text, "f.json").map_err(|error| error.to_string())
    }

    #[test]
    fn unknown_missing_and_bad_fields_are_errors_with_their_place() {
        for (op, error) in [
            (
                r#"{"at_us": 1, "do": "crash", "node": 1, "nod": 2}"#,
                "2:49: ops[0].nod: unknown field",
            ),
            (
                r#"{"at_us": 1, "do": "crash", "node": 1, "ppm": 2}"#,
                "2:49: ops[0].ppm: unknown field",
            ),
            (
                r#"{"at_us": 1, "do": "crash"}"#,
                "2:3: ops[0].node: missing",
            ),
            (
                r#"{"at_us": 1, "do": "crahs", "node": 1}"#,
                "2:22: ops[0].do: there is no fault \"crahs\"",
            ),
            (
                r#"{"at_us": 1, "node": 1}"#,
                "2:3: ops[0].do: must be the name of a fault",
            ),
            (
                r#"{"do": "crash", "node": 1}"#,
                "2:3: ops[0].at_us: give either at_us or on_event",
            ),
            (
                r#"{"at_us": 1, "on_event": 2, "do": "crash", "node": 1}"#,
                "2:3: ops[0].at_us: give either at_us or on_event",
            ),
            (
                r#"{"at_us": 1, "nth": 2, "do": "crash", "node": 1}"#,
                "2:3: ops[0].nth: needs a named on_event",
            ),
            (
                r#"{"on_event": "x", "nth": 0, "do": "crash", "node": 1}"#,
                "2:3: ops[0].nth: counts from 1",
            ),
            (
                r#"{"on_event": -1, "do": "crash", "node": 1}"#,
                "2:3: ops[0].on_event: must be a number or a name",
            ),
            (
                r#"{"at_us": -1, "do": "crash", "node": 1}"#,
                "2:13: ops[0].at_us: invalid value: integer `-1`, expected u64",
            ),
            (
                r#"{"at_us": 1, "do": "crash", "node": 1, "node": 2}"#,
                "2:50: ops[0].node: given twice",
            ),
            (
                r#"{"at_us": 1, "do": "crash", "node": "a"}"#,
                "2:39: ops[0].node: no node is named \"a\"",
            ),
            (
                r#"{"at_us": 1, "do": "cut", "link": [0, 3]}"#,
                "2:37: ops[0].link: there are only 3 nodes",
            ),
            (
                r#"{"at_us": 1, "do": "loss", "ppm": 0.5}"#,
                "2:37: ops[0].ppm: invalid type: floating point `0.5`, expected u32",
            ),
            (
                r#"{"at_us": 1, "do": "delay", "delay": {"constant_us": 1, "x": 2}}"#,
                "2:40: ops[0].delay: invalid value: map, expected map with a single key",
            ),
            (
                r#"{"at_us": 1, "do": "crash", "node": }"#,
                "2:39: expected value",
            ),
            (
                "7",
                "2:3: ops[0]: invalid type: integer `7`, expected an object",
            ),
        ] {
            assert_eq!(parse(op), Err(format!("f.json:{error}")), "{op}");
        }
    }

    #[test]
    fn the_head_is_as_strict() {
        for (text, error) in [
            ("", "1:1: EOF while parsing a value"),
            (r#"{"version": 2}"#, "1:13: version: must be 1"),
            (r#"{"version": 1}"#, "1:1: protocol: missing"),
            (r#"{"version": 1, "protocol": "p"}"#, "1:1: nodes: missing"),
            (
                r#"{"version": 1, "protocol": "p", "nodes": 0, "seed": 1, "ops": []}"#,
                "1:42: nodes: must be 1 to 10000 nodes",
            ),
            (
                r#"{"version": 1, "protocol": "p", "nodes": 1, "seed": 1, "ops": [], "x": 0}"#,
                "1:72: x: unknown field",
            ),
            (
                "{\"version\": 1, \"protocol\": \"p\",\n\"nodes\": 1, \"seed\": 1,\n\"ops\": []} x",
                "3:12: trailing characters",
            ),
        ] {
            let parsed = Script::parse(text, "f.json").map_err(|error| error.to_string());
            assert_eq!(parsed, Err(format!("f.json:{error}")), "{text}");
        }
    }

    #[test]
    fn the_canonical_text_is_fixed() {
        let text = r#"{"seed": 7, "version": 1, "nodes": ["order", "payment"], "protocol": "shop", "ops": [
            {"node": 1, "do": "request_abort_after", "at_us": 10, "ppm": 50000, "call": "charge"},
            {"do": "loss", "ppm": 3, "on_event": 12}, {"do": "ring", "at_us": 1},
            {"do": "crash", "node": "order", "on_event": "order.between", "for_us": 5}]}"#;
        let script = Script::parse(text, "f.json").unwrap();
        assert_eq!(script.to_json(), include_str!("canonical.json"));
        assert_eq!(
            Script::parse(&script.to_json(), "f.json").as_ref(),
            Ok(&script)
        );
        let empty = Script::new("echo", Nodes::Count(1), u64::MAX);
        assert_eq!(Script::parse(&empty.to_json(), "f.json"), Ok(empty));
    }
}
