//! Tests against a real server.

#![allow(
    clippy::disallowed_types,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test of real time and a real server: no models, a line of what it counted, and it fails so"
)]

mod bad;
mod faults;
mod histories;
mod kills;
mod kit;
mod pubsubs;
mod queues;
mod responses;
mod shared;
mod together;

use dpat_testkit::live::Live;
use dpat_testkit::servers::Engine;

fn main() {
    let live = Live::of(Engine::Redis);
    let mut trials = Vec::new();
    trials.extend(bad::trials(&live));
    trials.push(queues::redis_keeps_the_laws_of_queue(&live));
    trials.extend(shared::trials(&live));
    trials.extend(responses::trials(&live));
    trials.extend(pubsubs::trials(&live));
    trials.extend(faults::trials(&live));
    trials.extend(together::trials(&live));
    trials.extend(histories::trials(&live));
    trials.extend(kills::trials(&live));
    live.run(trials)
}
