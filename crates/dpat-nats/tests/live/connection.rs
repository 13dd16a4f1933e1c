//! The connection: bad input, and servers that stall, pause, go and come back.

use std::time::Duration;

use dpat_core::{Class, Classify as _, Effect, Sleep as _, TokioTime};
use dpat_nats::dpat_pubsub::{BackendError, Closed, PublishError, SubscribeError};
use dpat_nats::{Config, ConnectError, Connection, CorePubSub, EngineError};
use dpat_testkit::live::Live;
use dpat_testkit::proxy::Proxy;
use dpat_testkit::servers::Server;
use libtest_mimic::{Failed, Trial};

use super::kit::{Configured, block_on, config, connect, connect_hasty, name, trials, until};

const SHORT: Duration = Duration::from_millis(300);

pub(crate) fn trials(live: &Live) -> Vec<Trial> {
    trials!(
        live,
        trial a_wrong_url_is_named_and_ends_in_time,
        trial a_refused_login_is_named_without_the_password,
        trial a_missing_permission_is_named_with_its_subject,
        trial an_inbox_that_may_not_be_subscribed_to_is_named,
        trial a_stalled_connection_ends_calls_at_their_deadline,
        trial a_server_that_never_greets_ends_connecting_at_its_deadline,
        faults a_paused_server_ends_calls_at_their_deadline,
        faults a_connection_comes_back_and_is_given_up_after_so_many_attempts,
        trial a_closed_connection_writes_what_waits_and_refuses_the_rest,
    )
}

fn error<T>(result: Result<T, ConnectError>) -> Result<ConnectError, Failed> {
    result.err().ok_or_else(|| "it connects".into())
}

fn a_wrong_url_is_named_and_ends_in_time(_: &str) -> Result<(), Failed> {
    // A port that was free a moment ago.
    let free = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let config = config(&format!("nats://shop:secret@{free}"))?;
    let error = error(block_on(Connection::open(&config)))?;
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{error}");
    assert_eq!(
        (error.class(), error.effect()),
        (Class::Unavailable, Effect::NotDone)
    );
    let text = format!("{error} {error:?} {config:?}");
    assert!(
        text.contains(&free.to_string()) && !text.contains("secret"),
        "{text}"
    );
    Ok(())
}

fn a_refused_login_is_named_without_the_password(_: &str) -> Result<(), Failed> {
    let server = Configured::start("authorization { user: shop, password: right }")?;
    let at = server.address;
    for url in [
        format!("nats://shop:wr0ng@{at}"),
        format!("nats://wr0ng@{at}"),
        server.url(),
    ] {
        let error = error(block_on(Connection::open(&config(&url)?)))?;
        assert!(matches!(error, ConnectError::Login { .. }), "{error}");
        let text = format!("{error} {error:?}");
        assert!(text.contains("login") && !text.contains("wr0ng"), "{text}");
    }
    connect(&format!("nats://shop:right@{at}"))?;
    let by_setting = config(&server.url())?.user_and_password("shop", "right");
    block_on(Connection::open(&by_setting))?;
    Ok(())
}

fn a_missing_permission_is_named_with_its_subject(_: &str) -> Result<(), Failed> {
    let server = Configured::start(
        "authorization { users: [ { user: shop, password: it, permissions: {
           publish: { allow: [\"orders.>\"] }, subscribe: { allow: [\"orders.>\", \"_INBOX.>\"] } } } ] }",
    )?;
    let connection = connect(&format!("nats://shop:it@{}", server.address))?;
    let hub = CorePubSub::new(&connection).hub();
    block_on(async {
        let mut allowed = hub.subscribe("orders.>").await?;
        // The client may tell of the refusal after the subscription has begun, which ends it.
        let refused: BackendError = match hub.subscribe("stock.*").await {
            Err(SubscribeError::Backend(refused)) => refused,
            Err(other) => return Err(other.into()),
            Ok(mut begun) => match begun.recv().await {
                Err(Closed::Backend(refused)) => refused,
                other => return Err(format!("{other:?}").into()),
            },
        };
        let text = "permissions: the account may not subscribe to `stock.*`";
        assert!(refused.to_string().contains(text), "{refused}");
        assert_eq!(
            (refused.class(), refused.effect()),
            (Class::Permanent, Effect::NotDone)
        );
        // The server refuses the first one later; from then on it is refused here.
        let refused = loop {
            match hub.publish("stock.eu", "1").await {
                Ok(_) => TokioTime.sleep(Duration::from_millis(5)).await,
                Err(refused) => break refused,
            }
        };
        let text = "permissions: the account may not publish to `stock.eu`";
        assert!(
            matches!(refused, PublishError::Backend(_)) && refused.to_string().contains(text),
            "{refused}"
        );
        hub.publish("orders.eu", "2").await?;
        let message = allowed.recv().await?.message().ok_or("a lag")?;
        assert_eq!(&message.payload()[..], b"2");
        Ok(())
    })
}

fn an_inbox_that_may_not_be_subscribed_to_is_named(_: &str) -> Result<(), Failed> {
    let server = Configured::start(
        "authorization { users: [ { user: shop, password: it, permissions: {
           publish: \">\", subscribe: { allow: [\"orders.>\", \"mine.>\"] } } } ] }",
    )?;
    let url = format!("nats://shop:it@{}", server.address);
    let error = error(block_on(Connection::open(&config(&url)?)))?;
    assert!(
        error
            .to_string()
            .starts_with("inbox_prefix: the account may not subscribe to `_INBOX.>`"),
        "{error}"
    );
    block_on(Connection::open(&config(&url)?.inbox_prefix("mine")?))?;
    Ok(())
}

/// A connection through a proxy, whose calls wait briefly.
fn through(proxy: &Proxy) -> Result<Connection, Failed> {
    connect_hasty(&config(&format!("nats://{}", proxy.address()))?.request_timeout(SHORT)?)
}

fn address(url: &str) -> Result<std::net::SocketAddr, Failed> {
    Ok(url.trim_start_matches("nats://").parse()?)
}

fn a_stalled_connection_ends_calls_at_their_deadline(url: &str) -> Result<(), Failed> {
    let proxy = Proxy::start(address(url)?)?;
    let hub = CorePubSub::new(&through(&proxy)?).hub();
    proxy.stall(true);
    block_on(async {
        let refused = hub.subscribe(name("a")).await.err().ok_or("subscribed")?;
        assert_eq!(refused.class(), Class::Timeout, "{refused}");
        assert!(
            refused.to_string().contains("request_timeout: "),
            "{refused}"
        );
        hub.close().await;
        Ok(())
    })
}

fn a_server_that_never_greets_ends_connecting_at_its_deadline(_: &str) -> Result<(), Failed> {
    let silent = std::net::TcpListener::bind("127.0.0.1:0")?;
    let config =
        Config::new(&format!("nats://{}", silent.local_addr()?))?.connect_timeout(SHORT)?;
    let error = error(block_on(Connection::open(&config)))?;
    assert!(matches!(error, ConnectError::Timeout { .. }), "{error}");
    assert!(
        error.to_string().starts_with("connect_timeout: "),
        "{error}"
    );
    Ok(())
}

fn a_paused_server_ends_calls_at_their_deadline(server: Server) -> Result<(), Failed> {
    let config = config(&server.url())?.request_timeout(SHORT)?;
    let hub = CorePubSub::new(&connect_hasty(&config)?).hub();
    server.pause();
    // Some of its threads may run for a moment yet.
    let refused = block_on(async {
        loop {
            if let Err(refused) = hub.subscribe("a").await {
                return refused;
            }
        }
    });
    server.resume();
    assert_eq!(refused.class(), Class::Timeout, "{refused}");
    Ok(())
}

fn a_connection_comes_back_and_is_given_up_after_so_many_attempts(
    mut server: Server,
) -> Result<(), Failed> {
    let delays = (Duration::from_millis(1), Duration::from_millis(20));
    let base = config(&server.url())?.reconnect_delays(delays.0, delays.1)?;
    let stays = block_on(Connection::open(&base))?;
    let ends = base.clone().reconnects_max(5)?.request_timeout(SHORT)?;
    let gives_up = connect_hasty(&ends)?;
    let waits = connect_hasty(&base.request_timeout(SHORT)?)?;
    let (stays, gives_up, waits) = (
        (CorePubSub::new(&stays).hub(), stays),
        (CorePubSub::new(&gives_up).hub(), gives_up),
        (CorePubSub::new(&waits).hub(), waits),
    );
    block_on(async {
        let mut subscription = stays.0.subscribe("a").await?;
        server.kill();
        until(|| !stays.1.is_connected() && !waits.1.is_connected()).await;
        let refused = waits.0.publish("a", "x").await.err().ok_or("published")?;
        assert_eq!(
            (refused.class(), refused.effect()),
            (Class::Unavailable, Effect::NotDone)
        );
        assert!(
            refused.to_string().contains("no connection within"),
            "{refused}"
        );
        // A subscription that cannot come back ends, and says so.
        let closed = EngineError::Closed.to_string();
        loop {
            match gives_up.0.publish("a", "x").await {
                Err(refused) if refused.to_string().contains(&closed) => break,
                _ => TokioTime.sleep(Duration::from_millis(5)).await,
            }
        }
        server.restart()?;
        stays.0.publish("a", "back").await?;
        let message = subscription.recv().await?.message().ok_or("a lag")?;
        assert_eq!(&message.payload()[..], b"back");
        assert!(stays.1.connects() > 1);
        let refused = gives_up
            .0
            .publish("a", "x")
            .await
            .err()
            .ok_or("published")?;
        assert!(refused.to_string().contains(&closed), "{refused}");
        Ok(())
    })
}

fn a_closed_connection_writes_what_waits_and_refuses_the_rest(url: &str) -> Result<(), Failed> {
    let (one, other) = (connect(url)?, connect(url)?);
    let (hub, reads) = (CorePubSub::new(&one).hub(), CorePubSub::new(&other).hub());
    let subject = name("closed");
    block_on(async {
        let mut subscription = reads.subscribe(&subject).await?;
        let mut own = hub.subscribe(&subject).await?;
        for number in 0..1_000 {
            hub.publish(&subject, number.to_string()).await?;
        }
        one.close().await;
        for number in 0..1_000 {
            let message = subscription.recv().await?.message().ok_or("a lag")?;
            assert_eq!(message.payload(), number.to_string().as_bytes());
        }
        let refused = hub.publish(&subject, "x").await.err().ok_or("published")?;
        assert_eq!(
            (refused.class(), refused.effect()),
            (Class::Unavailable, Effect::NotDone)
        );
        while own.recv().await.is_ok() {}
        Ok(())
    })
}
