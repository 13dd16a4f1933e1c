//! The laws of a queue, and sends in transactions.

use std::time::Duration;

use dpat_core::{Class, Classify, Effect, ManualTime};
use dpat_queue::conformance::{Harness, Setup};
use dpat_queue::conformance::{declared, laws};
use dpat_queue::{Backend, Capability, Message, Outcome, Queue, Requirements, SendError, Survives};
use dpat_sqlite::rusqlite::Connection;
use dpat_sqlite::{OpenError, QueueSettings, QueueStore, Threads};
use dpat_testkit::live::{Law, conformance};

use crate::kit::{Folder, number_of, run};

struct World {
    store: QueueStore,
    queue: Queue,
    time: ManualTime,
    folder: Folder,
}

fn open(folder: Folder, time: ManualTime, setup: &Setup, threads: Threads) -> World {
    let settings = QueueSettings {
        visibility: setup.visibility,
        dedup_window: setup.dedup_window,
        messages_max: setup.messages_max,
        dead_max: setup.dead_max,
        ..QueueSettings::DEFAULT
    };
    let config = folder.config().threads(threads);
    let store = QueueStore::open(&config, settings, time.clone()).unwrap();
    World {
        queue: store.queue(),
        store,
        time,
        folder,
    }
}

macro_rules! harness {
    ($name:ident, $threads:expr $(, $run:item)?) => {
        struct $name;

        impl Harness for $name {
            type World = World;
            fn open(&self, setup: &Setup) -> World {
                open(Folder::new(), ManualTime::new(), setup, $threads)
            }
            fn queue<'w>(&self, world: &'w World) -> &'w Queue {
                &world.queue
            }
            fn reopen(&self, world: World, setup: &Setup) -> World {
                let World {
                    store,
                    queue,
                    time,
                    folder,
                } = world;
                drop((store, queue));
                let world = open(folder, time, setup, $threads);
                // The only process that receives.
                world.store.release_all().unwrap();
                world
            }
            fn advance(&self, world: &World, by: Duration) {
                world.time.advance(by);
            }
            $($run)?
        }
    };
}

harness!(OnFile, Threads::Caller);

harness!(
    OnThreads,
    Threads::TokioBlocking,
    fn run<T>(&self, future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
            .block_on(future)
    }
);

mod on_file {
    dpat_queue::queue_laws!(super::OnFile);
}

mod on_threads {
    dpat_queue::queue_laws!(super::OnThreads);
}

fn world() -> World {
    let setup = Setup::DEFAULT;
    open(Folder::new(), ManualTime::new(), &setup, Threads::Caller)
}

fn received(queue: &Queue) -> Vec<String> {
    let received = run(queue.receive_batch(10, Duration::ZERO)).unwrap();
    let text = |payload: &[u8]| String::from_utf8(payload.to_vec()).unwrap();
    received.iter().map(|one| text(one.payload())).collect()
}

#[test]
fn a_message_is_sent_with_the_change_or_not_at_all() {
    let world = world();
    let needs = Requirements::new()
        .needs(Capability::TransactionalSend)
        .survives(Survives::PowerLoss);
    world.queue.require(&needs).unwrap();
    let mut connection: Connection = world.folder.connect();
    connection.execute("CREATE TABLE own (id)", []).unwrap();
    for (text, commits) in [("rolled back", false), ("committed", true)] {
        let tx = connection.transaction().unwrap();
        tx.execute("INSERT INTO own VALUES (1)", []).unwrap();
        world.store.within(&tx).send(&Message::new(text)).unwrap();
        assert_eq!(received(&world.queue), [""; 0], "before the commit");
        match commits {
            true => world.store.commit(tx).unwrap(),
            false => tx.rollback().unwrap(),
        }
    }
    assert_eq!(received(&world.queue), ["committed"]);
    assert_eq!(number_of(&connection, "SELECT count(*) FROM own"), 1);
    let tx = connection.transaction().unwrap();
    let wrong = world.store.within(&tx).send(&Message::new("").key(""));
    assert!(matches!(wrong, Err(SendError::Invalid(_))), "{wrong:?}");
}

#[test]
fn processes_share_a_queue_and_see_each_others_leases() {
    let one = world();
    let other = open(
        one.folder.clone(),
        one.time.clone(),
        &Setup::DEFAULT,
        Threads::Caller,
    );
    for text in ["a", "b"] {
        run(one.queue.send(Message::new(text))).unwrap();
    }
    let mine = run(one.queue.receive_batch(1, Duration::ZERO)).unwrap();
    let its = run(other.queue.receive_batch(9, Duration::ZERO)).unwrap();
    assert_eq!((mine.len(), its.len()), (1, 1));
    assert_eq!(mine[0].payload(), "a");
    assert_eq!(its[0].payload(), "b");
    // A drain waits for what was handed out here, not for another's.
    run(one.queue.settle(mine[0].receipt, Outcome::Done)).unwrap();
    run(one.queue.drain());
    run(other.queue.settle(its[0].receipt, Outcome::Done)).unwrap();
    assert_eq!(received(&other.queue), [""; 0]);
}

#[test]
fn a_database_that_fails_fails_the_whole_batch_and_does_nothing_of_it() {
    let world = world();
    let connection = world.folder.connect();
    let broken = "CREATE TRIGGER broken BEFORE INSERT ON t_messages WHEN NEW.key = 'bad'
        BEGIN SELECT RAISE(ABORT, 'no'); END";
    connection.execute(broken, []).unwrap();
    let batch = vec![
        Message::new("a"),
        Message::new("b").key("bad"),
        Message::new("c"),
    ];
    let sent = run(world.store.send(batch));
    assert_eq!(sent.len(), 3);
    for sent in sent {
        let error = sent.unwrap_err();
        assert!(matches!(error, SendError::Backend(_)), "{error}");
        assert_eq!(
            (error.class(), error.effect()),
            (Class::Permanent, Effect::NotDone)
        );
    }
    assert_eq!(received(&world.queue), [""; 0]);
}

#[test]
fn settings_of_a_queue_are_bounded() {
    let folder = Folder::new();
    let settings = QueueSettings {
        visibility: Duration::ZERO,
        ..QueueSettings::DEFAULT
    };
    let error = QueueStore::open(&folder.config(), settings, ManualTime::new()).unwrap_err();
    assert!(matches!(error, OpenError::Queue(_)), "{error}");
    assert_eq!(
        error.to_string(),
        "visibility: 0 is not between 1 and 86400000"
    );
    assert_eq!(error.class(), Class::InvalidInput);
}

#[test]
fn a_message_that_does_not_decode_is_a_typed_error() {
    let world = world();
    run(world.queue.send(Message::new("a").header("n", "v"))).unwrap();
    let connection = world.folder.connect();
    let spoil = "UPDATE t_messages SET headers = x'ff'";
    connection.execute(spoil, []).unwrap();
    let error = run(world.queue.receive_batch(1, Duration::ZERO)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "table t_messages: row 1 does not decode: the headers are cut or no text"
    );
    assert_eq!(
        (error.class(), error.effect()),
        (Class::Corrupt, Effect::NotDone)
    );
}

/// What the laws find stands in the tables of the guide.
#[test]
fn what_the_laws_find_is_written() {
    let world = OnFile.open(&Setup::DEFAULT);
    let offered = OnFile.queue(&world).capabilities();
    let laws = Law::all(
        laws(),
        || OnFile,
        |name| {
            let declared = declared(name, &offered);
            (declared.offered, declared.note)
        },
    );
    conformance("sqlite", "queue", laws).unwrap();
}
