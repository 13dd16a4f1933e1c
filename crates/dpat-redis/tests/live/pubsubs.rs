//! The laws of publish–subscribe, and breaks of the connection.

use std::net::SocketAddr;
use std::time::Duration;

use dpat_core::{Class, Classify, Effect, TokioTime};
use dpat_pubsub::conformance::Harness;
use dpat_pubsub::{Delivery, Draft, Overflow, PubSub, PublishError, Subscription};
use dpat_redis::{ChannelHub, Config};
use dpat_testkit::live::{Law, Live, conformance};
use dpat_testkit::proxy::Proxy;
use dpat_testkit::servers::Server;
use libtest_mimic::{Failed, Trial};

use crate::kit::{self, Admin, run, url};

struct OnServer;

impl Harness for OnServer {
    type Time = TokioTime;

    fn hub(&self) -> PubSub {
        hub(&kit::config(&url()))
    }

    fn retaining(&self, _: &str, _: usize) -> Option<PubSub> {
        None
    }

    fn prefix(&self) -> String {
        kit::name().replace('.', "-")
    }

    fn time(&self) -> TokioTime {
        TokioTime
    }

    fn block_on<F: Future>(&self, future: F) -> F::Output {
        run(async {
            tokio::time::timeout(Duration::from_secs(60), future)
                .await
                .unwrap()
        })
    }
}

fn hub(config: &Config) -> PubSub {
    run(ChannelHub::open(config)).unwrap().hub()
}

fn suite() -> Vec<Law> {
    let hub = OnServer.hub();
    let (capabilities, largest) = (hub.capabilities(), hub.payload_bytes_max());
    let laws = dpat_pubsub::conformance::laws::<OnServer>().into_iter();
    let laws = laws.map(|(name, law)| {
        let declared = dpat_pubsub::conformance::declared(name, capabilities, largest);
        Law::new(name, declared.offered, declared.note, move || {
            law(&OnServer).map_err(|violation| violation.to_string())
        })
    });
    laws.collect()
}

pub(crate) fn redis_keeps_the_laws_of_pubsub(live: &Live) -> Trial {
    // The suite asks the server what it offers: when it runs, not when it is listed.
    live.trial("redis_keeps_the_laws_of_pubsub", |_| {
        conformance("redis", "pubsub", suite())
    })
}

pub(crate) fn trials(live: &Live) -> Vec<Trial> {
    vec![
        redis_keeps_the_laws_of_pubsub(live),
        live.trial(
            "letters_that_patterns_mean_something_by_are_letters",
            letters_that_patterns_mean_something_by_are_letters,
        ),
        live.trial(
            "a_message_comes_once_to_each_of_overlapping_filters",
            a_message_comes_once_to_each_of_overlapping_filters,
        ),
        live.trial(
            "a_message_of_somebody_else_is_a_gap",
            a_message_of_somebody_else_is_a_gap,
        ),
        live.trial(
            "a_slow_subscriber_is_told_what_it_lost",
            a_slow_subscriber_is_told_what_it_lost,
        ),
        live.trial(
            "a_broken_connection_is_told_and_subscribed_again",
            a_broken_connection_is_told_and_subscribed_again,
        ),
        live.faults(
            "a_subscription_outlives_its_server",
            a_subscription_outlives_its_server,
        ),
        live.faults(
            "a_hub_without_permission_is_told_so",
            a_hub_without_permission_is_told_so,
        ),
    ]
}

async fn next(subscription: &mut Subscription) -> Result<String, Failed> {
    let delivery = tokio::time::timeout(Duration::from_secs(60), subscription.recv()).await??;
    Ok(match delivery {
        Delivery::Message(message) => String::from_utf8(message.payload().to_vec())?,
        Delivery::Lagged(lost) => format!("lost {lost}"),
    })
}

fn letters_that_patterns_mean_something_by_are_letters(url: &str) -> Result<(), Failed> {
    let hub = hub(&kit::config(url));
    run(async {
        for (filter, others) in [
            ("a?.*", "ab.x"),
            ("[ab].>", "a.x"),
            ("a\\.*", "a.x"),
            ("[^a].*", "b.x"),
        ] {
            let mut subscription = hub.subscribe(filter).await?;
            hub.publish(others, "other").await?;
            hub.publish(filter.replace(['*', '>'], "x"), "own").await?;
            assert_eq!(next(&mut subscription).await?, "own", "{filter}");
        }
        Ok(())
    })
}

fn a_message_comes_once_to_each_of_overlapping_filters(url: &str) -> Result<(), Failed> {
    let hub = hub(&kit::config(url));
    run(async {
        let mut all = Vec::new();
        for filter in ["a.b", "a.*", "a.>", ">", "*.b", "a.b"] {
            all.push(hub.subscribe(filter).await?);
        }
        for text in ["1", "2", "3"] {
            hub.publish("a.b", text).await?;
        }
        for subscription in &mut all {
            for text in ["1", "2", "3"] {
                assert_eq!(next(subscription).await?, text);
            }
        }
        Ok(())
    })
}

fn a_message_of_somebody_else_is_a_gap(url: &str) -> Result<(), Failed> {
    let name = kit::name();
    let hub = hub(&Config::new(url, name.as_str())?);
    let mut subscription = run(hub.subscribe("a").into_future())?;
    Admin::new(url).run(&["PUBLISH", &format!("dpat:{{{name}}}:pubsub:a"), "plain"]);
    assert_eq!(run(next(&mut subscription))?, "lost 1");
    Ok(())
}

fn a_slow_subscriber_is_told_what_it_lost(url: &str) -> Result<(), Failed> {
    let hub = hub(&kit::config(url));
    run(async {
        let slow = hub
            .subscribe("a")
            .capacity(2)
            .overflow(Overflow::DropNewest);
        let mut slow = slow.await?;
        let mut quick = hub.subscribe("a").await?;
        for number in 0..5 {
            hub.publish("a", number.to_string()).await?;
        }
        for number in 0..5 {
            // What is here has come to the other one, too: first come, first entered.
            assert_eq!(next(&mut quick).await?, number.to_string());
        }
        let mut seen = Vec::new();
        for _ in 0..3 {
            seen.push(next(&mut slow).await?);
        }
        assert_eq!(seen, ["0", "1", "lost 3"]);
        Ok(())
    })
}

fn through(proxy: &Proxy) -> Result<Config, Failed> {
    Ok(Config::new(
        &format!("redis://{}/", proxy.address()),
        kit::name(),
    )?)
}

fn address(url: &str) -> Result<SocketAddr, Failed> {
    let host = url.trim_start_matches("redis://").trim_end_matches('/');
    Ok(host.parse()?)
}

/// Publishes until the subscription is there again.
async fn until_heard(hub: &PubSub, subscription: &mut Subscription) -> Result<(), Failed> {
    let give_up = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        assert!(
            tokio::time::Instant::now() < give_up,
            "it is not subscribed again"
        );
        // Its own connection may be broken, too.
        let published = hub.publish("a.b", "again").await;
        let heard = tokio::time::timeout(Duration::from_millis(50), next(subscription)).await;
        match heard {
            Ok(Ok(text)) if text == "again" => return Ok(()),
            Ok(Ok(text)) => assert_eq!(text, "lost 0"),
            Ok(Err(error)) => return Err(error),
            Err(_) => drop(published),
        }
    }
}

fn a_broken_connection_is_told_and_subscribed_again(url: &str) -> Result<(), Failed> {
    let proxy = Proxy::start(address(url)?)?;
    let hub = hub(&through(&proxy)?);
    run(async {
        let mut by_pattern = hub.subscribe("a.*").await?;
        let mut by_name = hub.subscribe("a.b").await?;
        for round in 0..3 {
            hub.publish("a.b", round.to_string()).await?;
            for subscription in [&mut by_pattern, &mut by_name] {
                let mut text = next(subscription).await?;
                while text == "again" {
                    text = next(subscription).await?;
                }
                assert_eq!(text, round.to_string());
            }
            proxy.cut();
            for subscription in [&mut by_pattern, &mut by_name] {
                assert_eq!(next(subscription).await?, "lost 0", "the gap is told");
            }
            until_heard(&hub, &mut by_pattern).await?;
            until_heard(&hub, &mut by_name).await?;
        }
        Ok(())
    })
}

fn a_subscription_outlives_its_server(mut server: Server) -> Result<(), Failed> {
    let config = Config::new(&server.url(), "a")?;
    let hub = hub(&config);
    let mut subscription = run(hub.subscribe("a.b").into_future())?;
    server.kill();
    assert_eq!(run(next(&mut subscription))?, "lost 0");
    let error = run(hub.publish("a.b", "gone")).unwrap_err();
    assert!(error.class().is_retryable(), "{error}");
    server.restart()?;
    run(until_heard(&hub, &mut subscription))
}

fn a_hub_without_permission_is_told_so(server: Server) -> Result<(), Failed> {
    let admin = Admin::new(&server.url());
    let url = format!("redis://limited:secret@127.0.0.1:{}/", server.port());
    let set = [
        "ACL",
        "SETUSER",
        "limited",
        "reset",
        "on",
        ">secret",
        "&dpat:{a}:*",
    ];
    let grants = [
        "+info",
        "+config|get",
        "+publish",
        "+subscribe",
        "+psubscribe",
        "+unsubscribe",
        "+punsubscribe",
        "+ping",
    ];
    admin.run(&[&set[..], &grants].concat());
    let allowed = hub(&Config::new(&url, "a")?);
    let mut subscription = run(allowed.subscribe("x").into_future())?;
    run(allowed.publish("x", Draft::new("1")))?;
    assert_eq!(run(next(&mut subscription))?, "1");
    let forbidden = hub(&Config::new(&url, "b")?);
    let error = run(forbidden.publish("x", "1")).unwrap_err();
    assert!(matches!(error, PublishError::Backend(_)), "{error}");
    assert_eq!(
        (error.class(), error.effect()),
        (Class::Permanent, Effect::NotDone)
    );
    assert!(error.to_string().contains("ACL SETUSER"), "{error}");
    let error = run(forbidden.subscribe("x").into_future()).unwrap_err();
    assert_eq!(
        (error.class(), error.effect()),
        (Class::Permanent, Effect::NotDone),
        "{error}"
    );
    Ok(())
}
