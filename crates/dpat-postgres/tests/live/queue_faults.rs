//! Faults of the way to a queue's server: cut, stalled, paused; futures that are dropped.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use dpat_core::{Class, Classify, Effect, TokioTime};
use dpat_postgres::{Config, QueueSettings, QueueStore};
use dpat_queue::{Message, Outcome, Queue, SettleError};
use dpat_testkit::live::Live;
use dpat_testkit::servers::Server;
use libtest_mimic::{Failed, Trial};

use crate::kit::{self, run};

const NONE: Duration = Duration::ZERO;
const LONG: Duration = Duration::from_secs(60);

pub(crate) fn trials(live: &Live) -> Vec<Trial> {
    vec![
        live.trial(
            "a_send_or_settlement_whose_answer_is_cut_is_unknown_or_not_done",
            a_send_or_settlement_whose_answer_is_cut_is_unknown_or_not_done,
        ),
        live.trial(
            "every_call_of_a_queue_on_a_stalled_connection_ends",
            every_call_of_a_queue_on_a_stalled_connection_ends,
        ),
        live.trial(
            "dropped_calls_leave_the_queue_usable",
            dropped_calls_leave_the_queue_usable,
        ),
        live.faults(
            "a_server_that_slept_gives_to_others_and_refuses_the_first",
            a_server_that_slept_gives_to_others_and_refuses_the_first,
        ),
        live.faults(
            "a_queue_works_again_after_the_server_was_killed",
            a_queue_works_again_after_the_server_was_killed,
        ),
    ]
}

async fn open(config: &Config, visibility: Duration) -> Result<Queue, Failed> {
    let settings = QueueSettings {
        visibility,
        ..QueueSettings::DEFAULT
    };
    let store = QueueStore::open(config, settings, TokioTime).await?;
    Ok(store.queue())
}

async fn texts(queue: &Queue) -> Result<Vec<String>, Failed> {
    let mut texts = Vec::new();
    for delivery in queue.receive_batch(100, NONE).await? {
        texts.push(String::from_utf8(delivery.payload().to_vec())?);
        queue.settle(delivery.receipt, Outcome::Done).await?;
    }
    Ok(texts)
}

/// Its connection is there, and has prepared what it needs.
async fn warm(queue: &Queue) -> Result<(), Failed> {
    queue.send(Message::new("warm")).await?;
    assert_eq!(texts(queue).await?, ["warm"]);
    Ok(())
}

/// Of a statement that commits by itself nobody knows; a transaction that has not come to its commit is not done.
fn a_send_or_settlement_whose_answer_is_cut_is_unknown_or_not_done(
    url: &str,
) -> Result<(), Failed> {
    let (proxy, through) = kit::behind(url)?;
    let name = kit::name();
    // One connection: what is cut is the one that has prepared its statements.
    let through = Config::new(&through, &name)?.connections(1)?;
    run(async {
        let cut = open(&through, LONG).await?;
        let direct = open(&Config::new(url, &name)?, LONG).await?;
        let mut unknown = 0;
        for number in 0..20 {
            warm(&cut).await?;
            proxy.cut_answers(true);
            let text = format!("{number}");
            let error = cut.send(Message::new(text.clone())).await.unwrap_err();
            assert!(error.class().is_retryable(), "{error}");
            proxy.cut_answers(false);
            match error.effect() {
                // The request has arrived.
                Effect::Unknown => {
                    assert_eq!(texts(&direct).await?, [text]);
                    unknown += 1;
                }
                // It was counting whether there is room.
                Effect::NotDone => assert_eq!(texts(&direct).await?, [""; 0]),
            }
            if unknown == 2 {
                break;
            }
        }
        assert_eq!(unknown, 2, "most sends do not count");

        // With a deduplication key it is a transaction of several steps.
        warm(&cut).await?;
        proxy.cut_answers(true);
        let message = Message::new("once").dedup("d");
        let error = cut.send(message.clone()).await.unwrap_err();
        assert_eq!(error.effect(), Effect::NotDone, "{error}");
        proxy.cut_answers(false);
        assert!(!cut.send(message).await?.is_duplicate());

        // A settlement that was done, and nobody heard.
        let settled = cut.receive().await?;
        assert_eq!(settled.payload(), "once");
        cut.settle(settled.receipt, Outcome::Done).await?;
        cut.send(Message::new("unheard")).await?;
        let delivery = cut.receive().await?;
        assert_eq!(delivery.payload(), "unheard");
        proxy.cut_answers(true);
        let settled = cut.settle(delivery.receipt, Outcome::Done).await;
        assert_eq!(settled.unwrap_err().effect(), Effect::Unknown);
        proxy.cut_answers(false);
        let settled = cut.settle(delivery.receipt, Outcome::Done).await;
        assert!(matches!(settled, Err(SettleError::Stale)), "{settled:?}");

        // One that had only begun.
        direct.send(Message::new("again")).await?;
        let delivery = cut.receive().await?;
        proxy.cut_answers(true);
        let settled = cut.settle(delivery.receipt, Outcome::release()).await;
        assert_eq!(settled.unwrap_err().effect(), Effect::NotDone);
        proxy.cut_answers(false);
        cut.settle(delivery.receipt, Outcome::release()).await?;
        assert_eq!(texts(&direct).await?, ["again"]);
        Ok(())
    })
}

/// Ends the test, and not the call.
async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(LONG, future)
        .await
        .expect("the call ends by itself")
}

/// The first calls may still find what was given up, or wait for the next try.
async fn until_it_works(queue: &Queue) {
    for _ in 0..100 {
        if queue.stats().await.is_ok() {
            return;
        }
    }
    panic!("the connection does not come back");
}

fn every_call_of_a_queue_on_a_stalled_connection_ends(url: &str) -> Result<(), Failed> {
    let (proxy, through) = kit::behind(url)?;
    let name = kit::name();
    let config = Config::new(&through, &name)?;
    run(async {
        let settings = QueueSettings::DEFAULT;
        let direct = Config::new(url, &name)?;
        let direct = QueueStore::open(&direct, settings, TokioTime)
            .await?
            .queue();
        let config = config.timeout(Duration::from_millis(300))?;
        let mut opened = QueueStore::open(&config, settings, TokioTime).await;
        for _ in 0..100 {
            // On a busy machine this may take longer.
            if opened.is_ok() {
                break;
            }
            opened = QueueStore::open(&config, settings, TokioTime).await;
        }
        let queue = opened?.queue();
        until_it_works(&queue).await;
        direct.send(Message::new("out")).await?;
        let delivery = direct.receive().await?;

        proxy.stall(true);
        let sent = within(queue.send(Message::new("m"))).await.unwrap_err();
        assert_eq!(sent.class(), Class::Timeout, "{sent}");
        let received = within(queue.receive_batch(1, LONG)).await.unwrap_err();
        assert!(received.class().is_retryable(), "{received}");
        let settled = within(queue.settle(delivery.receipt, Outcome::Done))
            .await
            .unwrap_err();
        assert!(settled.class().is_retryable(), "{settled}");
        let extended = within(queue.extend(vec![delivery.receipt], LONG)).await;
        assert!(
            extended[0]
                .as_ref()
                .is_err_and(|error| error.class().is_retryable())
        );
        for looked in [
            within(queue.peek(None, 1)).await.map(drop),
            within(queue.dead_letters(None, 1)).await.map(drop),
            within(queue.purge()).await.map(drop),
            within(queue.set_paused(true)).await.map(drop),
        ] {
            let error = looked.unwrap_err();
            assert!(error.class().is_retryable(), "{error}");
        }
        let opened = within(QueueStore::open(&config, settings, TokioTime)).await;
        let error = opened.unwrap_err();
        assert!(error.class().is_retryable(), "{error}");
        assert_eq!(error.effect(), Effect::NotDone);

        proxy.stall(false);
        until_it_works(&queue).await;
        queue.set_paused(false).await?;
        // It may have been done before.
        match queue.settle(delivery.receipt, Outcome::Done).await {
            Ok(()) | Err(SettleError::Stale) => Ok(()),
            Err(error) => Err(error.into()),
        }
    })
}

/// Polls a future so often, each time it is woken, and drops it then; its output if it came to that.
async fn polled<F: Future>(future: F, times: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = times;
    poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

fn dropped_calls_leave_the_queue_usable(url: &str) -> Result<(), Failed> {
    // One connection is enough to see whether each was given back or closed.
    let config = kit::config(url).connections(1)?;
    run(async {
        for times in 0..24 {
            // A store of its own: the first call connects.
            let queue = open(&config, Duration::from_millis(50)).await?;
            let dropped = Message::new("dropped").key("k");
            drop(polled(queue.send(dropped), times).await);
            drop(polled(queue.receive_batch(1, LONG), times).await);
            drop(polled(queue.receive_batch(1, LONG), times).await);
            queue.send(Message::new("kept").key("k")).await?;
            // Whatever was handed out to a dropped future comes again; each is one whole message.
            let mut seen = Vec::new();
            while !seen.contains(&"kept".to_owned()) {
                for delivery in queue.receive_batch(10, LONG).await? {
                    let text = String::from_utf8(delivery.payload().to_vec())?;
                    drop(polled(queue.settle(delivery.receipt, Outcome::Done), times).await);
                    match queue.settle(delivery.receipt, Outcome::Done).await {
                        Ok(()) | Err(SettleError::Stale) => seen.push(text),
                        Err(error) => return Err(error.into()),
                    }
                }
            }
            assert!(
                seen.iter().all(|text| text == "kept" || text == "dropped"),
                "{seen:?}"
            );
            let looked = polled(queue.stats(), times).await;
            assert!(looked.is_none_or(|stats| stats.is_ok()));
        }
        Ok(())
    })
}

fn a_server_that_slept_gives_to_others_and_refuses_the_first(server: Server) -> Result<(), Failed> {
    let config = Config::new(&server.url(), "t")?.timeout(Duration::from_secs(20))?;
    let visibility = Duration::from_millis(300);
    run(async {
        let one = open(&config, visibility).await?;
        let other = open(&config, visibility).await?;
        one.send(Message::new("m")).await?;
        let first = one.receive().await?;
        server.pause();
        let waits = one.clone();
        let settling =
            tokio::spawn(async move { waits.settle(first.receipt, Outcome::release()).await });
        // Nothing is settled in this time, and the lease ends.
        tokio::time::sleep(2 * visibility).await;
        server.resume();
        // It had asked while the server slept: that is late, or in time if nobody has it yet.
        let settled = settling.await?;
        assert!(
            matches!(settled, Ok(()) | Err(SettleError::Stale)),
            "{settled:?}"
        );
        let second = other.receive_batch(1, LONG).await?.remove(0);
        assert_eq!(second.count, 2);
        let late = one.settle(first.receipt, Outcome::Done).await;
        assert!(matches!(late, Err(SettleError::Stale)), "{late:?}");
        other.settle(second.receipt, Outcome::Done).await?;
        Ok(())
    })
}

fn a_queue_works_again_after_the_server_was_killed(mut server: Server) -> Result<(), Failed> {
    let config = Config::new(&server.url(), "t")?.timeout(Duration::from_secs(2))?;
    run(async {
        let queue = open(&config, LONG).await?;
        let other = open(&config, LONG).await?;
        queue.send(Message::new("before").key("k")).await?;
        let delivery = queue.receive().await?;
        let waits = other.clone();
        let waiting = tokio::spawn(async move { waits.receive_batch(1, LONG).await });
        server.kill();
        // What serves a connection may live on for a moment.
        let failed = async {
            loop {
                if let Err(error) = queue.send(Message::new("none")).await {
                    return error;
                }
            }
        };
        let error = within(failed).await;
        assert!(error.class().is_retryable(), "{error}");
        let received = waiting.await?;
        assert!(received.is_err_and(|error| error.class().is_retryable()));
        server.restart()?;
        until_it_works(&queue).await;
        until_it_works(&other).await;
        // Leases are rows: the receipt still has its say.
        queue.settle(delivery.receipt, Outcome::Done).await?;
        queue.purge().await?;
        // The listener is there again, or the clock makes up for it.
        let waiting = tokio::spawn(async move { other.receive_batch(1, LONG).await });
        queue.send(Message::new("after").key("k")).await?;
        assert_eq!(waiting.await??[0].payload(), "after");
        Ok(())
    })
}
