//! The causal cone is that of vector clocks.

use std::collections::BTreeMap;

use dpat_sim::{Of, RunSpec, Simulation, Stream, Trace, TraceEvent, TraceMode, slice};

use crate::toy::Keepers;

/// The cone of an event by vector clocks: what each event knows of each place.
fn by_vector_clocks(trace: &Trace, at: usize) -> Vec<usize> {
    let mut clocks: Vec<BTreeMap<usize, usize>> = Vec::new();
    let mut places = Vec::new();
    for (index, event) in trace.events.iter().enumerate() {
        let mut clock = BTreeMap::new();
        for cause in &event.causes {
            let cause = &clocks[usize::try_from(*cause).expect("a small index")];
            for (place, known) in cause {
                let own = clock.entry(*place).or_insert(0);
                *own = (*known).max(*own);
            }
        }
        // What is at no node, or is seen by a client or by nobody, is in the order of no place.
        let place = match event.node {
            Some(node) if !["answer", "lost"].contains(&event.what.as_str()) => node as usize,
            _ => trace.nodes.len() + index,
        };
        clock.insert(place, index + 1);
        clocks.push(clock);
        places.push(place);
    }
    let known = &clocks[at];
    (0..trace.events.len())
        .filter(|index| known.get(&places[*index]).is_some_and(|last| index < last))
        .collect()
}

fn random(seed: u64) -> Trace {
    let mut stream = Stream::new(seed, "test", 0);
    let mut trace = Trace {
        nodes: (0..4).map(|node| format!("n{node}")).collect(),
        ..Trace::default()
    };
    let mut last = [None; 4];
    for i in 0..60 {
        let node = u32::try_from(stream.below(4)).expect("below 4");
        let mut causes: Vec<u64> = last[node as usize].into_iter().collect();
        if i > 0 && stream.below(2) == 0 {
            causes.push(stream.below(i));
        }
        causes.sort_unstable();
        causes.dedup();
        last[node as usize] = Some(i);
        trace.events.push(TraceEvent {
            i,
            node: Some(node),
            causes,
            ..TraceEvent::default()
        });
    }
    trace
}

#[test]
fn the_cone_is_what_vector_clocks_order_before() {
    for seed in 0..50 {
        let trace = random(seed);
        for at in 0..trace.events.len() {
            assert_eq!(slice(&trace, at as u64), by_vector_clocks(&trace, at));
        }
    }
}

#[test]
fn cut_traces_have_a_cone_too() {
    let mut trace = random(1);
    trace.events.truncate(20);
    trace.truncated = true;
    assert_eq!(slice(&trace, 1_000), slice(&trace, 19));
    trace.events.drain(..5);
    let cone = slice(&trace, 19);
    assert!(cone.contains(&14) && cone.len() <= 15);
    trace.events.clear();
    assert!(slice(&trace, 3).is_empty());
}

#[test]
fn a_failure_follows_from_a_part_of_the_run() {
    let spec = RunSpec {
        mutant: Some("count-copies".to_owned()),
        trace: TraceMode::Full {
            events_max: 1_000_000,
        },
        ..RunSpec::new(0)
    };
    let sim = Of::<Keepers>::new();
    let mut seen = 0;
    for seed in 0..20 {
        let outcome = sim
            .run(&RunSpec {
                seed,
                ..spec.clone()
            })
            .unwrap();
        let (Some(trace), Some(violation)) = (outcome.trace, outcome.violation) else {
            continue;
        };
        let at = usize::try_from(violation.at_event).unwrap();
        let cone = slice(&trace, violation.at_event);
        assert_eq!(cone, by_vector_clocks(&trace, at));
        assert_eq!(cone.last(), Some(&at));
        assert!(cone.len() <= trace.events.len());
        seen += 1;
    }
    assert!(seen > 0, "no seed fails");
}
