//! Queues that are full of bytes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use dpat_core::{Entropy as _, SplitMix64};
use dpat_nats::dpat_queue::{Message, Outcome, Queue, SendError};
use dpat_nats::{Connection, StreamQueue};
use dpat_testkit::live::Live;
use dpat_testkit::proxy::Proxy;
use dpat_testkit::servers::Server;
use libtest_mimic::{Failed, Trial};
use tokio::sync::Mutex;

use super::dropped::polled;
use super::faults::small;
use super::kit::{block_on, config, connect, name, trials};

pub(crate) fn trials(live: &Live) -> Vec<Trial> {
    trials!(
        live,
        trial what_is_full_of_bytes_refuses_what_is_new_and_keeps_all_it_took,
        faults a_limit_of_bytes_holds_when_servers_are_killed_and_sends_are_cut_or_dropped,
    )
}

/// Servers before 2.11 would let in what does not fit any more, and remove the oldest messages for it.
fn what_is_full_of_bytes_refuses_what_is_new_and_keeps_all_it_took(
    url: &str,
) -> Result<(), Failed> {
    const BYTES: u64 = 8 << 10;
    let (connection, name) = (connect(url)?, name("brim"));
    let settings = small(&name)?.bytes_max(BYTES);
    let stream = block_on(StreamQueue::open(&connection, settings))?;
    let queue = stream.queue();
    let mut taken = 0;
    let mut refused = 0;
    // Up to the brim: ever smaller ones, of which each is tried alone and with others at once.
    for size in (0..400).rev() {
        let message = || Message::new(vec![b'x'; size]);
        let all = futures_util::future::join_all((0..1 + size % 3).map(|_| queue.send(message())));
        for sent in block_on(all) {
            match sent {
                Ok(_) => taken += 1,
                Err(SendError::Full { field, limit }) => {
                    assert_eq!((field, limit), ("bytes_max", BYTES));
                    refused += 1;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
    let status = block_on(stream.status())?;
    assert_eq!(status.messages, taken);
    assert!(refused > 0 && status.bytes <= BYTES, "{status:?}");
    Ok(())
}

/// What a round has sent.
#[derive(Default)]
struct Book {
    acknowledged: BTreeSet<String>,
    refused: u32,
}

/// Sends until it was refused a few times; some sends are dropped on their way.
async fn fill(queue: Queue, book: Arc<Mutex<Book>>, round: u64, sender: u64) {
    const REFUSALS: u32 = 3;
    let entropy = SplitMix64::stream(round, &format!("brim {sender}"));
    let mut refused = 0;
    for number in 0_u64.. {
        let id = format!("{round}.{sender}.{number}");
        let size = usize::try_from(entropy.below(300)).unwrap_or(0);
        let payload = format!("{id} {}", "x".repeat(size));
        let polls = match entropy.below(8) {
            0 => usize::try_from(entropy.below(6)).unwrap_or(0),
            _ => usize::MAX,
        };
        match polled(queue.send(Message::new(payload)), polls).await {
            Some(Ok(_)) => drop(book.lock().await.acknowledged.insert(id)),
            Some(Err(SendError::Full { .. })) => refused += 1,
            // Cut, or the server is gone; or it was dropped.
            Some(Err(_)) | None => {}
        }
        if refused == REFUSALS {
            book.lock().await.refused += refused;
            return;
        }
    }
}

/// Of a server that counts no bytes itself, each handle counts what it cannot know as if it were there.
fn a_limit_of_bytes_holds_when_servers_are_killed_and_sends_are_cut_or_dropped(
    mut server: Server,
) -> Result<(), Failed> {
    const BYTES: u64 = 32 << 10;
    const SENDERS: u64 = 4;
    const ROUNDS: u64 = 3;
    let proxy = Proxy::start(server.url().trim_start_matches("nats://").parse()?)?;
    let delays = (Duration::from_millis(1), Duration::from_millis(20));
    let config = config(&format!("nats://{}", proxy.address()))?;
    let config = config.reconnect_delays(delays.0, delays.1)?;
    let connection = block_on(Connection::open(&config))?;
    let settings = small("brim")?.bytes_max(BYTES);
    let stream = block_on(StreamQueue::open(&connection, settings))?;
    let entropy = SplitMix64::stream(9, "brim");
    for round in 0..ROUNDS {
        let book = Arc::new(Mutex::new(Book::default()));
        let (cut, kill) = (1 + entropy.below(10), 12 + entropy.below(30));
        let senders = block_on(async {
            let fill = |sender| fill(stream.queue(), Arc::clone(&book), round, sender);
            let senders: Vec<_> = (0..SENDERS).map(|one| tokio::spawn(fill(one))).collect();
            for (enough, does_cut) in [(cut, true), (kill, false)] {
                while (book.lock().await.acknowledged.len() as u64) < enough
                    && senders.iter().any(|sender| !sender.is_finished())
                {
                    tokio::task::yield_now().await;
                }
                if does_cut {
                    proxy.cut();
                }
            }
            senders
        });
        server.kill();
        server.restart()?;
        block_on(async {
            for sender in senders {
                sender.await?;
            }
            // What was dropped may be on its way still.
            for _ in 0..20 {
                let status = stream.status().await?;
                assert!(status.bytes <= BYTES, "round {round}: {status:?}");
            }
            let mut book = book.lock().await;
            assert!(book.refused > 0, "it is not full");
            let queue = stream.queue();
            loop {
                for delivery in queue.receive_batch(100, Duration::from_secs(1)).await? {
                    let text = String::from_utf8_lossy(delivery.payload()).into_owned();
                    let id = text.split(' ').next().unwrap_or_default();
                    book.acknowledged.remove(id);
                    queue.settle(delivery.receipt, Outcome::Done).await?;
                }
                let status = stream.status().await?;
                if status.out + status.fresh == 0 {
                    break;
                }
            }
            let lost = &book.acknowledged;
            assert!(lost.is_empty(), "acknowledged and gone: {lost:?}");
            Ok::<_, Failed>(())
        })?;
    }
    Ok(())
}
