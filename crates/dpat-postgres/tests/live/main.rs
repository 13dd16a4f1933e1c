//! Tests against a real server.

#![allow(
    clippy::disallowed_types,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test of real time and a real server: no models, a line of what it counted, and it fails so"
)]

mod bad;
mod changes;
mod faults;
mod guide;
mod histories;
mod inboxes;
mod kills;
mod kit;
mod outboxes;
mod plans;
mod prepared;
mod queue_faults;
mod queues;
mod responses;
mod shared;
mod together;

use dpat_testkit::live::Live;
use dpat_testkit::servers::Engine;

fn main() {
    let live = Live::of(Engine::Postgres);
    let mut trials = bad::trials(&live);
    trials.push(outboxes::postgres_keeps_the_laws_of_outbox(&live));
    trials.extend(faults::trials(&live));
    trials.extend(inboxes::trials(&live));
    trials.extend(responses::trials(&live));
    trials.extend(changes::trials(&live));
    trials.extend(queues::trials(&live));
    trials.extend(shared::trials(&live));
    trials.extend(queue_faults::trials(&live));
    trials.extend(together::trials(&live));
    trials.extend(plans::trials(&live));
    trials.extend(prepared::trials(&live));
    trials.extend(histories::trials(&live));
    trials.extend(kills::trials(&live));
    trials.extend(guide::trials(&live));
    live.run(trials)
}
