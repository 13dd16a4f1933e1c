//! The laws hold in memory, and its transactions are transactions.

use dpat_core::{Class, Classify, Effect, Wall};
use dpat_outbox::conformance::{End, Harness};
use dpat_outbox::{AppendError, Appended, Contended, Event, Limits, MemoryOutbox, Store};
use dpat_testkit::live::{Law, conformance};

use crate::world::{append, event, id, run};

pub(crate) struct InMemory;

impl Harness for InMemory {
    type Outbox = MemoryOutbox;

    fn fresh(&self, limits: Limits) -> MemoryOutbox {
        MemoryOutbox::with_limits(limits)
    }

    fn reopen(&self, outbox: MemoryOutbox) -> MemoryOutbox {
        outbox
    }

    fn in_tx(
        &self,
        outbox: &MemoryOutbox,
        now: Wall,
        events: &[Event],
        end: End,
    ) -> Result<Vec<Appended>, AppendError> {
        let mut tx = outbox.begin();
        let appended: Result<Vec<_>, _> =
            events.iter().map(|event| tx.append(event, now)).collect();
        let appended = appended?;
        if end == End::Commit {
            tx.commit().unwrap();
        }
        Ok(appended)
    }

    fn overlap(
        &self,
        outbox: &MemoryOutbox,
        now: Wall,
        early: &Event,
        late: &Event,
        between: &mut dyn FnMut(),
    ) -> bool {
        let mut first = outbox.begin();
        first.append(early, now).unwrap();
        append(outbox, now, late);
        between();
        first.commit().unwrap();
        true
    }
}

dpat_outbox::outbox_laws!(InMemory);

#[test]
fn pitfall_19_1_the_event_is_there_if_and_only_if_the_change_is() {
    for commit in [false, true] {
        let outbox = MemoryOutbox::new();
        let mut tx = outbox.begin();
        tx.put(b"order-7", b"completed");
        tx.append(&event(7, "order-7"), Wall::MIN).unwrap();
        if commit {
            tx.commit().unwrap();
        } else {
            drop(tx);
        }
        let waits = run(outbox.lag()).unwrap().backlog_rows == 1;
        assert_eq!((outbox.get(b"order-7").is_some(), waits), (commit, commit));
    }
}

#[test]
fn of_two_transactions_that_change_one_row_one_commits() {
    let outbox = MemoryOutbox::new();
    let (mut left, mut right) = (outbox.begin(), outbox.begin());
    for (tx, number) in [(&mut left, 1), (&mut right, 2)] {
        assert_eq!(tx.get(b"stock"), None);
        tx.put(b"stock", b"sold");
        tx.append(&event(number, ""), Wall::MIN).unwrap();
    }
    right.commit().unwrap();
    let error = left.commit().unwrap_err();
    assert_eq!(error, Contended);
    assert_eq!(
        (error.class(), error.effect()),
        (Class::Conflict, Effect::NotDone)
    );
    assert_eq!(
        run(outbox.lag()).unwrap().backlog_rows,
        1,
        "no event without its change"
    );
}

#[test]
fn of_two_transactions_that_append_one_event_one_commits() {
    let outbox = MemoryOutbox::new();
    let (mut left, mut right) = (outbox.begin(), outbox.begin());
    assert!(matches!(
        left.append(&event(1, ""), Wall::MIN),
        Ok(Appended::New(_))
    ));
    assert!(matches!(
        right.append(&event(1, ""), Wall::MIN),
        Ok(Appended::New(_))
    ));
    right.commit().unwrap();
    assert_eq!(left.commit(), Err(Contended));
    let mut again = outbox.begin();
    let appended = again.append(&event(1, ""), Wall::MIN).unwrap();
    assert_eq!(appended, Appended::Duplicate(id(1)));
}

#[test]
fn own_rows_are_read_as_the_transaction_sees_them() {
    let outbox = MemoryOutbox::new();
    let mut tx = outbox.begin();
    tx.put(b"a", b"1");
    assert_eq!(
        (tx.get(b"a"), outbox.get(b"a")),
        (Some(b"1".to_vec()), None)
    );
    tx.commit().unwrap();
    let mut tx = outbox.begin();
    tx.remove(b"a");
    assert_eq!(
        (tx.get(b"a"), outbox.get(b"a")),
        (None, Some(b"1".to_vec()))
    );
    tx.commit().unwrap();
    assert_eq!(outbox.get(b"a"), None);
}

/// What the laws find stands in the tables of the guide.
#[test]
fn what_the_laws_find_is_written() {
    let laws = Law::plain(dpat_outbox::conformance::outbox_laws(), || InMemory);
    conformance("memory", "outbox", laws).unwrap();
}
