//! Ids, clocks, time limits and delays in one go, in virtual time.
//!
//! `cargo run --example core_basic --features test-util`

// An example prints.
#![allow(clippy::print_stdout)]

use dpat_core::{
    AnyTime, AtomicHlc, Backoff, CausalOrder, Class, Classify, Clock, Deadline, Epoch, Fence,
    Jitter, ManualTime, NodeId, SnowflakeGenerator, SplitMix64, Uuid7Generator, VersionVector,
};
use std::io;
use std::time::Duration;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let manual = ManualTime::new();
    let time = AnyTime::new(manual.clone());
    let entropy = SplitMix64::stream(7, "example");

    println!("ids");
    let uuids = Uuid7Generator::new();
    let snowflakes = SnowflakeGenerator::builder(NodeId::new(7)).build()?;
    for _ in 0..3 {
        let uuid = uuids.next(time.wall(), &entropy)?;
        let snowflake = snowflakes.next(time.wall())?;
        println!("  {uuid}  {snowflake}");
        manual.advance(Duration::from_micros(400));
    }

    println!("a leader that was replaced");
    let mut fence = Fence::default();
    let old = Epoch::ZERO.next()?;
    let new = old.next()?;
    fence.admit(new)?;
    println!("  {}", fence.admit(old).expect_err("the epoch is stale"));

    println!("versions");
    let (mut left, mut right) = (VersionVector::new(), VersionVector::new());
    left.increment(NodeId::new(1))?;
    right.increment(NodeId::new(2))?;
    assert_eq!(left.compare(&right), CausalOrder::Concurrent);
    left.merge(&right)?;
    println!("  concurrent, then merged: {:?}", left.compare(&right));

    println!("a message between clocks that disagree");
    let (here, there) = (
        AtomicHlc::new(Duration::from_secs(1)),
        AtomicHlc::new(Duration::from_secs(1)),
    );
    let sent = here.tick(time.wall())?;
    let received = there.receive(time.wall() - Duration::from_millis(300), sent)?;
    println!("  sent {sent}, received {received}");

    println!("delays until the deadline");
    let deadline = Deadline::after(time.now(), Duration::from_secs(2));
    let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
    assert_eq!(refused.class(), Class::Unavailable);
    let mut delays = Backoff::DEFAULT.with_jitter(Jitter::Equal).delays();
    while refused.is_safe_to_retry() {
        let delay = delays.next_delay(&entropy);
        let left = deadline.remaining(time.now());
        println!("  {delay:>12.3?} of {left:.3?}");
        if delay >= left {
            break;
        }
        manual.advance(delay);
    }
    Ok(())
}
