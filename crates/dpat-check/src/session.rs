//! Session guarantees.

use crate::access::{Accesses, Kind};
use crate::error::BadOperation;
use crate::graph::Graph;
use crate::hash::Map;
use crate::history::History;
use crate::verdict::{Verdict, Violation};

/// What a process may count on whatever replica answers it.
///
/// Terry, Demers, Petersen, Spreitzer, Theimer and Welch 1994, "Session Guarantees for Weakly Consistent Replicated
/// Data".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Session {
    /// A read shows the own last write or something newer.
    ReadYourWrites,
    /// A read shows what an earlier one has shown, or something newer.
    MonotonicReads,
    /// Who sees a write sees the earlier writes of its session, or something newer.
    MonotonicWrites,
    /// Who sees a write sees what its session had read before, or something newer.
    WritesFollowReads,
}

impl Session {
    /// Returns the name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ReadYourWrites => "read-your-writes",
            Self::MonotonicReads => "monotonic-reads",
            Self::MonotonicWrites => "monotonic-writes",
            Self::WritesFollowReads => "writes-follow-reads",
        }
    }
}

/// Decides whether some order of writes gives every process a guarantee.
///
/// Operations are those of [`check_causal`](crate::check_causal), one session a process. Each observation says that a
/// write is not newer than another; the guarantee holds exactly if these do not go in a circle. `with` has the
/// observations of the circle.
///
/// # Errors
/// [`BadOperation`] if an operation is none of these, or a value is written twice.
///
/// # Complexity
/// O(n p log n) for n operations of p processes; [`Session::WritesFollowReads`] O(n²) in the worst case.
pub fn check_session(history: &History, session: Session) -> Result<Verdict, BadOperation> {
    let accesses = Accesses::read(history)?;
    if let Some(blocked) = accesses.thin_air {
        return Ok(Verdict::violated(Violation {
            blocked,
            rule: Some("thin-air-read"),
            ..Violation::default()
        }));
    }
    let mut order = Order::new(&accesses);
    for lane in 0..accesses.lanes.len() {
        match session {
            Session::ReadYourWrites => order.read_your_writes(lane),
            Session::MonotonicReads => order.monotonic_reads(lane),
            Session::MonotonicWrites | Session::WritesFollowReads => {
                order.seen_writes(lane, session == Session::MonotonicWrites);
            }
        }
    }
    Ok(order.circle().map_or(Verdict::Ok, |with| {
        Verdict::violated(Violation {
            blocked: with.iter().copied().max().unwrap_or(0),
            with,
            rule: Some(session.name()),
            ..Violation::default()
        })
    }))
}

/// Which version of a key is not newer than which; versions are accesses, and one node a key for the beginning.
struct Order<'a> {
    accesses: &'a Accesses,
    graph: Graph,
    /// The observation behind an edge.
    because: Map<(usize, usize), usize>,
}

impl<'a> Order<'a> {
    fn new(accesses: &'a Accesses) -> Self {
        let all = &accesses.all;
        let keys = all.iter().map(|access| access.key + 1).max().unwrap_or(0);
        let mut order = Self {
            accesses,
            graph: Graph::new(all.len() + keys),
            because: Map::default(),
        };
        for (at, access) in all.iter().enumerate() {
            if access.kind == Kind::Write {
                order.add(order.beginning(access.key), at, at);
            }
        }
        order
    }

    fn beginning(&self, key: usize) -> usize {
        self.accesses.all.len() + key
    }

    /// The version that an access wrote or read.
    fn version(&self, at: usize) -> usize {
        let access = self.accesses.all[at];
        match access.kind {
            Kind::Write => at,
            Kind::Read(from) => from.unwrap_or_else(|| self.beginning(access.key)),
        }
    }

    fn add(&mut self, older: usize, newer: usize, because: usize) {
        if older != newer && !self.because.contains_key(&(older, newer)) {
            self.because.insert((older, newer), because);
            self.graph.add(older, newer, 1);
        }
    }

    fn read_your_writes(&mut self, lane: usize) {
        let accesses = self.accesses;
        let mut own: Map<usize, usize> = Map::default();
        for at in &accesses.lanes[lane] {
            let access = accesses.all[*at];
            if access.kind == Kind::Write {
                own.insert(access.key, *at);
            } else if let Some(write) = own.get(&access.key) {
                self.add(*write, self.version(*at), *at);
            }
        }
    }

    fn monotonic_reads(&mut self, lane: usize) {
        let accesses = self.accesses;
        let mut shown: Map<usize, usize> = Map::default();
        for at in &accesses.lanes[lane] {
            let access = accesses.all[*at];
            if access.kind == Kind::Write {
                continue;
            }
            let version = self.version(*at);
            if let Some(before) = shown.insert(access.key, version) {
                self.add(before, version, *at);
            }
        }
    }

    /// Follows a reader: what it saw brings with it what its writer had written, or read, before.
    fn seen_writes(&mut self, lane: usize, writes: bool) {
        let accesses = self.accesses;
        // A session orders its own versions of a key.
        let mut before: Map<usize, Vec<usize>> = Map::default();
        for at in &accesses.lanes[lane] {
            let access = accesses.all[*at];
            let is_write = access.kind == Kind::Write;
            if is_write {
                for version in before.get(&access.key).cloned().unwrap_or_default() {
                    self.add(version, *at, *at);
                }
            }
            if is_write == writes {
                let versions = before.entry(access.key).or_default();
                if writes {
                    versions.clear(); // the earlier ones are ordered by it
                }
                versions.push(self.version(*at));
            }
        }
        // By process: the position of the last write seen from it.
        let mut seen = vec![0; accesses.lanes.len()];
        for at in &accesses.lanes[lane] {
            let access = accesses.all[*at];
            let Kind::Read(from) = access.kind else {
                continue;
            };
            let shown = self.version(*at);
            for (other, until) in seen.iter().enumerate() {
                if writes {
                    if let Some(write) = accesses.last_write(access.key, other, *until) {
                        self.add(write, shown, *at);
                    }
                    continue;
                }
                for read in &accesses.lanes[other][..*until] {
                    let earlier = accesses.all[*read];
                    if earlier.key == access.key && earlier.kind != Kind::Write {
                        self.add(self.version(*read), shown, *at);
                    }
                }
            }
            if let Some(write) = from.map(|from| accesses.all[from]) {
                seen[write.lane] = seen[write.lane].max(write.position);
            }
        }
    }

    /// Finds observations that contradict each other.
    fn circle(&self) -> Option<Vec<usize>> {
        let components = self.graph.components(1);
        let path = self.graph.edges().find_map(|(older, newer, _)| {
            let inside = components[older].is_some() && components[older] == components[newer];
            inside.then(|| self.graph.path(newer, older, 1, &components))?
        })?;
        let pairs = path.iter().zip(path.iter().cycle().skip(1));
        let because = pairs.filter_map(|(older, newer)| self.because.get(&(*older, *newer)));
        Some(because.map(|at| self.accesses.all[*at].index).collect())
    }
}
