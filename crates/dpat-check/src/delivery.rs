//! Queues with receipts: what a receiver may count on.

use std::collections::HashMap;

use crate::error::BadOperation;
use crate::history::{History, Operation};
use crate::value::Value;
use crate::verdict::{Verdict, Violation};

/// Decides whether a queue with receipts kept its promises.
///
/// Operations, with maps as values (times in nanoseconds of the run, as the events have them):
/// - `send {id, group?, after_ns?}`: the message must not be received before `after_ns`;
/// - `receive` → nil, or `{id, receipt, count, until_ns?}`: the receipt is live until it is settled or `until_ns`;
/// - `ack {receipt}`, `reject {receipt}`, `nack {receipt, after_ns?}`, `extend {receipt, until_ns}`;
/// - `drain` → ids that are still there, when the run is over; without it nothing can be called lost.
///
/// Rules, as `rule` of the violation has them: `phantom` (received, but nobody sent it), `again` (received after its
/// ack), `two-live` (two live receipts), `early`, `count` (does not rise from claim to claim), `order` (received before
/// an earlier message of its group), `lost` (sent, and neither settled nor there at the drain).
/// Only what is certain counts: a call has taken effect when it has returned, and may have as soon as it is called.
///
/// # Errors
/// [`BadOperation`] if an operation is none of these, or a message is sent or a receipt given twice.
///
/// # Complexity
/// O(n log n), and quadratic in the receipts of one message.
pub fn check_delivery(history: &History) -> Result<Verdict, BadOperation> {
    let run = Run::read(history)?;
    let mut found = None;
    for claim in &run.claims {
        if let Some(violation) = run.judge(claim) {
            found = Some(violation);
            break;
        }
    }
    let found = found.or_else(|| run.misordered()).or_else(|| run.lost());
    Ok(found.map_or(Verdict::Ok, Verdict::violated))
}

struct Message<'a> {
    index: usize,
    sent: &'a Operation,
    id: &'a Value,
    group: Option<&'a Value>,
    after_ns: u64,
    /// Its claims, in the order of their calls.
    claims: Vec<usize>,
}

/// A delivery and what became of it.
struct Claim<'a> {
    index: usize,
    id: &'a Value,
    count: i64,
    called: usize,
    returned: usize,
    returned_ns: u64,
    until_ns: u64,
    /// When the first settlement that may have worked was called.
    settled: usize,
    /// An ack or reject may have worked.
    gone: bool,
    /// When an ack returned, and which.
    acked: Option<(usize, usize)>,
    /// Not again before, once this call returned.
    nacked: Option<(usize, u64)>,
}

struct Run<'a> {
    history: &'a History,
    messages: HashMap<&'a Value, Message<'a>>,
    claims: Vec<Claim<'a>>,
    drained: Option<(usize, Vec<&'a Value>)>,
}

/// Reads a field of a time.
fn time(map: &Value, name: &str) -> Option<u64> {
    map.field(name)?
        .int()
        .and_then(|time| u64::try_from(time).ok())
}

impl<'a> Run<'a> {
    fn read(history: &'a History) -> Result<Self, BadOperation> {
        let mut run = Self {
            history,
            messages: HashMap::new(),
            claims: Vec::new(),
            drained: None,
        };
        let mut receipts: HashMap<&Value, usize> = HashMap::new();
        for (index, operation) in history.operations().iter().enumerate() {
            match &*operation.f {
                "send" => run.send(index, operation)?,
                "receive" => {
                    if let Some(receipt) = run.receive(index, operation)? {
                        let claim = run.claims.len() - 1;
                        if receipts.insert(receipt, claim).is_some() {
                            let reason = format!("receipt {receipt} was given before");
                            return Err(operation.bad_result(index, reason));
                        }
                    }
                }
                "ack" | "reject" | "nack" | "extend" => {
                    if operation.value.field("receipt").is_none() {
                        return Err(operation.bad(index, "value", "a receipt is missing"));
                    }
                }
                "drain" => {
                    if let Some(result) = operation.result() {
                        let Some(ids) = result.list() else {
                            return Err(operation.bad_result(index, "a drain returns ids"));
                        };
                        run.drained = Some((index, ids.iter().collect()));
                    }
                }
                f => {
                    let known = "send, receive, ack, reject, nack, extend, drain";
                    return Err(operation.bad(index, "f", format!("`{f}` is none of {known}")));
                }
            }
        }
        // A receipt can be used before its claim stands in the history, since answers may overtake.
        for (index, operation) in history.operations().iter().enumerate() {
            let claim = operation
                .value
                .field("receipt")
                .and_then(|it| receipts.get(it));
            if let Some(claim) = claim {
                run.claims[*claim].settle(index, operation);
            }
        }
        for (at, claim) in run.claims.iter().enumerate() {
            if let Some(message) = run.messages.get_mut(claim.id) {
                message.claims.push(at);
            }
        }
        Ok(run)
    }

    fn send(&mut self, index: usize, sent: &'a Operation) -> Result<(), BadOperation> {
        let Some(id) = sent.value.field("id") else {
            return Err(sent.bad(index, "value", "an id is missing"));
        };
        let message = Message {
            index,
            sent,
            id,
            group: sent.value.field("group"),
            after_ns: time(&sent.value, "after_ns").unwrap_or(0),
            claims: Vec::new(),
        };
        if self.messages.insert(id, message).is_some() {
            return Err(sent.bad(index, "value", format!("{id} was sent before")));
        }
        Ok(())
    }

    /// Returns the receipt, if something was received.
    fn receive(
        &mut self,
        index: usize,
        operation: &'a Operation,
    ) -> Result<Option<&'a Value>, BadOperation> {
        let (Some(result), Some(returned)) = (operation.result(), operation.returned) else {
            return Ok(None);
        };
        if result.is_nil() {
            return Ok(None);
        }
        let count = result.field("count").and_then(Value::int);
        let (Some(id), Some(receipt), Some(count)) =
            (result.field("id"), result.field("receipt"), count)
        else {
            let reason = "receive returns nil or {id, receipt, count}";
            return Err(operation.bad_result(index, reason));
        };
        self.claims.push(Claim {
            index,
            id,
            count,
            called: operation.called,
            returned,
            returned_ns: operation.returned_ns,
            until_ns: time(result, "until_ns").unwrap_or(u64::MAX),
            settled: usize::MAX,
            gone: false,
            acked: None,
            nacked: None,
        });
        Ok(Some(receipt))
    }

    /// Judges one claim by its message and the other claims of it.
    fn judge(&self, claim: &Claim<'a>) -> Option<Violation> {
        let broken = |rule, with| Some(violation(rule, claim.id, claim.index, with));
        let Some(message) = self.messages.get(claim.id) else {
            return broken("phantom", vec![]);
        };
        if message.sent.failed() || claim.returned < message.sent.called {
            return broken("phantom", vec![message.index]);
        }
        if claim.returned_ns < message.after_ns {
            return broken("early", vec![message.index]);
        }
        for other in message.claims.iter().map(|at| &self.claims[*at]) {
            if other.index == claim.index {
                continue;
            }
            if let Some((acked, by)) = other.acked {
                if acked < claim.called {
                    return broken("again", vec![other.index, by]);
                }
            }
            if let Some((nacked, after_ns)) = other.nacked {
                if nacked < claim.called && claim.returned_ns < after_ns {
                    return broken("early", vec![other.index]);
                }
            }
            let later = other.returned < claim.called;
            if claim.count < 1 || claim.count == other.count || later && claim.count < other.count {
                return broken("count", vec![other.index]);
            }
            // Both are live at the moment at which the later one returned.
            let settled = claim.settled.min(other.settled);
            let live_ns = claim.until_ns.min(other.until_ns);
            if other.returned < claim.returned
                && claim.returned < settled
                && claim.returned_ns < live_ns
            {
                return broken("two-live", vec![other.index]);
            }
        }
        None
    }

    /// Finds a message that was first received before an earlier one of its group.
    fn misordered(&self) -> Option<Violation> {
        let mut groups: HashMap<&Value, Vec<&Message<'_>>> = HashMap::new();
        for message in self.messages.values() {
            if let (Some(group), false) = (message.group, message.sent.failed()) {
                groups.entry(group).or_default().push(message);
            }
        }
        let mut found: Option<Violation> = None;
        for (group, mut messages) in groups {
            messages.sort_unstable_by_key(|message| message.sent.called);
            // What was surely sent earlier, by the end of its sending.
            let mut earlier: Vec<&Message<'_>> = messages.clone();
            earlier.retain(|message| message.sent.result().is_some());
            earlier.sort_unstable_by_key(|message| message.sent.returned);
            let mut earlier = earlier.into_iter().peekable();
            let mut last: Option<(usize, usize)> = None;
            for message in messages {
                let before = |other: &&Message<'_>| other.sent.returned < Some(message.sent.called);
                while let Some(other) = earlier.next_if(before) {
                    // Never received is received after all others.
                    let calls = other.claims.iter().map(|at| self.claims[*at].called);
                    let first = calls.min().unwrap_or(usize::MAX);
                    last = last.max(Some((first, other.index)));
                }
                let returns = message.claims.iter().map(|at| &self.claims[*at]);
                let first = returns.min_by_key(|claim| claim.returned);
                if let (Some(claim), Some((called, other))) = (first, last) {
                    if claim.returned < called
                        && found
                            .as_ref()
                            .is_none_or(|found| claim.index < found.blocked)
                    {
                        let with = vec![message.index, other];
                        found = Some(violation("order", group, claim.index, with));
                    }
                }
            }
        }
        found
    }

    /// Finds a message that was sent and is neither settled nor there at the end.
    fn lost(&self) -> Option<Violation> {
        let (drained, left) = self.drained.as_ref()?;
        let left: std::collections::HashSet<_> = left.iter().copied().collect();
        let drain = &self.history.operations()[*drained];
        let lost = |message: &&Message<'_>| {
            let sent =
                message.sent.result().is_some() && message.sent.returned < Some(drain.called);
            let gone = |at: &usize| self.claims[*at].gone;
            sent && !left.contains(message.id) && !message.claims.iter().any(gone)
        };
        let lost = self.messages.values().filter(lost);
        let first = lost.min_by_key(|message| message.index)?;
        Some(violation("lost", first.id, first.index, vec![*drained]))
    }
}

impl Claim<'_> {
    fn settle(&mut self, index: usize, operation: &Operation) {
        if operation.failed() {
            return;
        }
        let returned = operation.returned.filter(|_| operation.result().is_some());
        match &*operation.f {
            "extend" => {
                let until_ns = time(&operation.value, "until_ns").unwrap_or(self.until_ns);
                self.until_ns = match returned {
                    Some(_) => until_ns,
                    None => until_ns.min(self.until_ns), // surely live only as long as in either case
                };
                return;
            }
            "ack" => self.acked = self.acked.or(returned.map(|returned| (returned, index))),
            "nack" => {
                let after_ns = time(&operation.value, "after_ns").unwrap_or(0);
                self.nacked = self
                    .nacked
                    .or(returned.map(|returned| (returned, after_ns)));
            }
            _ => {}
        }
        self.gone |= operation.f != "nack";
        self.settled = self.settled.min(operation.called);
    }
}

fn violation(rule: &'static str, key: &Value, blocked: usize, with: Vec<usize>) -> Violation {
    Violation {
        key: Some(key.clone()),
        blocked,
        with,
        rule: Some(rule),
        ..Violation::default()
    }
}
