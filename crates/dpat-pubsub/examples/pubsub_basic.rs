//! Prices for an audit that wants everything, a board that wants the latest, and a screen that is slow.
//!
//! `cargo run -p dpat-pubsub --example pubsub_basic`

#![allow(clippy::print_stdout)] // an example speaks to people

use dpat_core::ManualTime;
use dpat_pubsub::{Delivery, KeyOf, Overflow, PubSub, Subscription};
use std::error::Error;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

/// Runs a future that never has to wait; a program has a runtime for this.
fn run<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => unreachable!("nothing in this example waits"),
    }
}

fn show(name: &str, subscription: &mut Subscription) -> Result<(), Box<dyn Error>> {
    print!("{name:>6}:");
    while let Some(delivery) = subscription.try_recv()? {
        match delivery {
            Delivery::Message(message) => {
                let metal = message.subject().tokens().last().unwrap_or_default();
                print!(" {metal} {}", String::from_utf8_lossy(message.payload()));
            }
            Delivery::Lagged(lost) => print!(" ({lost} lost)"),
        }
    }
    println!();
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let hub = PubSub::builder()
        .name("prices")
        .retain("price.>", 1)
        .build()?;
    let mut audit = hub.subscribe("price.>").overflow(Overflow::Await).now()?;
    let latest = Overflow::Conflate(KeyOf::subject());
    let mut board = hub.subscribe("price.*").overflow(latest).now()?;
    let mut screen = hub.subscribe("price.*").capacity(2).now()?;

    for (metal, price) in [("gold", "1"), ("tin", "2"), ("gold", "3"), ("gold", "4")] {
        run(hub.publish(format!("price.{metal}"), price))?;
    }
    show("audit", &mut audit)?;
    show("board", &mut board)?;
    show("screen", &mut screen)?;
    // Whoever comes later begins with what is known.
    show("late", &mut hub.subscribe("price.>").replay(1).now()?)?;

    // A request for which nobody is there is refused at once.
    let requester = hub.requester(ManualTime::new());
    match run(requester.request("stock.check", "cups")) {
        Err(error) => println!("stock.check: {error}"),
        Ok(answer) => println!("stock.check: {:?}", answer.payload()),
    }
    Ok(())
}
