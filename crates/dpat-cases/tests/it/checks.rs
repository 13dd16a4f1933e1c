//! Each invariant finds what it is there for, in stores made by hand, and finds nothing in sound ones.

use dpat_cases::shop::check::{
    Dead, History, Stores, Tally, acknowledged_durable, bounded_memory, dead_letters, event_once,
    money_conserved, nothing_lost, single_charge, spared_calls, stock_conserved, terminal_once,
    transient_survived,
};
use dpat_cases::shop::domain::{Change, Item, Order, OrderRecord, Reason, State};
use dpat_cases::shop::driver::Sent;
use dpat_cases::shop::journal::{Call, Injected, Queued};
use dpat_cases::shop::service::payment::{Entry, Kind};
use dpat_cases::shop::service::ports::{Peer, Reply, Step};
use dpat_cases::shop::service::shipping::{QUEUE_BYTES_MAX, Shipment};
use dpat_cases::shop::supervisor::Outage;

fn items() -> Vec<Item> {
    vec![Item {
        sku: "rare-1".to_owned(),
        quantity: 2,
    }]
}

fn record(order_id: &str, state: State, reason: Option<Reason>) -> OrderRecord {
    let change = |state, at_us| Change { state, at_us };
    OrderRecord {
        order: Order {
            order_id: order_id.to_owned(),
            customer: "c".to_owned(),
            items: items(),
            payment_cents: 500,
        },
        fingerprint: 0,
        state,
        reason,
        charge_tried: true,
        history: vec![change(State::Accepted, 1_000), change(state, 9_000)],
    }
}

fn entry(kind: Kind, cents: u64) -> Entry {
    Entry {
        kind,
        cents,
        customer: "c".to_owned(),
        at_us: 5_000,
    }
}

fn parcel() -> Shipment {
    Shipment {
        event_id: "e".to_owned(),
        items: items(),
        at_us: 9_500,
    }
}

/// One order completed, one undone; everything as it should be.
fn sound() -> Stores {
    let mut stores = Stores::default();
    let done = record("done", State::Completed, None);
    let undone = record("undone", State::Compensated, Some(Reason::Unavailable));
    stores.orders.insert("done".to_owned(), done);
    stores.orders.insert("undone".to_owned(), undone);
    stores.stock.insert("rare-1".to_owned(), 8);
    stores.holds.insert("done".to_owned(), items());
    let charge = || entry(Kind::Charge, 500);
    stores.ledger.insert("done".to_owned(), vec![charge()]);
    let both = vec![charge(), entry(Kind::Refund, 500)];
    stores.ledger.insert("undone".to_owned(), both);
    stores.shipments.insert("done".to_owned(), vec![parcel()]);
    stores
}

fn sent(order_id: &str) -> Sent {
    Sent {
        order_id: order_id.to_owned(),
        intended_us: 500,
        answered_us: 2_000,
        answer: Ok(Reply::Accepted),
    }
}

/// Counts what an invariant finds after a change of sound stores.
fn found(invariant: fn(&Stores) -> Tally, change: fn(&mut Stores)) -> u64 {
    let mut stores = sound();
    assert!(invariant(&stores).holds());
    change(&mut stores);
    invariant(&stores).count()
}

#[test]
fn an_acknowledged_order_must_be_there() {
    let stores = sound();
    assert_eq!(acknowledged_durable(&stores, &[sent("done")]).count(), 0);
    let two = [sent("done"), sent("gone")];
    assert_eq!(acknowledged_durable(&stores, &two).count(), 1);
}

#[test]
fn an_order_ends_exactly_once() {
    let open = found(terminal_once, |stores| {
        let order = record("open", State::Reserved, None);
        stores.orders.insert("open".to_owned(), order);
    });
    assert_eq!(open, 1);
    let twice = found(terminal_once, |stores| {
        let order = stores.orders.get_mut("done").unwrap();
        order.enter(State::Compensated, 10_000);
    });
    assert_eq!(twice, 1);
}

#[test]
fn no_unit_appears_or_vanishes() {
    let vanished = found(stock_conserved, |stores| {
        stores.stock.insert("rare-1".to_owned(), 5);
    });
    assert_eq!(vanished, 3);
    let kept = found(stock_conserved, |stores| {
        stores.holds.insert("undone".to_owned(), items());
        stores.stock.insert("rare-1".to_owned(), 6);
    });
    assert_eq!(kept, 1);
}

#[test]
fn no_cent_appears_or_vanishes() {
    let unpaid = found(money_conserved, |stores| {
        stores.ledger.remove("done");
    });
    assert_eq!(unpaid, 1);
    let not_refunded = found(money_conserved, |stores| {
        stores.ledger.get_mut("undone").unwrap().pop();
    });
    assert_eq!(not_refunded, 1);
    let nobodys = found(money_conserved, |stores| {
        let charge = vec![entry(Kind::Charge, 1)];
        stores.ledger.insert("nobody".to_owned(), charge);
    });
    assert_eq!(nobodys, 1);
}

#[test]
fn a_second_charge_is_found_and_is_no_lost_money() {
    let twice: fn(&mut Stores) = |stores| {
        let entries = stores.ledger.get_mut("done").unwrap();
        entries.push(entry(Kind::Charge, 500));
    };
    assert_eq!(found(single_charge, twice), 1);
    assert_eq!(found(money_conserved, twice), 0);
}

#[test]
fn an_event_acts_exactly_once() {
    let invariant: fn(&Stores) -> Tally = |stores| event_once(stores).0;
    let lost = found(invariant, |stores| {
        stores.shipments.remove("done");
    });
    assert_eq!(lost, 1);
    let twice = found(invariant, |stores| {
        stores.shipments.get_mut("done").unwrap().push(parcel());
    });
    assert_eq!(twice, 1);
    let ghost = found(invariant, |stores| {
        stores.shipments.insert("undone".to_owned(), vec![parcel()]);
    });
    assert_eq!(ghost, 1);
}

#[test]
fn what_the_queue_acknowledged_must_be_somewhere() {
    let mut stores = sound();
    stores.acknowledged.insert("done".to_owned());
    assert!(nothing_lost(&stores).holds());
    stores.shipments.clear();
    assert_eq!(nothing_lost(&stores).count(), 1);
    assert_eq!(event_once(&stores).0.count(), 0);
    stores.queued.insert("done".to_owned());
    assert_eq!(nothing_lost(&stores).count(), 0);
    stores.queued.clear();
    let dead = Dead {
        reason: "no address".to_owned(),
        attempts: 5,
    };
    stores.dead.insert("done".to_owned(), dead);
    assert_eq!(nothing_lost(&stores).count(), 0);
}

#[test]
fn what_waits_is_measured_when_it_is_most() {
    let queued = |at_us, bytes| Queued {
        at_us,
        bytes,
        order_id: "done".to_owned(),
    };
    let mut history = History {
        queued: vec![queued(2, QUEUE_BYTES_MAX), queued(1, 5)],
        ..History::default()
    };
    let tally = bounded_memory(&history);
    assert!(tally.holds());
    assert_eq!(tally.count(), QUEUE_BYTES_MAX);
    history.queued.push(queued(3, QUEUE_BYTES_MAX + 1));
    let tally = bounded_memory(&history);
    assert!(!tally.holds());
    assert_eq!(tally.count(), QUEUE_BYTES_MAX + 1);
}

#[test]
fn exactly_what_cannot_be_handled_is_a_dead_letter() {
    let text = r#"{"version":1,"protocol":"shop","nodes":5,"seed":1,"ops":[
        {"at_us":0,"do":"error","node":"shipping","step":"pack","order_id":"done","per_million":1000000}]}"#;
    let script = dpat_cases::shop::chaos::parse(text, "s", false).unwrap();
    let none = dpat_cases::shop::chaos::none(1);
    let mut stores = sound();
    assert_eq!(dead_letters(&stores, &script).count(), 1);
    let dead = Dead {
        reason: "injected error".to_owned(),
        attempts: 5,
    };
    stores.dead.insert("done".to_owned(), dead);
    assert_eq!(dead_letters(&stores, &script).count(), 0);
    assert_eq!(dead_letters(&stores, &none).count(), 1);
}

fn failed(order_id: &str, start_us: u64, streak: u32) -> Call {
    Call {
        from: Peer::Order,
        incarnation: 0,
        to: Peer::Payment,
        step: Step::Charge,
        order_id: order_id.to_owned(),
        attempt: 0,
        start_us,
        end_us: start_us + 10,
        outcome: "failed".to_owned(),
        failed: true,
        streak,
    }
}

fn error(order_id: &str) -> Injected {
    Injected {
        at_us: 3_000,
        target: Peer::Payment,
        kind: "error".to_owned(),
        order_id: order_id.to_owned(),
        step: Step::Charge,
        attempt: 0,
        duration_us: None,
    }
}

#[test]
fn one_error_alone_may_not_stop_an_order() {
    let stores = sound();
    let mut history = History {
        calls: vec![failed("done", 3_000, 1), failed("undone", 3_000, 1)],
        faults: vec![error("done"), error("undone")],
        ..History::default()
    };
    assert_eq!(transient_survived(&stores, &history, true).count(), 1);
    // A second failure, whatever its cause, is more than one transient error.
    history.calls.push(failed("undone", 4_000, 1));
    assert_eq!(transient_survived(&stores, &history, true).count(), 0);
}

#[test]
fn calls_to_a_service_that_is_known_to_be_away_are_counted() {
    let outages = [Outage {
        peer: Peer::Payment,
        from_us: 1_000,
        until_us: 501_000,
    }];
    let call = |number: u32| failed("o", 1_000 + u64::from(number) * 100, number + 1);
    // The first five tell; of the probes, one each 250 ms and one more are allowed.
    let mut history = History {
        calls: (0..5).map(call).collect(),
        ..History::default()
    };
    assert_eq!(spared_calls(&history, &outages).count(), 0);
    history.calls.extend((5..8).map(call));
    let tally = spared_calls(&history, &outages);
    assert_eq!(tally.count(), 3);
    assert!(tally.holds());
    history.calls.push(call(8));
    let tally = spared_calls(&history, &outages);
    assert_eq!(tally.count(), 4);
    assert!(!tally.holds());
    // Outside the outage nothing is counted.
    assert_eq!(spared_calls(&history, &[]).count(), 0);
}
