//! Streams that are missing, different or full, connections that are cut or stall, servers that sleep.

use std::time::Duration;

use bytes::Bytes;
use dpat_core::{Class, Classify, Effect, SystemClock, SystemEntropy, Wall};
use dpat_nats::dpat_idempotency::{
    AnyStore, Begun, Change, Fingerprint, Key, Responses, Store as _, Swap,
};
use dpat_nats::dpat_queue::{Message, Outcome, Queue};
use dpat_nats::{
    Connection, EngineError, Make, OpenError, QueueSettings, ResponseStore, StoreSettings,
    StreamQueue, async_nats,
};
use dpat_testkit::live::Live;
use dpat_testkit::proxy::Proxy;
use dpat_testkit::servers::Server;
use libtest_mimic::{Failed, Trial};

use super::kit::{Configured, block_on, config, connect, connect_hasty, name, pass, trials};

const SHORT: Duration = Duration::from_millis(300);
const LEASE: Duration = Duration::from_secs(1);

pub(crate) fn trials(live: &Live) -> Vec<Trial> {
    trials!(
        live,
        trial a_missing_stream_is_named_where_none_is_to_be_made,
        trial a_stream_with_another_setting_is_refused_by_its_name_and_not_changed,
        trial a_newer_or_foreign_stream_is_refused,
        trial jetstream_that_is_off_is_named,
        trial a_permission_that_jetstream_needs_is_named,
        trial a_payload_beyond_the_servers_limit_is_refused_at_opening,
        trial a_send_whose_answer_is_cut_is_unknown_and_sent_once,
        trial a_settlement_whose_answer_is_cut_is_unknown_and_can_be_repeated,
        trial a_swap_whose_answer_is_cut_is_unknown_and_there,
        trial a_stalled_connection_ends_calls_of_queues_and_stores_at_their_deadline,
        trial without_a_connection_nothing_is_done_and_calls_end,
        trial a_waiting_receive_goes_on_when_the_connection_comes_back,
        trial what_is_handed_out_too_often_is_a_dead_letter,
        trial a_delivery_that_comes_twice_has_its_effect_once,
        trial a_full_store_refuses_new_keys,
        trial a_message_of_another_program_is_a_message,
        faults a_message_comes_again_when_its_server_slept_longer_than_the_lease,
    )
}

/// Small: servers set the bytes aside.
pub(crate) fn small(name: &str) -> Result<QueueSettings, Failed> {
    let settings = QueueSettings::new(name)?.visibility(LEASE);
    Ok(settings.bytes_max(4 << 20).dead_bytes_max(1 << 20))
}

fn open(connection: &Connection, name: &str) -> Result<StreamQueue, Failed> {
    Ok(block_on(StreamQueue::open(connection, small(name)?))?)
}

fn store(connection: &Connection, name: &str) -> Result<ResponseStore, Failed> {
    let settings = StoreSettings::new(name)?.bytes_max(4 << 20);
    Ok(block_on(ResponseStore::open(connection, settings))?)
}

fn refused(connection: &Connection, settings: QueueSettings) -> Result<OpenError, Failed> {
    let opened = block_on(StreamQueue::open(connection, settings));
    opened.err().ok_or_else(|| "it opens".into())
}

fn a_missing_stream_is_named_where_none_is_to_be_made(url: &str) -> Result<(), Failed> {
    let (connection, name) = (connect(url)?, name("missing"));
    let error = refused(&connection, small(&name)?.make(Make::Expect))?;
    let stream = name.clone();
    assert_eq!(error, OpenError::Engine(EngineError::NoStream { stream }));
    assert!(error.to_string().contains("Make::Create"), "{error}");
    assert_eq!(error.effect(), Effect::NotDone);
    let settings = StoreSettings::new(&name)?.make(Make::Expect);
    let opened = block_on(ResponseStore::open(&connection, settings)).map(drop);
    let stream = format!("KV_{name}");
    assert_eq!(
        opened,
        Err(OpenError::Engine(EngineError::NoStream { stream }))
    );
    open(&connection, &name)?;
    block_on(StreamQueue::open(
        &connection,
        small(&name)?.make(Make::Expect),
    ))?;
    Ok(())
}

fn a_stream_with_another_setting_is_refused_by_its_name_and_not_changed(
    url: &str,
) -> Result<(), Failed> {
    let (connection, name) = (connect(url)?, name("other"));
    open(&connection, &name)?;
    let others = [
        (small(&name)?.messages_max(7), "max_msgs is 100000, not 7"),
        (
            small(&name)?.visibility(2 * LEASE),
            "(visibility) is 1000000000, not 2000000000",
        ),
        (small(&name)?.dead_max(7), "max_msgs is 10000, not 7"),
        (small(&name)?.out_max(7), "(out_max) is 10000, not 7"),
    ];
    for (settings, text) in others {
        let error = refused(&connection, settings)?;
        assert!(
            matches!(error, OpenError::Engine(EngineError::Differs { .. })),
            "{error}"
        );
        assert!(error.to_string().contains(text), "{error}");
        assert_eq!(
            (error.class(), error.effect()),
            (Class::Permanent, Effect::NotDone)
        );
    }
    open(&connection, &name)?;
    Ok(())
}

fn a_newer_or_foreign_stream_is_refused(url: &str) -> Result<(), Failed> {
    let connection = connect(url)?;
    let make = |name: &str, description: &str| {
        let subject = format!("$JS.API.STREAM.CREATE.{name}");
        let body = format!(
            r#"{{"name":"{name}","subjects":["{name}"],"description":"{description}","storage":"file","retention":"workqueue"}}"#
        );
        block_on(async {
            let client = async_nats::connect(url).await?;
            let answer = client.request(subject, body.into()).await?;
            let text = String::from_utf8_lossy(&answer.payload).into_owned();
            assert!(!text.contains("err_code"), "{text}");
            Ok::<_, Failed>(())
        })
    };
    let newer = name("newer");
    make(&newer, "dpat queue, layout 2")?;
    let error = refused(&connection, small(&newer)?)?;
    let known = 1;
    let expected = EngineError::Newer {
        stream: newer,
        found: 2,
        known,
    };
    assert_eq!(error, OpenError::Engine(expected));
    let foreign = name("foreign");
    make(&foreign, "orders")?;
    let error = refused(&connection, small(&foreign)?)?;
    assert_eq!(
        error,
        OpenError::Engine(EngineError::Foreign { stream: foreign })
    );
    Ok(())
}

fn jetstream_that_is_off_is_named(_: &str) -> Result<(), Failed> {
    let server = Configured::start("")?;
    let connection = connect(&server.url())?;
    let error = refused(&connection, small("orders")?)?;
    assert_eq!(error, OpenError::Engine(EngineError::NoJetStream));
    assert!(
        error.to_string().starts_with("jetstream: not enabled"),
        "{error}"
    );
    Ok(())
}

fn a_permission_that_jetstream_needs_is_named(_: &str) -> Result<(), Failed> {
    let server = Configured::start(
        "jetstream { store_dir: \"STORE\" }
         authorization { users: [
           { user: all, password: it },
           { user: shop, password: it, permissions: {
             publish: { allow: [\"_INBOX.>\", \"$JS.API.STREAM.INFO.*\", \"$JS.API.CONSUMER.INFO.>\"] },
             subscribe: \">\" } } ] }",
    )?;
    let all = connect(&format!("nats://all:it@{}", server.address))?;
    let connection = connect(&format!("nats://shop:it@{}", server.address))?;
    let error = refused(&connection, small("orders")?)?;
    assert!(
        error
            .to_string()
            .contains("may not publish to `$JS.API.STREAM.CREATE.orders`"),
        "{error}"
    );
    open(&all, "orders")?;
    let settings = small("orders")?.make(Make::Expect);
    let queue = block_on(StreamQueue::open(&connection, settings))?.queue();
    let error = block_on(queue.send(Message::new("1")))
        .err()
        .ok_or("sent")?;
    assert!(
        error
            .to_string()
            .contains("may not publish to `dpat.queue.orders.ready`"),
        "{error}"
    );
    assert_eq!(
        (error.class(), error.effect()),
        (Class::Permanent, Effect::NotDone)
    );
    let error = block_on(queue.receive_batch(1, Duration::ZERO))
        .err()
        .ok_or("received")?;
    assert!(
        error
            .to_string()
            .contains("may not publish to `$JS.API.CONSUMER.MSG.NEXT.orders.workers`"),
        "{error}"
    );
    Ok(())
}

fn a_payload_beyond_the_servers_limit_is_refused_at_opening(url: &str) -> Result<(), Failed> {
    let connection = connect(url)?;
    let settings = small(&name("large"))?.message_bytes_max(1 << 20);
    let error = refused(&connection, settings)?;
    assert!(matches!(error, OpenError::PayloadMax { .. }), "{error}");
    assert!(
        error
            .to_string()
            .starts_with("message_bytes_max: 1048576 is more than"),
        "{error}"
    );
    let store = store(&connection, &name("large"))?;
    let key = Key::new("", "a")?;
    let bytes = Bytes::from(vec![0; store.row_bytes_max() + 1]);
    let put = Change::Put {
        bytes,
        expires: None,
    };
    let error = block_on(store.swap(&key, None, put)).err().ok_or("put")?;
    assert_eq!(
        (error.class(), error.effect()),
        (Class::InvalidInput, Effect::NotDone)
    );
    assert!(error.to_string().contains("max_payload"), "{error}");
    Ok(())
}

/// A queue and a store, with everything between them and the server.
struct Behind {
    proxy: Proxy,
    queue: Queue,
    stream: StreamQueue,
    store: ResponseStore,
    /// The same queue, with nothing between.
    patient: Queue,
}

fn behind(url: &str, timeout: Duration) -> Result<Behind, Failed> {
    let proxy = Proxy::start(url.trim_start_matches("nats://").parse()?)?;
    let config = config(&format!("nats://{}", proxy.address()))?.request_timeout(timeout)?;
    let delays = (Duration::from_millis(1), Duration::from_millis(20));
    let config = config.reconnect_delays(delays.0, delays.1)?;
    let connection = connect_hasty(&config)?;
    // Made by somebody who has the time.
    let (straight, name) = (connect(url)?, name("behind"));
    let patient = open(&straight, &name)?.queue();
    store(&straight, &name)?;
    let (stream, store) = block_on(async {
        let settings = small(&name)?;
        let stream = loop {
            match StreamQueue::open(&connection, settings.clone()).await {
                Err(error) if error.class() == Class::Timeout => {}
                opened => break opened?,
            }
        };
        let settings = StoreSettings::new(&name)?.bytes_max(4 << 20);
        let store = loop {
            match ResponseStore::open(&connection, settings.clone()).await {
                Err(error) if error.class() == Class::Timeout => {}
                opened => break opened?,
            }
        };
        Ok::<_, Failed>((stream, store))
    })?;
    Ok(Behind {
        proxy,
        queue: stream.queue(),
        stream,
        store,
        patient,
    })
}

const LONG: Duration = Duration::from_secs(20);

/// Does `call` while answers are cut, until the answer was its own.
///
/// A server before 2.11 is asked first what is there, if that was not asked for a while: then nothing was sent. So `asks`, which is
/// not cut, comes right before.
fn cut<T, E: Classify + std::fmt::Display>(
    proxy: &Proxy,
    asks: impl Fn() -> Result<T, E>,
    call: impl Fn() -> Result<T, E>,
) -> Result<(), Failed> {
    loop {
        asks().map_err(|error| error.to_string())?;
        proxy.cut_answers(true);
        let cut = call().err().ok_or("heard of")?;
        proxy.cut_answers(false);
        assert_eq!(cut.class(), Class::Transient, "{cut}");
        if cut.effect() == Effect::Unknown {
            return Ok(());
        }
    }
}

fn a_send_whose_answer_is_cut_is_unknown_and_sent_once(url: &str) -> Result<(), Failed> {
    let behind = behind(url, LONG)?;
    let send = |text: &'static str| block_on(behind.queue.send(Message::new(text).dedup(text)));
    cut(&behind.proxy, || send("0"), || send("1"))?;
    assert!(send("1")?.is_duplicate(), "the first one arrived");
    assert_eq!(block_on(behind.stream.status())?.messages, 2);
    Ok(())
}

fn a_settlement_whose_answer_is_cut_is_unknown_and_can_be_repeated(
    url: &str,
) -> Result<(), Failed> {
    let behind = behind(url, LONG)?;
    let queue = &behind.queue;
    block_on(queue.send(Message::new("1")))?;
    let delivery = block_on(queue.receive())?;
    behind.proxy.cut_answers(true);
    let settled = block_on(queue.settle(delivery.receipt, Outcome::Done));
    let cut = settled.err().ok_or("heard of")?;
    assert_eq!(
        (cut.class(), cut.effect()),
        (Class::Transient, Effect::Unknown),
        "{cut}"
    );
    behind.proxy.cut_answers(false);
    block_on(queue.settle(delivery.receipt, Outcome::Done))?;
    assert_eq!(block_on(behind.stream.status())?.messages, 0);
    Ok(())
}

fn a_swap_whose_answer_is_cut_is_unknown_and_there(url: &str) -> Result<(), Failed> {
    let behind = behind(url, LONG)?;
    let (key, other) = (Key::new("orders", "7")?, Key::new("orders", "8")?);
    let swap = |key: &Key| {
        let bytes = "row".into();
        let put = Change::Put {
            bytes,
            expires: None,
        };
        block_on(behind.store.swap(key, None, put))
    };
    cut(&behind.proxy, || swap(&other), || swap(&key))?;
    assert_eq!(swap(&key)?, Swap::Conflict);
    let row = block_on(behind.store.load(&key))?.ok_or("gone")?;
    assert_eq!(row.bytes, "row");
    Ok(())
}

fn a_stalled_connection_ends_calls_of_queues_and_stores_at_their_deadline(
    url: &str,
) -> Result<(), Failed> {
    let behind = behind(url, SHORT)?;
    let queue = &behind.queue;
    block_on(behind.patient.send(Message::new("1")))?;
    let delivery = block_on(behind.patient.receive())?;
    behind.proxy.stall(true);
    let sent = block_on(queue.send(Message::new("2")))
        .err()
        .ok_or("sent")?;
    assert_eq!(
        (sent.class(), sent.effect()),
        (Class::Timeout, Effect::Unknown),
        "{sent}"
    );
    let settled = block_on(queue.settle(delivery.receipt, Outcome::Done));
    let settled = settled.err().ok_or("settled")?;
    assert_eq!(
        (settled.class(), settled.effect()),
        (Class::Timeout, Effect::Unknown),
        "{settled}"
    );
    let received = block_on(queue.receive_batch(1, SHORT))
        .err()
        .ok_or("received")?;
    assert_eq!(
        (received.class(), received.effect()),
        (Class::Timeout, Effect::Unknown),
        "{received}"
    );
    let key = Key::new("", "a")?;
    let loaded = block_on(behind.store.load(&key)).err().ok_or("loaded")?;
    assert_eq!(loaded.class(), Class::Timeout, "{loaded}");
    let swapped = block_on(behind.store.swap(
        &key,
        None,
        Change::Put {
            bytes: "1".into(),
            expires: None,
        },
    ));
    let swapped = swapped.err().ok_or("swapped")?;
    assert_eq!(
        (swapped.class(), swapped.effect()),
        (Class::Timeout, Effect::Unknown),
        "{swapped}"
    );
    Ok(())
}

fn without_a_connection_nothing_is_done_and_calls_end(url: &str) -> Result<(), Failed> {
    let behind = behind(url, SHORT)?;
    behind.proxy.refuse(true);
    behind.proxy.cut();
    // The first ones may still meet the connection that goes.
    let refused = loop {
        let sent = block_on(behind.queue.send(Message::new("1")));
        let error = sent.err().ok_or("sent")?;
        if error.class() == Class::Unavailable {
            break error;
        }
    };
    assert_eq!(refused.effect(), Effect::NotDone, "{refused}");
    assert!(
        refused
            .to_string()
            .contains("request_timeout: no connection within"),
        "{refused}"
    );
    let received = block_on(behind.queue.receive_batch(1, Duration::ZERO))
        .err()
        .ok_or("received")?;
    assert_eq!(received.class(), Class::Unavailable, "{received}");
    behind.proxy.refuse(false);
    // It comes back by itself.
    while block_on(behind.queue.send(Message::new("2"))).is_err() {}
    Ok(())
}

fn a_waiting_receive_goes_on_when_the_connection_comes_back(url: &str) -> Result<(), Failed> {
    let behind = behind(url, LONG)?;
    let waits = behind.queue.receive_batch(1, Duration::from_secs(60));
    let cuts = async {
        while behind.stream.status().await?.waiting == 0 {
            tokio::task::yield_now().await;
        }
        behind.proxy.cut();
        while behind.queue.send(Message::new("1")).await.is_err() {}
        Ok::<_, Failed>(())
    };
    let (received, cut) = block_on(async { tokio::join!(waits, cuts) });
    cut?;
    assert_eq!(received?.len(), 1);
    Ok(())
}

fn what_is_handed_out_too_often_is_a_dead_letter(url: &str) -> Result<(), Failed> {
    let connection = connect(url)?;
    let settings = small(&name("often"))?.deliveries_max(2);
    let queue = block_on(StreamQueue::open(&connection, settings))?.queue();
    block_on(async {
        queue.send(Message::new("poison")).await?;
        for count in 1..=2 {
            let delivery = queue.receive().await?;
            assert_eq!(delivery.count, count);
            queue.settle(delivery.receipt, Outcome::release()).await?;
        }
        assert_eq!(queue.receive_batch(1, Duration::ZERO).await?.len(), 0);
        let letters = queue.dead_letters(None, 10).await?;
        let told: Vec<_> = letters
            .iter()
            .map(|one| (&*one.reason, one.message.payload()))
            .collect();
        assert_eq!(told, [("handed out 2 times", &Bytes::from("poison"))]);
        Ok(())
    })
}

fn a_delivery_that_comes_twice_has_its_effect_once(url: &str) -> Result<(), Failed> {
    let connection = connect(url)?;
    let queue = open(&connection, &name("once"))?.queue();
    let store = AnyStore::new(store(&connection, &name("once"))?);
    let leases = dpat_nats::dpat_idempotency::Config::default();
    let responses = Responses::new(leases, store, SystemClock, SystemEntropy);
    let mut effects = 0;
    block_on(queue.send(Message::new("7")))?;
    for turn in 0..2 {
        let delivery = block_on(queue.receive())?;
        let key = Key::new("effects", std::str::from_utf8(delivery.payload())?)?;
        match block_on(responses.begin(&key, Fingerprint::NONE))? {
            Begun::First(claim) => {
                effects += 1;
                block_on(claim.complete(Bytes::from_static(b"done")))?;
            }
            Begun::Replay(response) => assert_eq!((turn, response), (1, Bytes::from("done"))),
        }
        if turn == 1 {
            block_on(queue.settle(delivery.receipt, Outcome::Done))?;
        } else {
            // The worker dies before it settles.
            pass(2 * LEASE);
        }
    }
    assert_eq!(effects, 1);
    Ok(())
}

fn a_full_store_refuses_new_keys(url: &str) -> Result<(), Failed> {
    let connection = connect(url)?;
    let settings = StoreSettings::new(&name("full"))?
        .bytes_max(4 << 20)
        .rows_max(2);
    let store = block_on(ResponseStore::open(&connection, settings))?;
    let put = |text: &'static str| Change::Put {
        bytes: text.into(),
        expires: Some(Wall::from_nanos(10)),
    };
    block_on(async {
        let (a, b, c) = (Key::new("", "a")?, Key::new("", "b")?, Key::new("", "c")?);
        for key in [&a, &b] {
            assert_eq!(store.swap(key, None, put("1")).await?, Swap::Done);
        }
        let full = store.swap(&c, None, put("1")).await.err().ok_or("put")?;
        assert_eq!(
            (full.class(), full.effect()),
            (Class::Overloaded, Effect::NotDone)
        );
        assert!(
            full.to_string().starts_with("rows_max: the limit of 2"),
            "{full}"
        );
        let row = store.load(&a).await?.ok_or("gone")?;
        assert_eq!(
            store.swap(&a, Some(row.version), put("2")).await?,
            Swap::Done
        );
        assert_eq!(store.purge(Wall::from_nanos(10), 1).await?, 1);
        assert_eq!(store.swap(&c, None, put("1")).await?, Swap::Done);
        Ok(())
    })
}

fn a_message_of_another_program_is_a_message(url: &str) -> Result<(), Failed> {
    let (connection, name) = (connect(url)?, name("theirs"));
    let queue = open(&connection, &name)?.queue();
    block_on(async {
        let client = async_nats::connect(url).await?;
        let mut headers = async_nats::HeaderMap::new();
        headers.append("b", "2");
        headers.append("a", "1");
        let subject = format!("dpat.queue.{name}.ready");
        client
            .publish_with_headers(subject, headers, "theirs".into())
            .await?;
        client.flush().await?;
        let delivery = queue.receive().await?;
        assert_eq!(delivery.payload(), "theirs");
        let pair = |name: &str, value: &'static str| (name.to_owned(), Bytes::from(value));
        assert_eq!(delivery.headers(), [pair("a", "1"), pair("b", "2")]);
        assert!(delivery.sent_at > Wall::from_nanos(0));
        queue
            .settle(
                delivery.receipt,
                Outcome::Reject {
                    reason: "theirs".to_owned(),
                },
            )
            .await?;
        assert_eq!(queue.dead_letters(None, 10).await?.len(), 1);
        Ok(())
    })
}

fn a_message_comes_again_when_its_server_slept_longer_than_the_lease(
    server: Server,
) -> Result<(), Failed> {
    let connection = connect(&server.url())?;
    let queue = open(&connection, "sleeps")?.queue();
    block_on(queue.send(Message::new("1")))?;
    let first = block_on(queue.receive())?;
    server.pause();
    pass(2 * LEASE);
    server.resume();
    let second = block_on(queue.receive())?;
    assert_eq!((second.id(), second.count), (first.id(), 2));
    block_on(queue.settle(second.receipt, Outcome::Done))?;
    Ok(())
}
