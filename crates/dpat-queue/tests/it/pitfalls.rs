//! Known faults of the sketch, and of queues that people were bitten by.

use std::time::Duration;

use dpat_core::ManualTime;
use dpat_queue::{Message, Outcome, SettleError};

use crate::world::{SECOND, done, now, queue, receive, send, text, texts};

#[test]
fn pitfall_1_3_priorities_are_obeyed() {
    // The sketch has a field that nobody reads.
    let time = ManualTime::new();
    let queue = queue(&time);
    for (text, priority) in [("low", 0), ("high", 9), ("middle", 4)] {
        now(queue.send(Message::new(text).priority(priority))).unwrap();
    }
    assert_eq!(texts(&queue), ["high", "middle", "low"]);
}

#[test]
fn pitfall_1_3_a_message_stays_until_it_is_acknowledged() {
    let time = ManualTime::new();
    let queue = queue(&time);
    send(&queue, &["order 7"]);
    for count in 1..4 {
        // A consumer that crashes.
        let taken = receive(&queue, 1).pop().unwrap();
        assert_eq!((text(&taken), taken.count), ("order 7", count));
        time.advance(2 * SECOND);
    }
    done(&queue, &receive(&queue, 1).pop().unwrap());
    time.advance(2 * SECOND);
    assert_eq!(texts(&queue), Vec::<String>::new());
}

#[test]
fn the_receipt_of_an_earlier_delivery_can_neither_settle_nor_extend() {
    let time = ManualTime::new();
    let queue = queue(&time);
    send(&queue, &["a"]);
    let slow = receive(&queue, 1).pop().unwrap();
    time.advance(2 * SECOND);
    let fast = receive(&queue, 1).pop().unwrap();
    let nack = now(queue.settle(slow.receipt, Outcome::release()));
    assert!(matches!(nack, Err(SettleError::Stale)));
    let extended = now(queue.extend(vec![slow.receipt], SECOND));
    assert!(matches!(extended[0], Err(SettleError::Stale)));
    assert_eq!(texts(&queue), Vec::<String>::new(), "the fast one has it");
    done(&queue, &fast);
}

#[test]
fn a_deduplicated_send_answers_with_the_first_id_even_when_that_is_done() {
    let time = ManualTime::new();
    let queue = queue(&time);
    let sent = || now(queue.send(Message::new("a").dedup("order 7"))).unwrap();
    let first = sent();
    done(&queue, &receive(&queue, 1).pop().unwrap());
    let second = sent();
    assert_eq!((second.id, second.is_duplicate()), (first.id, true));
    assert_eq!(texts(&queue), Vec::<String>::new());
}

#[test]
fn a_clock_that_is_set_back_neither_holds_messages_nor_leases() {
    let time = ManualTime::new();
    let queue = queue(&time);
    now(queue.send(Message::new("late").delay(SECOND))).unwrap();
    send(&queue, &["leased"]);
    assert_eq!(texts(&queue), ["leased"]);
    time.set_wall(dpat_core::Wall::from_nanos(5));
    time.advance(Duration::from_secs(2));
    assert_eq!(texts(&queue), ["late", "leased"]);
}
