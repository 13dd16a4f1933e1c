//! Full traces: texts, causes, states and shades of the first events of a run.

use std::collections::HashMap;
use std::fmt::{Debug, Display};

use dpat_model::{Fault, LinkSet, NodeIx, Nodes, Peer, Script};

use super::{Msg, NO_EVENT};
use crate::{Family, Protocol, Sent, SentFate, Shade, Trace, TraceEvent, Violation, links};

/// The longest label, in characters.
const LABEL_CHARS_MAX: usize = 60;
/// Links of a fault are listed up to this number of nodes.
const LINK_NODES_MAX: u32 = 32;

/// What is said about an event.
#[derive(Debug, Default)]
pub(super) struct Text {
    kind: Option<&'static str>,
    label: String,
    detail: String,
    from: Option<(u32, u64)>,
    key: Option<String>,
}

impl Text {
    pub(super) fn of(value: impl Display) -> Self {
        Self::long(value.to_string())
    }

    pub(super) fn debug(value: &impl Debug) -> Self {
        Self::long(format!("{value:?}"))
    }

    pub(super) fn message<Pr: Protocol>(msg: &Msg<Pr>, from: Peer, cause: u64) -> Self {
        let kind = Pr::KINDS.get(Pr::kind(msg)).copied();
        Self {
            kind,
            from: Some((from.node.0, cause)),
            key: Pr::key(msg),
            ..Self::debug(msg)
        }
    }

    pub(super) fn fault(fault: &Fault) -> Self {
        Self {
            label: fault.name().to_owned(),
            ..Self::debug(fault)
        }
    }

    fn long(detail: String) -> Self {
        let mut label = detail.clone();
        if let Some((end, _)) = label.char_indices().nth(LABEL_CHARS_MAX) {
            label.truncate(end);
            label.push('…');
        }
        Self {
            label,
            detail,
            ..Self::default()
        }
    }
}

/// What a trace says about the whole run.
pub(super) struct Heading {
    pub(super) protocol: &'static str,
    pub(super) mutant: Option<&'static str>,
    pub(super) seed: u64,
    pub(super) trace_hash: u64,
    pub(super) end_ns: u64,
}

/// Records the first events of a run.
#[derive(Debug)]
pub(super) struct Scribe {
    events_max: usize,
    events: Vec<TraceEvent>,
    truncated: bool,
    states: Vec<String>,
    known: HashMap<String, usize>,
    /// By node: its last event.
    last: Vec<u64>,
    names: Vec<String>,
    shades: Vec<Shade>,
}

/// A shade that nothing has ended.
const OPEN_NS: u64 = u64::MAX;

impl Scribe {
    pub(super) fn new(script: &Script, events_max: usize) -> Self {
        let count = script.nodes.count();
        let names = match &script.nodes {
            Nodes::Named(names) => names.clone(),
            Nodes::Count(_) => (0..count).map(|node| NodeIx(node).to_string()).collect(),
        };
        Self {
            events_max,
            events: Vec::new(),
            truncated: false,
            states: Vec::new(),
            known: HashMap::new(),
            last: vec![NO_EVENT; count as usize],
            names,
            shades: Vec::new(),
        }
    }

    pub(super) fn begin(
        &mut self,
        event: u64,
        at_ns: u64,
        what: &str,
        node: Option<NodeIx>,
        cause: u64,
        text: Text,
    ) {
        if self.events.len() >= self.events_max {
            self.truncated = true;
            return;
        }
        let mut causes = vec![cause];
        // What is lost does not happen to the node, and an answer is the client's.
        if let Some(node) = node.filter(|_| !matches!(what, "lost" | "answer")) {
            causes.push(std::mem::replace(&mut self.last[node.index()], event));
        }
        causes.retain(|cause| *cause < event);
        causes.sort_unstable();
        causes.dedup();
        self.events.push(TraceEvent {
            i: event,
            at_ns,
            node: node.map(|node| node.0),
            what: what.to_owned(),
            kind: text.kind.map(str::to_owned),
            label: text.label,
            detail: text.detail,
            from: text.from.filter(|(_, event)| *event != NO_EVENT),
            sends: Vec::new(),
            causes,
            key: text.key,
            state: None,
        });
    }

    pub(super) fn sent(&mut self, event: u64, to: NodeIx, kind: &str, fate: SentFate) {
        if let Some(event) = self.event(event) {
            event.sends.push(Sent {
                to: to.0,
                kind: kind.to_owned(),
                fate,
            });
        }
    }

    pub(super) fn end(&mut self, event: u64, state: Option<&impl Debug>) {
        let Some(state) = state else { return };
        if self.event(event).is_none() {
            return;
        }
        let text = format!("{state:?}");
        let next = self.states.len();
        let index = *self.known.entry(text).or_insert_with_key(|text| {
            self.states.push(text.clone());
            next
        });
        if let Some(event) = self.event(event) {
            event.state = Some(index);
        }
    }

    /// Every event is recorded from the first, so that the number is the index.
    fn event(&mut self, event: u64) -> Option<&mut TraceEvent> {
        self.events.get_mut(usize::try_from(event).ok()?)
    }

    /// Begins a shade over a node.
    pub(super) fn open_shade(&mut self, what: &str, node: NodeIx, from_ns: u64, until_ns: u64) {
        self.shades.push(Shade {
            what: what.to_owned(),
            nodes: Some(vec![node.0]),
            links: None,
            from_ns,
            until_ns,
        });
    }

    /// A node starts, crashes or goes on: it is no longer down or paused.
    pub(super) fn node_ends(&mut self, node: NodeIx, now_ns: u64) {
        self.close(now_ns, |shade| {
            let states = ["down", Family::Pause.name()];
            states.contains(&shade.what.as_str()) && shade.nodes == Some(vec![node.0])
        });
    }

    /// Begins or ends shades over links.
    pub(super) fn shade_links(&mut self, fault: &Fault, now_ns: u64, nodes: u32) {
        match fault {
            Fault::Heal { link } => self.end_links(*link, now_ns, |_| true),
            Fault::Release { link } => {
                self.end_links(*link, now_ns, |what| what == Family::Hold.name());
            }
            _ => {
                let (Some(family), Some(until_ns)) =
                    (Family::of(fault), links::until(now_ns, fault))
                else {
                    return;
                };
                let meant = (nodes <= LINK_NODES_MAX).then(|| links::meant(fault, nodes));
                let all = |links: &Vec<(u32, u32)>| {
                    links.len() as u64 == u64::from(nodes) * u64::from(nodes - 1)
                };
                self.shades.push(Shade {
                    what: family.name().to_owned(),
                    nodes: None,
                    links: meant.filter(|links| !all(links)),
                    from_ns: now_ns,
                    until_ns,
                });
            }
        }
    }

    /// Ends shades all of whose links are in a set.
    fn end_links(&mut self, link: LinkSet, now_ns: u64, ends: impl Fn(&str) -> bool) {
        self.close(now_ns, |shade| {
            let covered = match &shade.links {
                None => shade.nodes.is_none() && link == LinkSet::ALL,
                Some(links) => links
                    .iter()
                    .all(|(from, to)| link.contains(NodeIx(*from), NodeIx(*to))),
            };
            covered && ends(&shade.what)
        });
    }

    /// Every fault ends; nodes that are down stay so until they start.
    pub(super) fn heal(&mut self, now_ns: u64) {
        self.close(now_ns, |shade| shade.what != "down");
    }

    fn close(&mut self, now_ns: u64, ends: impl Fn(&Shade) -> bool) {
        for shade in &mut self.shades {
            if shade.until_ns > now_ns && ends(shade) {
                shade.until_ns = now_ns;
            }
        }
    }

    pub(super) fn finish(
        mut self,
        heading: Heading,
        violation: Option<&Violation>,
        script: &Script,
    ) -> Trace {
        for shade in &mut self.shades {
            if shade.until_ns == OPEN_NS {
                shade.until_ns = heading.end_ns;
            }
        }
        self.shades.retain(|shade| shade.from_ns < shade.until_ns);
        Trace {
            version: Trace::VERSION,
            protocol: heading.protocol.to_owned(),
            mutant: heading.mutant.map(str::to_owned),
            seed: heading.seed,
            nodes: self.names,
            trace_hash: crate::hex(heading.trace_hash),
            truncated: self.truncated,
            events: self.events,
            states: self.states,
            shades: self.shades,
            violation: violation.cloned(),
            script: Some(script.clone()),
        }
    }
}
