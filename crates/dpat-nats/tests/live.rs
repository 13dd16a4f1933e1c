//! Against real servers: what is promised, and what happens when they fail.

#[path = "live/brim.rs"]
mod brim;
#[path = "live/connection.rs"]
mod connection;
#[path = "live/dropped.rs"]
mod dropped;
#[path = "live/faults.rs"]
mod faults;
#[path = "live/histories.rs"]
mod histories;
#[path = "live/kills.rs"]
mod kills;
#[path = "live/kit.rs"]
mod kit;
#[path = "live/promised.rs"]
mod promised;
#[path = "live/pubsub.rs"]
mod pubsub;
#[path = "live/queue.rs"]
mod queue;
#[path = "live/responses.rs"]
mod responses;

use dpat_testkit::live::Live;
use dpat_testkit::servers::Engine;

fn main() {
    let live = Live::of(Engine::Nats);
    let mut trials = Vec::new();
    trials.extend(connection::trials(&live));
    trials.extend(pubsub::trials(&live));
    trials.extend(queue::trials(&live));
    trials.extend(responses::trials(&live));
    trials.extend(dropped::trials(&live));
    trials.extend(faults::trials(&live));
    trials.extend(brim::trials(&live));
    trials.extend(histories::trials(&live));
    trials.extend(kills::trials(&live));
    live.run(trials)
}
