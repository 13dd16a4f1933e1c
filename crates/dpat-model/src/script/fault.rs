//! The vocabulary of faults: one table for the type, its checks and its JSON form.

#[cfg(feature = "json")]
use serde_json::{Value, json};

use super::{MAX_OPS, MILLION, Nodes, check_name};
use crate::NodeIx;

/// Directed links between nodes; an end that is `None` stands for every node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct LinkSet {
    /// The sending end.
    pub from: Option<NodeIx>,
    /// The receiving end.
    pub to: Option<NodeIx>,
}

impl LinkSet {
    /// Every link.
    pub const ALL: Self = Self {
        from: None,
        to: None,
    };

    /// Returns one directed link.
    #[must_use]
    pub const fn one(from: NodeIx, to: NodeIx) -> Self {
        Self {
            from: Some(from),
            to: Some(to),
        }
    }

    /// Says whether a directed link is meant.
    #[must_use]
    pub fn contains(&self, from: NodeIx, to: NodeIx) -> bool {
        self.from.is_none_or(|end| end == from) && self.to.is_none_or(|end| end == to)
    }
}

/// A distribution of delays, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Delay {
    /// Always the same.
    Constant(u64),
    /// Uniform between two values, both included.
    Uniform(u64, u64),
    /// Exponential with this mean.
    Exponential(u64),
    /// Mostly fast, sometimes slow.
    Bimodal {
        /// The usual delay.
        fast_us: u64,
        /// The delay of the others.
        slow_us: u64,
        /// How many are slow, in parts per million.
        slow_per_million: u32,
    },
}

/// A kind of field: its bounds, and its JSON form.
pub(super) trait Field: Sized {
    fn check(&self, nodes: &Nodes) -> Result<(), String>;

    /// Reads the field; `None` if it is absent.
    #[cfg(feature = "json")]
    fn read(value: Option<Value>, nodes: &Nodes) -> Result<Self, String>;

    /// Returns the canonical form, or `None` to leave it out.
    #[cfg(feature = "json")]
    fn write(&self, nodes: &Nodes) -> Option<Value>;
}

macro_rules! faults {
    (@check $field:ident $nodes:ident) => { $field.check($nodes) };
    (@check $field:ident $nodes:ident $check:path) => { $check(&$field) };
    ($($(#[$about:meta])* $fault:ident $name:literal {
        $($(#[$note:meta])* $field:ident: $kind:ty $(= $check:path)?,)*
    })*) => {
        /// Something that goes wrong.
        ///
        /// `for_us` ends a fault by itself after that many microseconds; without it the fault lasts until its
        /// counterpart (`Heal`, `Release`, `Restart`, `Resume`) or the end of the run. A fault that changes nothing,
        /// such as the restart of a running node, is allowed, so that a shrinker may drop any operation.
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Fault {
            $($(#[$about])* $fault { $($(#[$note])* $field: $kind,)* },)*
        }

        impl Fault {
            /// Every name of a fault in scripts.
            pub const NAMES: &'static [&'static str] = &[$($name),*];

            /// Returns the name in scripts, the value of `do`.
            #[must_use]
            pub const fn name(&self) -> &'static str {
                match self {
                    $(Self::$fault { .. } => $name,)*
                }
            }

            pub(super) fn check(&self, nodes: &Nodes) -> Result<(), (&'static str, String)> {
                match self {
                    $(Self::$fault { $($field),* } => {
                        $(faults!(@check $field nodes $($check)?)
                            .map_err(|reason| (stringify!($field), reason))?;)*
                    })*
                }
                let _ = nodes; // a fault without fields
                Ok(())
            }

            /// Reads the fields of the fault of this name through `take`; `None` if there is no such fault.
            #[cfg(feature = "json")]
            pub(super) fn read<E>(
                name: &str,
                nodes: &Nodes,
                mut take: impl FnMut(&str, &mut dyn FnMut(Option<Value>) -> Result<(), String>) -> Result<(), E>,
            ) -> Option<Result<Self, E>> {
                match name {
                    $($name => Some((|| {
                        $(let mut $field = None;
                        take(stringify!($field), &mut |value| {
                            let read = <$kind as Field>::read(value, nodes)?;
                            faults!(@check read nodes $($check)?)?;
                            $field = Some(read);
                            Ok(())
                        })?;)*
                        let _ = (&mut take, nodes); // a fault without fields
                        Ok(Self::$fault {
                            $($field: $field.expect("take calls its closure or fails"),)*
                        })
                    })()),)*
                    _ => None,
                }
            }

            /// Calls `put` with every field that the canonical form shows.
            #[cfg(feature = "json")]
            pub(super) fn write(&self, nodes: &Nodes, mut put: impl FnMut(&str, Value)) {
                match self {
                    $(Self::$fault { $($field),* } => {
                        $(if let Some(value) = $field.write(nodes) {
                            put(stringify!($field), value);
                        })*
                    })*
                }
                let _ = (&mut put, nodes); // a fault without fields
            }
        }
    };
}

faults! {
    /// Partition: cuts one node off from all others.
    Isolate "isolate" {
        /// The node.
        node: NodeIx,
        /// How long.
        for_us: Option<u64>,
    }
    /// Partition: cuts a group off from the rest.
    Halves "halves" {
        /// One side.
        group: Vec<NodeIx>,
        /// How long.
        for_us: Option<u64>,
    }
    /// Partition: every node sees a majority, no two the same one (Jepsen's majorities ring).
    Ring "ring" {
        /// How long.
        for_us: Option<u64>,
    }
    /// Partition: cuts a group off from the rest, but for one node that sees both.
    Bridge "bridge" {
        /// The node that sees both sides.
        node: NodeIx,
        /// One side.
        group: Vec<NodeIx>,
        /// How long.
        for_us: Option<u64>,
    }
    /// Partition: drops what travels in one direction.
    OneWay "one_way" {
        /// The links.
        link: LinkSet,
        /// How long.
        for_us: Option<u64>,
    }
    /// Partition: drops what travels in both directions.
    Cut "cut" {
        /// The links, and those in the other direction.
        link: LinkSet,
        /// How long.
        for_us: Option<u64>,
    }
    /// Partition: a link goes down and up again and again.
    Flap "flap" {
        /// The links.
        link: LinkSet,
        /// Time down of each period.
        down_us: u64,
        /// Time up of each period.
        up_us: u64,
        /// How long.
        for_us: Option<u64>,
    }
    /// Keeps what is sent, until it is released.
    Hold "hold" {
        /// The links.
        link: LinkSet,
        /// How long.
        for_us: Option<u64>,
    }
    /// Lets go what was held.
    Release "release" {
        /// The links.
        link: LinkSet,
    }
    /// Ends every partition, hold and link fault of these links.
    Heal "heal" {
        /// The links.
        link: LinkSet,
    }
    /// Link: loses messages.
    Loss "loss" {
        /// The links.
        link: LinkSet,
        /// How many, in parts per million.
        per_million: u32,
        /// How long.
        for_us: Option<u64>,
    }
    /// Link: delays messages by this distribution instead of the default one.
    Delay "delay" {
        /// The links.
        link: LinkSet,
        /// The distribution.
        delay: Delay,
        /// How long.
        for_us: Option<u64>,
    }
    /// Link: delivers messages twice.
    Duplicate "duplicate" {
        /// The links.
        link: LinkSet,
        /// How many, in parts per million.
        per_million: u32,
        /// How long.
        for_us: Option<u64>,
    }
    /// Link: lets messages overtake earlier ones.
    Reorder "reorder" {
        /// The links.
        link: LinkSet,
        /// How many are kept back, in parts per million.
        per_million: u32,
        /// How much longer they take.
        delay: Delay,
        /// How long.
        for_us: Option<u64>,
    }
    /// Link: carries no more than this.
    Capacity "capacity" {
        /// The links.
        link: LinkSet,
        /// Bytes a second.
        bytes_per_s: u64,
        /// How long.
        for_us: Option<u64>,
    }
    /// Node: stops at once and loses what is not durable. With `for_us` it starts again.
    Crash "crash" {
        /// The node.
        node: NodeIx,
        /// How long it is down.
        for_us: Option<u64>,
    }
    /// Node: its process is killed; what it has written survives, durable or not. With `for_us` it starts again.
    Kill "kill" {
        /// The node.
        node: NodeIx,
        /// The one order at whose passing it strikes; any if absent.
        order_id: Option<String>,
        /// How long it is down.
        for_us: Option<u64>,
    }
    /// Node: starts again after a crash or a kill.
    Restart "restart" {
        /// The node.
        node: NodeIx,
    }
    /// Node: crashes and loses its disk too. With `for_us` it starts again, empty.
    Wipe "wipe" {
        /// The node.
        node: NodeIx,
        /// How long it is down.
        for_us: Option<u64>,
    }
    /// Node: does nothing, while its inputs wait.
    Pause "pause" {
        /// The node.
        node: NodeIx,
        /// How long.
        for_us: Option<u64>,
    }
    /// Node: goes on after a pause.
    Resume "resume" {
        /// The node.
        node: NodeIx,
    }
    /// Disk: at crashes, unsynced writes are cut in the middle.
    DiskTorn "disk_torn" {
        /// The node.
        node: NodeIx,
        /// How many, in parts per million.
        per_million: u32,
    }
    /// Disk: at crashes, unsynced writes are lost.
    DiskLost "disk_lost" {
        /// The node.
        node: NodeIx,
        /// How many, in parts per million.
        per_million: u32,
    }
    /// Disk: at crashes, later unsynced writes survive earlier ones.
    DiskReorder "disk_reorder" {
        /// The node.
        node: NodeIx,
        /// How many, in parts per million.
        per_million: u32,
    }
    /// Disk: flips bits in stored sectors, now.
    DiskCorrupt "disk_corrupt" {
        /// The node.
        node: NodeIx,
        /// In how many sectors.
        sectors: u64,
    }
    /// Disk: writes and syncs fail.
    DiskError "disk_error" {
        /// The node.
        node: NodeIx,
        /// How many, in parts per million.
        per_million: u32,
        /// How long.
        for_us: Option<u64>,
    }
    /// Disk: no space is left.
    DiskFull "disk_full" {
        /// The node.
        node: NodeIx,
        /// How long.
        for_us: Option<u64>,
    }
    /// Clock: the wall clock is this much ahead of true time; negative is behind.
    ClockOffset "clock_offset" {
        /// The node.
        node: NodeIx,
        /// The offset.
        offset_us: i64,
    }
    /// Clock: both clocks run faster than true time by this; negative is slower.
    ClockDrift "clock_drift" {
        /// The node.
        node: NodeIx,
        /// The drift, in parts per million.
        drift_per_million: i64,
    }
    /// Clock: the wall clock jumps by this, forward or back.
    ClockJump "clock_jump" {
        /// The node.
        node: NodeIx,
        /// The jump.
        jump_us: i64,
    }
    /// Clock: both clocks stand still.
    ClockFreeze "clock_freeze" {
        /// The node.
        node: NodeIx,
        /// How long.
        for_us: Option<u64>,
    }
    /// Request: answered with a transient error, without the effect.
    Error "error" {
        /// The node that serves.
        node: NodeIx,
        /// Which kind of request; every kind if absent.
        step: Option<String>,
        /// The one order that is hit, or whatever else names a request; any if absent.
        order_id: Option<String>,
        /// How many of a million are hit; all if absent.
        per_million: Option<u32>,
        /// How long.
        for_us: Option<u64>,
    }
    /// Request: has its effect, but no answer.
    Drop "drop" {
        /// The node that serves.
        node: NodeIx,
        /// Which kind of request; every kind if absent.
        step: Option<String>,
        /// The one order that is hit, or whatever else names a request; any if absent.
        order_id: Option<String>,
        /// How many of a million are hit; all if absent.
        per_million: Option<u32>,
        /// How long.
        for_us: Option<u64>,
    }
    /// Request: has its effect, and a garbled answer.
    Garble "garble" {
        /// The node that serves.
        node: NodeIx,
        /// Which kind of request; every kind if absent.
        step: Option<String>,
        /// The one order that is hit, or whatever else names a request; any if absent.
        order_id: Option<String>,
        /// How many of a million are hit; all if absent.
        per_million: Option<u32>,
        /// How long.
        for_us: Option<u64>,
    }
    /// Request: answered late.
    Latency "latency" {
        /// The node that serves.
        node: NodeIx,
        /// Which kind of request; every kind if absent.
        step: Option<String>,
        /// The one order that is hit, or whatever else names a request; any if absent.
        order_id: Option<String>,
        /// How many of a million are hit; all if absent.
        per_million: Option<u32>,
        /// How much later.
        add_us: u64,
        /// How long.
        for_us: Option<u64>,
    }
    /// Request: taken and never answered, without the effect.
    Hang "hang" {
        /// The node that serves.
        node: NodeIx,
        /// Which kind of request; every kind if absent.
        step: Option<String>,
        /// The one order that is hit, or whatever else names a request; any if absent.
        order_id: Option<String>,
        /// How many of a million are hit; all if absent.
        per_million: Option<u32>,
        /// How long.
        for_us: Option<u64>,
    }
    /// Workload: a client makes only these of its calls, from the start, whenever the operation is due.
    ///
    /// No fault, but what a shrinker takes away besides faults. Of two for one client both hold.
    Calls "calls" {
        /// The client, counted from 0.
        client: u64 = any,
        /// The numbers of its calls, counted from 0, ascending.
        keep: Vec<u64>,
    }
}

/// The check of a field that may have every value of its type.
fn any<T>(_: &T) -> Result<(), String> {
    Ok(())
}

#[cfg(feature = "json")]
fn parse<T: serde::de::DeserializeOwned>(value: Option<Value>) -> Result<T, String> {
    let value = value.ok_or("missing")?;
    serde_json::from_value(value).map_err(|error| error.to_string())
}

impl Field for NodeIx {
    fn check(&self, nodes: &Nodes) -> Result<(), String> {
        if self.0 < nodes.count() {
            return Ok(());
        }
        Err(format!("there are only {} nodes", nodes.count()))
    }

    #[cfg(feature = "json")]
    fn read(value: Option<Value>, nodes: &Nodes) -> Result<Self, String> {
        match &value {
            Some(Value::String(name)) => nodes
                .find(name)
                .ok_or_else(|| format!("no node is named {name:?}")),
            _ => parse(value).map(NodeIx),
        }
    }

    #[cfg(feature = "json")]
    fn write(&self, nodes: &Nodes) -> Option<Value> {
        Some(nodes.name(*self).map_or(json!(self.0), |name| json!(name)))
    }
}

impl Field for Vec<NodeIx> {
    fn check(&self, nodes: &Nodes) -> Result<(), String> {
        let mut sorted = self.clone();
        sorted.sort_unstable();
        sorted.dedup();
        if self.is_empty() || sorted.len() != self.len() || self.len() >= nodes.count() as usize {
            return Err("must name some nodes, each once, and not all".to_owned());
        }
        self.iter().try_for_each(|node| node.check(nodes))
    }

    #[cfg(feature = "json")]
    fn read(value: Option<Value>, nodes: &Nodes) -> Result<Self, String> {
        let values: Vec<Value> = parse(value)?;
        let read = |value| NodeIx::read(Some(value), nodes);
        values.into_iter().map(read).collect()
    }

    #[cfg(feature = "json")]
    fn write(&self, nodes: &Nodes) -> Option<Value> {
        Some(self.iter().filter_map(|node| node.write(nodes)).collect())
    }
}

impl Field for Vec<u64> {
    fn check(&self, _nodes: &Nodes) -> Result<(), String> {
        if self.is_sorted_by(|one, next| one < next) && self.len() <= MAX_OPS {
            return Ok(());
        }
        Err(format!("must ascend, and be at most {MAX_OPS}"))
    }

    #[cfg(feature = "json")]
    fn read(value: Option<Value>, _nodes: &Nodes) -> Result<Self, String> {
        parse(value)
    }

    #[cfg(feature = "json")]
    fn write(&self, _nodes: &Nodes) -> Option<Value> {
        Some(json!(self))
    }
}

impl Field for LinkSet {
    fn check(&self, nodes: &Nodes) -> Result<(), String> {
        if self.from.is_some() && self.from == self.to {
            return Err("must join two nodes".to_owned());
        }
        let ends = [self.from, self.to];
        ends.iter().flatten().try_for_each(|end| end.check(nodes))
    }

    #[cfg(feature = "json")]
    fn read(value: Option<Value>, nodes: &Nodes) -> Result<Self, String> {
        if value.is_none() {
            return Ok(Self::ALL);
        }
        let [from, to]: [Value; 2] = parse(value)?;
        let end = |value: Value| match value.as_str() {
            Some("*") => Ok(None),
            _ => NodeIx::read(Some(value), nodes).map(Some),
        };
        Ok(Self {
            from: end(from)?,
            to: end(to)?,
        })
    }

    #[cfg(feature = "json")]
    fn write(&self, nodes: &Nodes) -> Option<Value> {
        let end = |end: Option<NodeIx>| end.map_or(Some(json!("*")), |node| node.write(nodes));
        Some(json!([end(self.from), end(self.to)]))
    }
}

impl Field for Delay {
    fn check(&self, _nodes: &Nodes) -> Result<(), String> {
        match self {
            Self::Uniform(low, high) if low > high => Err("low above high".to_owned()),
            Self::Bimodal {
                slow_per_million, ..
            } => slow_per_million.check(_nodes),
            _ => Ok(()),
        }
    }

    #[cfg(feature = "json")]
    fn read(value: Option<Value>, _nodes: &Nodes) -> Result<Self, String> {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "snake_case", deny_unknown_fields)]
        #[allow(clippy::enum_variant_names)] // the names in the file
        enum Form {
            ConstantUs(u64),
            UniformUs(u64, u64),
            ExponentialUs(u64),
            BimodalUs(u64, u64, u32),
        }
        Ok(match parse(value)? {
            Form::ConstantUs(delay) => Self::Constant(delay),
            Form::UniformUs(low, high) => Self::Uniform(low, high),
            Form::ExponentialUs(mean) => Self::Exponential(mean),
            Form::BimodalUs(fast_us, slow_us, slow_per_million) => Self::Bimodal {
                fast_us,
                slow_us,
                slow_per_million,
            },
        })
    }

    #[cfg(feature = "json")]
    fn write(&self, _nodes: &Nodes) -> Option<Value> {
        Some(match self {
            Self::Constant(delay) => json!({ "constant_us": delay }),
            Self::Uniform(low, high) => json!({ "uniform_us": [low, high] }),
            Self::Exponential(mean) => json!({ "exponential_us": mean }),
            Self::Bimodal {
                fast_us,
                slow_us,
                slow_per_million,
            } => json!({ "bimodal_us": [fast_us, slow_us, slow_per_million] }),
        })
    }
}

/// Numbers and names: a type, its check, and whether it may be absent.
macro_rules! plain {
    ($($kind:ty, $check:expr;)*) => {
        $(impl Field for $kind {
            fn check(&self, _nodes: &Nodes) -> Result<(), String> {
                let check: fn(&$kind) -> Result<(), String> = $check;
                check(self)
            }

            #[cfg(feature = "json")]
            fn read(value: Option<Value>, _nodes: &Nodes) -> Result<Self, String> {
                parse(value)
            }

            #[cfg(feature = "json")]
            fn write(&self, _nodes: &Nodes) -> Option<Value> {
                Some(json!(self))
            }
        })*
    };
}

plain! {
    u32, |rate| if *rate <= MILLION { Ok(()) } else { Err(format!("above {MILLION} per million")) };
    u64, |amount| if *amount > 0 { Ok(()) } else { Err("must not be 0".to_owned()) };
    i64, |_| Ok(());
    String, |name| check_name(name);
}

impl<F: Field> Field for Option<F> {
    fn check(&self, nodes: &Nodes) -> Result<(), String> {
        self.iter().try_for_each(|field| field.check(nodes))
    }

    #[cfg(feature = "json")]
    fn read(value: Option<Value>, nodes: &Nodes) -> Result<Self, String> {
        value.map(|value| F::read(Some(value), nodes)).transpose()
    }

    #[cfg(feature = "json")]
    fn write(&self, nodes: &Nodes) -> Option<Value> {
        self.as_ref().and_then(|field| field.write(nodes))
    }
}
