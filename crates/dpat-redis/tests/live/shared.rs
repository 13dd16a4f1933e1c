//! Several handles on one queue, by the clock of the server.

use std::time::Duration;

use dpat_core::{ManualTime, TokioTime};
use dpat_queue::{Message, Outcome, SettleError};
use dpat_redis::{QueueClock, QueueSettings, QueueStore};
use dpat_testkit::live::Live;
use dpat_testkit::servers::Server;
use libtest_mimic::{Failed, Trial};

use crate::kit::{self, Admin, run};

const ZERO: Duration = Duration::ZERO;

pub(crate) fn trials(live: &Live) -> Vec<Trial> {
    vec![
        live.trial(
            "what_is_more_than_a_script_moves_comes_in_several",
            what_is_more_than_a_script_moves_comes_in_several,
        ),
        live.trial(
            "leases_and_delays_follow_the_clock_of_the_server",
            leases_and_delays_follow_the_clock_of_the_server,
        ),
        live.trial(
            "a_waiting_receive_is_woken_by_another_process",
            a_waiting_receive_is_woken_by_another_process,
        ),
        live.faults(
            "forgotten_scripts_are_sent_again",
            forgotten_scripts_are_sent_again,
        ),
    ]
}

fn leases_and_delays_follow_the_clock_of_the_server(url: &str) -> Result<(), Failed> {
    let config = kit::config(url);
    let settings = QueueSettings {
        visibility: Duration::from_millis(100),
        ..QueueSettings::DEFAULT
    };
    run(async {
        // The clock of this process stands still, and says 1970.
        let one = QueueStore::open(&config, settings, ManualTime::new())
            .await?
            .queue();
        one.send(Message::new("now")).await?;
        one.send(Message::new("later").delay(Duration::from_millis(200)))
            .await?;
        let first = one.receive().await?;
        // Waits for the server's time: it is asked again and again.
        let two = QueueStore::open(&config, settings, TokioTime)
            .await?
            .queue();
        let wait = Duration::from_secs(20);
        let again = two.receive_batch(1, wait).await?;
        assert_eq!(again[0].id(), first.id());
        assert_eq!(again[0].count, 2);
        let late = one.settle(first.receipt, Outcome::Done).await;
        assert!(matches!(late, Err(SettleError::Stale)), "{late:?}");
        two.settle(again[0].receipt, Outcome::Done).await?;
        let later = two.receive_batch(1, wait).await?;
        assert_eq!(later[0].payload(), "later");
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
        let sends = QueueStore::open(&config, settings, TokioTime)
            .await?
            .queue();
        for text in ["a", "b", "c"] {
            let queue = waits.clone();
            let waiting =
                tokio::spawn(async move { queue.receive_batch(1, Duration::from_secs(60)).await });
            sends.send(Message::new(text)).await?;
            let received = waiting.await??;
            assert_eq!(received[0].payload(), text);
            waits.settle(received[0].receipt, Outcome::Done).await?;
        }
        // A paused queue wakes when it is resumed.
        sends.set_paused(true).await?;
        sends.send(Message::new("paused")).await?;
        let queue = waits.clone();
        let waiting =
            tokio::spawn(async move { queue.receive_batch(1, Duration::from_secs(60)).await });
        sends.set_paused(false).await?;
        assert_eq!(waiting.await??[0].payload(), "paused");
        Ok(())
    })
}

/// On a server of its own: others count on what theirs knows.
fn forgotten_scripts_are_sent_again(server: Server) -> Result<(), Failed> {
    let config = kit::config(&server.url());
    let admin = Admin::new(&server.url());
    let queue = run(QueueStore::open(&config, QueueSettings::DEFAULT, TokioTime))?.queue();
    for step in 0..3 {
        admin.run(&["SCRIPT", "FLUSH"]);
        run(queue.send(Message::new(format!("{step}"))))?;
        admin.run(&["SCRIPT", "FLUSH"]);
        let received = run(queue.receive_batch(1, ZERO))?;
        admin.run(&["SCRIPT", "FLUSH"]);
        run(queue.settle(received[0].receipt, Outcome::Done))?;
    }
    Ok(())
}

fn what_is_more_than_a_script_moves_comes_in_several(url: &str) -> Result<(), Failed> {
    const ALL: usize = 2_500;
    let second = Duration::from_secs(1);
    let time = ManualTime::new();
    let settings = QueueSettings {
        clock: QueueClock::Caller,
        visibility: second,
        ..QueueSettings::DEFAULT
    };
    run(async {
        let store = QueueStore::open(&kit::config(url), settings, time.clone()).await?;
        let queue = store.queue();
        let message = |number: usize| {
            Message::new(number.to_string())
                .delay(second)
                .ttl(600 * second)
        };
        let sent = queue.send_batch((0..ALL).map(message).collect()).await;
        assert!(sent.iter().all(Result::is_ok));
        time.advance(second);
        let stats = queue.stats().await?;
        assert_eq!((stats.ready, stats.waiting), (ALL as u64, 0));
        for count in 1..=2 {
            let mut seen = 0;
            loop {
                let received = queue.receive_batch(ALL, ZERO).await?;
                if received.is_empty() {
                    break;
                }
                assert!(received.len() <= 1_000 && received.iter().all(|one| one.count == count));
                seen += received.len();
            }
            assert_eq!(seen, ALL, "delivery {count}");
            // All leases end at once.
            time.advance(second);
        }
        while !queue.receive_batch(ALL, ZERO).await?.is_empty() {}
        assert_eq!(store.release_all().await?, ALL as u64);
        assert_eq!(queue.purge().await?, ALL as u64);
        let sent = queue.send_batch((0..ALL).map(message).collect()).await;
        assert!(sent.iter().all(Result::is_ok));
        // All of them end at once.
        time.advance(601 * second);
        let stats = queue.stats().await?;
        assert_eq!((stats.ready, stats.waiting, stats.bytes), (0, 0, 0));
        assert_eq!(stats.expired, ALL as u64);
        Ok(())
    })
}
