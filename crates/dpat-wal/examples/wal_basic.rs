//! An account book: every booking is in the log before it counts, a snapshot replaces old bookings, and a restart
//! finds the balance again.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;

use dpat_storage::{MemStorage, Storage};
use dpat_wal::{Batch, Config, Position, Wal};

/// The state that is rebuilt from the log.
#[derive(Debug, Default, PartialEq)]
struct Book {
    balances: [i64; 2],
}

impl Book {
    /// The only way to change it: the same for new bookings and for those that a restart finds.
    fn apply(&mut self, booking: &[u8]) {
        if let [account, amount @ ..] = booking {
            let amount = amount.try_into().map_or(0, i64::from_le_bytes);
            if let Some(balance) = self.balances.get_mut(usize::from(*account)) {
                *balance += amount;
            }
        }
    }

    fn state(&self) -> Vec<u8> {
        self.balances
            .iter()
            .flat_map(|balance| balance.to_le_bytes())
            .collect()
    }

    fn from_state(state: &[u8]) -> Self {
        let mut book = Self::default();
        for (balance, bytes) in book.balances.iter_mut().zip(state.chunks_exact(8)) {
            *balance = bytes.try_into().map_or(0, i64::from_le_bytes);
        }
        book
    }
}

fn booking(account: u8, amount: i64) -> Vec<u8> {
    let mut booking = vec![account];
    booking.extend_from_slice(&amount.to_le_bytes());
    booking
}

/// Opens the log and rebuilds the book: the newest snapshot, and what was booked after it.
fn open<S: Storage>(storage: S) -> Result<(Wal<S>, Book), Box<dyn Error>> {
    let (wal, recovery) = Wal::open(storage, Config::default())?;
    let mut from = Position::ZERO;
    let mut book = Book::default();
    if let Some(mut snapshot) = wal.latest_snapshot()? {
        book = Book::from_state(&snapshot.read_to_end()?);
        from = snapshot.position();
    }
    let mut reader = wal.reader(from)?;
    let mut replayed = 0;
    while let Some(record) = reader.next_ready()? {
        book.apply(record.bytes);
        replayed += 1;
    }
    println!(
        "opened at {}: {replayed} bookings replayed, {book:?}",
        recovery.end
    );
    Ok((wal, book))
}

fn main() -> Result<(), Box<dyn Error>> {
    let storage = MemStorage::new(); // or FsStorage::open("data")?
    let (wal, mut book) = open(storage.clone())?;

    let deposit = booking(0, 100);
    wal.append(&deposit).wait()?; // durable,
    book.apply(&deposit); // and only now done

    // A transfer is two bookings, of which a crash leaves both or none.
    let transfer: Batch = [booking(0, -30), booking(1, 30)].into_iter().collect();
    wal.append_batch(&transfer).wait()?;
    book.apply(&booking(0, -30));
    book.apply(&booking(1, 30));

    let mut snapshot = wal.snapshot(wal.durable())?;
    snapshot.write(&book.state())?;
    snapshot.finish()?;
    wal.compact(wal.durable())?;

    // Several at once share one sync.
    let fees = [booking(0, -1), booking(1, -1)];
    let submitted = fees
        .iter()
        .map(|fee| wal.append(fee).submit())
        .collect::<Result<Vec<_>, _>>()?;
    for (fee, appending) in fees.iter().zip(submitted) {
        appending.wait()?;
        book.apply(fee);
    }
    wal.close()?;

    let (_, again) = open(storage)?;
    assert_eq!(again, book);
    println!("the book is as it was: {:?}", again.balances);
    Ok(())
}
