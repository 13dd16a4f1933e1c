//! Directed graphs with edges of several kinds, and their cycles.

use std::collections::VecDeque;

/// Kinds of edges, one bit each.
pub(crate) type Kinds = u8;

#[derive(Debug, Default)]
pub(crate) struct Graph {
    edges: Vec<Vec<(u32, Kinds)>>,
}

impl Graph {
    pub(crate) fn new(nodes: usize) -> Self {
        Self {
            edges: vec![Vec::new(); nodes],
        }
    }

    /// Adds an edge; a node needs none to itself.
    pub(crate) fn add(&mut self, from: usize, to: usize, kind: Kinds) {
        if from != to {
            let to = u32::try_from(to).expect("a history has fewer than 2^32 events");
            self.edges[from].push((to, kind));
        }
    }

    pub(crate) fn edges(&self) -> impl Iterator<Item = (usize, usize, Kinds)> + '_ {
        let of = |(from, edges): (usize, &'_ Vec<(u32, Kinds)>)| {
            let edges = edges.clone();
            edges
                .into_iter()
                .map(move |(to, kind)| (from, to as usize, kind))
        };
        self.edges.iter().enumerate().flat_map(of)
    }

    /// Numbers the strongly connected components over edges of some kinds; nodes without a cycle get none.
    ///
    /// Tarjan 1972, "Depth-First Search and Linear Graph Algorithms", without recursion.
    pub(crate) fn components(&self, kinds: Kinds) -> Vec<Option<u32>> {
        const UNSEEN: usize = usize::MAX;
        let nodes = self.edges.len();
        let mut index = vec![UNSEEN; nodes];
        let mut low = vec![0; nodes];
        let mut on_stack = vec![false; nodes];
        let mut component = vec![None; nodes];
        let (mut seen, mut components) = (0, 0);
        let mut stack = Vec::new();
        let mut work = Vec::new();
        for root in 0..nodes {
            if index[root] != UNSEEN {
                continue;
            }
            let mut entered = Some(root);
            loop {
                if let Some(node) = entered.take() {
                    index[node] = seen;
                    low[node] = seen;
                    seen += 1;
                    stack.push(node);
                    on_stack[node] = true;
                    work.push((node, 0));
                }
                let Some((node, edge)) = work.last_mut() else {
                    break;
                };
                let node = *node;
                if let Some((to, kind)) = self.edges[node].get(*edge) {
                    *edge += 1;
                    let to = *to as usize;
                    if kind & kinds != 0 && index[to] == UNSEEN {
                        entered = Some(to);
                    } else if kind & kinds != 0 && on_stack[to] {
                        low[node] = low[node].min(index[to]);
                    }
                    continue;
                }
                work.pop();
                if let Some((parent, _)) = work.last() {
                    low[*parent] = low[*parent].min(low[node]);
                }
                if low[node] != index[node] {
                    continue;
                }
                let alone = stack.last() == Some(&node);
                while let Some(member) = stack.pop() {
                    on_stack[member] = false;
                    if !alone {
                        component[member] = Some(components);
                    }
                    if member == node {
                        break;
                    }
                }
                components += u32::from(!alone);
            }
        }
        component
    }

    /// Returns a shortest path over edges of some kinds that stays in one component.
    pub(crate) fn path(
        &self,
        from: usize,
        to: usize,
        kinds: Kinds,
        component: &[Option<u32>],
    ) -> Option<Vec<usize>> {
        let mut before = crate::hash::Map::default();
        let mut queue = VecDeque::from([from]);
        while let Some(node) = queue.pop_front() {
            if node == to {
                let mut path = vec![to];
                let mut at = to;
                while at != from {
                    at = before[&at];
                    path.push(at);
                }
                path.reverse();
                return Some(path);
            }
            for (next, kind) in &self.edges[node] {
                let next = *next as usize;
                let inside = component[next].is_some() && component[next] == component[from];
                if kind & kinds != 0 && inside && next != from && !before.contains_key(&next) {
                    before.insert(next, node);
                    queue.push_back(next);
                }
            }
        }
        None
    }
}
