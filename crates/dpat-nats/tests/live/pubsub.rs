//! Publish-subscribe on core NATS.

use std::collections::BTreeSet;
use std::future::Future;
use std::time::Duration;

use dpat_core::{Class, Classify as _, Effect, Sleep as _, TokioTime};
use dpat_nats::dpat_pubsub::conformance::{Harness, declared, laws};
use dpat_nats::dpat_pubsub::{Delivery, Draft, PubSub, RequestError, Subscription};
use dpat_nats::{Connection, CorePubSub, async_nats};
use dpat_testkit::live::{Law, Live, conformance};
use futures_util::StreamExt as _;
use libtest_mimic::{Failed, Trial};

use super::kit::{block_on, config, connect, name, trials};

#[derive(Clone)]
struct Hubs {
    url: String,
}

impl Harness for Hubs {
    type Time = TokioTime;

    fn hub(&self) -> PubSub {
        let connection = connect(&self.url).expect("a server that is there");
        CorePubSub::new(&connection).hub()
    }

    fn retaining(&self, _: &str, _: usize) -> Option<PubSub> {
        None
    }

    fn prefix(&self) -> String {
        name("pubsub")
    }

    fn time(&self) -> TokioTime {
        TokioTime
    }

    fn block_on<F: Future>(&self, future: F) -> F::Output {
        block_on(future)
    }
}

fn suite() -> Vec<Law> {
    let url = std::env::var("DPAT_NATS_URL").unwrap_or_default();
    let connection = connect(&url).expect("a server that is there");
    let hub = CorePubSub::new(&connection).hub();
    let (offered, largest) = (hub.capabilities(), hub.payload_bytes_max());
    let laws = laws::<Hubs>().into_iter().map(|(name, law)| {
        let told = declared(name, offered, largest);
        let harness = Hubs { url: url.clone() };
        Law::new(name, told.offered, told.note, move || {
            law(&harness).map_err(|violation| violation.to_string())
        })
    });
    laws.collect()
}

pub(crate) fn trials(live: &Live) -> Vec<Trial> {
    let mut all = vec![nats_keeps_the_laws_of_pubsub(live)];
    all.extend(trials!(
        live,
        trial a_request_without_responders_is_told_at_once,
        trial a_group_shares_its_messages_among_connections,
        trial headers_of_other_programs_come_and_ours_are_theirs,
        trial what_is_lost_before_the_buffer_is_told,
        trial a_slow_subscriber_is_told_how_many_it_lost,
        trial a_subscriber_that_stops_reading_is_told_how_many_it_lost,
        trial what_is_larger_than_the_server_takes_is_refused_as_not_done,
    ));
    all
}

fn nats_keeps_the_laws_of_pubsub(live: &Live) -> Trial {
    // The suite asks the server what it offers: when it runs, not when it is listed.
    live.trial("nats_keeps_the_laws_of_pubsub", |_| {
        conformance("nats", "pubsub", suite())
    })
}

fn hub(url: &str) -> Result<PubSub, Failed> {
    Ok(CorePubSub::new(&connect(url)?).hub())
}

fn a_request_without_responders_is_told_at_once(url: &str) -> Result<(), Failed> {
    let hub = hub(url)?;
    // Longer than the test may take.
    let requester = hub.requester(TokioTime).timeout(Duration::from_secs(600));
    let alone = block_on(requester.request(name("alone"), "anybody?"));
    assert!(
        matches!(alone, Err(RequestError::NoResponders)),
        "{alone:?}"
    );
    Ok(())
}

fn a_group_shares_its_messages_among_connections(url: &str) -> Result<(), Failed> {
    const MESSAGES: usize = 100;
    let (one, other, publisher) = (hub(url)?, hub(url)?, hub(url)?);
    let subject = name("group");
    block_on(async {
        let mut one = one.subscribe(&subject).group("workers").await?;
        let mut other = other.subscribe(&subject).group("workers").await?;
        for number in 0..MESSAGES {
            publisher.publish(&subject, number.to_string()).await?;
        }
        let mut seen = BTreeSet::new();
        while seen.len() < MESSAGES {
            let delivery = tokio::select! {
                delivery = one.recv() => delivery?,
                delivery = other.recv() => delivery?,
            };
            let message = delivery.message().ok_or("a lag")?;
            assert!(
                seen.insert(message.payload().clone()),
                "{message:?} came twice"
            );
        }
        let (one, other) = (one.stats().accepted, other.stats().accepted);
        assert_eq!(one + other, MESSAGES as u64);
        Ok(())
    })
}

fn headers_of_other_programs_come_and_ours_are_theirs(url: &str) -> Result<(), Failed> {
    let hub = hub(url)?;
    let subject = name("headers");
    block_on(async {
        let foreign = async_nats::connect(url).await?;
        let mut theirs = foreign.subscribe(subject.clone()).await?;
        foreign.flush().await?;
        let mut ours = hub.subscribe(&subject).await?;
        let draft = Draft::new("ours")
            .header("trace", "7")
            .header("kind", " order ");
        hub.publish(&subject, draft).await?;
        let message = theirs.next().await.ok_or("ended")?;
        let headers = message.headers.ok_or("no headers")?;
        assert_eq!(headers.get("trace").map(|value| value.as_str()), Some("7"));
        let own = ours.recv().await?.message().ok_or("a lag")?;
        let pairs: Vec<_> = own.headers().collect();
        assert_eq!(pairs, [("trace", "7"), ("kind", " order ")]);
        let mut headers = async_nats::HeaderMap::new();
        headers.append("b", "2");
        headers.append("a", "1");
        let payload = "theirs".into();
        foreign
            .publish_with_headers(subject.clone(), headers, payload)
            .await?;
        // Twice as many tokens as a subject of ours has.
        let far = ["a"; 64].join(".");
        let payload = "no reply".into();
        foreign
            .publish_with_reply(subject.clone(), far, payload)
            .await?;
        let got = ours.recv().await?.message().ok_or("a lag")?;
        assert_eq!(got.headers().collect::<Vec<_>>(), [("a", "1"), ("b", "2")]);
        assert_eq!(ours.recv().await?, Delivery::Lagged(1));
        Ok(())
    })
}

/// Reads until so many messages came or were told to be lost; returns how many came, and how many are lost.
async fn count(subscription: &mut Subscription, all: u64) -> Result<(u64, u64), Failed> {
    let (mut came, mut lost) = (0, 0);
    while came + lost < all {
        match subscription.recv().await? {
            Delivery::Message(message) if &message.payload()[..] == b"end" => break,
            Delivery::Message(_) => came += 1,
            Delivery::Lagged(count) => lost += count,
        }
    }
    Ok((came, lost))
}

/// The room between socket and buffer is one message, so that a burst does not fit.
fn what_is_lost_before_the_buffer_is_told(url: &str) -> Result<(), Failed> {
    const MESSAGES: u64 = 10_000;
    let config = config(url)?.client_buffer(1)?;
    let reads = CorePubSub::new(&block_on(Connection::open(&config))?).hub();
    let publisher = hub(url)?;
    let subject = name("burst");
    block_on(async {
        let mut subscription = reads.subscribe(&subject).capacity(1 << 20).await?;
        let mut rounds = 0;
        // The client may keep up with a burst, but not with all of them.
        while subscription.stats().lost == 0 {
            for number in 0..MESSAGES {
                publisher.publish(&subject, number.to_string()).await?;
            }
            rounds += 1;
            TokioTime.sleep(Duration::from_millis(20)).await;
        }
        // More were lost than the client has told of: it drops some of its own events.
        let (mut came, mut lost) = (0, 0);
        while let Some(delivery) = subscription.try_recv()? {
            match delivery {
                Delivery::Message(_) => came += 1,
                Delivery::Lagged(count) => lost += count,
            }
        }
        assert!(
            lost > 0 && came + lost <= rounds * MESSAGES,
            "{came} and {lost}"
        );
        Ok(())
    })
}

fn a_slow_subscriber_is_told_how_many_it_lost(url: &str) -> Result<(), Failed> {
    const MESSAGES: u64 = 5_000;
    let hub = hub(url)?;
    let subject = name("slow");
    block_on(async {
        let mut subscription = hub.subscribe(&subject).capacity(10).await?;
        for number in 0..MESSAGES {
            hub.publish(&subject, number.to_string()).await?;
        }
        let counts = count(&mut subscription, MESSAGES).await?;
        assert_eq!(counts.0 + counts.1, MESSAGES, "{counts:?}");
        let stats = subscription.stats();
        assert_eq!((stats.taken, stats.lost), counts);
        Ok(())
    })
}

/// It has read by itself; then nobody asks for messages, and what is too much is counted all the same.
fn a_subscriber_that_stops_reading_is_told_how_many_it_lost(url: &str) -> Result<(), Failed> {
    const MESSAGES: u64 = 5_000;
    let hub = hub(url)?;
    let subject = name("stops");
    block_on(async {
        let mut subscription = hub.subscribe(&subject).capacity(10).await?;
        hub.publish(&subject, "first").await?;
        let first = subscription.recv().await?.message().ok_or("a lag")?;
        assert_eq!(first.payload(), "first");
        for number in 0..MESSAGES {
            hub.publish(&subject, number.to_string()).await?;
        }
        while subscription.stats().lost == 0 {
            TokioTime.sleep(Duration::from_millis(1)).await;
        }
        let counts = count(&mut subscription, MESSAGES).await?;
        assert_eq!(counts.0 + counts.1, MESSAGES, "{counts:?}");
        let stats = subscription.stats();
        assert_eq!((stats.taken - 1, stats.lost), counts);
        Ok(())
    })
}

fn what_is_larger_than_the_server_takes_is_refused_as_not_done(url: &str) -> Result<(), Failed> {
    let hub = hub(url)?;
    let subject = name("large");
    let draft = Draft::new(vec![0; hub.payload_bytes_max()]).header("a", "1");
    let refused = block_on(hub.publish(&subject, draft))
        .err()
        .ok_or("published")?;
    assert_eq!(
        (refused.class(), refused.effect()),
        (Class::InvalidInput, Effect::NotDone)
    );
    assert!(refused.to_string().contains("max_payload"), "{refused}");
    Ok(())
}
