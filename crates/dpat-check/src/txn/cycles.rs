//! Which cycles the dependencies have.

use super::{Anomaly, Inferred, RW, Rule, WR, WW};
use crate::graph::Graph;
use crate::limits::{Meter, Stopped};

/// Adds at most one cycle of each kind.
pub(super) fn find(inferred: &mut Inferred, meter: &mut Meter<'_>) -> Result<(), Stopped> {
    let graph = &inferred.graph;
    let mut found = Vec::new();
    let result = search(graph, meter, &mut found);
    inferred.anomalies.extend(found);
    result
}

fn search(graph: &Graph, meter: &mut Meter<'_>, found: &mut Vec<Anomaly>) -> Result<(), Stopped> {
    let cycle = |rule, transactions| Anomaly {
        rule,
        transactions,
        key: None,
    };
    meter.read()?;
    // A cycle of writes, then one with a read among writes and reads, then one with an anti-dependency.
    for (rule, through, rest) in [(Rule::G0, WW, WW), (Rule::G1c, WR, WW | WR)] {
        let components = graph.components(rest);
        let closed = graph.edges().find_map(|(from, to, kind)| {
            let inside = components[from].is_some() && components[from] == components[to];
            let path =
                (kind & through != 0 && inside).then(|| graph.path(to, from, rest, &components))?;
            path.map(closed)
        });
        found.extend(closed.map(|transactions| cycle(rule, transactions)));
    }
    let components = graph.components(WW | WR | RW);
    let mut several = None;
    for (from, to, kind) in graph.edges() {
        if kind & RW == 0 || components[from].is_none() || components[from] != components[to] {
            continue;
        }
        meter.tick()?;
        if let Some(path) = graph.path(to, from, WW | WR, &components) {
            found.push(cycle(Rule::GSingle, closed(path)));
            return Ok(());
        }
        if several.is_none() {
            several = graph.path(to, from, WW | WR | RW, &components);
            // Said at once, since the time may be up before a simpler one is ruled out.
            found.extend(several.clone().map(|path| cycle(Rule::G2, closed(path))));
        }
    }
    Ok(())
}

/// Turns the path from the head of an edge to its tail so that the edge comes first.
fn closed(mut path: Vec<usize>) -> Vec<usize> {
    path.rotate_right(1);
    path
}
