//! Futures that are dropped wherever they wait.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use dpat_nats::dpat_idempotency::{Inserted, Key, Store as _};
use dpat_nats::dpat_pubsub::Delivery;
use dpat_nats::dpat_queue::{Message, Outcome};
use dpat_nats::{Connection, CorePubSub, ResponseStore, StoreSettings, StreamQueue};
use dpat_testkit::live::Live;
use libtest_mimic::{Failed, Trial};

use super::faults::small;
use super::kit::{block_on, config, connect, name, trials};

/// More than any of the futures waits.
const AWAITS_MAX: usize = 200;
const LONG: Duration = Duration::from_secs(20);

pub(crate) fn trials(live: &Live) -> Vec<Trial> {
    trials!(
        live,
        trial an_opening_may_be_dropped_at_every_await_and_repeated,
        trial a_send_may_be_dropped_at_every_await_and_is_made_once,
        trial a_receive_may_be_dropped_at_every_await_and_loses_nothing,
        trial a_settlement_may_be_dropped_at_every_await_and_repeated,
        trial a_swap_may_be_dropped_at_every_await_and_is_made_or_not,
        trial a_publish_may_be_dropped_at_every_await_and_comes_once_at_most,
        trial a_subscription_may_be_dropped_at_every_await_and_a_recv_loses_nothing,
    )
}

/// Polls a future so often, each time it is woken, and drops it then; its output if it came to that.
pub(crate) async fn polled<F: Future>(future: F, times: usize) -> Option<F::Output> {
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

/// Tries with one poll more each time, until it says that the future came to its end.
fn each(mut attempt: impl AsyncFnMut(usize) -> Result<bool, Failed>) -> Result<(), Failed> {
    for times in 0..AWAITS_MAX {
        // One that ends when it is polled once has not waited: this thread was slower than the server.
        if block_on(attempt(times))? && times > 1 {
            return Ok(());
        }
    }
    Err("it does not end".into())
}

fn an_opening_may_be_dropped_at_every_await_and_repeated(url: &str) -> Result<(), Failed> {
    let config = config(url)?;
    each(async |times| {
        let opened = polled(Connection::open(&config), times).await;
        Ok(opened.transpose()?.is_some())
    })?;
    let connection = connect(url)?;
    each(async |times| {
        let settings = small(&name("dropped"))?;
        let opened = polled(StreamQueue::open(&connection, settings.clone()), times).await;
        let queue = StreamQueue::open(&connection, settings).await?.queue();
        queue.send(Message::new("1")).await?;
        assert_eq!(queue.receive().await?.payload(), "1");
        Ok(opened.transpose()?.is_some())
    })?;
    each(async |times| {
        let settings = StoreSettings::new(&name("dropped"))?.bytes_max(4 << 20);
        let opened = polled(ResponseStore::open(&connection, settings.clone()), times).await;
        let store = ResponseStore::open(&connection, settings).await?;
        assert_eq!(store.load(&Key::new("", "a")?).await?, None);
        Ok(opened.transpose()?.is_some())
    })
}

fn a_send_may_be_dropped_at_every_await_and_is_made_once(url: &str) -> Result<(), Failed> {
    let connection = connect(url)?;
    let stream = block_on(StreamQueue::open(&connection, small(&name("dropped"))?))?;
    let queue = stream.queue();
    each(async |times| {
        let message = || Message::new("1").dedup(times.to_string());
        let sent = polled(queue.send(message()), times).await;
        let again = queue.send(message()).await?;
        assert_eq!(stream.status().await?.messages, times as u64 + 1);
        match sent {
            None => Ok(false),
            Some(sent) => {
                assert!(!sent?.is_duplicate() && again.is_duplicate());
                Ok(true)
            }
        }
    })
}

fn a_receive_may_be_dropped_at_every_await_and_loses_nothing(url: &str) -> Result<(), Failed> {
    let connection = connect(url)?;
    let stream = block_on(StreamQueue::open(&connection, small(&name("dropped"))?))?;
    let queue = stream.queue();
    each(async |times| {
        queue.send(Message::new(times.to_string())).await?;
        let (delivery, ended) = match polled(queue.receive(), times).await {
            Some(delivery) => (delivery?, true),
            // When its lease ends, if it was on its way.
            None => (queue.receive().await?, false),
        };
        assert_eq!(delivery.payload(), times.to_string().as_str());
        queue.settle(delivery.receipt, Outcome::Done).await?;
        assert_eq!(stream.status().await?.messages, 0);
        Ok(ended)
    })
}

fn a_settlement_may_be_dropped_at_every_await_and_repeated(url: &str) -> Result<(), Failed> {
    let connection = connect(url)?;
    let settings = small(&name("dropped"))?.visibility(LONG);
    let stream = block_on(StreamQueue::open(&connection, settings))?;
    let queue = stream.queue();
    each(async |times| {
        queue.send(Message::new("1")).await?;
        let receipt = queue.receive().await?.receipt;
        let settled = polled(queue.settle(receipt, Outcome::Done), times).await;
        queue.settle(receipt, Outcome::Done).await?;
        assert_eq!(stream.status().await?.messages, 0);
        Ok(settled.transpose()?.is_some())
    })
}

fn a_swap_may_be_dropped_at_every_await_and_is_made_or_not(url: &str) -> Result<(), Failed> {
    let connection = connect(url)?;
    let settings = StoreSettings::new(&name("dropped"))?.bytes_max(4 << 20);
    let store = block_on(ResponseStore::open(&connection, settings))?;
    each(async |times| {
        let key = Key::new("dropped", &times.to_string())?;
        let inserted = polled(store.insert(&key, "1".into(), None), times).await;
        match store.insert(&key, "1".into(), None).await? {
            Inserted::New(_) => assert!(inserted.is_none()),
            Inserted::Found(row) => assert_eq!(row.ok_or("gone")?.bytes, "1"),
        }
        let row = store.load(&key).await?.ok_or("gone")?;
        assert_eq!(row.bytes, "1");
        let loaded = polled(store.load(&key), times).await;
        assert!(loaded.transpose()?.is_none_or(|loaded| loaded == Some(row)));
        Ok(inserted.transpose()?.is_some())
    })
}

fn a_publish_may_be_dropped_at_every_await_and_comes_once_at_most(url: &str) -> Result<(), Failed> {
    let connection = connect(url)?;
    let hub = CorePubSub::new(&connection).hub();
    let subject = name("dropped");
    block_on(async {
        let mut all = hub.subscribe(subject.as_str()).await?;
        // It does not wait once there is a connection: twice is enough.
        for times in 0..2 {
            let published = polled(hub.publish(subject.as_str(), "1"), times).await;
            let published = published.transpose()?.is_some();
            hub.publish(subject.as_str(), "end").await?;
            let mut came = 0;
            loop {
                match all.recv().await? {
                    Delivery::Message(message) if message.payload() == "1" => came += 1,
                    Delivery::Message(_) => break,
                    Delivery::Lagged(lost) => return Err(format!("{lost} lost").into()),
                }
            }
            assert_eq!(came, u32::from(published));
        }
        Ok(())
    })
}

fn a_subscription_may_be_dropped_at_every_await_and_a_recv_loses_nothing(
    url: &str,
) -> Result<(), Failed> {
    let connection = connect(url)?;
    let hub = CorePubSub::new(&connection).hub();
    each(async |times| {
        let subject = name("dropped");
        let subscribed = polled(hub.subscribe(subject.as_str()).into_future(), times).await;
        let subscribed = subscribed.transpose()?;
        let mut all = hub.subscribe(subject.as_str()).await?;
        assert!(polled(all.recv(), times.min(1)).await.is_none());
        for payload in ["1", "2"] {
            hub.publish(subject.as_str(), payload).await?;
        }
        for payload in ["1", "2"] {
            // As often as it takes: what was not returned is still there.
            let next = loop {
                if let Some(next) = polled(all.recv(), times).await {
                    break next?;
                }
                if times == 0 {
                    break all.recv().await?;
                }
            };
            match next {
                Delivery::Message(message) => assert_eq!(message.payload(), payload),
                Delivery::Lagged(lost) => return Err(format!("{lost} lost").into()),
            }
        }
        Ok(subscribed.is_some())
    })
}
