//! Several handles on one queue, and transactions that overlap.

use std::time::Duration;

use dpat_core::{ManualTime, TokioTime};
use dpat_postgres::{QueueClock, QueueSettings, QueueStore, commit};
use dpat_queue::{Message, Outcome, Queue, SettleError};
use dpat_testkit::live::Live;
use libtest_mimic::{Failed, Trial};

use crate::kit::{self, run};

const NONE: Duration = Duration::ZERO;
const SECOND: Duration = Duration::from_secs(1);

pub(crate) fn trials(live: &Live) -> Vec<Trial> {
    vec![
        live.trial(
            "processes_share_a_queue_and_see_each_others_leases",
            processes_share_a_queue_and_see_each_others_leases,
        ),
        live.trial(
            "a_waiting_receive_is_woken_by_another_process",
            a_waiting_receive_is_woken_by_another_process,
        ),
        live.trial(
            "without_notifications_a_receive_looks_by_the_clock",
            without_notifications_a_receive_looks_by_the_clock,
        ),
        live.trial(
            "of_a_key_one_is_out_though_an_earlier_one_is_committed_later",
            of_a_key_one_is_out_though_an_earlier_one_is_committed_later,
        ),
        live.trial(
            "many_behind_one_key_do_not_hide_another",
            many_behind_one_key_do_not_hide_another,
        ),
        live.trial(
            "what_is_more_than_a_step_moves_comes_in_several",
            what_is_more_than_a_step_moves_comes_in_several,
        ),
        live.trial(
            "workers_at_once_get_each_message_once_and_keys_in_order",
            workers_at_once_get_each_message_once_and_keys_in_order,
        ),
    ]
}

fn settings() -> QueueSettings {
    QueueSettings {
        visibility: SECOND,
        clock: QueueClock::Caller,
        ..QueueSettings::DEFAULT
    }
}

async fn texts(queue: &Queue, max: usize) -> Result<Vec<String>, Failed> {
    let received = queue.receive_batch(max, NONE).await?;
    let texts = received
        .iter()
        .map(|one| String::from_utf8(one.payload().to_vec()));
    Ok(texts.collect::<Result<_, _>>()?)
}

fn processes_share_a_queue_and_see_each_others_leases(url: &str) -> Result<(), Failed> {
    let (config, time) = (kit::config(url), ManualTime::new());
    run(async {
        let one = QueueStore::open(&config, settings(), time.clone()).await?;
        let other = QueueStore::open(&config, settings(), time.clone()).await?;
        let (one, other) = (one.queue(), other.queue());
        for text in ["a", "b"] {
            one.send(Message::new(text)).await?;
        }
        let mine = one.receive_batch(1, NONE).await?;
        let its = other.receive_batch(9, NONE).await?;
        assert_eq!((mine.len(), its.len()), (1, 1));
        assert_eq!(mine[0].payload(), "a");
        assert_eq!(its[0].payload(), "b");
        // A drain waits for what was handed out here, not for another's.
        one.settle(mine[0].receipt, Outcome::Done).await?;
        one.drain().await;
        let stats = other.stats().await?;
        assert_eq!((stats.ready, stats.leased), (0, 1));
        time.advance(SECOND);
        assert_eq!(texts(&other, 9).await?, ["b"]);
        let late = other.settle(its[0].receipt, Outcome::Done).await;
        assert!(matches!(late, Err(SettleError::Stale)), "{late:?}");
        Ok(())
    })
}

fn a_waiting_receive_is_woken_by_another_process(url: &str) -> Result<(), Failed> {
    let config = kit::config(url);
    let settings = QueueSettings {
        // Nothing but the wake can end the wait in time.
        poll: Duration::from_secs(60),
        ..QueueSettings::DEFAULT
    };
    run(async {
        let time = ManualTime::new();
        let waits = QueueStore::open(&config, settings, time).await?.queue();
        let store = QueueStore::open(&config, settings, TokioTime).await?;
        let sends = store.queue();
        let wait = || {
            let queue = waits.clone();
            tokio::spawn(async move { queue.receive_batch(1, Duration::from_secs(60)).await })
        };
        let mut client = kit::client(url).await;
        for text in ["a", "b", "c"] {
            let waiting = wait();
            match text {
                "b" => {
                    let mut tx = client.transaction().await?;
                    store.send(&mut tx, &Message::new(text)).await?;
                    commit(tx).await?;
                }
                _ => drop(sends.send(Message::new(text)).await?),
            }
            let received = waiting.await??;
            assert_eq!(received[0].payload(), text);
            waits.settle(received[0].receipt, Outcome::Done).await?;
        }
        // A paused queue wakes when it is resumed.
        sends.set_paused(true).await?;
        sends.send(Message::new("paused")).await?;
        let waiting = wait();
        sends.set_paused(false).await?;
        let received = waiting.await??;
        assert_eq!(received[0].payload(), "paused");
        waits.settle(received[0].receipt, Outcome::Done).await?;
        // So does the next of a key, when the one before it is settled elsewhere.
        for text in ["first", "second"] {
            sends.send(Message::new(text).key("k")).await?;
        }
        let first = sends.receive().await?;
        let waiting = wait();
        sends.settle(first.receipt, Outcome::Done).await?;
        assert_eq!(waiting.await??[0].payload(), "second");
        Ok(())
    })
}

fn without_notifications_a_receive_looks_by_the_clock(url: &str) -> Result<(), Failed> {
    let config = kit::config(url).notify(false);
    run(async {
        let settings = QueueSettings {
            poll: Duration::from_millis(5),
            ..QueueSettings::DEFAULT
        };
        let waits = QueueStore::open(&config, settings, TokioTime)
            .await?
            .queue();
        let sends = QueueStore::open(&config, settings, TokioTime)
            .await?
            .queue();
        let waiting =
            tokio::spawn(async move { waits.receive_batch(1, Duration::from_secs(60)).await });
        sends.send(Message::new("m")).await?;
        assert_eq!(waiting.await??[0].payload(), "m");
        Ok(())
    })
}

fn of_a_key_one_is_out_though_an_earlier_one_is_committed_later(url: &str) -> Result<(), Failed> {
    let (config, time) = (kit::config(url), ManualTime::new());
    run(async {
        let store = QueueStore::open(&config, settings(), time.clone()).await?;
        let queue = store.queue();
        for lapses in [false, true] {
            let mut client = kit::client(url).await;
            let mut tx = client.transaction().await?;
            let early = store.send(&mut tx, &Message::new("early").key("k")).await?;
            let late = queue.send(Message::new("late").key("k")).await?;
            assert!(early.id < late.id);
            let out = queue.receive().await?;
            assert_eq!(out.payload(), "late", "the other is not committed");
            commit(tx).await?;
            assert_eq!(texts(&queue, 9).await?, [""; 0], "one of its key is out");
            let stats = queue.stats().await?;
            assert_eq!((stats.ready, stats.leased, stats.waiting), (0, 1, 1));
            if !lapses {
                queue.settle(out.receipt, Outcome::Done).await?;
                let out = queue.receive().await?;
                assert_eq!(out.payload(), "early");
                queue.settle(out.receipt, Outcome::Done).await?;
                continue;
            }
            time.advance(SECOND);
            let first = queue.receive().await?;
            assert_eq!(first.payload(), "early");
            assert_eq!(first.count, 1);
            assert_eq!(texts(&queue, 9).await?, [""; 0], "one of its key is out");
            // Otherwise two of the key would be out.
            let extended = queue.extend(vec![out.receipt], SECOND).await;
            assert!(
                matches!(extended[..], [Err(SettleError::Stale)]),
                "{extended:?}"
            );
            queue.settle(first.receipt, Outcome::Done).await?;
            let second = queue.receive().await?;
            assert_eq!(second.payload(), "late");
            assert_eq!(second.count, 2);
            queue.settle(second.receipt, Outcome::Done).await?;
        }
        let stats = queue.stats().await?;
        assert_eq!((stats.ready, stats.leased, stats.waiting), (0, 0, 0));
        Ok(())
    })
}

fn many_behind_one_key_do_not_hide_another(url: &str) -> Result<(), Failed> {
    let config = kit::config(url);
    run(async {
        let store = QueueStore::open(&config, settings(), ManualTime::new()).await?;
        let queue = store.queue();
        let of_one = |number: usize| Message::new(number.to_string()).key("one").priority(9);
        let sent = queue.send_batch((0..3_000).map(of_one).collect()).await;
        assert!(sent.iter().all(Result::is_ok));
        queue.send(Message::new("other").key("other")).await?;
        queue.send(Message::new("none")).await?;
        assert_eq!(texts(&queue, 1).await?, ["0"]);
        assert_eq!(texts(&queue, 1).await?, ["other"]);
        assert_eq!(texts(&queue, 1).await?, ["none"]);
        assert_eq!(texts(&queue, 1).await?, [""; 0]);
        let stats = queue.stats().await?;
        assert_eq!((stats.leased, stats.waiting), (3, 2_999));
        assert_eq!(queue.purge().await?, 2_999);
        Ok(())
    })
}

fn what_is_more_than_a_step_moves_comes_in_several(url: &str) -> Result<(), Failed> {
    const ALL: usize = 2_500;
    let time = ManualTime::new();
    run(async {
        let store = QueueStore::open(&kit::config(url), settings(), time.clone()).await?;
        let queue = store.queue();
        let message = |number: usize| {
            Message::new(number.to_string())
                .delay(SECOND)
                .ttl(600 * SECOND)
        };
        let sent = queue.send_batch((0..ALL).map(message).collect()).await;
        assert!(sent.iter().all(Result::is_ok));
        time.advance(SECOND);
        let stats = queue.stats().await?;
        assert_eq!((stats.ready, stats.waiting), (ALL as u64, 0));
        for count in 1..=2 {
            let mut seen = 0;
            loop {
                let received = queue.receive_batch(ALL, NONE).await?;
                if received.is_empty() {
                    break;
                }
                assert!(received.len() <= 1_000 && received.iter().all(|one| one.count == count));
                seen += received.len();
            }
            assert_eq!(seen, ALL, "delivery {count}");
            // All leases end at once.
            time.advance(SECOND);
        }
        while !queue.receive_batch(ALL, NONE).await?.is_empty() {}
        assert_eq!(store.release_all().await?, ALL as u64);
        assert_eq!(queue.purge().await?, ALL as u64);
        let sent = queue.send_batch((0..ALL).map(message).collect()).await;
        assert!(sent.iter().all(Result::is_ok));
        // All of them end at once.
        time.advance(601 * SECOND);
        let stats = queue.stats().await?;
        assert_eq!((stats.ready, stats.waiting, stats.bytes), (0, 0, 0));
        assert_eq!(stats.expired, ALL as u64);
        Ok(())
    })
}

/// Each worker on a store of its own, with messages of every kind; none is handed out twice, for no lease ends.
fn workers_at_once_get_each_message_once_and_keys_in_order(url: &str) -> Result<(), Failed> {
    const ALL: u64 = 600;
    let config = kit::config(url);
    let settings = QueueSettings {
        visibility: Duration::from_secs(600),
        ..QueueSettings::DEFAULT
    };
    run(async {
        let seen = std::sync::Arc::new(tokio::sync::Mutex::new(Vec::new()));
        let mut workers = tokio::task::JoinSet::new();
        for worker in 0..6 {
            let queue = QueueStore::open(&config, settings, TokioTime)
                .await?
                .queue();
            let seen = std::sync::Arc::clone(&seen);
            workers.spawn(async move {
                for number in 0..ALL / 6 {
                    let text = format!("{worker} {number}");
                    let message = match number % 3 {
                        0 => Message::new(text),
                        _ => Message::new(text).key(format!("{worker}")),
                    };
                    queue.send(message).await.unwrap();
                }
                loop {
                    let received = queue.receive_batch(3, Duration::from_millis(50)).await;
                    for delivery in received.unwrap() {
                        assert_eq!(delivery.count, 1);
                        let text = String::from_utf8(delivery.payload().to_vec()).unwrap();
                        // Before it is settled: the next of its key cannot be seen earlier.
                        seen.lock().await.push((text, delivery.key().is_some()));
                        queue.settle(delivery.receipt, Outcome::Done).await.unwrap();
                    }
                    if seen.lock().await.len() as u64 == ALL {
                        return;
                    }
                }
            });
        }
        workers.join_all().await;
        let seen = seen.lock().await;
        for worker in 0..6 {
            let of = seen.iter().filter(|(_, keyed)| *keyed);
            let of = of.filter_map(|(text, _)| text.strip_prefix(&format!("{worker} ")));
            let of: Vec<u64> = of.map(|number| number.parse().unwrap()).collect();
            assert!(of.is_sorted(), "{of:?}");
        }
        let all: std::collections::BTreeSet<_> = seen.iter().collect();
        assert_eq!(all.len() as u64, ALL);
        Ok(())
    })
}
