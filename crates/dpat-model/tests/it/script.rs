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
    let (link, per_million) = (LinkSet::ALL, 1_000_001);
    let error = script(Fault::Loss {
        link,
        per_million,
        for_us,
    })
    .validate()
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        "ops[0].per_million: above 1000000 per million"
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
    let (client, keep) = (0, vec![0, 7, 7]);
    let error = script(Fault::Calls { client, keep })
        .validate()
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "ops[0].keep: must ascend, and be at most 100000"
    );
    for keep in [vec![], vec![0], vec![1, 5, u64::MAX]] {
        assert_eq!(script(Fault::Calls { client, keep }).validate(), Ok(()));
    }
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
    use dpat_model::Accept;

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
                r#"{"at_us": 1, "do": "crash", "node": 1, "step": 2}"#,
                "2:50: ops[0].step: unknown field",
            ),
            (
                r#"{"at_us": 1, "do": "crash"}"#,
                "2:3: ops[0].node: missing",
            ),
            (
                r#"{"at_us": 1, "do": "explode", "node": 1}"#,
                "2:22: ops[0].do: there is no fault \"explode\"",
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
                r#"{"at_us": 1, "do": "loss", "per_million": 0.5}"#,
                "2:45: ops[0].per_million: invalid type: floating point `0.5`, expected u32",
            ),
            (
                r#"{"at_us": 1, "do": "delay", "delay": {"constant_us": 1, "x": 2}}"#,
                "2:40: ops[0].delay: invalid value: map, expected map with a single key",
            ),
            (
                r#"{"at_us": 0, "do": "calls", "client": 0, "keep": [3, 2]}"#,
                "2:52: ops[0].keep: must ascend, and be at most 100000",
            ),
            (
                r#"{"at_us": 0, "do": "calls", "client": 0}"#,
                "2:3: ops[0].keep: missing",
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
            {"node": 1, "do": "drop", "at_us": 10, "per_million": 50000, "step": "charge"},
            {"do": "loss", "per_million": 3, "on_event": 12}, {"do": "ring", "at_us": 1},
            {"do": "crash", "node": "order", "on_event": "order.between", "for_us": 5},
            {"keep": [0, 2, 7], "client": 0, "do": "calls", "at_us": 0}]}"#;
        let script = Script::parse(text, "f.json").unwrap();
        assert_eq!(script.to_json(), include_str!("canonical.json"));
        assert_eq!(
            Script::parse(&script.to_json(), "f.json").as_ref(),
            Ok(&script)
        );
        let empty = Script::new("echo", Nodes::Count(1), u64::MAX);
        assert_eq!(Script::parse(&empty.to_json(), "f.json"), Ok(empty));
    }

    #[test]
    fn nodes_may_be_named_by_the_system() {
        const NAMES: &[&str] = &["gateway", "order"];
        let script = |nodes: &str, node: &str| {
            let head =
                format!(r#"{{"version": 1, "protocol": "shop", "nodes": {nodes}, "seed": 7,"#);
            format!(
                r#"{head} "ops": [{{"at_us": 1, "do": "kill", "node": {node}, "for_us": 9}}]}}"#
            )
        };
        let names = r#"["gateway", "order"]"#;
        let parsed = Script::parse_named(&script("2", r#""order""#), "f", NAMES).unwrap();
        for text in [script("2", "1"), script(names, "1"), parsed.to_json()] {
            assert_eq!(Script::parse_named(&text, "f", NAMES).as_ref(), Ok(&parsed));
        }
        assert_eq!(Script::parse(&parsed.to_json(), "f").as_ref(), Ok(&parsed));
        for nodes in ["3", r#"["order", "gateway"]"#] {
            let error = Script::parse_named(&script(nodes, "1"), "f", NAMES).unwrap_err();
            assert_eq!(error.reason, r#"must be the 2 nodes ["gateway", "order"]"#);
        }
    }

    #[test]
    fn what_an_executor_cannot_do_is_refused_where_it_stands() {
        let text = r#"{"version": 1, "protocol": "echo", "nodes": 2, "seed": 7, "ops": [
            {"at_us": 1, "do": "pause", "node": 1},
            {"at_us": 2, "do": "crash", "node": 1}]}"#;
        let refused = |op: &Op| match op.fault {
            Fault::Crash { for_us: None, .. } => Err(("for_us", "is needed here".to_owned())),
            Fault::Pause { .. } => Ok(()),
            _ => Err(("do", "not here".to_owned())),
        };
        let parse = |protocol, op: &dyn Fn(&Op) -> _| {
            let accept = Accept {
                protocol: Some(protocol),
                op,
                ..Accept::default()
            };
            Script::parse_for(text, "f", &accept).map_err(|error| error.to_string())
        };
        // A field that is not there is missed at the operation.
        let missed = "f:3:13: ops[1].for_us: is needed here".to_owned();
        assert_eq!(parse("echo", &refused), Err(missed));
        let wrong = "f:2:32: ops[0].do: not here".to_owned();
        let none = |_: &Op| Err(("do", "not here".to_owned()));
        assert_eq!(parse("echo", &none), Err(wrong));
        let other = r#"f:1:28: protocol: must be "shop""#.to_owned();
        assert_eq!(parse("shop", &|_| Ok(())), Err(other));
        assert_eq!(
            parse("echo", &|_| Ok(())),
            Script::parse(text, "f").map_err(|_| String::new())
        );
    }

    #[test]
    fn services_and_protocols_share_one_form() {
        const NAMES: &[&str] = &["gateway", "order", "inventory", "payment", "shipping"];
        let text = r#"{"version": 1, "protocol": "shop", "nodes": 5, "seed": 7, "ops": [
            {"at_us": 0, "do": "error", "node": "payment", "step": "charge", "per_million": 20000},
            {"at_us": 0, "do": "drop", "node": "payment", "order_id": "o-17"},
            {"at_us": 0, "do": "latency", "node": "shipping", "per_million": 5000, "add_us": 80000, "for_us": 900000},
            {"at_us": 400000, "do": "hang", "node": "inventory", "for_us": 300000},
            {"at_us": 900000, "do": "kill", "node": "payment", "for_us": 200000},
            {"on_event": "order.completed", "do": "kill", "node": "order", "order_id": "o-3", "for_us": 250000},
            {"at_us": 500000, "do": "isolate", "node": "order", "for_us": 100000}]}"#;
        let script = Script::parse_named(text, "f", NAMES).unwrap();
        let names: Vec<_> = script.ops.iter().map(|op| op.fault.name()).collect();
        assert_eq!(
            names,
            [
                "error", "drop", "latency", "hang", "kill", "kill", "isolate"
            ]
        );
        let name = "order.completed".to_owned();
        assert_eq!(script.ops[5].when, Trigger::Point { name, nth: 1 });
        let fields = |text: &str| {
            let value: serde_json::Value = serde_json::from_str(text).unwrap();
            value["ops"].clone()
        };
        assert_eq!(
            fields(&script.to_json()),
            fields(text),
            "nothing added, nothing lost"
        );
    }
}
