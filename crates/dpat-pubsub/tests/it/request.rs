//! Request and reply.

use crate::run;
use dpat_core::{Class, Classify, Clock, Deadline, Effect, ManualTime, Sleep};
use dpat_pubsub::{
    Backend, BackendError, Capabilities, Capability, Closed, Delivery, Message, Overflow, PubSub,
    PublishError, Published, RequestError, Source, Stats, Subject, Wanted,
};
use dpat_testkit::Task;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_request_ends_at_its_deadline() {
    let (hub, time) = (PubSub::default(), ManualTime::new());
    let _silent = hub.subscribe("a").now().unwrap();
    let requester = hub.requester(time.clone()).timeout(3 * SECOND);
    let mut request = Task::new(requester.request("a", "?"));
    request.assert_pending();
    time.advance(3 * SECOND - Duration::from_nanos(1));
    request.assert_pending();
    time.advance(Duration::from_nanos(1));
    assert!(request.is_woken());
    match request.assert_ready() {
        Err(RequestError::Timeout { within }) => assert_eq!(within, 3 * SECOND),
        other => panic!("{other:?}"),
    }
    // One that is given, and has passed.
    let deadline = Deadline::at(time.now());
    let late = run(requester.request_until(deadline, "a", "?"));
    assert!(
        matches!(late, Err(RequestError::Timeout { .. })),
        "{late:?}"
    );
}

#[test]
fn the_deadline_covers_the_wait_for_a_responder_that_is_busy() {
    let (hub, time) = (PubSub::default(), ManualTime::new());
    let subscribe = hub.subscribe("a").capacity(1).overflow(Overflow::Await);
    let _busy = subscribe.now().unwrap();
    hub.publish_now("a", "before").unwrap();
    let requester = hub.requester(time.clone());
    let asked = dpat_testkit::run_with(|| time.advance_to_next_wake(), requester.request("a", "?"));
    assert!(
        matches!(asked, Err(RequestError::Timeout { .. })),
        "{asked:?}"
    );
}

#[test]
fn answers_find_their_requests() {
    let (hub, time) = (PubSub::default(), ManualTime::new());
    let mut requests = hub.subscribe("double").now().unwrap();
    let requester = hub.requester(time);
    let mut tasks: Vec<_> = (0..10_u32)
        .map(|number| {
            let requester = requester.clone();
            let ask = async move { requester.request("double", number.to_string()).await };
            let mut task = Task::new(ask);
            task.assert_pending();
            task
        })
        .collect();
    // Answered from the last to the first.
    let mut waiting = Vec::new();
    while let Some(delivery) = requests.try_recv().unwrap() {
        waiting.push(delivery.message().unwrap());
    }
    for request in waiting.iter().rev() {
        let number: u32 = std::str::from_utf8(request.payload())
            .unwrap()
            .parse()
            .unwrap();
        run(hub.reply(request, (2 * number).to_string())).unwrap();
    }
    for (number, task) in (0_u32..).zip(&mut tasks) {
        let answer = task.assert_ready().unwrap();
        assert_eq!(answer.payload(), &(2 * number).to_string());
    }
}

#[test]
fn a_message_that_asks_for_no_answer_gets_none() {
    let hub = PubSub::default();
    let mut subscription = hub.subscribe("a").now().unwrap();
    hub.publish_now("a", "").unwrap();
    let message = run(subscription.recv()).unwrap().message().unwrap();
    let refused = run(hub.reply(&message, ""));
    assert!(matches!(refused, Err(PublishError::NoReply)), "{refused:?}");
}

#[test]
fn the_clock_of_the_requester_is_any_that_can_sleep() {
    fn ask<T: Sleep>(hub: &PubSub, time: T) -> bool {
        run(hub.requester(time).request("nobody", "")).is_err()
    }
    assert!(ask(
        &PubSub::default(),
        dpat_core::AnyTime::new(ManualTime::new())
    ));
}

/// A backend that says behind the publication that nobody heard it.
struct Deaf;

struct Unheard;

impl Source for Unheard {
    fn poll_next(&mut self, _: &mut Context<'_>) -> Poll<Result<Delivery, Closed>> {
        Poll::Ready(Err(Closed::NoResponders))
    }

    fn try_next(&mut self) -> Result<Option<Delivery>, Closed> {
        Err(Closed::NoResponders)
    }

    fn stats(&self) -> Stats {
        Stats::default()
    }
}

#[async_trait::async_trait]
impl Backend for Deaf {
    fn name(&self) -> &'static str {
        "deaf"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::of(&[Capability::DropNewest])
    }

    fn payload_bytes_max(&self) -> usize {
        100
    }

    async fn publish(&self, _: Message) -> Result<Published, BackendError> {
        Ok(Published::default())
    }

    async fn subscribe(&self, _: Wanted) -> Result<Box<dyn Source>, BackendError> {
        Ok(Box::new(Unheard))
    }

    fn inbox(&self) -> Subject {
        "inbox.1".parse().unwrap()
    }

    async fn close(&self) {}
}

#[test]
fn a_backend_that_tells_late_that_nobody_heard_a_request_is_understood() {
    let hub = PubSub::on(Arc::new(Deaf));
    let requester = hub.requester(ManualTime::new());
    let alone = run(requester.request("a", "anybody?")).unwrap_err();
    assert!(matches!(alone, RequestError::NoResponders), "{alone}");
    assert_eq!(alone.effect(), Effect::NotDone);
    let closed = Closed::NoResponders;
    assert_eq!(
        (closed.class(), closed.effect()),
        (Class::Unavailable, Effect::NotDone)
    );
}
