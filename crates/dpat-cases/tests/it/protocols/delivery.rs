//! A crash between every two steps of append, relay, delivery, handling and acknowledgement.

use dpat_cases::protocols::delivery::{Delivery, POINTS};
use dpat_model::{Fault, NodeIx, Nodes, Op, Script, Trigger};
use dpat_sim::async_node::AsyncSim;
use dpat_sim::{Outcome, RunSpec};

fn node(point: &str) -> NodeIx {
    NodeIx(match point {
        "append" | "appended" | "relay" | "relayed" => 0,
        "queued" | "handed" | "settled" => 1,
        _ => 2,
    })
}

/// Strikes one node each time that it passes a point the nth time.
fn run(mutant: Option<&str>, point: &str, nth: u64, power: bool) -> Outcome {
    let names = ["producer", "broker", "receiver"].map(str::to_owned);
    let mut script = Script::new("outbox", Nodes::Named(names.to_vec()), 1);
    let (node, for_us) = (node(point), Some(50_000));
    let fault = match power {
        true => Fault::Crash { node, for_us },
        false => Fault::Kill {
            node,
            order_id: None,
            for_us,
        },
    };
    let when = Trigger::Point {
        name: point.to_owned(),
        nth,
    };
    script.ops.push(Op { when, fault });
    let spec = RunSpec {
        script: Some(script),
        mutant: mutant.map(str::to_owned),
        ..RunSpec::new(1)
    };
    let mut sim = AsyncSim::<Delivery>::start(&spec).unwrap();
    // Long enough for all orders, and for every lease that a crash leaves.
    sim.run_until(60_000_000_000);
    assert_eq!(sim.struck().len(), 1, "{point} is passed {nth} times");
    sim.finish()
}

#[test]
fn a_crash_between_every_two_steps_loses_and_repeats_nothing() {
    for point in POINTS {
        for nth in [1, 3, 9] {
            for power in [true, false] {
                let outcome = run(None, point, nth, power);
                assert_eq!(outcome.violation, None, "{point} {nth} {power}");
            }
        }
    }
}

#[test]
fn each_rule_is_what_one_of_the_crashes_needs() {
    for (mutant, point, property) in [
        ("acts-without-marker", "handled", "effect-once"),
        ("retakes-doubt", "acted", "outside-once"),
    ] {
        let outcome = run(Some(mutant), point, 1, true);
        let violation = outcome.violation.expect(mutant);
        assert_eq!(violation.property, property, "{mutant}");
    }
}
