//! Databases to test on.

use std::path::PathBuf;
use std::sync::Arc;

use dpat_core::{Uuid7, Wall};
use dpat_outbox::{Event, Limits, Token};
use dpat_sqlite::rusqlite::Connection;
use dpat_sqlite::{Config, Outbox};

/// A folder that goes when the last database in it is closed.
#[derive(Clone)]
pub(crate) struct Folder(Arc<tempfile::TempDir>);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(Arc::new(tempfile::tempdir().unwrap()))
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.0.path().join("test.db")
    }

    pub(crate) fn config(&self) -> Config {
        Config::new(self.file(), "t").unwrap()
    }

    pub(crate) fn outbox(&self) -> Outbox {
        Outbox::open(&self.config(), Limits::DEFAULT).unwrap()
    }

    pub(crate) fn connect(&self) -> Connection {
        self.config().connect().unwrap()
    }
}

pub(crate) fn append(connection: &mut Connection, outbox: &Outbox, now: Wall, events: &[Event]) {
    let tx = connection.transaction().unwrap();
    for event in events {
        outbox.append(&tx, event, now).unwrap();
    }
    outbox.commit(tx).unwrap();
}

pub(crate) fn number_of(connection: &Connection, sql: &str) -> i64 {
    connection.query_row(sql, [], |row| row.get(0)).unwrap()
}

pub(crate) fn id(number: u64) -> Uuid7 {
    let low = 0x8000_0000_0000_0000 | u128::from(number);
    Uuid7::from_bytes((0x7000_u128 << 64 | low).to_be_bytes()).unwrap()
}

/// An event with a number as its payload; an empty key is none.
pub(crate) fn event(number: u64, key: &str) -> Event {
    let event = Event::builder(id(number), "topic").payload(number.to_string());
    match key {
        "" => event.build(),
        key => event.key(key).build(),
    }
    .unwrap()
}

pub(crate) fn number(event: &Event) -> u64 {
    std::str::from_utf8(event.payload())
        .unwrap()
        .parse()
        .unwrap()
}

pub(crate) fn claim(token: u8, now: u64) -> dpat_outbox::Claim {
    dpat_outbox::Claim {
        token: Token::from_bytes([token; 16]),
        now: Wall::from_nanos(now),
        lease: std::time::Duration::from_nanos(100),
        rows_max: 1_000,
        bytes_max: usize::MAX,
        lane_rows_max: 100,
    }
}

/// Runs what is never pending: everything on the caller's thread.
pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    match future.as_mut().poll(&mut cx) {
        std::task::Poll::Ready(output) => output,
        std::task::Poll::Pending => panic!("on the caller's thread nothing is pending"),
    }
}
