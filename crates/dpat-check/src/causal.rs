//! Causal consistency by bad patterns.

use std::collections::VecDeque;

use crate::access::{Accesses, Kind};
use crate::error::BadOperation;
use crate::graph::Graph;
use crate::history::History;
use crate::verdict::{Verdict, Violation};

/// How much causal consistency is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Causal {
    /// Each read can be explained by an order of what is in its causal past (CC).
    Weak,
    /// One order of all conflicting writes explains all reads: replicas converge (CCv).
    Convergent,
}

/// Decides whether reads and writes are causally consistent.
///
/// Operations are `read`, `write v` or `get [k nil]` → `[k v]`, `put [k v]`, each value written at most once to a key,
/// nil at the beginning. Bouajjani, Enea, Guerraoui and Hamza 2017, "On Verifying Causal Consistency", § 5: a history
/// with such writes is consistent exactly if it has none of the patterns `thin-air-read`, `cyclic-co`,
/// `write-co-init-read`, `write-co-read` and, for convergence, `cyclic-cf`.
///
/// # Errors
/// [`BadOperation`] if an operation is none of these, or a value is written twice.
///
/// # Complexity
/// O(n p log n) time and O(n p) memory for n operations of p processes.
pub fn check_causal(history: &History, causal: Causal) -> Result<Verdict, BadOperation> {
    let accesses = Accesses::read(history)?;
    let found = match accesses.thin_air {
        Some(read) => Some(violation("thin-air-read", read, vec![])),
        None => find(&accesses, causal),
    };
    Ok(found.map_or(Verdict::Ok, Verdict::violated))
}

const CO: u8 = 1;
const CF: u8 = 2;

fn find(accesses: &Accesses, causal: Causal) -> Option<Violation> {
    let all = &accesses.all;
    let mut graph = Graph::new(all.len());
    for lane in &accesses.lanes {
        for pair in lane.windows(2) {
            graph.add(pair[0], pair[1], CO);
        }
    }
    for (at, access) in all.iter().enumerate() {
        if let Kind::Read(Some(write)) = access.kind {
            graph.add(write, at, CO);
        }
    }
    let Some(pasts) = pasts(accesses) else {
        return cycle(accesses, &graph, CO, "cyclic-co");
    };
    let knows = |at: usize, other: usize| all[other].position < pasts[at][all[other].lane];
    for (at, access) in all.iter().enumerate() {
        let Kind::Read(from) = access.kind else {
            continue;
        };
        for (lane, past) in pasts[at].iter().enumerate() {
            let Some(write) = accesses.last_write(access.key, lane, *past) else {
                continue;
            };
            match from {
                None => {
                    let with = vec![all[write].index];
                    return Some(violation("write-co-init-read", access.index, with));
                }
                Some(from) if from != write && knows(write, from) => {
                    let with = vec![all[from].index, all[write].index];
                    return Some(violation("write-co-read", access.index, with));
                }
                Some(from) => graph.add(write, from, CF),
            }
        }
    }
    match causal {
        Causal::Weak => None,
        Causal::Convergent => cycle(accesses, &graph, CO | CF, "cyclic-cf"),
    }
}

/// By access and process: how many accesses of the process come before it in causal order; none if that is a cycle.
fn pasts(accesses: &Accesses) -> Option<Vec<Vec<usize>>> {
    let all = &accesses.all;
    let mut readers = vec![Vec::new(); all.len()];
    let mut missing = vec![0_u8; all.len()];
    for (at, access) in all.iter().enumerate() {
        missing[at] += u8::from(access.position > 0);
        if let Kind::Read(Some(write)) = access.kind {
            readers[write].push(at);
            missing[at] += 1;
        }
    }
    let mut pasts = vec![Vec::new(); all.len()];
    let mut ready: VecDeque<usize> = (0..all.len()).filter(|at| missing[*at] == 0).collect();
    let mut done = 0;
    while let Some(at) = ready.pop_front() {
        done += 1;
        let access = all[at];
        let lane = &accesses.lanes[access.lane];
        let mut past = match access.position.checked_sub(1) {
            Some(before) => pasts[lane[before]].clone(),
            None => vec![0; accesses.lanes.len()],
        };
        past[access.lane] = access.position;
        if let Kind::Read(Some(write)) = access.kind {
            let written = all[write];
            for (mine, theirs) in past.iter_mut().zip(&pasts[write]) {
                *mine = (*mine).max(*theirs);
            }
            past[written.lane] = past[written.lane].max(written.position + 1);
        }
        pasts[at] = past;
        for next in readers[at].iter().chain(lane.get(access.position + 1)) {
            missing[*next] -= 1;
            if missing[*next] == 0 {
                ready.push_back(*next);
            }
        }
    }
    (done == all.len()).then_some(pasts)
}

fn cycle(accesses: &Accesses, graph: &Graph, kinds: u8, rule: &'static str) -> Option<Violation> {
    let components = graph.components(kinds);
    let path = graph.edges().find_map(|(from, to, _)| {
        let inside = components[from].is_some() && components[from] == components[to];
        inside.then(|| graph.path(to, from, kinds, &components))?
    })?;
    let with: Vec<usize> = path.into_iter().map(|at| accesses.all[at].index).collect();
    let blocked = with.iter().copied().max()?;
    Some(violation(rule, blocked, with))
}

fn violation(rule: &'static str, blocked: usize, with: Vec<usize>) -> Violation {
    Violation {
        blocked,
        with,
        rule: Some(rule),
        ..Violation::default()
    }
}
