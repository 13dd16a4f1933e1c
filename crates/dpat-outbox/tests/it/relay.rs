//! The relay, in virtual time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dpat_core::{Clock, ManualTime};
use dpat_outbox::{
    MemoryOutbox, OnPoison, Position, RelayConfig, Repair, Replay, ReplayFrom, Store,
};
use dpat_testkit::{Task, assert_send_static, assert_send_sync, run_with};

use crate::world::{Desk, Does, append, event, number, relay, run, settle};

const SECOND: Duration = Duration::from_secs(1);

fn config() -> RelayConfig {
    RelayConfig::default()
}

/// Lets the relays work until so much time has passed.
fn pass<F: Future>(tasks: &mut [Task<F>], time: &ManualTime, for_: Duration) {
    let end = time.now() + for_;
    settle(tasks);
    while time.next_wake().is_some_and(|wake| wake <= end) {
        time.advance_to_next_wake();
        settle(tasks);
    }
    time.advance_to(end);
    settle(tasks);
}

#[test]
fn events_are_sent_when_they_are_committed_and_marked_when_they_are_acknowledged() {
    let (outbox, time) = (MemoryOutbox::new(), ManualTime::new());
    let desk = Desk::new(|_| Does::Keeps);
    let relay = relay(config(), &outbox, &desk, &time, 1);
    let mut tasks = [Task::new(relay.run())];
    settle(&mut tasks);
    // No time passes: the commit is heard of.
    let mut tx = outbox.begin();
    tx.append(&event(1, "a"), time.wall()).unwrap();
    settle(&mut tasks);
    assert_eq!(desk.seen(), [0_u64; 0], "not committed");
    tx.commit().unwrap();
    settle(&mut tasks);
    assert_eq!(desk.seen(), [1]);
    let lag = run(outbox.lag()).unwrap();
    assert_eq!((lag.backlog_rows, lag.sent), (0, 1));
    assert_eq!(relay.stats().sent, 1);
}

#[test]
fn order_is_kept_under_redelivery() {
    // Every third attempt fails, in one way or the other.
    let (outbox, time) = (MemoryOutbox::new(), ManualTime::new());
    let turns = AtomicU32::new(0);
    let desk = Desk::new(move |_| match turns.fetch_add(1, Ordering::Relaxed) % 6 {
        1 => Does::Fails,
        4 => Does::Loses,
        _ => Does::Keeps,
    });
    for number in 1..=40 {
        append(
            &outbox,
            time.wall(),
            &event(number, ["a", "b"][usize::from(number % 2 == 0)]),
        );
    }
    let relays = [1, 2].map(|seed| relay(config(), &outbox, &desk, &time, seed));
    let mut tasks = relays.each_ref().map(|relay| Task::new(relay.run()));
    pass(&mut tasks, &time, 3_600 * SECOND);
    let of = |parity: u64| -> Vec<u64> {
        let all = desk.firsts().into_iter();
        all.filter(|number| number % 2 == parity).collect()
    };
    assert_eq!(of(0), (1..=20).map(|half| 2 * half).collect::<Vec<_>>());
    assert_eq!(of(1), (0..20).map(|half| 2 * half + 1).collect::<Vec<_>>());
    // A redelivery comes before anything later of its key.
    let seen = desk.seen();
    for (index, number) in seen.iter().enumerate() {
        let later = seen[..index]
            .iter()
            .filter(|other| *other % 2 == number % 2);
        assert!(later.clone().all(|other| other <= number), "{seen:?}");
    }
    assert!(seen.len() > 40, "something was redelivered");
}

#[test]
fn no_lock_is_held_while_the_broker_is_waited_for() {
    let (outbox, time) = (MemoryOutbox::new(), ManualTime::new());
    append(&outbox, time.wall(), &event(1, "a"));
    let (inside, now) = (outbox.clone(), time.wall());
    // Within the publishing, producers append to the same key, operators look, and other relays claim.
    let desk = Desk::new(move |delivery| {
        let number = number(delivery.event);
        if number < 3 {
            append(&inside, now, &event(number + 1, "a"));
        }
        assert!(run(inside.lag()).unwrap().backlog_rows >= 1);
        let claim = dpat_outbox::Claim {
            token: dpat_outbox::Token::from_bytes([9; 16]),
            now,
            lease: SECOND,
            rows_max: 9,
            bytes_max: usize::MAX,
            lane_rows_max: 9,
        };
        assert_eq!(run(inside.claim(&claim)).unwrap().rows, []);
        Does::Keeps
    });
    let relay = relay(config(), &outbox, &desk, &time, 1);
    settle(&mut [Task::new(relay.run())]);
    assert_eq!(desk.seen(), [1, 2, 3]);
}

#[test]
fn two_relays_publish_nothing_twice() {
    let (outbox, time) = (MemoryOutbox::new(), ManualTime::new());
    let desk = Desk::new(|_| Does::Keeps);
    let small = RelayConfig::builder()
        .in_flight_max(4)
        .held_rows_max(8)
        .lane_rows_max(2)
        .build()
        .unwrap();
    let relays = [1, 2].map(|seed| relay(small.clone(), &outbox, &desk, &time, seed));
    let mut tasks = relays.each_ref().map(|relay| Task::new(relay.run()));
    for number in 1..=200 {
        let key = ["", "a", "b", "c"][usize::try_from(number % 4).unwrap()];
        append(&outbox, time.wall(), &event(number, key));
        // Each is the first to hear of every other event.
        tasks.reverse();
        for task in &mut tasks {
            assert!(task.poll().is_pending());
        }
    }
    settle(&mut tasks);
    let mut seen = desk.seen();
    seen.sort_unstable();
    assert_eq!(seen, (1..=200).collect::<Vec<_>>());
    let [first, second] = relays.each_ref().map(|relay| relay.stats());
    assert_eq!(first.sent + second.sent, 200);
    assert!(first.sent > 0 && second.sent > 0, "both work");
    assert_eq!((first.lost, second.lost), (0, 0));
}

#[test]
fn an_outage_is_waited_out_and_nobody_hurries() {
    let (outbox, time) = (MemoryOutbox::new(), ManualTime::new());
    let back = time.now() + 7_200 * SECOND;
    let clock = time.clone();
    let attempts = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&attempts);
    let desk = Desk::new(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        match clock.now() < back {
            true => Does::Fails,
            false => Does::Keeps,
        }
    });
    for number in 1..=500 {
        append(&outbox, time.wall(), &event(number, ""));
    }
    let relay = relay(config(), &outbox, &desk, &time, 1);
    let mut tasks = [Task::new(relay.run())];
    pass(&mut tasks, &time, 7_200 * SECOND);
    assert_eq!(desk.seen(), [0_u64; 0]);
    // A minute between attempts: at most those in flight at once in each.
    assert!(attempts.load(Ordering::Relaxed) < 64 * 300, "{attempts:?}");
    pass(&mut tasks, &time, 600 * SECOND);
    assert_eq!(desk.firsts().len(), 500);
    assert_eq!(relay.stats().parked, 0, "an outage parks nothing");
}

#[test]
fn a_poisonous_event_blocks_its_key_until_it_is_repaired() {
    let (outbox, time) = (MemoryOutbox::new(), ManualTime::new());
    let desk = Desk::new(|delivery| {
        match number(delivery.event) == 1 && delivery.event.topic() == "topic" {
            true => Does::Refuses,
            false => Does::Keeps,
        }
    });
    for (number, key) in [(1, "a"), (2, "a"), (3, "b")] {
        append(&outbox, time.wall(), &event(number, key));
    }
    let relay = relay(config(), &outbox, &desk, &time, 1);
    let mut tasks = [Task::new(relay.run())];
    pass(&mut tasks, &time, 60 * SECOND);
    assert_eq!(desk.seen(), [3]);
    let parked = run(outbox.parked(None, 9)).unwrap();
    assert_eq!((parked.len(), parked[0].attempts), (1, 3));
    assert_eq!(parked[0].reason, "no such topic");
    let fixed = dpat_outbox::Event::builder(parked[0].event.id(), "right topic")
        .key("a")
        .payload("1");
    let fixed = Repair::Replace(fixed.build().unwrap());
    run(outbox.repair(time.wall(), parked[0].position, &fixed)).unwrap();
    settle(&mut tasks);
    assert_eq!(desk.seen(), [3, 1, 2]);
}

#[test]
fn a_poisonous_event_is_set_aside_if_so_chosen() {
    let (outbox, time) = (MemoryOutbox::new(), ManualTime::new());
    let desk = Desk::new(|delivery| match number(delivery.event) {
        1 => Does::Refuses,
        _ => Does::Keeps,
    });
    for number in 1..=3 {
        append(&outbox, time.wall(), &event(number, "a"));
    }
    let config = RelayConfig::builder()
        .on_poison(OnPoison::SetAside)
        .build()
        .unwrap();
    let relay = relay(config, &outbox, &desk, &time, 1);
    pass(&mut [Task::new(relay.run())], &time, 60 * SECOND);
    assert_eq!(desk.seen(), [2, 3]);
    assert_eq!(relay.stats().parked, 1);
}

#[test]
fn a_publishing_that_hangs_is_cut_and_tried_again() {
    let (outbox, time) = (MemoryOutbox::new(), ManualTime::new());
    let turns = AtomicU32::new(0);
    let desk = Desk::new(move |_| match turns.fetch_add(1, Ordering::Relaxed) {
        0 => Does::Hangs,
        _ => Does::Keeps,
    });
    append(&outbox, time.wall(), &event(1, ""));
    let relay = relay(config(), &outbox, &desk, &time, 1);
    let mut tasks = [Task::new(relay.run())];
    pass(&mut tasks, &time, 9 * SECOND);
    assert_eq!(desk.seen(), [0_u64; 0]);
    pass(&mut tasks, &time, 2 * SECOND);
    assert_eq!(desk.seen(), [1]);
    assert_eq!(relay.stats().retried, 1);
}

#[test]
fn an_event_is_given_up_at_its_horizon() {
    let (outbox, time) = (MemoryOutbox::new(), ManualTime::new());
    let desk = Desk::new(|_| Does::Fails);
    append(&outbox, time.wall(), &event(1, ""));
    let config = RelayConfig::builder()
        .give_up_after(600 * SECOND)
        .build()
        .unwrap();
    assert_eq!(config.horizon(), 610 * SECOND);
    let relay = relay(config, &outbox, &desk, &time, 1);
    let mut tasks = [Task::new(relay.run())];
    pass(&mut tasks, &time, 590 * SECOND);
    assert_eq!(relay.stats().parked, 0);
    pass(&mut tasks, &time, 120 * SECOND);
    assert_eq!(run(outbox.parked(None, 9)).unwrap().len(), 1);
}

#[test]
fn sent_events_are_replayed_and_purged() {
    let (outbox, time) = (MemoryOutbox::new(), ManualTime::new());
    let desk = Desk::new(|_| Does::Keeps);
    for number in 1..=3 {
        append(&outbox, time.wall(), &event(number, "a"));
    }
    let relay = relay(config(), &outbox, &desk, &time, 1);
    let mut tasks = [Task::new(relay.run())];
    settle(&mut tasks);
    let replay = Replay {
        from: ReplayFrom::Position(Position(2)),
        topic: None,
        after: None,
        max: 10,
    };
    run(outbox.replay(time.wall(), &replay)).unwrap();
    settle(&mut tasks);
    assert_eq!(desk.seen(), [1, 2, 3, 2, 3]);
    pass(&mut tasks, &time, 23 * 3_600 * SECOND);
    assert_eq!(run(outbox.lag()).unwrap().sent, 3);
    pass(&mut tasks, &time, 2 * 3_600 * SECOND);
    assert_eq!(run(outbox.lag()).unwrap().sent, 0);
    assert_eq!(relay.stats().lag.map(|lag| lag.sent), Some(0));
}

#[test]
fn a_relay_that_is_told_to_stop_leaves_nothing_claimed() {
    let (outbox, time) = (MemoryOutbox::new(), ManualTime::new());
    let desk = Desk::new(|_| Does::Keeps);
    for number in 1..=30 {
        append(&outbox, time.wall(), &event(number, "a"));
    }
    let relay = relay(config(), &outbox, &desk, &time, 1);
    let stop = {
        let desk = Arc::clone(&desk);
        std::future::poll_fn(move |_| match desk.seen().len() >= 5 {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        })
    };
    run_with(|| false, relay.run_until(stop)).unwrap();
    let sent = desk.seen().len() as u64;
    assert!((5..30).contains(&sent));
    assert_eq!(run(outbox.lag()).unwrap().sent, sent);
    // The next one goes on at once, without a wait for leases.
    let next = crate::world::relay(config(), &outbox, &desk, &time, 2);
    settle(&mut [Task::new(next.run())]);
    assert_eq!(desk.seen(), (1..=30).collect::<Vec<_>>());
}

#[test]
fn an_idle_relay_wakes_for_its_polls_only() {
    let (outbox, time) = (MemoryOutbox::new(), ManualTime::new());
    let desk = Desk::new(|_| Does::Keeps);
    let relay = relay(config(), &outbox, &desk, &time, 1);
    let mut tasks = [Task::new(relay.run())];
    settle(&mut tasks);
    let before = tasks[0].wakes();
    pass(&mut tasks, &time, 60 * SECOND);
    // Sixty looks, two housekeepings.
    assert!(
        tasks[0].wakes() - before < 200,
        "{}",
        tasks[0].wakes() - before
    );
}

#[test]
fn relays_can_be_sent() {
    assert_send_sync::<dpat_outbox::Relay<ManualTime>>();
    let (outbox, time) = (MemoryOutbox::new(), ManualTime::new());
    let relay = relay(config(), &outbox, &Desk::new(|_| Does::Keeps), &time, 1);
    drop(assert_send_static(async move { relay.run().await }));
}
