//! A service fails for a while; the breaker spares it, probes it, and lets the traffic back.
//!
//! Runs in virtual time: `cargo run -p dpat-breaker --example breaker_basic`

#![allow(clippy::print_stdout)] // an example speaks to people

use dpat_breaker::{Breaker, CallError, Config, OpenTime, State, Trip};
use dpat_core::{Clock, ManualTime};
use std::time::Duration;

/// Stands for a remote service that is down from the second to the eighth second.
struct Payments<'a> {
    time: &'a ManualTime,
    started: dpat_core::Instant,
    calls: std::cell::Cell<u32>,
}

impl Payments<'_> {
    fn charge(&self) -> Result<(), &'static str> {
        self.calls.set(self.calls.get() + 1);
        let second = self.time.now().since(self.started).as_secs();
        if (2..8).contains(&second) {
            Err("connection refused")
        } else {
            Ok(())
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let time = ManualTime::new();
    let config = Config::builder()
        .name("payments")
        .trip_on(Trip::failure_rate(0.5).over_calls(10).minimum_calls(5))
        .open_time(OpenTime::fixed(Duration::from_secs(2)))
        .build()?;
    let breaker = Breaker::with_clock(config, time.clone());
    let payments = Payments {
        time: &time,
        started: time.now(),
        calls: std::cell::Cell::new(0),
    };

    let (mut paid, mut failed, mut spared) = (0, 0, 0);
    let mut last = State::Closed;
    for tick in 0..150_u32 {
        match breaker.call_sync(|| payments.charge()) {
            Ok(()) => paid += 1,
            Err(CallError::Inner(_)) => failed += 1,
            Err(CallError::Rejected(_)) => spared += 1,
        }
        let snapshot = breaker.snapshot();
        if snapshot.state != last {
            println!(
                "{:>5.1} s  {last} -> {} ({})",
                f64::from(tick) / 10.0,
                snapshot.state,
                snapshot.cause
            );
            last = snapshot.state;
        }
        time.advance(Duration::from_millis(100));
    }

    println!("paid {paid}, failed {failed}, refused at once {spared}");
    println!("the service was called {} times", payments.calls.get());
    if last == State::Closed && payments.calls.get() == paid + failed {
        Ok(())
    } else {
        Err("the breaker should have closed again".into())
    }
}
