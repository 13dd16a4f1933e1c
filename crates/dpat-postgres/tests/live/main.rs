//! Tests against a real server.

#![allow(clippy::unwrap_used, reason = "a test fails so")]

mod bad;
mod faults;
mod inboxes;
mod kit;
mod outboxes;
mod queues;
mod responses;

use dpat_testkit::live::Live;
use dpat_testkit::servers::Engine;

fn main() {
    let live = Live::of(Engine::Postgres);
    let mut trials = bad::trials(&live);
    trials.push(outboxes::postgres_keeps_the_laws_of_outbox(&live));
    trials.extend(faults::trials(&live));
    trials.extend(inboxes::trials(&live));
    trials.extend(responses::trials(&live));
    trials.extend(queues::trials(&live));
    live.run(trials)
}
