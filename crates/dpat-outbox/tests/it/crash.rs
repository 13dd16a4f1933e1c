//! append → relay → deliver → handle → acknowledge, with a death between any two steps.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use dpat_core::{Clock, ManualTime};
use dpat_outbox::{MemoryOutbox, RelayConfig, Store};
use dpat_testkit::{Task, drop_at_every_await};

use crate::world::{Desk, Does, Slow, append, event, relay, relay_on, run, settle};

/// After a death, another relay on the same outbox; the receiver acts once by the id.
#[track_caller]
fn afterwards(outbox: &MemoryOutbox, desk: &Arc<Desk>, time: &ManualTime) {
    time.advance(Duration::from_secs(60));
    let next = relay(RelayConfig::default(), outbox, desk, time, 99);
    let mut tasks = [Task::new(next.run())];
    settle(&mut tasks);
    let lag = run(outbox.lag()).unwrap();
    assert_eq!((lag.backlog_rows, lag.parked), (0, 0), "nothing is left");
}

#[test]
fn a_relay_may_die_at_every_await_and_nothing_is_lost() {
    let mut redelivered = BTreeSet::new();
    let awaits = drop_at_every_await(
        || {
            let (outbox, time) = (MemoryOutbox::new(), ManualTime::new());
            let desk = Desk::new(|_| Does::Keeps);
            for (number, key) in [(1, "a"), (2, "a"), (3, "")] {
                append(&outbox, time.wall(), &event(number, key));
            }
            let slow = Arc::new(Slow(outbox.clone()));
            let dying = relay_on(slow, RelayConfig::default(), &desk, &time, 1);
            let all = Arc::clone(&desk);
            let sent = outbox.clone();
            let done = std::future::poll_fn(move |_| {
                let all = all.seen().len() >= 3 && run(sent.lag()).unwrap().sent == 3;
                match all {
                    true => std::task::Poll::Ready(()),
                    false => std::task::Poll::Pending,
                }
            });
            let future = async move { dying.run_until(done).await };
            (future, (outbox, desk, time))
        },
        |_| (),
        |(outbox, desk, time), _end| {
            afterwards(&outbox, &desk, &time);
            let firsts = desk.firsts();
            let of_a: Vec<u64> = firsts
                .iter()
                .copied()
                .filter(|number| *number < 3)
                .collect();
            assert_eq!(of_a, [1, 2], "the key in its order");
            assert_eq!(firsts.len(), 3, "every event arrives");
            let repeated = desk.seen().len() - 3;
            assert!(
                repeated <= 3,
                "at most what was not marked: {:?}",
                desk.seen()
            );
            redelivered.insert(repeated);
        },
    );
    assert!(awaits > 8, "{awaits}");
    assert!(
        redelivered.contains(&0) && redelivered.len() > 1,
        "a death between handling and acknowledgement repeats"
    );
}

#[test]
fn a_producer_may_die_at_every_step_and_change_and_event_stay_together() {
    const STEPS: u32 = 4;
    for dies_at in 0..=STEPS {
        let (outbox, time) = (MemoryOutbox::new(), ManualTime::new());
        let alive = |step| step < dies_at;
        let produce = || {
            let mut tx = alive(0).then(|| outbox.begin())?;
            alive(1).then(|| tx.put(b"order-7", b"completed"))?;
            alive(2).then(|| tx.append(&event(7, "order-7"), time.wall()).unwrap())?;
            alive(3).then(|| tx.commit().unwrap())
        };
        let committed = produce().is_some();
        let desk = Desk::new(|_| Does::Keeps);
        afterwards(&outbox, &desk, &time);
        let expected: &[u64] = if committed { &[7] } else { &[] };
        assert_eq!(desk.seen(), expected, "death at step {dies_at}");
        assert_eq!(outbox.get(b"order-7").is_some(), committed);
        assert_eq!(committed, dies_at == STEPS);
    }
}
