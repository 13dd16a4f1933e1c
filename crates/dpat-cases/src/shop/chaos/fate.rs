//! What happens to one request.

use std::time::Duration;

use dpat_model::{MILLION, Script, Trigger};

use super::{Do, Request, node, request};
use crate::shop::domain::Fnv;
use crate::shop::service::ports::{Peer, Step};

/// What happens to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Nothing.
    Pass,
    /// It is answered with an error, and has no effect.
    Error,
    /// It has its effect, and no answer.
    Drop,
    /// It is served later.
    Late(Duration),
    /// It is never served; the connection is closed at that time.
    Hang {
        /// In microseconds after the start of the run.
        until_us: u64,
    },
}

/// Which request of a service, as a script sees it.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// For what.
    pub step: Step,
    /// Which order.
    pub order_id: &'a str,
    /// Which sending, from 0.
    pub attempt: u32,
    /// When it arrives, in microseconds after the start of the run.
    pub at_us: u64,
}

/// The faults of single requests that a script has for one service.
#[derive(Clone, Debug)]
pub struct RequestFaults {
    peer: Peer,
    seed: u64,
    /// In the order of the script.
    faults: Vec<RequestFault>,
}

#[derive(Clone, Debug)]
struct RequestFault {
    /// Of the operation in the script.
    number: u64,
    kind: Do,
    step: Option<Step>,
    order_id: Option<String>,
    per_million: Option<u32>,
    add_us: u64,
    from_us: u64,
    until_us: u64,
}

impl RequestFaults {
    /// Finds those of a service.
    #[must_use]
    pub fn at(script: &Script, peer: Peer) -> Self {
        let faults = (0..).zip(&script.ops).filter_map(|(number, op)| {
            let fault = request(&op.fault).filter(|fault| fault.node == node(peer))?;
            match op.when {
                Trigger::At(from_us) => RequestFault::of(number, &fault, from_us),
                _ => None,
            }
        });
        Self {
            peer,
            seed: script.seed,
            faults: faults.collect(),
        }
    }

    /// Returns the service.
    #[must_use]
    pub const fn peer(&self) -> Peer {
        self.peer
    }

    /// Decides what happens to a request: the first hang that hits it, or else the first operation that does.
    #[must_use]
    pub fn fate(&self, subject: Subject<'_>) -> Fate {
        let mut first = Fate::Pass;
        for fault in &self.faults {
            // Only a hang still matters once something was found.
            let matters = first == Fate::Pass || fault.kind == Do::Hang;
            if !matters || !fault.hits(self.seed, subject) {
                continue;
            }
            first = match fault.kind {
                Do::Error => Fate::Error,
                Do::Drop => Fate::Drop,
                Do::Latency => Fate::Late(Duration::from_micros(fault.add_us)),
                Do::Hang => {
                    return Fate::Hang {
                        until_us: fault.until_us,
                    };
                }
                Do::Kill => first,
            };
        }
        first
    }
}

impl RequestFault {
    /// Returns none for a step that there is not.
    fn of(number: u64, fault: &Request<'_>, from_us: u64) -> Option<Self> {
        let step = match fault.step {
            Some(name) => Some(Step::by_name(name)?),
            None => None,
        };
        Some(Self {
            number,
            kind: fault.kind,
            step,
            order_id: fault.order_id.map(str::to_owned),
            per_million: fault.per_million,
            add_us: fault.add_us,
            from_us,
            until_us: from_us.saturating_add(fault.for_us.unwrap_or(u64::MAX)),
        })
    }

    fn hits(&self, seed: u64, subject: Subject<'_>) -> bool {
        let order_id = self.order_id.as_deref();
        if !(self.from_us..self.until_us).contains(&subject.at_us)
            || self.step.is_some_and(|step| step != subject.step)
            || order_id.is_some_and(|id| id != subject.order_id)
        {
            return false;
        }
        match (order_id, self.per_million) {
            // One order is hit at its first sending.
            (Some(_), None) => subject.attempt == 0,
            (None, None) => true,
            (_, Some(rate)) => {
                let mut hash = Fnv::default();
                hash.number(seed);
                hash.number(self.number);
                hash.text(subject.order_id);
                hash.text(subject.step.name());
                hash.number(u64::from(subject.attempt));
                hash.finish() % u64::from(MILLION) < u64::from(rate)
            }
        }
    }
}
