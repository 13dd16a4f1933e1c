//! The trace of a run: its hash, and its events for people.

use std::hash::{Hash, Hasher};

use dpat_model::{Fault, NodeIx, Peer, Script};

use crate::engine::hash::TraceHash;
use crate::{
    Cause, Family, Fate, FateWord, Route, Sent, SentFate, Shade, Trace, TraceEvent, TraceMode,
    Violation,
};

/// The kinds of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Start,
    Restart,
    Poll,
    Timer,
    Deliver,
    Duplicate,
    Answer,
    Lost,
    Fault,
    Crash,
    Pause,
    Resume,
    Heal,
}

impl What {
    pub(super) const fn deliver(copy: bool) -> Self {
        if copy { Self::Duplicate } else { Self::Deliver }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Restart => "restart",
            Self::Poll => "poll",
            Self::Timer => "timer",
            Self::Deliver => "deliver",
            Self::Duplicate => "duplicate",
            Self::Answer => "answer",
            Self::Lost => "lost",
            Self::Fault => "fault",
            Self::Crash => "crash",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Heal => "heal",
        }
    }
}

/// Writes a run down.
pub(super) struct Record {
    hash: Option<TraceHash>,
    full: Option<Box<Full>>,
}

struct Full {
    events: Vec<TraceEvent>,
    /// What messages said, by the index of their event: written as text at the end, if it is asked for.
    bodies: Vec<(usize, Body)>,
    events_max: usize,
    truncated: bool,
    /// The last event at each node.
    last: Vec<Option<u64>>,
    shades: Vec<Shade>,
}

/// The beginning of what a message said.
struct Body {
    shown: Vec<u8>,
    /// There was more.
    cut: bool,
}

/// The longest text of a body in a full trace, in bytes.
const DETAIL_MAX: usize = 400;

impl Record {
    pub(super) fn new(mode: TraceMode, seed: u64) -> Self {
        let full = match mode {
            TraceMode::Full { events_max } => Some(Box::new(Full {
                events: Vec::new(),
                bodies: Vec::new(),
                events_max,
                truncated: false,
                last: Vec::new(),
                shades: Vec::new(),
            })),
            TraceMode::Off | TraceMode::Hash => None,
        };
        Self {
            hash: (mode != TraceMode::Off).then(|| TraceHash::new(seed)),
            full,
        }
    }

    /// Says whether events are still recorded.
    pub(super) fn is_full(&self) -> bool {
        self.full.as_ref().is_some_and(|full| !full.truncated)
    }

    pub(super) fn hash(&self) -> u64 {
        self.hash.as_ref().map_or(0, Hasher::finish)
    }

    fn add(&mut self, value: impl Hash) {
        if let Some(hash) = &mut self.hash {
            value.hash(hash);
        }
    }

    /// Begins an event; what follows belongs to it.
    pub(super) fn begin(
        &mut self,
        event: u64,
        at_ns: u64,
        what: What,
        node: Option<NodeIx>,
        cause: Option<u64>,
    ) {
        let index = node.map_or(u32::MAX, |node| node.0);
        self.add((what as u8, index, at_ns));
        let Some(full) = &mut self.full else { return };
        if full.events.len() >= full.events_max {
            full.truncated = true;
            return;
        }
        let before = node.and_then(|node| {
            let index = node.index();
            if full.last.len() <= index {
                full.last.resize(index + 1, None);
            }
            full.last[index].replace(event)
        });
        let mut causes: Vec<u64> = before
            .into_iter()
            .chain(cause)
            .filter(|cause| *cause < event)
            .collect();
        causes.sort_unstable();
        causes.dedup();
        full.events.push(TraceEvent {
            i: event,
            at_ns,
            node: node.map(|node| node.0),
            what: what.name().to_owned(),
            causes,
            ..TraceEvent::default()
        });
    }

    fn event(&mut self) -> Option<&mut TraceEvent> {
        let full = self.full.as_mut()?;
        if full.truncated {
            return None;
        }
        full.events.last_mut()
    }

    /// Says which task is polled.
    pub(super) fn polled(&mut self, slot: u32, role: &str, kind: Option<&str>) {
        self.add(slot);
        if let Some(event) = self.event() {
            event.label = format!("task {slot}: {role}");
            event.kind = kind.map(str::to_owned);
        }
    }

    /// Says which message the event is about.
    pub(super) fn message(&mut self, from: Peer, sent_in: u64, kind: &str, body: &[u8]) {
        self.add((from.node.0, from.incarnation, kind, body));
        if let Some(event) = self.event() {
            event.from = Some((from.node.0, sent_in));
            event.kind = Some(kind.to_owned());
            event.label = format!("{kind} from {from}");
            if let Some(full) = &mut self.full {
                let shown = &body[..body.len().min(DETAIL_MAX)];
                let body = Body {
                    shown: shown.to_vec(),
                    cut: shown.len() < body.len(),
                };
                full.bodies.push((full.events.len() - 1, body));
            }
        }
    }

    /// Says that a message was sent.
    pub(super) fn sent(&mut self, to: NodeIx, kind: &str, body: &[u8], route: Route) {
        let (word, fate) = match route.first {
            Fate::At(at) => (at, SentFate::At(at)),
            Fate::Lost(Cause::Loss) => (u64::MAX, SentFate::Word(FateWord::Lost)),
            Fate::Lost(Cause::Partition) => (u64::MAX - 1, SentFate::Word(FateWord::Partition)),
            Fate::Held => (u64::MAX - 2, SentFate::Word(FateWord::Held)),
        };
        self.add((to.0, kind, body, word, route.copy));
        if let Some(event) = self.event() {
            event.sends.push(Sent {
                to: to.0,
                kind: kind.to_owned(),
                fate,
            });
        }
    }

    /// Says which fault strikes.
    pub(super) fn fault(&mut self, fault: &Fault) {
        self.add(fault.name());
        if let Some(event) = self.event() {
            event.kind = Some(fault.name().to_owned());
            event.label = fault.name().replace('_', " ");
            event.detail = format!("{fault:?}");
        }
    }

    pub(super) fn label(&mut self, label: &str) {
        self.add(label);
        if let Some(event) = self.event() {
            event.label = label.to_owned();
        }
    }

    /// Adds a line of the program's.
    pub(super) fn note(&mut self, line: &str) {
        if let Some(event) = self.event() {
            if !event.detail.is_empty() {
                event.detail.push('\n');
            }
            event.detail.push_str(line);
        }
    }

    /// Shades the time of a fault that lasts; those of nodes that are down follow from their lives.
    pub(super) fn shade(&mut self, fault: &Fault, now_ns: u64) {
        let Some(full) = &mut self.full else { return };
        let Some(family) = Family::of(fault).filter(|family| *family != Family::Crash) else {
            return;
        };
        let (nodes, links, for_us) = scope(fault);
        let until_ns = for_us.map_or(u64::MAX, |us| {
            now_ns.saturating_add(us.saturating_mul(1_000))
        });
        full.shades.push(Shade {
            what: family.name().to_owned(),
            nodes,
            links,
            from_ns: now_ns,
            until_ns,
        });
    }

    /// Ends what is shaded.
    pub(super) fn heal(&mut self, now_ns: u64) {
        if let Some(full) = &mut self.full {
            for shade in &mut full.shades {
                shade.until_ns = shade.until_ns.min(now_ns);
            }
        }
    }

    /// Returns the trace, if one was asked for.
    pub(super) fn finish(self, end: Ending<'_>) -> Option<Trace> {
        let trace_hash = format!("{:016x}", self.hash());
        let mut full = *self.full?;
        for (index, body) in full.bodies {
            let mut detail = text(&body);
            let event = &mut full.events[index];
            if !event.detail.is_empty() {
                detail.push('\n');
                detail.push_str(&event.detail);
            }
            event.detail = detail;
        }
        let mut shades = full.shades;
        for shade in &mut shades {
            shade.until_ns = shade.until_ns.min(end.now_ns);
        }
        shades.extend(end.down);
        Some(Trace {
            version: Trace::VERSION,
            protocol: end.protocol.to_owned(),
            mutant: end.mutant.map(str::to_owned),
            seed: end.seed,
            nodes: end.names,
            trace_hash,
            truncated: full.truncated,
            events: full.events,
            states: Vec::new(),
            shades,
            violation: end.violation,
            script: Some(end.script),
        })
    }
}

/// What a trace says about the whole run.
pub(super) struct Ending<'e> {
    pub(super) protocol: &'e str,
    pub(super) mutant: Option<&'e str>,
    pub(super) seed: u64,
    pub(super) names: Vec<String>,
    pub(super) now_ns: u64,
    /// When nodes were down.
    pub(super) down: Vec<Shade>,
    pub(super) violation: Option<Violation>,
    pub(super) script: Script,
}

/// The nodes and links of a fault, and how long it lasts.
#[allow(clippy::type_complexity)] // three fields of a shade
fn scope(fault: &Fault) -> (Option<Vec<u32>>, Option<Vec<(u32, u32)>>, Option<u64>) {
    let one = |node: &NodeIx| Some(vec![node.0]);
    match fault {
        Fault::Isolate { node, for_us }
        | Fault::Pause { node, for_us }
        | Fault::ClockFreeze { node, for_us }
        | Fault::DiskFull { node, for_us }
        | Fault::DiskError { node, for_us, .. } => (one(node), None, *for_us),
        Fault::Halves { group, for_us } | Fault::Bridge { group, for_us, .. } => (
            Some(group.iter().map(|node| node.0).collect()),
            None,
            *for_us,
        ),
        Fault::Ring { for_us } => (None, None, *for_us),
        Fault::OneWay { link, for_us }
        | Fault::Cut { link, for_us }
        | Fault::Flap { link, for_us, .. }
        | Fault::Hold { link, for_us }
        | Fault::Loss { link, for_us, .. }
        | Fault::Delay { link, for_us, .. }
        | Fault::Duplicate { link, for_us, .. }
        | Fault::Reorder { link, for_us, .. }
        | Fault::Capacity { link, for_us, .. } => {
            let links = link
                .from
                .zip(link.to)
                .map(|(from, to)| vec![(from.0, to.0)]);
            let nodes = link.from.xor(link.to).map(|node| vec![node.0]);
            (nodes, links, *for_us)
        }
        Fault::ClockOffset { node, .. }
        | Fault::ClockDrift { node, .. }
        | Fault::ClockJump { node, .. }
        | Fault::DiskTorn { node, .. }
        | Fault::DiskLost { node, .. }
        | Fault::DiskReorder { node, .. }
        | Fault::DiskCorrupt { node, .. } => (one(node), None, None),
        _ => (None, None, None),
    }
}

/// A body as text: itself if it is printable, hexadecimal if not, and never long.
fn text(body: &Body) -> String {
    let mut text = match std::str::from_utf8(&body.shown) {
        Ok(text) if !text.chars().any(|c| c.is_control() && c != '\n') => text.to_owned(),
        _ => hexadecimal(&body.shown),
    };
    if body.cut {
        text.push('…');
    }
    text
}

fn hexadecimal(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] = [
        '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f',
    ];
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        text.push(DIGITS[usize::from(byte >> 4)]);
        text.push(DIGITS[usize::from(byte & 15)]);
    }
    text
}
