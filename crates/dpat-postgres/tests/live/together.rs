//! What is asked for at one time, and whose clock decides.

use std::collections::BTreeSet;
use std::time::Duration;

use dpat_core::{Classify, Effect, ManualTime, TokioTime};
use dpat_postgres::{Config, QueueSettings, QueueStore};
use dpat_queue::{Delivery, Message, Outcome, SendError, SettleError};
use dpat_testkit::live::Live;
use futures_util::future::join_all;
use libtest_mimic::{Failed, Trial};

use crate::kit::{self, run};

/// How many ask at one time.
const CALLS: usize = 64;
const NONE: Duration = Duration::ZERO;

pub(crate) fn trials(live: &Live) -> Vec<Trial> {
    vec![
        live.trial(
            "what_is_asked_for_at_one_time_goes_in_few_transactions",
            what_is_asked_for_at_one_time_goes_in_few_transactions,
        ),
        live.trial(
            "a_message_that_the_server_refuses_is_refused_alone",
            a_message_that_the_server_refuses_is_refused_alone,
        ),
        live.trial(
            "settlements_at_one_time_are_each_by_their_own_receipt",
            settlements_at_one_time_are_each_by_their_own_receipt,
        ),
        live.faults(
            "sends_at_one_time_whose_answer_is_cut_are_unknown_or_not_done",
            sends_at_one_time_whose_answer_is_cut_are_unknown_or_not_done,
        ),
        live.trial(
            "leases_and_delays_follow_the_clock_of_the_server",
            leases_and_delays_follow_the_clock_of_the_server,
        ),
    ]
}

async fn open(config: &Config) -> Result<QueueStore, Failed> {
    Ok(QueueStore::open(config, QueueSettings::DEFAULT, TokioTime).await?)
}

/// How many transactions have written to the rows: each gives its number to all rows that it makes.
async fn transactions(url: &str, config: &Config) -> Result<i64, Failed> {
    let text = config.sql("SELECT count(DISTINCT xmin::text) FROM {prefix}_deliveries");
    let row = kit::client(url).await.query_one(&text, &[]).await?;
    Ok(row.get(0))
}

fn what_is_asked_for_at_one_time_goes_in_few_transactions(url: &str) -> Result<(), Failed> {
    let config = kit::config(url);
    run(async {
        let queue = open(&config).await?.queue();
        // Counted, connected, prepared.
        queue.send(Message::new("first")).await?;
        let first = queue.receive().await?;
        queue.settle(first.receipt, Outcome::Done).await?;
        // All are asked for before the first is answered.
        let sends = (0..CALLS).map(|number| queue.send(Message::new(number.to_string())));
        for sent in join_all(sends).await {
            sent?;
        }
        let wrote = transactions(url, &config).await?;
        assert!(wrote <= 4, "{wrote} transactions for {CALLS} sends");
        let receives = (0..CALLS).map(|_| queue.receive_batch(1, NONE));
        let mut received: Vec<Delivery> = Vec::new();
        for some in join_all(receives).await {
            received.extend(some?);
        }
        let seen: BTreeSet<&[u8]> = received.iter().map(|one| &one.payload()[..]).collect();
        assert_eq!((seen.len(), received.len()), (CALLS, CALLS));
        let wrote = transactions(url, &config).await?;
        assert!(wrote <= 2, "{wrote} transactions for {CALLS} receives");
        let settlements = received
            .iter()
            .map(|one| queue.settle(one.receipt, Outcome::Done));
        for settled in join_all(settlements).await {
            settled?;
        }
        let stats = queue.stats().await?;
        assert_eq!((stats.ready, stats.leased), (0, 0));
        assert_eq!(stats.done, CALLS as u64 + 1);
        Ok(())
    })
}

fn a_message_that_the_server_refuses_is_refused_alone(url: &str) -> Result<(), Failed> {
    let config = kit::config(url);
    run(async {
        let queue = open(&config).await?.queue();
        queue.send(Message::new("first")).await?;
        // No text of PostgreSQL has a zero in it.
        let message = |number: usize| match number % 8 {
            5 => Message::new("bad").key("a\0b"),
            _ => Message::new("good"),
        };
        let sends = (0..CALLS).map(|number| queue.send(message(number)));
        let mut refused = 0;
        for (number, sent) in join_all(sends).await.into_iter().enumerate() {
            match sent {
                Ok(_) => assert_ne!(number % 8, 5),
                Err(error) => {
                    assert_eq!(
                        (number % 8, error.effect()),
                        (5, Effect::NotDone),
                        "{error}"
                    );
                    refused += 1;
                }
            }
        }
        assert_eq!(refused, CALLS / 8);
        assert_eq!(queue.stats().await?.ready, (CALLS - refused + 1) as u64);
        Ok(())
    })
}

fn settlements_at_one_time_are_each_by_their_own_receipt(url: &str) -> Result<(), Failed> {
    let config = kit::config(url);
    run(async {
        let store = open(&config).await?;
        let queue = store.queue();
        queue.send(Message::new("twice")).await?;
        let first = queue.receive().await?;
        store.release_all().await?;
        let second = queue.receive().await?;
        assert_eq!((first.id(), second.count), (second.id(), 2));
        // The turns are taken by others, so that these two go together.
        for _ in 0..4 {
            queue.send(Message::new("other")).await?;
        }
        let others = queue.receive_batch(4, NONE).await?;
        let receipts = others
            .iter()
            .map(|one| one.receipt)
            .chain([first.receipt, second.receipt]);
        let settled = join_all(receipts.map(|one| queue.settle(one, Outcome::Done))).await;
        let [.., late, done] = &settled[..] else {
            return Err("six settlements".into());
        };
        assert!(matches!(late, Err(SettleError::Stale)), "{late:?}");
        assert!(done.is_ok(), "{done:?}");
        assert!(settled[..4].iter().all(Result::is_ok), "{settled:?}");
        Ok(())
    })
}

fn sends_at_one_time_whose_answer_is_cut_are_unknown_or_not_done(
    server: dpat_testkit::servers::Server,
) -> Result<(), Failed> {
    let (proxy, through) = kit::behind(&server.url())?;
    let name = kit::name();
    let direct = Config::new(&server.url(), name.as_str())?;
    let cut = Config::new(&through, name)?;
    run(async {
        let sees = open(&direct).await?.queue();
        let queue = open(&cut).await?.queue();
        queue.send(Message::new("first")).await?;
        proxy.cut_answers(true);
        let sends = (0..CALLS).map(|number| queue.send(Message::new(number.to_string())));
        let sent = join_all(sends).await;
        proxy.cut_answers(false);
        let there = sees.receive_batch(CALLS + 1, NONE).await?;
        let there: BTreeSet<&[u8]> = there.iter().map(|one| &one.payload()[..]).collect();
        let mut unknown = 0;
        for (number, sent) in sent.into_iter().enumerate() {
            let error: SendError = sent.unwrap_err();
            match error.effect() {
                Effect::Unknown => unknown += 1,
                Effect::NotDone => {
                    assert!(!there.contains(number.to_string().as_bytes()), "{error}");
                }
            }
        }
        assert!(unknown > 0);
        queue.send(Message::new("after")).await?;
        Ok(())
    })
}

fn leases_and_delays_follow_the_clock_of_the_server(url: &str) -> Result<(), Failed> {
    let config = kit::config(url);
    let settings = QueueSettings {
        visibility: Duration::from_millis(200),
        ..QueueSettings::DEFAULT
    };
    run(async {
        // The clock of this process stands still, and says 1970; that of the other is far ahead.
        let late = QueueStore::open(&config, settings, ManualTime::new()).await?;
        let early = ManualTime::new();
        early.advance(Duration::from_secs(60 * 60 * 24 * 365 * 200));
        let early = QueueStore::open(&config, settings, early).await?;
        let (late, early) = (late.queue(), early.queue());
        let long = Duration::from_secs(600);
        late.send(Message::new("now")).await?;
        late.send(Message::new("later").delay(long)).await?;
        let first = late.receive().await?;
        assert_eq!(first.payload(), "now");
        assert!(
            early.receive_batch(9, NONE).await?.is_empty(),
            "it is leased"
        );
        // Looks until the lease has ended by the server's clock.
        let again = loop {
            let received = early.receive_batch(9, NONE).await?;
            if let Some(one) = received.into_iter().next() {
                break one;
            }
            tokio::task::yield_now().await;
        };
        assert_eq!((again.id(), again.count), (first.id(), 2));
        assert!(
            again.sent_at.as_nanos() > 1_600_000_000_000_000_000,
            "{:?}",
            again.sent_at
        );
        let stale = late.settle(first.receipt, Outcome::Done).await;
        assert!(matches!(stale, Err(SettleError::Stale)), "{stale:?}");
        early.settle(again.receipt, Outcome::Done).await?;
        assert!(
            early.receive_batch(9, NONE).await?.is_empty(),
            "ten minutes have not passed"
        );
        Ok(())
    })
}
