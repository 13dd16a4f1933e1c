use dpat_model::{Fault, NodeIx};
use dpat_sim::QUEUE_MAX;

use crate::puppet::*;

#[test]
fn a_run_that_does_not_end_is_a_violation() {
    let mut scenario = Scenario::new(2).client(&[ask(10, 0, &[Send(1, 1)])]);
    scenario.on_message = vec![Send(0, 1), Send(1, 1)];
    scenario.events_max = 10_000;
    let ran = scenario.run();
    assert_eq!(ran.property(), Some("event-limit"));
    assert_eq!(ran.outcome.events, 10_000);
}

#[test]
fn too_much_that_waits_is_a_violation() {
    let many = vec![Send(1, 1); 1000];
    let mut scenario = Scenario::new(2).client(&[ask(10, 0, &[Send(1, 1)])]);
    scenario.on_message = many;
    let ran = scenario.run();
    assert_eq!(ran.property(), Some("queue-limit"));
    assert!(ran.outcome.events < QUEUE_MAX as u64 / 100);
    // Also when links keep it.
    let link = dpat_model::LinkSet::one(NodeIx(0), NodeIx(1));
    let asks = vec![ask(10, 0, &vec![Send(1, 1); 1000]); 1];
    let mut scenario = Scenario::new(2).client(&asks);
    for _ in 0..QUEUE_MAX / 1000 {
        scenario.clients[0].push(ask(10, 0, &vec![Send(1, 1); 1000]));
        scenario.clients[0].last_mut().unwrap().what.push(Reply);
    }
    scenario.clients[0].remove(0);
    let ran = scenario.at(0, Fault::Hold { link, for_us: None }).run();
    assert_eq!(ran.property(), Some("queue-limit"));
}

#[test]
fn breaches_of_the_model_are_violations() {
    let ran = Scenario::new(1).client(&[ask(10, 0, &[Breach])]).run();
    assert_eq!(ran.property(), Some("breach"));
    let violation = ran.outcome.violation.unwrap();
    assert_eq!(violation.at_event, 1);
    assert!(
        violation.message.starts_with("n0 answered request"),
        "{}",
        violation.message
    );
}

#[test]
fn a_message_to_nowhere_is_a_violation() {
    let ran = Scenario::new(1).client(&[ask(10, 0, &[Send(1, 1)])]).run();
    assert_eq!(ran.property(), Some("no-such-node"));
    let ran = Scenario::new(1).client(&[ask(10, 3, &[])]).run();
    assert_eq!(ran.property(), Some("no-such-node"));
}

#[test]
fn durable_state_without_a_record_is_found_at_a_crash_and_at_the_end() {
    let scenario = Scenario::new(1).client(&[ask(10, 0, &[Cheat])]);
    assert_eq!(scenario.run().property(), Some("durable-state"));
    let crash = Fault::Crash {
        node: NodeIx(0),
        for_us: None,
    };
    let ran = scenario.at(5, crash).run();
    assert_eq!(ran.property(), Some("durable-state"));
    assert!(ran.outcome.events < 5);
}

#[test]
fn in_half_of_the_seeds_everything_passes_as_bytes() {
    let mut scenario = Scenario::new(2).client(&[ask(10, 0, &[Log(9), Send(1, 8), Reply])]);
    let plain: Vec<u64> = scenario
        .seeds(20)
        .iter()
        .map(|ran| ran.outcome.trace_hash)
        .collect();
    scenario.wire = true;
    let bytes: Vec<u64> = scenario
        .seeds(20)
        .iter()
        .map(|ran| ran.outcome.trace_hash)
        .collect();
    assert_eq!(plain, bytes); // a codec that is right changes nothing
    scenario.bad_wire = true;
    let found = |number| {
        let mut scenario = scenario.clone();
        scenario.clients[0][0].what[1] = Send(1, number);
        let found = |ran: &Ran| match ran.property() {
            None => false,
            Some(property) => property == "codec" || panic!("{property}"),
        };
        scenario.seeds(40).iter().filter(|ran| found(ran)).count()
    };
    assert_eq!(found(8), 0);
    assert!((8..32).contains(&found(13)), "cannot be read");
    assert!((8..32).contains(&found(14)), "is read as something else");
}
