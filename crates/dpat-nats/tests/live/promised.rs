//! What of a history JetStream promises: the rest is taken out before it is judged.

use std::collections::HashMap;

use dpat_check::{History, Operation, Value};
use dpat_model::{Event, Kind};
use dpat_nats::ServerVersion;
use libtest_mimic::Failed;

/// Servers from here on hand nothing out that is out, whatever becomes of connections; tried on 2.15.1.
///
/// One of 2.9.10 that has a retry for a receiver whose connection just went takes one step back in its stream instead: the
/// message before comes again, with the same count, although it is out.
pub(crate) const LEASES_HOLD: ServerVersion = ServerVersion::new(2, 15, 0);

/// A settlement that may have been made when the lease of its receipt was over. The server takes it, and it is one of whatever
/// delivery is out by then.
struct Late {
    called_ns: u64,
    returned_ns: u64,
}

/// Of each message, by its id, the settlements that may have come late.
struct Promised {
    /// What each receipt is for, and until when it is good.
    leases: HashMap<Value, (Value, u64)>,
    late: HashMap<Value, Vec<Late>>,
}

fn number(map: &Value, name: &str) -> Option<u64> {
    u64::try_from(map.field(name)?.int()?).ok()
}

fn int(number: u64) -> Value {
    Value::Int(i64::try_from(number).unwrap_or(i64::MAX))
}

fn set(map: &mut Value, name: &str, value: Value) {
    if let Value::Map(fields) = map {
        for (key, old) in fields.iter_mut() {
            if key.text() == Some(name) {
                *old = value.clone();
            }
        }
    }
}

impl Promised {
    fn of(operations: &[Operation]) -> Self {
        let mut leases = HashMap::new();
        for one in operations {
            let field = |name| one.result()?.field(name).cloned();
            if let (Some(id), Some(receipt)) = (field("id"), field("receipt")) {
                let until = one.result().and_then(|result| number(result, "until_ns"));
                leases.insert(receipt, (id, until.unwrap_or(u64::MAX)));
            }
        }
        let mut late: HashMap<Value, Vec<Late>> = HashMap::new();
        for one in operations.iter().filter(|one| !one.failed()) {
            let lease = one.value.field("receipt").and_then(|it| leases.get(it));
            if let Some((id, _)) = lease.filter(|(_, until)| one.returned_ns > *until) {
                late.entry(id.clone()).or_default().push(Late {
                    called_ns: one.called_ns,
                    returned_ns: one.returned_ns,
                });
            }
        }
        Self { leases, late }
    }

    /// From when on a delivery of this call may not be a lease any more.
    fn until(&self, id: &Value, called_ns: u64) -> Option<u64> {
        let late = self.late.get(id)?.iter();
        let met = late.filter(|late| called_ns < late.returned_ns);
        met.map(|late| late.called_ns).min()
    }
}

/// Takes out of a history what is not promised: leases and delays of messages that were settled late, by another receipt than
/// the last one; and of a server that hands out what is out, all leases, delays and counts.
pub(crate) fn promised(
    mut events: Vec<Event<Value>>,
    leases_hold: bool,
) -> Result<Vec<Event<Value>>, Failed> {
    let history = History::from_events(events.clone())?;
    let promised = Promised::of(history.operations());
    let operations = history.operations().iter();
    let called: HashMap<u64, u64> = operations.map(|one| (one.process, one.called_ns)).collect();
    let mut counts: HashMap<Value, u64> = HashMap::new();
    for event in &mut events {
        let called_ns = called.get(&event.process).copied().unwrap_or(0);
        match (&*event.f, event.kind) {
            ("receive", Kind::Ok) => {
                let Some(id) = event.value.field("id").cloned() else {
                    continue;
                };
                let until = number(&event.value, "until_ns").unwrap_or(u64::MAX);
                let until = match promised.until(&id, called_ns) {
                    _ if !leases_hold => 0,
                    Some(late) => until.min(late),
                    None => until,
                };
                set(&mut event.value, "until_ns", int(until));
                if !leases_hold {
                    let count = counts.entry(id).or_default();
                    *count += 1;
                    set(&mut event.value, "count", int(*count));
                }
            }
            ("nack", Kind::Invoke) => {
                let receipt = event.value.field("receipt");
                let lease = receipt.and_then(|it| promised.leases.get(it));
                let is_met = lease.is_some_and(|(id, _)| promised.until(id, called_ns).is_some());
                if is_met || !leases_hold {
                    set(&mut event.value, "after_ns", int(0));
                }
            }
            _ => {}
        }
    }
    Ok(events)
}
