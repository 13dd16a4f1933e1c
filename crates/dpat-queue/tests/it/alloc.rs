//! What a message asks of the allocator.

use bytes::Bytes;
use dpat_core::ManualTime;
use dpat_queue::{Message, Outcome};
use dpat_testkit::{Task, allocations};

use crate::world::queue;

#[test]
fn a_message_through_memory_allocates_nothing_in_steady_state() {
    let time = ManualTime::new();
    let queue = queue(&time);
    let payload = Bytes::from_static(b"a payload");
    let mut task = Task::new(async {
        for round in 0..40 {
            // So many at once that the heaps grow in the first round alone.
            for _ in 0..10 {
                queue.send(Message::new(payload.clone())).await.unwrap();
            }
            // One of them twice.
            for number in 0..11 {
                let delivery = queue.receive().await.unwrap();
                let outcome = match number {
                    0 => Outcome::release(),
                    _ => Outcome::Done,
                };
                queue.settle(delivery.receipt, outcome).await.unwrap();
            }
            if round == 19 {
                std::future::poll_fn(once()).await;
            }
        }
    });
    task.assert_pending();
    let (_, count) = allocations(|| task.assert_ready());
    assert_eq!(count, 0);
}

/// Pending once, so that the second half can be counted alone.
fn once() -> impl FnMut(&mut std::task::Context<'_>) -> std::task::Poll<()> {
    let mut first = true;
    move |_| match std::mem::take(&mut first) {
        true => std::task::Poll::Pending,
        false => std::task::Poll::Ready(()),
    }
}
