//! The causal cone is that of vector clocks.

use dpat_sim::{Stream, Trace, TraceEvent, slice};

/// The cone of an event by vector clocks: what each event knows of each node.
fn by_vector_clocks(trace: &Trace, at: usize) -> Vec<usize> {
    let events = &trace.events;
    let places = trace.nodes.len() + 1; // events that are at no node share a place
    let place = |event: &TraceEvent| event.node.map_or(trace.nodes.len(), |node| node as usize);
    let mut clocks: Vec<Vec<u64>> = Vec::new();
    let mut own = vec![0_u64; places];
    for event in events {
        let mut clock = vec![0; places];
        for cause in &event.causes {
            let cause = &clocks[usize::try_from(*cause).expect("a small index")];
            clock
                .iter_mut()
                .zip(cause)
                .for_each(|(ours, theirs)| *ours = (*ours).max(*theirs));
        }
        own[place(event)] += 1;
        clock[place(event)] = own[place(event)];
        clocks.push(clock);
    }
    let before = |one: &[u64], other: &[u64]| one.iter().zip(other).all(|(a, b)| a <= b);
    (0..events.len())
        .filter(|i| before(&clocks[*i], &clocks[at]))
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
