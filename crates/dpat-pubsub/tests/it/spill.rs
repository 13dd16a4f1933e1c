//! Buffers with a file behind them.

use crate::{drain, one, publish, run};
use dpat_pubsub::{Overflow, PubSub, Spill, SubscribeError, Subscription};
use dpat_storage::{AnyStorage, File, FsStorage, MemStorage, Storage};
use dpat_testkit::Task;

fn spill(storage: impl Storage + 'static, bytes_max: usize) -> Overflow {
    Overflow::Spill(Spill::new(AnyStorage::new(storage), "spill", bytes_max))
}

#[test]
fn what_has_no_room_comes_back_in_order() {
    let (_hub, mut subscription, mut publisher) = one(3, spill(MemStorage::new(), 64 << 10));
    publish(&mut publisher, 0..500);
    assert_eq!(subscription.stats().waiting, 500);
    let wanted: Vec<String> = (0..500).map(|number| number.to_string()).collect();
    assert_eq!(drain(&mut subscription), wanted);
    // And goes to the buffer again.
    publish(&mut publisher, 0..2);
    assert_eq!(drain(&mut subscription), ["0", "1"]);
    let stats = subscription.stats();
    assert_eq!((stats.accepted, stats.taken, stats.lost), (502, 502, 0));
}

#[test]
fn a_full_file_loses_the_newest_and_says_so_in_its_place() {
    let (_hub, mut subscription, mut publisher) = one(1, spill(MemStorage::new(), 4 << 10));
    let mut lost = 0;
    for number in 0..500_u32 {
        lost += publisher.publish_now(number.to_string()).unwrap().lost;
    }
    assert!(lost > 100, "{lost}");
    assert_eq!(
        run(subscription.recv())
            .unwrap()
            .message()
            .unwrap()
            .payload(),
        "0"
    );
    // There is room for one more.
    run(subscription.recv()).unwrap();
    publisher.publish_now("next").unwrap();
    let got = drain(&mut subscription);
    let place = got.iter().position(|it| *it == format!("-{lost}")).unwrap();
    assert_eq!(got[place + 1..], ["next"]);
    assert_eq!(place, 500 - 2 - lost);
}

#[test]
fn a_real_file_works_and_goes_with_its_subscription() {
    let folder = std::env::temp_dir().join(format!("dpat-pubsub-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let storage = FsStorage::open(&folder).unwrap();
    let (_hub, mut subscription, mut publisher) = one(2, spill(storage, 8 << 10));
    for _ in 0..20 {
        publish(&mut publisher, 0..50);
        assert_eq!(drain(&mut subscription).len(), 50);
    }
    let size = std::fs::metadata(folder.join("spill")).unwrap().len();
    assert!((1..=8 << 10).contains(&size), "{size}");
    drop(subscription);
    assert!(!folder.join("spill").exists());
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn headers_reply_and_replay_numbers_survive_the_file() {
    use dpat_pubsub::{Draft, Message};
    let hub = PubSub::builder().retain("a", 1).build().unwrap();
    let subscribe = hub.subscribe("a").capacity(1).replay(1);
    let mut subscription = subscribe
        .overflow(spill(MemStorage::new(), 8 << 10))
        .now()
        .unwrap();
    let draft = || {
        let draft = Draft::new("payload")
            .header("name", "value")
            .header("name", "");
        draft.reply_to("b.c".parse().unwrap())
    };
    for _ in 0..3 {
        hub.publish_now("a", draft()).unwrap();
    }
    for _ in 0..3 {
        let got = run(subscription.recv()).unwrap().message().unwrap();
        assert_eq!(got, Message::new("a".parse().unwrap(), draft()));
    }
}

#[test]
fn a_file_that_cannot_be_made_is_an_error() {
    let storage = MemStorage::new();
    storage.create_dir("spill").unwrap();
    let hub = PubSub::default();
    let subscribed = hub.subscribe("a").overflow(spill(storage, 8 << 10)).now();
    assert!(
        matches!(subscribed, Err(SubscribeError::Spill(_))),
        "{subscribed:?}"
    );
    let subscribed = hub
        .subscribe("a")
        .overflow(spill(MemStorage::new(), 100))
        .now();
    assert_eq!(
        subscribed.unwrap_err().to_string(),
        "spill bytes_max: 100 is not within 4096..=1099511627776"
    );
    assert!(hub.subscribe("a").now().is_ok(), "nothing is left of it");
}

#[test]
fn a_file_that_fails_loses_messages_and_not_the_subscription() {
    let storage = MemStorage::with_bytes_max(2_000);
    let (_hub, mut subscription, mut publisher) = one(1, spill(storage.clone(), 8 << 10));
    for _ in 0..3 {
        publish(&mut publisher, 0..100);
        let got = drain(&mut subscription);
        let lost: usize = got
            .iter()
            .filter_map(|it| it.strip_prefix('-')?.parse::<usize>().ok())
            .sum();
        let seen = got.iter().filter(|it| !it.starts_with('-')).count();
        assert!(lost > 0 && seen > 1);
        assert_eq!(lost + seen, 100);
    }
}

/// A storage whose files panic at the n-th write.
struct Panics(MemStorage);

struct PanicsFile(<MemStorage as Storage>::File);

impl File for PanicsFile {
    fn path(&self) -> &str {
        self.0.path()
    }
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, dpat_storage::StorageError> {
        self.0.read_at(offset, buffer)
    }
    fn write_at(&mut self, offset: u64, data: &[u8]) -> Result<(), dpat_storage::StorageError> {
        assert!(offset < 100, "the storage panics");
        self.0.write_at(offset, data)
    }
    fn append(&mut self, data: &[u8]) -> Result<u64, dpat_storage::StorageError> {
        self.0.append(data)
    }
    fn truncate(&mut self, len: u64) -> Result<(), dpat_storage::StorageError> {
        self.0.truncate(len)
    }
    fn sync_data(&mut self) -> Result<(), dpat_storage::StorageError> {
        self.0.sync_data()
    }
    fn len(&self) -> Result<u64, dpat_storage::StorageError> {
        self.0.len()
    }
}

impl Storage for Panics {
    type File = PanicsFile;
    type Lock = <MemStorage as Storage>::Lock;
    fn create(&self, path: &str) -> Result<PanicsFile, dpat_storage::StorageError> {
        self.0.create(path).map(PanicsFile)
    }
    fn open(&self, path: &str) -> Result<PanicsFile, dpat_storage::StorageError> {
        self.0.open(path).map(PanicsFile)
    }
    fn metadata(&self, path: &str) -> Result<dpat_storage::Metadata, dpat_storage::StorageError> {
        self.0.metadata(path)
    }
    fn rename(&self, from: &str, to: &str) -> Result<(), dpat_storage::StorageError> {
        self.0.rename(from, to)
    }
    fn remove(&self, path: &str) -> Result<(), dpat_storage::StorageError> {
        self.0.remove(path)
    }
    fn create_dir(&self, path: &str) -> Result<(), dpat_storage::StorageError> {
        self.0.create_dir(path)
    }
    fn remove_dir(&self, path: &str) -> Result<(), dpat_storage::StorageError> {
        self.0.remove_dir(path)
    }
    fn list(&self, path: &str) -> Result<Vec<dpat_storage::Entry>, dpat_storage::StorageError> {
        self.0.list(path)
    }
    fn sync_dir(&self, path: &str) -> Result<(), dpat_storage::StorageError> {
        self.0.sync_dir(path)
    }
    fn lock(&self) -> Result<Self::Lock, dpat_storage::StorageError> {
        self.0.lock()
    }
}

#[test]
fn a_storage_that_panics_loses_what_is_in_it_and_nobody_waits_for_it() {
    let (_hub, mut subscription, mut publisher) = one(1, spill(Panics(MemStorage::new()), 8 << 10));
    publish(&mut publisher, 0..2);
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        publish(&mut publisher, 2..10);
    }));
    assert!(panicked.is_err());
    let lost = publisher.publish_now("x").unwrap().lost;
    assert_eq!(lost, 1, "there is no file any more");
    let got = drain(&mut subscription);
    assert_eq!(got[0], "0");
    assert!(got[1].starts_with('-') && got.len() == 2, "{got:?}");
    let receiving: &mut Subscription = &mut subscription;
    Task::new(receiving.recv()).assert_pending();
}
