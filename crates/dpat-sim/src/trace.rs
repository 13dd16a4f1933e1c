//! Recorded runs, for people.

use dpat_model::Script;
use serde::{Deserialize, Serialize};

use crate::Violation;

/// A recorded run. Its JSON form has version 0 and may still change.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trace {
    /// The version of the form.
    pub version: u32,
    /// The protocol.
    pub protocol: String,
    /// The mutant that was run.
    pub mutant: Option<String>,
    /// The seed.
    pub seed: u64,
    /// The names of the nodes.
    pub nodes: Vec<String>,
    /// The hash over every event of the run, recorded or not, as 16 hexadecimal digits.
    pub trace_hash: String,
    /// Whether later events are missing.
    pub truncated: bool,
    /// The events in their order; the index is the number of the event.
    pub events: Vec<TraceEvent>,
    /// Texts of states; events refer to them.
    pub states: Vec<String>,
    /// Faults that lasted.
    pub shades: Vec<Shade>,
    /// What did not hold.
    pub violation: Option<Violation>,
    /// The faults of the run.
    #[serde(with = "script")]
    pub script: Option<Script>,
}

impl Trace {
    /// The version that this crate writes.
    pub const VERSION: u32 = 0;
}

/// One event of a recorded run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TraceEvent {
    /// The number of the event.
    pub i: u64,
    /// The time, in nanoseconds of the simulation.
    pub at_ns: u64,
    /// Where, if it was at a node.
    pub node: Option<u32>,
    /// What: `start`, `deliver`, `timer`, `request`, `answer`, `cancel`, `done`, `synced`, `durable`, `drain`, `up`,
    /// `down`, `fault`, `lost`, `duplicate`, `crash`, `restart`, `pause`, `resume`, `heal`, and of asynchronous programs `poll`.
    pub what: String,
    /// The kind of the message.
    pub kind: Option<String>,
    /// A short text.
    pub label: String,
    /// A long text.
    pub detail: String,
    /// For messages: the node that sent it, and in which event.
    pub from: Option<(u32, u64)>,
    /// What the node sent in this event.
    pub sends: Vec<Sent>,
    /// The events that this one directly follows from, in rising order: the one before at its node, the one that sent,
    /// armed, logged or asked.
    pub causes: Vec<u64>,
    /// The transaction or key that it is about.
    pub key: Option<String>,
    /// The state of the node after the event, an index into the texts of states.
    pub state: Option<usize>,
}

/// A message that was sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sent {
    /// The destination.
    pub to: u32,
    /// The kind of the message.
    pub kind: String,
    /// What becomes of it.
    pub fate: SentFate,
}

/// What becomes of a message: the time of its arrival in nanoseconds, or a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SentFate {
    /// It is to arrive at this time.
    At(u64),
    /// It does not arrive, or not yet.
    Word(FateWord),
}

/// Why a message does not arrive when it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FateWord {
    /// The link lost it.
    Lost,
    /// A partition is between the nodes.
    Partition,
    /// The link keeps it for now.
    Held,
    /// There is no session to send it on.
    NoSession,
}

/// A fault that lasted, for shading.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shade {
    /// What: a family of faults, or `down`.
    pub what: String,
    /// The nodes that it is about; none if it is about links.
    pub nodes: Option<Vec<u32>>,
    /// The directed links that it is about; none if it is about nodes, or about all links.
    pub links: Option<Vec<(u32, u32)>>,
    /// From when, in nanoseconds of the simulation.
    pub from_ns: u64,
    /// Until when.
    pub until_ns: u64,
}

/// Scripts have a strict text form of their own.
mod script {
    use dpat_model::Script;
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
    use serde_json::Value;

    #[allow(clippy::ref_option, reason = "serde passes the field so")]
    pub(super) fn serialize<S: Serializer>(
        script: &Option<Script>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let value = script
            .as_ref()
            .map(|script| serde_json::from_str::<Value>(&script.to_json()));
        let value = value.transpose().map_err(ser::Error::custom)?;
        value.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Script>, D::Error> {
        let value = Option::<Value>::deserialize(deserializer)?;
        let parse = |value: Value| Script::parse(&value.to_string(), "script");
        value.map(parse).transpose().map_err(de::Error::custom)
    }
}
