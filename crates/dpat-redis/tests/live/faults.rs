//! Connections that are cut and stalled, a server that is paused or full, futures that are dropped.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use dpat_core::{Class, Classify, Effect, TokioTime};
use dpat_idempotency::{AnyStore, Begun, Change, Fingerprint, Key, Responses, Store, Swap};
use dpat_queue::{Message, Outcome, Queue, SendError, SettleError};
use dpat_redis::{ChannelHub, Config, QueueSettings, QueueStore, ResponseLimits, ResponseStore};
use dpat_testkit::live::Live;
use dpat_testkit::proxy::Proxy;
use dpat_testkit::servers::Server;
use futures_util::future::join_all;
use libtest_mimic::{Failed, Trial};

use crate::kit::{self, Admin, run};

const ZERO: Duration = Duration::ZERO;
const LONG: Duration = Duration::from_secs(60);

pub(crate) fn trials(live: &Live) -> Vec<Trial> {
    vec![
        live.trial(
            "a_cut_before_the_answer_is_an_unknown_outcome",
            a_cut_before_the_answer_is_an_unknown_outcome,
        ),
        live.trial(
            "every_call_on_a_stalled_connection_ends",
            every_call_on_a_stalled_connection_ends,
        ),
        live.trial(
            "while_no_connection_comes_about_tries_are_fewer_than_calls",
            while_no_connection_comes_about_tries_are_fewer_than_calls,
        ),
        live.trial(
            "a_future_that_is_dropped_leaves_the_connection_usable",
            a_future_that_is_dropped_leaves_the_connection_usable,
        ),
        live.trial(
            "a_message_that_comes_twice_takes_effect_once",
            a_message_that_comes_twice_takes_effect_once,
        ),
        live.faults(
            "calls_at_one_time_go_together",
            calls_at_one_time_go_together,
        ),
        live.faults(
            "a_server_that_slept_gives_to_others_and_refuses_the_first",
            a_server_that_slept_gives_to_others_and_refuses_the_first,
        ),
        live.faults(
            "a_full_memory_refuses_what_is_new_and_loses_nothing",
            a_full_memory_refuses_what_is_new_and_loses_nothing,
        ),
    ]
}

fn address(url: &str) -> Result<SocketAddr, Failed> {
    let host = url.trim_start_matches("redis://").trim_end_matches('/');
    Ok(host.parse()?)
}

fn open(config: &Config, visibility: Duration) -> Result<QueueStore, Failed> {
    let settings = QueueSettings {
        visibility,
        ..QueueSettings::DEFAULT
    };
    Ok(run(QueueStore::open(config, settings, TokioTime))?)
}

async fn texts(queue: &Queue) -> Result<Vec<String>, Failed> {
    let received = queue.receive_batch(100, ZERO).await?;
    let texts = received
        .iter()
        .map(|one| String::from_utf8(one.payload().to_vec()));
    Ok(texts.collect::<Result<_, _>>()?)
}

fn a_cut_before_the_answer_is_an_unknown_outcome(url: &str) -> Result<(), Failed> {
    let proxy = Proxy::start(address(url)?)?;
    let name = kit::name();
    let through = Config::new(&format!("redis://{}/", proxy.address()), name.as_str())?;
    let cut = open(&through, LONG)?.queue();
    let direct = open(&Config::new(url, name)?, LONG)?.queue();
    run(async {
        // Connected, and the server knows the scripts: what is cut is an answer to what was done.
        direct.send(Message::new("first")).await?;
        let first = cut.receive().await?;
        cut.settle(first.receipt, Outcome::Done).await?;
        proxy.cut_answers(true);
        let sent = cut.send(Message::new("once").dedup("d")).await.unwrap_err();
        assert_eq!(
            (sent.class(), sent.effect()),
            (Class::Transient, Effect::Unknown),
            "{sent}"
        );
        // A new connection gets no further than its greeting: nothing is sent on it.
        let sent = cut.send(Message::new("never")).await.unwrap_err();
        assert_eq!(
            (sent.class(), sent.effect()),
            (Class::Unavailable, Effect::NotDone),
            "{sent}"
        );
        proxy.cut_answers(false);
        let again = cut.send(Message::new("once").dedup("d")).await?;
        assert!(again.is_duplicate(), "the first try was done");
        assert_eq!(texts(&direct).await?, ["once"]);
        let stats = direct.stats().await?;
        assert_eq!((stats.ready, stats.leased), (0, 1));

        // A settlement that was done, and nobody heard.
        direct.send(Message::new("settled")).await?;
        let delivery = cut.receive().await?;
        proxy.cut_answers(true);
        let settled = cut
            .settle(delivery.receipt, Outcome::Done)
            .await
            .unwrap_err();
        assert_eq!(settled.effect(), Effect::Unknown, "{settled}");
        proxy.cut_answers(false);
        let settled = cut.settle(delivery.receipt, Outcome::Done).await;
        assert!(matches!(settled, Err(SettleError::Stale)), "{settled:?}");
        Ok(())
    })
}

fn every_call_on_a_stalled_connection_ends(url: &str) -> Result<(), Failed> {
    let proxy = Proxy::start(address(url)?)?;
    let name = kit::name();
    let config = Config::new(&format!("redis://{}/", proxy.address()), name)?;
    let config = config.timeout(Duration::from_millis(300))?;
    run(async {
        let settings = QueueSettings::DEFAULT;
        let queue = QueueStore::open(&config, settings, TokioTime)
            .await?
            .queue();
        let store = ResponseStore::open(&config, ResponseLimits::DEFAULT).await?;
        let hub = ChannelHub::open(&config).await?.hub();
        let key = Key::new("s", "k")?;
        queue.send(Message::new("out")).await?;
        let delivery = queue.receive().await?;

        proxy.stall(true);
        let sent = within(queue.send(Message::new("m"))).await.unwrap_err();
        assert_eq!(
            (sent.class(), sent.effect()),
            (Class::Timeout, Effect::Unknown),
            "{sent}"
        );
        // That connection is given up, and another does not come to be.
        let sent = within(queue.send(Message::new("m"))).await.unwrap_err();
        assert_eq!(
            (sent.class(), sent.effect()),
            (Class::Unavailable, Effect::NotDone),
            "{sent}"
        );
        let received = within(queue.receive_batch(1, LONG)).await.unwrap_err();
        assert!(received.class().is_retryable(), "{received}");
        let settled = within(queue.settle(delivery.receipt, Outcome::Done))
            .await
            .unwrap_err();
        assert!(settled.class().is_retryable(), "{settled}");
        let loaded = within(store.load(&key)).await.unwrap_err();
        assert_eq!(loaded.class(), Class::Timeout, "{loaded}");
        let published = within(hub.publish("a", "m")).await.unwrap_err();
        assert_eq!(published.class(), Class::Timeout, "{published}");
        let subscribed = within(hub.subscribe("a").into_future()).await.unwrap_err();
        assert!(subscribed.class().is_retryable(), "{subscribed}");
        let opened = within(QueueStore::open(&config, settings, TokioTime))
            .await
            .unwrap_err();
        assert_eq!(
            (opened.class(), opened.effect()),
            (Class::Unavailable, Effect::NotDone),
            "{opened}"
        );

        proxy.stall(false);
        until_it_works(&queue).await;
        queue.settle(delivery.receipt, Outcome::Done).await?;
        Ok(())
    })
}

fn while_no_connection_comes_about_tries_are_fewer_than_calls(url: &str) -> Result<(), Failed> {
    const CALLS: u64 = 12;
    let proxy = Proxy::start(address(url)?)?;
    let config = Config::new(&format!("redis://{}/", proxy.address()), kit::name())?;
    // Less than most of the times between tries, which grow to two seconds.
    let config = config.timeout(Duration::from_millis(300))?;
    run(async {
        let mut opened = QueueStore::open(&config, QueueSettings::DEFAULT, TokioTime).await;
        for _ in 0..100 {
            // On a busy machine this may take longer.
            if opened.is_ok() {
                break;
            }
            opened = QueueStore::open(&config, QueueSettings::DEFAULT, TokioTime).await;
        }
        let queue = opened?.queue();
        proxy.refuse(true);
        proxy.cut();
        let before = proxy.accepted();
        for _ in 0..CALLS {
            // Of the first one nobody knows: its connection may break under it. The others wait for the next try, or make it.
            let failed = within(queue.send(Message::new("m"))).await.unwrap_err();
            assert!(failed.class().is_retryable(), "{failed}");
        }
        let tries = proxy.accepted() - before;
        assert!(
            tries > 0 && tries < CALLS,
            "{tries} tries for {CALLS} calls"
        );
        proxy.refuse(false);
        until_it_works(&queue).await;
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

fn a_future_that_is_dropped_leaves_the_connection_usable(url: &str) -> Result<(), Failed> {
    let config = kit::config(url);
    let visibility = Duration::from_millis(50);
    let settings = QueueSettings {
        visibility,
        ..QueueSettings::DEFAULT
    };
    run(async {
        for times in 0..12 {
            // A store of its own: the first call connects.
            let store = QueueStore::open(&config, settings, TokioTime).await?;
            let queue = store.queue();
            drop(polled(queue.send(Message::new("dropped")), times).await);
            drop(polled(queue.receive_batch(1, LONG), times).await);
            drop(polled(queue.receive_batch(1, LONG), times).await);
            queue.send(Message::new("kept")).await?;
            // Whatever was handed out to a dropped future comes again; each is one whole message.
            let mut seen = Vec::new();
            while !seen.contains(&"kept".to_owned()) {
                for delivery in queue.receive_batch(10, LONG).await? {
                    let text = String::from_utf8(delivery.payload().to_vec())?;
                    match queue.settle(delivery.receipt, Outcome::Done).await {
                        Ok(()) => seen.push(text),
                        Err(SettleError::Stale) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
            }
            assert!(
                seen.iter().all(|text| text == "kept" || text == "dropped"),
                "{seen:?}"
            );
            let settled = polled(queue.stats(), times).await;
            assert!(settled.is_none_or(|stats| stats.is_ok()));
        }
        Ok(())
    })
}

/// How many scripts the server has run.
/// How many scripts the server has run by their digests.
pub(crate) fn scripts(admin: &Admin) -> u64 {
    let stats = admin.run(&["INFO", "commandstats"]);
    let stats: String = redis::from_redis_value(stats).unwrap();
    let calls = stats.split("cmdstat_evalsha:calls=").nth(1);
    let calls = calls.and_then(|calls| calls.split(',').next());
    calls.map_or(0, |calls| calls.parse().unwrap())
}

fn calls_at_one_time_go_together(server: Server) -> Result<(), Failed> {
    const CALLS: usize = 64;
    let admin = Admin::new(&server.url());
    let config = kit::config(&server.url());
    let queue = open(&config, LONG)?.queue();
    // The server has the scripts from now on.
    run(async {
        queue.send(Message::new("first")).await?;
        let first = queue.receive().await?;
        queue.settle(first.receipt, Outcome::Done).await?;
        Ok::<_, Failed>(())
    })?;
    // The first two go at once, the rest behind them.
    let few = |what: &str, before: u64| {
        assert_eq!(scripts(&admin) - before, 3, "{what}");
    };
    let before = scripts(&admin);
    let sends = (0..CALLS).map(|number| queue.send(Message::new(number.to_string())));
    for sent in run(join_all(sends)) {
        sent?;
    }
    few("sends", before);
    let before = scripts(&admin);
    let receives = (0..CALLS).map(|_| queue.receive_batch(1, ZERO));
    let mut seen = BTreeSet::new();
    let mut receipts = Vec::new();
    for received in run(join_all(receives)) {
        for delivery in received? {
            seen.insert(delivery.payload().to_vec());
            receipts.push(delivery.receipt);
        }
    }
    assert_eq!((seen.len(), receipts.len()), (CALLS, CALLS));
    few("receives", before);
    let before = scripts(&admin);
    let settlements = receipts
        .iter()
        .map(|receipt| queue.settle(*receipt, Outcome::Done));
    for settled in run(join_all(settlements)) {
        settled?;
    }
    few("settlements", before);
    let stale = run(queue.settle(receipts[0], Outcome::Done));
    assert!(matches!(stale, Err(SettleError::Stale)), "{stale:?}");
    Ok(())
}

fn a_message_that_comes_twice_takes_effect_once(url: &str) -> Result<(), Failed> {
    let config = kit::config(url);
    let queue = open(&config, Duration::from_millis(50))?.queue();
    let store = run(ResponseStore::open(&config, ResponseLimits::DEFAULT))?;
    let settings = dpat_idempotency::Config::default();
    let responses = Responses::new(
        settings,
        AnyStore::new(store),
        dpat_core::SystemClock,
        dpat_core::SystemEntropy,
    );
    let effects = AtomicU32::new(0);
    run(async {
        queue
            .send(Message::new("charge order 7").header("key", "charge-7"))
            .await?;
        let mut answers = Vec::new();
        for _ in 0..3 {
            // Handled, and never settled: its lease ends, and it comes again.
            let delivery = queue.receive_batch(1, LONG).await?.remove(0);
            let key = Key::new("charges", std::str::from_utf8(&delivery.headers()[0].1)?)?;
            let fingerprint = Fingerprint::of(&[delivery.payload()]);
            answers.push(match responses.begin(&key, fingerprint).await? {
                Begun::First(claim) => {
                    let answer = format!("charge {}", effects.fetch_add(1, Ordering::Relaxed));
                    claim.complete(Bytes::from(answer.clone())).await?;
                    answer
                }
                Begun::Replay(answer) => String::from_utf8(answer.to_vec())?,
            });
        }
        assert_eq!(answers, ["charge 0"; 3]);
        assert_eq!(effects.load(Ordering::Relaxed), 1);
        Ok(())
    })
}

fn a_server_that_slept_gives_to_others_and_refuses_the_first(server: Server) -> Result<(), Failed> {
    let config = Config::new(&server.url(), "a")?.timeout(Duration::from_secs(20))?;
    let visibility = Duration::from_millis(300);
    let (one, other) = (
        open(&config, visibility)?.queue(),
        open(&config, visibility)?.queue(),
    );
    run(async {
        one.send(Message::new("m")).await?;
        let first = one.receive().await?;
        server.pause();
        // Nothing is settled in this time, and the server's clock goes on.
        tokio::time::sleep(2 * visibility).await;
        server.resume();
        let second = other.receive_batch(1, LONG).await?.remove(0);
        assert_eq!((second.id(), second.count), (first.id(), 2));
        let late = one.settle(first.receipt, Outcome::Done).await;
        assert!(matches!(late, Err(SettleError::Stale)), "{late:?}");
        other.settle(second.receipt, Outcome::Done).await?;
        Ok(())
    })
}

fn a_full_memory_refuses_what_is_new_and_loses_nothing(server: Server) -> Result<(), Failed> {
    let admin = Admin::new(&server.url());
    let config = Config::new(&server.url(), "a")?;
    let queue = open(&config, LONG)?.queue();
    let store = run(ResponseStore::open(&config, ResponseLimits::DEFAULT))?;
    let key = Key::new("s", "k")?;
    let put = || Change::Put {
        bytes: Bytes::from_static(b"row"),
        expires: None,
    };
    run(store.swap(&key, None, put()))?;
    admin.run(&["CONFIG", "SET", "maxmemory", "8mb"]);
    let mut sent = 0_u32;
    let error = loop {
        let message = Message::new(vec![7; 32 << 10]).header("number", sent.to_string());
        match run(queue.send(message)) {
            Ok(_) => sent += 1,
            Err(error) => break error,
        }
        assert!(sent < 1_000, "the memory is never full");
    };
    assert!(matches!(error, SendError::Backend(_)), "{error}");
    assert_eq!(
        (error.class(), error.effect()),
        (Class::Overloaded, Effect::NotDone),
        "{error}"
    );
    assert!(error.to_string().contains("`maxmemory`"), "{error}");
    // Far below what is there: no small change of buffers makes room.
    admin.run(&["CONFIG", "SET", "maxmemory", "1mb"]);
    run(async {
        let row = store.load(&key).await?.unwrap();
        let refused = store
            .swap(&key, Some(row.version), put())
            .await
            .unwrap_err();
        assert_eq!(
            (refused.class(), refused.effect()),
            (Class::Overloaded, Effect::NotDone)
        );
        assert_eq!(
            store.swap(&key, Some(row.version), Change::Remove).await?,
            Swap::Done
        );
        // Everything that was acknowledged is there, and is received and settled although the memory is full.
        for number in 0..sent {
            let delivery = queue.receive().await?;
            assert_eq!(delivery.headers()[0].1, number.to_string());
            queue.settle(delivery.receipt, Outcome::Done).await?;
        }
        assert!(texts(&queue).await?.is_empty());
        Ok::<_, Failed>(())
    })?;
    admin.run(&["CONFIG", "SET", "maxmemory", "100mb"]);
    run(queue.send(Message::new("room again")))?;
    Ok(())
}
