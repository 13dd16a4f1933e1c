//! Against real servers: what is promised, and what happens when they fail.

#[path = "live/connection.rs"]
mod connection;
#[path = "live/kit.rs"]
mod kit;
#[path = "live/pubsub.rs"]
mod pubsub;

use dpat_testkit::live::Live;
use dpat_testkit::servers::Engine;

fn main() {
    let live = Live::of(Engine::Nats);
    let mut trials = Vec::new();
    trials.extend(connection::trials(&live));
    trials.extend(pubsub::trials(&live));
    live.run(trials)
}
