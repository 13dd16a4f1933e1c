//! One function a law.

use super::{Harness, Violation, ensure};
use crate::config::{Capability, KeyOf, Overflow};
use crate::error::{PublishError, RequestError, SubscribeError};
use crate::message::{Delivery, Draft, Message};
use crate::pubsub::PubSub;
use crate::subscription::Subscription;
use dpat_core::{Classify, Effect};
use std::collections::BTreeSet;
use std::task::Poll;

/// Waits for the next message; a lag is a violation.
async fn next(subscription: &mut Subscription) -> Result<Message, Violation> {
    match subscription.recv().await? {
        Delivery::Message(message) => Ok(message),
        Delivery::Lagged(lost) => Err(Violation::new(format!("lost {lost} messages"))),
    }
}

fn text(message: &Message) -> String {
    String::from_utf8_lossy(message.payload()).into_owned()
}

/// Reads until the message `end`, and returns the texts before it.
async fn until(subscription: &mut Subscription, end: &str) -> Result<Vec<String>, Violation> {
    let mut texts = Vec::new();
    loop {
        let text = text(&next(subscription).await?);
        if text == end {
            return Ok(texts);
        }
        texts.push(text);
    }
}

/// Filters choose subjects as NATS says.
///
/// # Errors
/// [`Violation`].
pub fn subjects_are_matched_as_nats_does<H: Harness>(harness: &H) -> Result<(), Violation> {
    let (hub, prefix) = (harness.hub(), harness.prefix());
    let filters = [
        "a", "a.b", "a.*", "a.>", "*", "*.b", "*.*", ">", "a.*.c", "*.b.>",
    ];
    let subjects = [
        "a", "b", "a.b", "a.c", "b.b", "a.b.c", "a.c.c", "b.b.c", "a.b.c.d",
    ];
    harness.block_on(async {
        let mut subscriptions = Vec::new();
        for filter in filters {
            subscriptions.push(hub.subscribe(format!("{prefix}.{filter}")).await?);
            // For the end of what comes, under a subject that each filter matches.
        }
        for subject in subjects {
            hub.publish(format!("{prefix}.{subject}"), subject).await?;
        }
        let ends = [
            "a", "a.b", "a.b", "a.b", "a", "a.b", "a.b", "a", "a.b.c", "a.b.c",
        ];
        for ((filter, end), subscription) in filters.iter().zip(ends).zip(&mut subscriptions) {
            hub.publish(format!("{prefix}.{end}"), "end").await?;
            let got: Vec<_> = until(subscription, "end").await?;
            let wanted: Vec<_> = subjects
                .iter()
                .filter(|subject| matches(filter, subject))
                .map(|subject| (*subject).to_owned())
                .collect();
            // Later ends may be among them.
            let got: Vec<_> = got.into_iter().filter(|text| text != "end").collect();
            ensure!(got == wanted, "{filter} got {got:?}, not {wanted:?}");
        }
        Ok(())
    })
}

/// The meaning of filters, once more and by hand.
fn matches(filter: &str, subject: &str) -> bool {
    let (filter, subject): (Vec<_>, Vec<_>) =
        (filter.split('.').collect(), subject.split('.').collect());
    let open = filter.last() == Some(&">");
    let fixed = if open { filter.len() - 1 } else { filter.len() };
    let long_enough = if open {
        subject.len() > fixed
    } else {
        subject.len() == fixed
    };
    let same = |(one, other): (&&str, &&str)| *one == "*" || one == other;
    long_enough && filter[..fixed].iter().zip(&subject).all(same)
}

/// A subscription begins when it was made.
///
/// # Errors
/// [`Violation`].
pub fn nothing_comes_from_before_the_subscription<H: Harness>(
    harness: &H,
) -> Result<(), Violation> {
    let (hub, subject) = (harness.hub(), format!("{}.a", harness.prefix()));
    harness.block_on(async {
        hub.publish(&subject, "before").await?;
        let mut subscription = hub.subscribe(&subject).await?;
        hub.publish(&subject, "after").await?;
        let got = text(&next(&mut subscription).await?);
        ensure!(got == "after", "got {got:?}");
        Ok(())
    })
}

/// What one publisher publishes comes in that order, whatever others do.
///
/// # Errors
/// [`Violation`].
pub fn messages_of_a_publisher_come_in_order<H: Harness>(harness: &H) -> Result<(), Violation> {
    const EACH: usize = 100;
    let (hub, prefix) = (harness.hub(), harness.prefix());
    harness.block_on(async {
        let mut one = hub.subscribe(format!("{prefix}.a")).await?;
        let mut all = hub.subscribe(format!("{prefix}.>")).await?;
        let mut publishers = [
            hub.publisher(format!("{prefix}.a"))?,
            hub.publisher(format!("{prefix}.a"))?,
        ];
        for number in 0..EACH {
            for (name, publisher) in publishers.iter_mut().enumerate() {
                publisher.publish(format!("{name} {number}")).await?;
            }
        }
        for subscription in [&mut one, &mut all] {
            let mut seen = [0; 2];
            for _ in 0..2 * EACH {
                let text = text(&next(subscription).await?);
                let mut words = text
                    .split(' ')
                    .filter_map(|word| word.parse::<usize>().ok());
                let (Some(name), Some(number)) = (words.next(), words.next()) else {
                    return Err(Violation::new(format!("got {text:?}")));
                };
                ensure!(
                    seen.get(name) == Some(&number),
                    "got {text:?} after {seen:?} messages of the two publishers"
                );
                seen[name] += 1;
            }
        }
        Ok(())
    })
}

/// Subscribers do not take messages away from each other.
///
/// # Errors
/// [`Violation`].
pub fn every_subscriber_gets_every_message<H: Harness>(harness: &H) -> Result<(), Violation> {
    let (hub, subject) = (harness.hub(), format!("{}.a", harness.prefix()));
    harness.block_on(async {
        let mut subscriptions = Vec::new();
        for _ in 0..5 {
            subscriptions.push(hub.subscribe(&subject).await?);
        }
        for number in 0..20 {
            let published = hub.publish(&subject, number.to_string()).await?;
            let reached = published.reached;
            ensure!(
                reached.is_none_or(|count| count == 5),
                "reached {reached:?}, not 5"
            );
        }
        for subscription in &mut subscriptions {
            for number in 0..20 {
                let got = text(&next(subscription).await?);
                ensure!(got == number.to_string(), "got {got:?}, not {number}");
            }
        }
        Ok(())
    })
}

/// Each message goes to one member of a group, and to everybody else.
///
/// # Errors
/// [`Violation`].
pub fn a_group_gets_each_message_once<H: Harness>(harness: &H) -> Result<(), Violation> {
    let (hub, subject) = (harness.hub(), format!("{}.a", harness.prefix()));
    harness.block_on(async {
        if !hub.capabilities().has(Capability::Groups) {
            return refused(
                hub.subscribe(&subject).group("workers").await,
                "queue groups",
            );
        }
        let mut members = Vec::new();
        for _ in 0..3 {
            members.push(hub.subscribe(&subject).group("workers").await?);
        }
        let mut alone = hub.subscribe(&subject).await?;
        for number in 0..30 {
            hub.publish(&subject, number.to_string()).await?;
        }
        for number in 0..30 {
            let got = text(&next(&mut alone).await?);
            ensure!(
                got == number.to_string(),
                "outside the group: got {got:?}, not {number}"
            );
        }
        // Whoever has something gives it out, until all is there.
        let mut seen = BTreeSet::new();
        while seen.len() < 30 {
            // Another one is asked first each time, or one that has everything would hide the others.
            members.rotate_left(1);
            let waiting = members.iter_mut().map(|member| Box::pin(member.recv()));
            let delivery = first(waiting.collect()).await?;
            let Delivery::Message(message) = delivery else {
                return Err(Violation::new(format!("got {delivery:?}")));
            };
            let text = text(&message);
            ensure!(seen.insert(text.clone()), "{text} came twice");
        }
        hub.publish(&subject, "last").await?;
        let waiting = members.iter_mut().map(|member| Box::pin(member.recv()));
        let last = first(waiting.collect()).await?.message();
        ensure!(
            last.as_ref().map(text).as_deref() == Some("last"),
            "one too many: {last:?}"
        );
        Ok(())
    })
}

/// Waits for the first of several futures.
async fn first<F: Future + Unpin>(mut futures: Vec<F>) -> F::Output {
    std::future::poll_fn(move |cx| {
        for future in &mut futures {
            if let Poll::Ready(output) = std::pin::Pin::new(future).poll(cx) {
                return Poll::Ready(output);
            }
        }
        Poll::Pending
    })
    .await
}

/// Payload, headers and reply subject are what was published.
///
/// # Errors
/// [`Violation`].
pub fn a_message_comes_as_it_was_sent<H: Harness>(harness: &H) -> Result<(), Violation> {
    let (hub, prefix) = (harness.hub(), harness.prefix());
    let subject = format!("{prefix}.a");
    harness.block_on(async {
        let mut subscription = hub.subscribe(&subject).await?;
        for payload in [vec![], vec![0], (0..=255).collect(), vec![7; 100_000]] {
            let mut draft = Draft::new(payload);
            if hub.capabilities().has(Capability::Headers) {
                draft = draft
                    .header("one", "é ü")
                    .header("two", "")
                    .header("one", "2");
            }
            let draft = draft.reply_to(format!("{prefix}.b").parse()?);
            hub.publish(&subject, draft.clone()).await?;
            let got = next(&mut subscription).await?;
            let wanted = Message::new(subject.parse()?, draft);
            ensure!(got == wanted, "got {got:?}, not {wanted:?}");
        }
        if !hub.capabilities().has(Capability::Headers) {
            let draft = Draft::new("").header("name", "value");
            let refused = hub.publish(&subject, draft).await;
            ensure!(
                matches!(refused, Err(PublishError::Unsupported(_))),
                "headers: {refused:?}"
            );
        }
        Ok(())
    })
}

/// A payload of the limit comes, one byte more is refused.
///
/// # Errors
/// [`Violation`].
pub fn the_payload_limit_is_exact_and_nothing_is_done_beyond_it<H: Harness>(
    harness: &H,
) -> Result<(), Violation> {
    let (hub, subject) = (harness.hub(), format!("{}.a", harness.prefix()));
    let max = hub.payload_bytes_max();
    harness.block_on(async {
        let mut subscription = hub.subscribe(&subject).await?;
        match hub.publish(&subject, vec![1; max + 1]).await {
            Err(error @ PublishError::Draft(_)) => ensure!(
                error.effect() == Effect::NotDone,
                "refused, and yet the effect is unknown"
            ),
            other => return Err(Violation::new(format!("{} bytes: {other:?}", max + 1))),
        }
        hub.publish(&subject, vec![2; max]).await?;
        let got = next(&mut subscription).await?;
        ensure!(
            got.payload().len() == max && got.payload().iter().all(|byte| *byte == 2),
            "got {} bytes",
            got.payload().len()
        );
        Ok(())
    })
}

/// Dropping a subscription ends it, and only it.
///
/// # Errors
/// [`Violation`].
pub fn a_subscriber_that_left_gets_nothing<H: Harness>(harness: &H) -> Result<(), Violation> {
    let (hub, subject) = (harness.hub(), format!("{}.a", harness.prefix()));
    harness.block_on(async {
        let mut stays = hub.subscribe(&subject).await?;
        for round in 0..3 {
            let leaves = hub.subscribe(&subject).await?;
            hub.publish(&subject, "both").await?;
            drop(leaves);
            let published = hub.publish(&subject, "one").await?;
            if hub.capabilities().has(Capability::Reach) {
                ensure!(published.reached == Some(1), "round {round}: {published:?}");
            }
            let got = [
                text(&next(&mut stays).await?),
                text(&next(&mut stays).await?),
            ];
            ensure!(got == ["both", "one"], "the other one got {got:?}");
        }
        Ok(())
    })
}

/// Of requests that wait at the same time, each gets its own first answer, and later ones go nowhere.
///
/// # Errors
/// [`Violation`].
pub fn a_request_gets_its_first_answer<H: Harness>(harness: &H) -> Result<(), Violation> {
    let (hub, subject) = (harness.hub(), format!("{}.a", harness.prefix()));
    let requester = hub.requester(harness.time());
    harness.block_on(async {
        let mut requests = hub.subscribe(&subject).await?;
        let answering = async {
            for _ in 0..3 {
                let asked = [next(&mut requests).await?, next(&mut requests).await?];
                // The later one first.
                for request in asked.iter().rev() {
                    for answer in ["first", "second"] {
                        let draft = format!("{answer} to {}", text(request));
                        hub.reply(request, draft).await?;
                    }
                }
            }
            Ok::<_, Violation>(())
        };
        let ask = async |number: u32| {
            let answer = requester.request(&subject, number.to_string()).await?;
            let (got, wanted) = (text(&answer), format!("first to {number}"));
            ensure!(got == wanted, "got {got:?}, not {wanted:?}");
            Ok(())
        };
        let asking = async {
            for round in 0..3 {
                let (one, other) = both(ask(2 * round), ask(2 * round + 1)).await;
                one.and(other)?;
            }
            Ok(())
        };
        let (answered, asked) = both(answering, asking).await;
        asked.and(answered)
    })
}

/// Runs two futures to their ends.
async fn both<A: Future, B: Future>(one: A, other: B) -> (A::Output, B::Output) {
    let (mut one, mut other) = (Box::pin(one), Box::pin(other));
    let (mut first, mut second) = (None, None);
    std::future::poll_fn(move |cx| {
        if first.is_none() {
            first = ready(one.as_mut().poll(cx));
        }
        if second.is_none() {
            second = ready(other.as_mut().poll(cx));
        }
        match (first.take(), second.take()) {
            (Some(one), Some(other)) => Poll::Ready((one, other)),
            (one, other) => {
                (first, second) = (one, other);
                Poll::Pending
            }
        }
    })
    .await
}

fn ready<T>(poll: Poll<T>) -> Option<T> {
    match poll {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

/// A request without responders fails, and a silent responder lets it run into its time limit.
///
/// # Errors
/// [`Violation`].
pub fn a_request_that_nobody_hears_is_told_so<H: Harness>(harness: &H) -> Result<(), Violation> {
    let (hub, subject) = (harness.hub(), format!("{}.a", harness.prefix()));
    let limit = std::time::Duration::from_millis(200);
    let requester = hub.requester(harness.time()).timeout(limit);
    harness.block_on(async {
        let alone = requester.request(&subject, "").await;
        let reach = hub.capabilities().has(Capability::Reach);
        let expected = match &alone {
            Err(error @ RequestError::NoResponders) => error.effect() == Effect::NotDone,
            Err(RequestError::Timeout { .. }) => !reach,
            _ => false,
        };
        ensure!(expected, "nobody subscribes: {alone:?}");
        let silent = hub.subscribe(&subject).await?;
        let unanswered = requester.request(&subject, "").await;
        let expected = match &unanswered {
            Err(error @ RequestError::Timeout { .. }) => error.effect() == Effect::Unknown,
            _ => false,
        };
        ensure!(expected, "nobody answers: {unanswered:?}");
        drop(silent);
        Ok(())
    })
}

/// After the close what is in a buffer is read, then comes the end; publishing and subscribing fail.
///
/// # Errors
/// [`Violation`].
pub fn a_closed_hub_ends_its_subscriptions_and_refuses<H: Harness>(
    harness: &H,
) -> Result<(), Violation> {
    let (hub, subject) = (harness.hub(), format!("{}.a", harness.prefix()));
    harness.block_on(async {
        let mut subscription = hub.subscribe(&subject).await?;
        let mut publisher = hub.publisher(&subject)?;
        publisher.publish("last").await?;
        let got = text(&next(&mut subscription).await?);
        ensure!(got == "last", "got {got:?}");
        hub.close().await;
        let end = subscription.recv().await;
        ensure!(end.is_err(), "after the close: {end:?}");
        let refused = [
            publisher.publish("x").await,
            hub.publish(&subject, "x").await,
        ];
        for refused in refused {
            ensure!(refused.is_err(), "published after the close: {refused:?}");
        }
        let refused = hub.subscribe(&subject).await;
        ensure!(refused.is_err(), "subscribed after the close");
        Ok(())
    })
}

/// Every policy that the backend offers, beyond its capacity.
///
/// # Errors
/// [`Violation`].
pub fn lag_is_counted_where_messages_are_missing<H: Harness>(harness: &H) -> Result<(), Violation> {
    let hub = harness.hub();
    if !hub.capabilities().has(Capability::ExactCapacity) {
        return Ok(());
    }
    let cases = [
        (Overflow::DropOldest, vec!["lost 2", "2", "3"]),
        (Overflow::DropNewest, vec!["0", "1", "lost 2"]),
        (Overflow::Disconnect, vec!["0", "1", "lost 1", "closed"]),
        (Overflow::Conflate(KeyOf::subject()), vec!["3"]),
        (
            Overflow::Conflate(KeyOf::new(|it| it.payload().clone())),
            vec!["lost 2", "2", "3"],
        ),
    ];
    harness.block_on(async {
        for (overflow, wanted) in cases {
            if !hub.capabilities().has(overflow.capability()) {
                continue;
            }
            let subject = format!("{}.a", harness.prefix());
            let subscribe = hub
                .subscribe(&subject)
                .capacity(2)
                .overflow(overflow.clone());
            let mut subscription = subscribe.await?;
            for number in 0..4 {
                hub.publish(&subject, number.to_string()).await?;
            }
            let mut got = Vec::new();
            while got.len() < wanted.len() {
                got.push(match subscription.recv().await {
                    Ok(Delivery::Message(message)) => text(&message),
                    Ok(Delivery::Lagged(lost)) => format!("lost {lost}"),
                    Err(_) => "closed".to_owned(),
                });
            }
            ensure!(got == wanted, "{overflow:?}: got {got:?}, not {wanted:?}");
        }
        Ok(())
    })
}

/// A replay is the last messages of each subject, and nothing between it and the live ones is missing or twice.
///
/// # Errors
/// [`Violation`].
pub fn retained_messages_come_first<H: Harness>(harness: &H) -> Result<(), Violation> {
    let prefix = harness.prefix();
    let (one, other) = (format!("{prefix}.a"), format!("{prefix}.b"));
    let Some(hub) = harness.retaining(&prefix, 2) else {
        let hub = harness.hub();
        return harness.block_on(async {
            let what = "replay of retained messages";
            refused(hub.subscribe(&one).replay(1).await, what)
        });
    };
    harness.block_on(async {
        for (subject, payload) in [(&one, "1"), (&one, "2"), (&other, "3"), (&one, "4")] {
            hub.publish(subject, payload).await?;
        }
        let all = format!("{prefix}.>");
        for (replay, wanted) in [
            (0, vec![]),
            (1, vec!["3", "4"]),
            (2, vec!["2", "3", "4"]),
            (9, vec!["2", "3", "4"]),
        ] {
            let mut subscription = hub.subscribe(&all).replay(replay).await?;
            hub.publish(format!("{prefix}.end.{replay}"), "end").await?;
            let got = until(&mut subscription, "end").await?;
            let got: Vec<_> = got.iter().filter(|text| *text != "end").collect();
            ensure!(
                got == wanted,
                "the last {replay}: got {got:?}, not {wanted:?}"
            );
        }
        Ok(())
    })
}

fn refused<T>(result: Result<T, SubscribeError>, what: &str) -> Result<(), Violation> {
    match result {
        Err(SubscribeError::Unsupported(missing)) => {
            ensure!(
                missing.what() == what,
                "names {}, not {what}",
                missing.what()
            );
            Ok(())
        }
        Err(other) => Err(Violation::new(format!("{what}: {other}"))),
        Ok(_) => Err(Violation::new(format!("{what}: is not offered, and works"))),
    }
}

/// A capability that is off is refused with its name, at start-up and when it is used.
///
/// # Errors
/// [`Violation`].
pub fn what_is_not_offered_is_refused_by_name<H: Harness>(harness: &H) -> Result<(), Violation> {
    let (hub, subject) = (harness.hub(), format!("{}.a", harness.prefix()));
    for one in Capability::ALL {
        match (hub.capabilities().has(one), hub.require(&[one])) {
            (true, Ok(())) => {}
            (false, Err(missing)) => ensure!(
                missing.what() == one.as_str() && missing.backend() == hub.backend_name(),
                "{one:?}: {missing}"
            ),
            (has, other) => {
                return Err(Violation::new(format!("{one:?} is {has}: {other:?}")));
            }
        }
    }
    let policies = [
        Overflow::Await,
        Overflow::DropOldest,
        Overflow::DropNewest,
        Overflow::Disconnect,
        Overflow::Conflate(KeyOf::subject()),
    ];
    harness.block_on(async {
        for overflow in policies {
            let capability = overflow.capability();
            let subscribed = subscribe_with(&hub, &subject, overflow).await;
            if hub.capabilities().has(capability) {
                subscribed?;
            } else {
                refused(subscribed, capability.as_str())?;
            }
        }
        Ok(())
    })
}

async fn subscribe_with(
    hub: &PubSub,
    subject: &str,
    overflow: Overflow,
) -> Result<Subscription, SubscribeError> {
    hub.subscribe(subject).overflow(overflow).await
}
