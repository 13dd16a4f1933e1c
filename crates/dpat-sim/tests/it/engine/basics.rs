use std::time::Duration;

use dpat_model::{Fault, NodeIx};
use dpat_sim::{DEFAULT_DELAY_MAX_NS, DEFAULT_DELAY_MIN_NS, RunSpec, SpecError, run};

use crate::puppet::*;

#[test]
fn a_message_is_delivered_after_the_delay_of_its_link() {
    let ran = Scenario::new(2)
        .client(&[ask(1000, 0, &[Send(1, 5), Reply])])
        .run();
    let [(at, node, what)] = ran.events("deliver")[..] else {
        panic!("{:?}", ran.heard.events)
    };
    assert_eq!((*node, what.as_str()), (Some(1), "deliver n0#0"));
    assert!((DEFAULT_DELAY_MIN_NS..=DEFAULT_DELAY_MAX_NS).contains(&(at - 1000)));
    assert_eq!(ran.heard.seen[1], ["start", "5 from n0#0"]);
    assert_eq!(ran.outcome.delivered, 1);
    assert_eq!(ran.outcome.violation, None);
}

#[test]
fn a_client_calls_one_after_the_other() {
    let ran = Scenario::new(1)
        .client(&[
            ask(10, 0, &[Log(2), Reply]),
            ask(10, 0, &[Log(3), Reply]),
            ask(0, 0, &[Reply]),
        ])
        .run();
    assert_eq!(ran.answers(), ["2", "5", "5"]);
    assert_eq!(ran.outcome.calls, [3]);
    let order: Vec<&str> = ran
        .heard
        .events
        .iter()
        .map(|event| event.2.as_str())
        .collect();
    assert_eq!(
        order,
        [
            "start",
            "request 0.0",
            "synced 1",
            "durable 1",
            "answer 0.0",
            "request 0.1",
            "synced 2",
            "durable 2",
            "answer 0.1",
            "request 0.2",
            "answer 0.2",
            "heal"
        ]
    );
}

#[test]
fn an_impatient_client_goes_on_and_its_node_is_told() {
    let mut first = ask(10, 0, &[]);
    first.patience = Duration::from_nanos(500);
    let ran = Scenario::new(1)
        .client(&[first, ask(0, 0, &[ReplyOldest, ReplyOldest])])
        .run();
    assert_eq!(ran.answers(), ["unknown", "0"]);
    assert_eq!(
        ran.heard.seen[0],
        ["start", "req Some(500ns)", "cancel 0", "req None"]
    );
}

#[test]
fn a_node_that_is_down_refuses() {
    let ran = Scenario::new(1)
        .client(&[ask(5000, 0, &[Reply]), ask(5_000_000, 0, &[Reply])])
        .at(
            1,
            Fault::Crash {
                node: NodeIx(0),
                for_us: Some(100),
            },
        )
        .run();
    assert_eq!(ran.answers(), ["the node is down", "0"]);
}

#[test]
fn work_comes_back_unless_it_never_ends() {
    let ran = Scenario::new(1)
        .client(&[ask(10, 0, &[Work(0), Work(300), Work(200)])])
        .run();
    assert_eq!(
        ran.heard.seen[0],
        ["start", "req None", "done 200", "done 300"]
    );
}

#[test]
fn the_same_seed_gives_the_same_hash_and_another_one_another() {
    let scenario = |seed| {
        let asks = [
            ask(10, 0, &[Send(1, 1), Log(1), Reply]),
            ask(10, 1, &[Send(0, 1), Reply]),
        ];
        let scenario = Scenario::new(2).client(&asks).client(&asks);
        Scenario { seed, ..scenario }.run().outcome.trace_hash
    };
    assert_eq!(scenario(1), scenario(1));
    assert_ne!(scenario(1), scenario(2));
}

#[test]
fn specifications_that_cannot_run_are_refused() {
    let scenario = Scenario::new(2);
    scenario.run(); // leaves the scenario behind
    let refused = |change: &dyn Fn(&mut RunSpec)| {
        let mut spec = scenario.spec();
        change(&mut spec);
        run::<Puppets<Datagrams>>(&spec).unwrap_err().to_string()
    };
    assert_eq!(
        refused(&|spec| spec.mutant = Some("worse".to_owned())),
        "mutant: puppet has no mutant \"worse\""
    );
    assert_eq!(
        refused(&|spec| spec.nodes = Some(3)),
        "nodes: 3 is not within 2..=2"
    );
    assert_eq!(
        refused(&|spec| {
            spec.script = None;
            spec.nodes = Some(0);
        }),
        "nodes: 0 is not within 1..=10000"
    );
    assert_eq!(
        refused(&|spec| spec.script.as_mut().unwrap().protocol = "echo".to_owned()),
        "script.protocol: the script is for \"echo\", not for puppet"
    );
}

#[test]
fn faults_of_services_are_refused_by_name() {
    let node = NodeIx(0);
    let kill = Fault::Kill {
        node,
        order_id: Some("7".to_owned()),
        for_us: None,
    };
    let corrupt = Fault::DiskCorrupt { node, sectors: 1 };
    let hang = Fault::Hang {
        node,
        step: None,
        order_id: None,
        per_million: None,
        for_us: None,
    };
    let crash = Fault::Crash { node, for_us: None };
    let refused = |scenario: Scenario| {
        Scenario::new(2).run();
        run::<Puppets<Datagrams>>(&scenario.spec()).unwrap_err()
    };
    for (fault, name) in [(kill, "kill"), (corrupt, "disk_corrupt"), (hang, "hang")] {
        let scenario = Scenario::new(2).at(0, crash.clone()).at(0, fault);
        let SpecError::Refused { op: 1, fault, .. } = refused(scenario) else {
            panic!("{name}")
        };
        assert_eq!(fault, name);
    }
    let scenario = Scenario::new(2).at_point("send.Nothing", 1, crash);
    let message = "script.ops[0].do: crash waits for a point that there is not";
    assert_eq!(refused(scenario).to_string(), message);
}
